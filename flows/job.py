"""A batch inference job: a pinned version over input files, recorded in the registry.

Imports no Prefect, so that `modelmint predict` starts as fast as ONNX Runtime does; the flow in
`inference.py` wraps it for schedules.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.drift import drift_lines, drift_record, drift_summary
from registry import Conflict, Job, JobInput, NotFound, Registry, RegistryError, Resolved, Version
from tasks.bundle.files import IDENTITY, PROFILE
from tasks.bundle.signature import Signature
from tasks.counts import Substituted, not_counted, summary
from tasks.errors import InputError, SetupError
from tasks.hashed import refuse_changed
from tasks.inputs import InputFile, by_url, fingerprint, hashed, identity_of, linked
from tasks.predict import How, predict
from tasks.serving.folder import QUARANTINE, clear, others, owned, unfinished
from tasks.serving.manifest import PredictReport, completed
from tasks.serving.options import Options
from tasks.serving.quarantine import most_frequent
from tasks.words import some


@dataclass(frozen=True)
class JobReport:
    """A finished job. `fresh`: the same input had been predicted by the same version before."""

    model: str
    digest: str
    dataset: str
    output: str
    rows: int
    """Predicted rows."""
    quarantined: int
    reasons: dict[str, int]
    """Quarantined rows by reason; see `tasks.reasons`."""
    provider: str
    job: str
    fresh: bool
    substituted: Substituted | None
    """By column, what stood in for values that the model does not know; see `tasks.counts`."""
    drift: dict[str, Any] | None
    """The `summary` of `drift.json`, and under `earlier` that of the comparison with earlier jobs;
    None if an older release predicted the rows."""

    @property
    def remarks(self) -> list[str]:
        """What a person should know of it, in lines."""
        return self._quarantine + drift_lines(self.drift) + remarks(self.substituted)

    @property
    def _quarantine(self) -> list[str]:
        if not self.quarantined:
            return []
        folder, why = Path(self.output).with_name(QUARANTINE), most_frequent(self.reasons)
        return [f"{self.quarantined:,} rows could not be predicted, see {folder}: {why}"]


def remarks(substituted: Substituted | None) -> list[str]:
    """What a person should know of values that stood in for others, in lines."""
    shares = summary(substituted)
    lines = [f"substituted in more than 1 % of the rows: {shares}"] if shares else []
    return lines + ([left] if (left := not_counted(substituted)) else [])


def run_job(
    registry: Registry,
    resolved: Resolved,
    files: list[InputFile],
    output: Path,
    *,
    flow_run_id: str | None = None,
    options: Options | None = None,
    how: How | None = None,
) -> JobReport:
    """Predict `files` with a pinned version and write to `output`.

    The bundle is verified before anything reads it. A job that is complete there already, of the
    same model, input and options, is not run again. One that was killed goes on where it was, with
    the version that its alias meant when it began.

    Raises:
        InputError: the input does not fit the model, or `output` holds other predictions.
        RegistryError: the bundle is damaged, or the registry cannot be reached.
    """
    options, how = options or Options(), how or How()
    resolved = _as_begun(registry, resolved, files, output, options)
    version = resolved.version
    files = linked(files, signature_of(version))
    with owned(output, lambda: how.notice(f"another job writes to {output}; waiting for it")):
        if done := _already(output, version, fingerprint(files), options):
            refuse_changed(hashed(files))
            how.check_input()
            job = _close_killed_job(registry, version.model, done, output)
            clear(output)  # killed just before the end
            return _report(resolved, output, done, job, fresh=True)
        return _run(registry, resolved, files, output, flow_run_id, options, how)


def _run(
    registry: Registry,
    resolved: Resolved,
    files: list[InputFile],
    output: Path,
    flow_run_id: str | None,
    options: Options,
    how: How,
) -> JobReport:
    """Run a job that is not complete, recorded in the registry."""
    version = resolved.version
    if found := others(output):
        stay = "stays as it is" if len(found) == 1 else "stay as they are"
        how.notice(f"{output} is not empty: {some(found)} {stay}")
    paths = registry.open(version)
    job = registry.start_job(
        resolved,
        input_sha256=fingerprint(files),
        output=str(output.absolute()),
        flow_run_id=flow_run_id,
    )
    provenance = {
        "model": version.ref,
        "digest": version.digest,
        "dataset": version.lineage.dataset,
        "git_commit": version.lineage.git_commit,
        "job": job.id,
    }
    needed = {name: path for name, path in paths.items() if name in {*IDENTITY, PROFILE}}
    try:
        report = predict(
            needed,
            files,
            output=output,
            provenance=provenance,
            reference=resolved.reference,
            options=options,
            how=how,
        )
    except BaseException as error:
        with suppress(RegistryError):  # what stopped the job is what a person must hear of
            registry.fail_job(job, by_url(f"{type(error).__name__}: {error}", files))
        raise
    job = _finish(registry, job, report, output)
    return _report(resolved, output, report, job, fresh=False)


def _as_begun(
    registry: Registry,
    resolved: Resolved,
    files: list[InputFile],
    output: Path,
    options: Options,
) -> Resolved:
    """The version that an unfinished job of the same reference, input and options began with.

    The alias may have moved since; half of the predictions are there already.
    """
    plan = unfinished(output)
    if plan is None or plan.model == resolved.version.ref or plan.options != options:
        return resolved
    if plan.reference != resolved.reference or plan.input_sha256 != fingerprint(files):
        return resolved
    with suppress(NotFound):
        # By its number: the alias and its revision of today are not those that the job began with.
        return registry.resolve(plan.model)
    return resolved


def signature_of(version: Version) -> Signature:
    """What a version takes, without opening its files. Raises `InputError` if it does not say."""
    return Signature.of_document(version.signature, version.ref)


def _already(
    output: Path, version: Version, input_sha256: str, options: Options
) -> PredictReport | None:
    report = completed(output)
    if report is None:
        return None
    if (report.provenance["model"], report.provenance["digest"], report.input_sha256) != (
        version.ref,
        version.digest,
        input_sha256,
    ):
        raise SetupError(
            f"{output} holds the predictions of {report.provenance['model']} for "
            + ", ".join(file["path"] for file in report.inputs[:5])
            + ". Name another folder with --output, or remove this one."
        )
    if report.asked != options:
        raise SetupError(
            f"{output} holds the predictions of this input with other options "
            f"({_named(report.asked)}). Name another folder with --output, or remove this one."
        )
    return report


def _named(options: Options) -> str:
    """Options that are not the default, as a person gives them."""
    given = [
        "--probabilities" if options.probabilities else "without --probabilities",
        *(["--threshold {}={:g}".format(*options.threshold)] if options.threshold else []),
        *(f"--keep {name}" for name in options.keep),
        *([f"--format {options.form}"] if options.form != "parquet" else []),
        *(f"--partition-by {name}" for name in options.partition_by),
    ]
    return " ".join(given)


def _close_killed_job(
    registry: Registry, model: str, report: PredictReport, output: Path
) -> Job | None:
    """A job killed after its manifest was written is complete; only its row does not know."""
    try:
        job = registry.job(str(report.provenance["job"]))
    except NotFound:
        return None
    if job.model == model and job.state == "running":
        return _finish(registry, job, report, output)
    return job


def close_dead_jobs(
    registry: Registry, model: str, end_of_run: Callable[[str], str | None]
) -> None:
    """End the jobs that run on in the registry alone, since their processes were killed.

    `end_of_run` says how the flow run of an id ended; None while it goes on, or is not known.
    """
    close_finished_jobs(registry, model)
    for job in registry.running_jobs(model):
        if job.flow_run_id and (how := end_of_run(job.flow_run_id)):
            with suppress(Conflict):  # somebody else ended it just now
                registry.fail_job(job, f"its flow run ended as {how}")


def close_finished_jobs(registry: Registry, model: str) -> None:
    """End the jobs whose manifest is written: they are complete, and were killed before their row.

    Without it, the next version would predict their files again.
    """
    for job in registry.running_jobs(model):
        with suppress(Conflict, InputError):  # somebody else ended it, or changed its files
            report = completed(Path(job.output))
            # A relative path would be one of the folder in which that command was given.
            if (
                report
                and report.provenance["job"] == job.id
                and all(Path(file["path"]).is_absolute() for file in report.inputs)
            ):
                _finish(registry, job, report, Path(job.output))


def _finish(registry: Registry, job: Job, report: PredictReport, output: Path) -> Job:
    """Record a job as completed. Raises `Conflict` if it has ended in another way."""
    try:
        return registry.finish_job(
            job,
            rows=report.predicted,
            quarantined=report.quarantined,
            provider=report.provider,
            onnxruntime=report.onnxruntime,
            substituted=report.substituted,
            inputs=_inputs(report),
            drift=drift_record(registry, job, report, output),
        )
    except Conflict:
        ended = registry.job(job.id)
        if ended.state != "completed":  # else by its manifest, in another process
            raise
        return ended


def _inputs(report: PredictReport) -> list[JobInput]:
    """The files that a job has read, as `InputFile.contents` names them."""
    found = []
    for file in report.inputs:
        name, members = file["path"], file.get("members", {})
        in_s3 = name.startswith("s3://")
        path = name if in_s3 else str(Path(name).absolute())
        if members and (path.endswith("/") if in_s3 else Path(path).is_dir()):
            folder = path.rstrip("/") if path != "s3://" else "s3:/"
            found += [JobInput(sha, f"{folder}/{name}", 1) for name, sha in members.items()]
        else:
            found.append(JobInput(identity_of(file["sha256"], members), path, file["rows"]))
    return found


def _report(
    resolved: Resolved, output: Path, report: PredictReport, job: Job | None, *, fresh: bool
) -> JobReport:
    return JobReport(
        model=resolved.version.ref,
        digest=resolved.version.digest,
        dataset=resolved.version.lineage.dataset,
        output=str(output / report.output["path"]),
        rows=report.predicted,
        quarantined=report.quarantined,
        reasons=report.reasons,
        provider=report.provider,
        job=report.provenance["job"],
        fresh=fresh,
        substituted=report.substituted,
        drift=drift_summary(report, job),
    )
