"""The inference flow: a batch job under Prefect, for schedules and the UI."""

from pathlib import Path
from uuid import UUID

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas import State
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows import quiet
from flows.alive import end_with_runner
from flows.artifacts import tag_run
from flows.job import JobReport, close_dead_jobs, run_job, signature_of
from flows.retries import RETRY
from flows.settings import Settings
from registry import Registry, RegistryError, Resolved
from tasks.counts import WORDS, Substituted
from tasks.errors import InputError
from tasks.inputs import InputFile, anything_in, find, fingerprint
from tasks.serving.options import Options

quiet.install()


def run_name() -> str:
    return f"predict with {flow_run.parameters['model']}"


@flow(name="inference", flow_run_name=run_name, persist_result=False)
def inference(
    model: str,
    inputs: list[str] | None = None,
    output: str = "predictions",
    probabilities: bool = False,
) -> JobReport | State[JobReport]:
    """Predict the input files with a registered model; an unchanged input is not predicted again.

    Args:
        model: NAME[@ALIAS|:VERSION], as in digits@champion.
        inputs: Files or folders, relative to the project's folder. Default: data/inbox.
        output: Folder in which each version and input gets a folder of its own.
        probabilities: Whether to write the probability of each class too; such predictions have
            folders of their own.
    """
    end_with_runner(str(flow_run.id))
    tag_run("inference")
    settings = Settings.from_environment()
    paths = [settings.root / path for path in inputs or ["data/inbox"]]
    try:
        if inputs is None and not anything_in(paths[0]):
            return _idle(paths[0])
        with settings.open_registry() as registry:
            resolved = registry.resolve(model)
            version = resolved.version
            signature = signature_of(version)
            if inputs is None and not anything_in(paths[0], signature):
                return _idle(paths[0])
            files = find(paths, signature)
            name = f"{version.model}-{version.version}-{fingerprint(files)[:12]}"
            if probabilities:
                name += "-probabilities"
            folder = settings.root / output / name
            report = predict_files(registry, resolved, files, folder, probabilities)
            close_dead_jobs(registry, version.model, _end_of_run)
    except (InputError, RegistryError) as error:
        return Failed(message=str(error), data=error)
    create_markdown_artifact(_markdown(report), key="inference", description=f"By {report.model}")
    return report


def _idle(folder: Path) -> State[JobReport]:
    return Completed(name="Idle", message=f"nothing to predict in {folder}")


@task(
    task_run_name="predict with {resolved.version.ref}",
    **RETRY,
)
def predict_files(
    registry: Registry,
    resolved: Resolved,
    files: list[InputFile],
    output: Path,
    probabilities: bool = False,
) -> JobReport:
    """Run the job and log what it did."""
    report = run_job(
        registry,
        resolved,
        files,
        output,
        flow_run_id=str(flow_run.id),
        options=Options(probabilities=probabilities),
    )
    get_run_logger().info(
        "%s %d rows with %s on %s: %s",
        "already predicted" if report.fresh else "predicted",
        report.rows,
        report.model,
        report.provider,
        report.output,
    )
    for remark in report.remarks:
        get_run_logger().warning("%s", remark)
    return report


def _end_of_run(number: str) -> str | None:
    """How a flow run ended; None while it goes on, and for one of another Prefect server."""
    with get_client(sync_client=True) as client:
        try:
            state = client.read_flow_run(UUID(number)).state
        except (ObjectNotFound, ValueError):
            return None
    return state.name if state and state.is_final() else None


def _markdown(report: JobReport) -> str:
    rows = {
        "model": f"{report.model} (digest `{report.digest}`)",
        "trained on dataset": f"`{report.dataset}`",
        "rows": f"{report.rows:,}",
        "execution provider": report.provider,
        "predictions": f"`{report.output}`",
        "job": f"`{report.job}`" + (", run before: the input is unchanged" * report.fresh),
    }
    lines = ["| | |", "| --- | --- |", *(f"| {k} | {v} |" for k, v in rows.items())]
    remarks = [line for remark in report.remarks for line in ("", remark)]
    return "\n".join(lines + remarks + ["", *_table(report.substituted or {})])


def _table(substituted: Substituted) -> list[str]:
    """What stood in for values of each column that had such."""
    rows = [
        f"| {column} | {words} | {found[name]:,} |"
        for column, found in substituted.items()
        for name, words in WORDS.items()
        if found.get(name)
    ]
    return ["| column | substituted | values |", "| --- | --- | ---: |", *rows] if rows else []
