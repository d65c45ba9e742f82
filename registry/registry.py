"""The registry: every public method is one transaction, but for `register`, which looks first.

The SQL is in `registry.queries`; what looks after a whole registry (verify, gc, retention,
backup, export) is in modules of its own, which take an open one.
"""

from registry.operations.promotion import PromotionMixin
from registry.operations.reading import ReadingMixin
from registry.operations.registration import RegistrationMixin
from registry.queries import jobs
from registry.records import Job, Json, Resolved
from registry.validation.arguments import checked


class Registry(RegistrationMixin, PromotionMixin, ReadingMixin):
    """An open registry: a database for the records and a place for the files.

    A missing or empty database stays so until `create` or the first registration: what reads it
    raises NoRegistry. Safe to use from threads and from many processes; not to be carried across
    a fork. Every method may raise Unreachable, and those that write Refused where a rule of the
    registry forbids the change. `actor` is who did it, for the history.

    Every method checks its arguments before it writes anything, the same on every database:
    InvalidReference for names, aliases, versions and revisions, InvalidQuery for what is searched
    by, InvalidCandidate for what is to be stored. NumPy's scalars are taken as Python's.

    Raises:
        Unreachable: the database cannot be opened, or the artifacts' place is not supported.
        SchemaMismatch: the database needs `modelmint models upgrade`, or a newer modelmint.
    """

    @checked
    def start_job(
        self, resolved: Resolved, *, input_sha256: str, output: str, flow_run_id: str | None = None
    ) -> Job:
        """Record that a batch inference begins; one still running for that output becomes lost.

        Raises:
            Refused: the version was archived meanwhile.
        """
        with self.database.write() as c:
            job = jobs.start(
                c, resolved, input_sha256=input_sha256, output=output, flow_run_id=flow_run_id
            )
            return jobs.load_one(c, job)

    @checked
    def finish_job(
        self,
        job: Job,
        *,
        rows: int,
        provider: str,
        onnxruntime: str,
        substituted: Json | None = None,
    ) -> Job:
        """Record that a job has written all its rows, and what it put in place of values.

        Raises:
            Conflict: it is not running any more: a later job took over its output.
        """
        with self.database.write() as c:
            found = {"rows": rows, "provider": provider, "onnxruntime": onnxruntime}
            return jobs.end(c, job.id, "completed", **found, substituted=substituted)

    @checked
    def fail_job(self, job: Job, error: str) -> Job:
        """Record why a job ended without its result. Raises Conflict where it is not running."""
        with self.database.write() as c:
            return jobs.end(c, job.id, "failed", error=error)

    @checked
    def job(self, job_id: str) -> Job:
        """One job. Raises NotFound."""
        with self.database.read() as c:
            return jobs.load_one(c, job_id)

    @checked
    def jobs(
        self, name: str | None = None, *, limit: int | None = None, before: str | None = None
    ) -> list[Job]:
        """The jobs, of one model or of all, newest first, from before the job `before` (an id).

        Raises:
            NotFound: there is no such model, or no such job.
        """
        with self.database.read() as c:
            of = [] if name is None else [jobs.of_model(c, name)]
            return jobs.load(c, *of, limit=limit, before=before)

    @checked
    def running_jobs(self, name: str) -> list[Job]:
        """The jobs of a model that have not ended, newest first. Raises NotFound."""
        with self.database.read() as c:
            return jobs.load(c, jobs.of_model(c, name), jobs.RUNNING)
