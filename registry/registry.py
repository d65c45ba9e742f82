"""The Registry class. Each public method is one transaction; `register` uses several.

The SQL is in `registry.queries`. Operations on a whole registry (verify, gc, retention, backup,
export) are functions in packages of their own that take an open Registry.
"""

from registry.operations.promotion import PromotionMixin
from registry.operations.reading import ReadingMixin
from registry.operations.registration import RegistrationMixin
from registry.queries import jobs
from registry.records import Job, Json, Resolved
from registry.validation.arguments import checked


class Registry(RegistrationMixin, PromotionMixin, ReadingMixin):
    """An open registry: a database for the records and an artifact store for the files.

    A missing or empty database stays so until `create` or the first registration; until then,
    reading raises NoRegistry. Safe to use from threads and from many processes, but not across a
    fork. Every method may raise Unreachable; methods that write may raise Refused if a rule of the
    registry forbids the change. `actor` is the person or process that the history will name.

    Every method checks its arguments before it writes anything: InvalidReference for names,
    aliases, versions and revisions, InvalidQuery for search conditions, InvalidCandidate for values
    to store. NumPy scalars are converted to Python's.

    Raises:
        Unreachable: the database cannot be opened, or the artifact store's URL is not supported.
        SchemaMismatch: the database needs `modelmint models upgrade`, or a newer modelmint.
    """

    @checked
    def start_job(
        self, resolved: Resolved, *, input_sha256: str, output: str, flow_run_id: str | None = None
    ) -> Job:
        """Record the start of a prediction job; a running job for the same output becomes lost.

        Raises:
            Refused: the version has been archived meanwhile.
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
        """Record that a job has written all its rows, and which values it substituted.

        Raises:
            Conflict: the job is not running any more: a later job took over its output.
        """
        with self.database.write() as c:
            found = {"rows": rows, "provider": provider, "onnxruntime": onnxruntime}
            return jobs.end(c, job.id, "completed", **found, substituted=substituted)

    @checked
    def fail_job(self, job: Job, error: str) -> Job:
        """Record why a job failed. Raises Conflict if it is not running."""
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
        """The jobs of one model or of all, newest first; with `before`, those older than that job.

        Raises:
            NotFound: the model, or the job `before`, does not exist.
        """
        with self.database.read() as c:
            of = [] if name is None else [jobs.of_model(c, name)]
            return jobs.load(c, *of, limit=limit, before=before)

    @checked
    def running_jobs(self, name: str) -> list[Job]:
        """The jobs of a model that have not ended, newest first. Raises NotFound."""
        with self.database.read() as c:
            return jobs.load(c, jobs.of_model(c, name), jobs.RUNNING)
