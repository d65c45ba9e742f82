"""A batch inference job: a pinned version over input files, recorded in the registry.

Imports no Prefect, so that `modelmint predict` starts as fast as ONNX Runtime does; the flow in
`inference.py` wraps it for schedules.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from registry import Conflict, Job, NotFound, Registry, RegistryError, Resolved, Version
from tasks.bundle.files import Bundle
from tasks.bundle.signature import Signature
from tasks.counts import Substituted, not_counted, summary
from tasks.encoding import Encoder
from tasks.errors import InputError
from tasks.hashed import refuse_changed
from tasks.inputs import InputFile, fingerprint, hashed, linked
from tasks.predict import Device, PredictReport, completed, predict


@dataclass(frozen=True)
class JobReport:
    """A finished job. `fresh`: the same input had been predicted by the same version before."""

    model: str
    digest: str
    dataset: str
    output: str
    rows: int
    provider: str
    job: str
    fresh: bool
    substituted: Substituted | None
    """By column, what stood in for values that the model does not know; see `tasks.counts`."""

    @property
    def remarks(self) -> list[str]:
        """What a person should know of it, in lines."""
        return remarks(self.substituted)


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
    device: Device = "auto",
    flow_run_id: str | None = None,
    probabilities: bool = False,
    progress: Callable[[int], None] = lambda rows: None,
) -> JobReport:
    """Predict `files` with a pinned version and write to `output`.

    The bundle is verified before anything reads it. A job that is complete there already, of the
    same model and input, is not run again; whatever a killed one left is written over.

    Raises:
        InputError: the input does not fit the model, or `output` holds other predictions.
        RegistryError: the bundle is damaged, or the registry cannot be reached.
    """
    version = resolved.version
    files = linked(files, signature_of(version))
    input_sha256 = fingerprint(files)
    if done := _already(output, version, input_sha256, probabilities):
        refuse_changed(hashed(files))
        _close_killed_job(registry, version.model, done)
        return _report(resolved, output, done, fresh=True)
    paths = registry.open(version)
    encoder = Encoder.of(paths)
    job = registry.start_job(
        resolved,
        input_sha256=input_sha256,
        output=str(output.absolute()),
        flow_run_id=flow_run_id,
    )
    try:
        report = predict(
            Bundle(paths).model,
            encoder,
            files,
            output=output,
            provenance={
                "model": version.ref,
                "digest": version.digest,
                "dataset": version.lineage.dataset,
                "git_commit": version.lineage.git_commit,
                "job": job.id,
            },
            device=device,
            probabilities=probabilities,
            progress=progress,
        )
    except BaseException as error:
        with suppress(RegistryError):  # what stopped the job is what a person must hear of
            registry.fail_job(job, f"{type(error).__name__}: {error}")
        raise
    _finish(registry, job, report)
    return _report(resolved, output, report, fresh=False)


def signature_of(version: Version) -> Signature:
    """What a version takes, without opening its files. Raises `InputError` if it does not say."""
    return Signature.of_document(version.signature, version.ref)


def _already(
    output: Path, version: Version, input_sha256: str, probabilities: bool
) -> PredictReport | None:
    report = completed(output)
    if report is None:
        return None
    if (report.provenance["model"], report.provenance["digest"], report.input_sha256) != (
        version.ref,
        version.digest,
        input_sha256,
    ):
        raise InputError(
            f"{output} holds the predictions of {report.provenance['model']} for "
            + ", ".join(file["path"] for file in report.inputs)
            + ". Name another folder with --output, or remove this one."
        )
    if report.probabilities != probabilities:
        raise InputError(
            f"{output} holds the predictions of this input "
            f"{'with' if report.probabilities else 'without'} the probability of each class. Name "
            "another folder with --output, or remove this one."
        )
    return report


def _close_killed_job(registry: Registry, model: str, report: PredictReport) -> None:
    """A job killed after its manifest was written is complete; only its row does not know."""
    with suppress(NotFound):  # of another registry
        job = registry.job(str(report.provenance["job"]))
        if job.model == model and job.state == "running":
            _finish(registry, job, report)


def close_dead_jobs(
    registry: Registry, model: str, end_of_run: Callable[[str], str | None]
) -> None:
    """End the jobs that run on in the registry alone, since their flow runs were killed.

    `end_of_run` says how the flow run of an id ended; None while it goes on, or is not known.
    """
    for job in registry.running_jobs(model):
        if not job.flow_run_id or not (how := end_of_run(job.flow_run_id)):
            continue
        report = completed(Path(job.output))
        with suppress(Conflict):  # somebody else ended it just now
            if report and report.provenance["job"] == job.id:
                _finish(registry, job, report)
            else:
                registry.fail_job(job, f"its flow run ended as {how}")


def _finish(registry: Registry, job: Job, report: PredictReport) -> None:
    registry.finish_job(
        job,
        rows=report.rows,
        provider=report.provider,
        onnxruntime=report.onnxruntime,
        substituted=report.substituted,
    )


def _report(resolved: Resolved, output: Path, report: PredictReport, *, fresh: bool) -> JobReport:
    return JobReport(
        model=resolved.version.ref,
        digest=resolved.version.digest,
        dataset=resolved.version.lineage.dataset,
        output=str(output / report.output["path"]),
        rows=report.rows,
        provider=report.provider,
        job=report.provenance["job"],
        fresh=fresh,
        substituted=report.substituted,
    )
