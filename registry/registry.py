"""The Registry class. Each public method is one transaction; `register` uses several.

The SQL is in `registry.queries`. Operations on a whole registry (verify, gc, retention, backup,
export) are functions in packages of their own that take an open Registry.
"""

from collections.abc import Collection, Sequence
from datetime import datetime

from registry.errors import InvalidCandidate
from registry.operations.entries import EntryMixin
from registry.operations.promotion import PromotionMixin
from registry.operations.reading import ReadingMixin
from registry.operations.registration import RegistrationMixin
from registry.queries import job_inputs, jobs, models
from registry.records import Job, JobInput, JobTotals, Json, Resolved
from registry.validation.arguments import checked
from registry.validation.checks import kept_path


class Registry(RegistrationMixin, PromotionMixin, EntryMixin, ReadingMixin):
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
        quarantined: int = 0,
        inputs: Sequence[JobInput] = (),
        drift: Json | None = None,
    ) -> Job:
        """Record that a job has written all its rows, which values it substituted, and its drift.

        `rows` were predicted; `quarantined` rows could not be predicted. `inputs` are the files
        that the job has read, for `predicted_files`. Their rows add up to `rows` + `quarantined`.

        Raises:
            Conflict: the job is not running any more: a later job took over its output.
            InvalidCandidate: the rows of the inputs do not add up to that.
        """
        read = sum(one.rows for one in inputs)
        if inputs and read != rows + quarantined:
            raise InvalidCandidate(
                f"The inputs of job {job.id} have {read:,} rows, but {rows:,} were predicted and "
                f"{quarantined:,} quarantined. Give the number of rows read from each file."
            )
        with self.database.write() as c:
            if inputs:
                jobs.lock_running(c, job.id)
                job_inputs.add(c, job.id, inputs)
            found = {"rows": rows, "quarantined": quarantined, "substituted": substituted}
            ran = {"provider": provider, "onnxruntime": onnxruntime, "drift": drift}
            return jobs.end(c, job.id, "completed", **found, **ran)

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
    def jobs_between(
        self, since: datetime, until: datetime | None = None, *, limit: int = 1000
    ) -> list[Job]:
        """The jobs of all models that began since then, oldest first."""
        with self.database.read() as c:
            return jobs.between(c, since, until, limit)

    @checked
    def job_totals(self, since: datetime) -> list[JobTotals]:
        """The jobs that began since then, counted by model and state."""
        with self.database.read() as c:
            return jobs.totals(c, since)

    @checked
    def latest_jobs(self, name: str, *, looked_at: int) -> tuple[Job | None, Job | None]:
        """The newest job of a model, and the newest with drift of the `looked_at` newest ones.

        The latter of each of the three versions that were used last.

        Raises:
            NotFound: the model does not exist.
        """
        with self.database.read() as c:
            return jobs.latest(c, name, looked_at)

    @checked
    def running_jobs(self, name: str) -> list[Job]:
        """The jobs of a model that have not ended, newest first. Raises NotFound."""
        with self.database.read() as c:
            return jobs.load(c, jobs.of_model(c, name), jobs.RUNNING)

    @checked
    def predicted_files(
        self, name: str, output: str, paths: Collection[str]
    ) -> dict[str, set[str]]:
        """By path, the SHA-256 of all that finished jobs of a model have read there.

        Jobs of all versions count, if they wrote into the folder `output` or below it. A path that
        none of them has read is left out.

        Raises:
            NotFound: there is no such model.
        """
        kept = {path: kept_path(path) for path in paths}
        with self.database.read() as c:
            found = job_inputs.predicted(c, models.load_id(c, name), output, kept.values())
        return {path: found[stored] for path, stored in kept.items() if stored in found}
