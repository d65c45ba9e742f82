"""The inference flow: a batch job under Prefect, for schedules and the UI."""

from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows import quiet
from flows.artifacts import tag_run
from flows.job import JobReport, run_job
from flows.retries import RETRY
from flows.settings import Settings
from registry import Registry, RegistryError, Resolved
from tasks.counts import WORDS, Substituted
from tasks.errors import InputError
from tasks.files.tables import form
from tasks.inputs import SUFFIXES, InputFile, find, fingerprint

quiet.install()


def run_name() -> str:
    return f"predict with {flow_run.parameters['model']}"


@flow(name="inference", flow_run_name=run_name, persist_result=False)
def inference(
    model: str, inputs: list[str] | None = None, output: str = "predictions"
) -> JobReport | State[JobReport]:
    """Predict the input files with a registered model; an unchanged input is not predicted again.

    Args:
        model: NAME[@ALIAS|:VERSION], as in digits@champion.
        inputs: Files or folders, relative to the project's folder. Default: data/inbox.
        output: Folder in which each version and input gets a folder of its own.
    """
    tag_run("inference")
    settings = Settings.from_environment()
    paths = [settings.root / path for path in inputs or ["data/inbox"]]
    try:
        if inputs is None and not any(form(p, SUFFIXES) for p in paths[0].glob("*")):
            return Completed(name="Idle", message=f"nothing to predict in {paths[0]}")
        files = find(paths)
        with settings.open_registry() as registry:
            resolved = registry.resolve(model)
            version = resolved.version
            name = f"{version.model}-{version.version}-{fingerprint(files)[:12]}"
            report = predict_files(registry, resolved, files, settings.root / output / name)
    except (InputError, RegistryError) as error:
        return Failed(message=str(error), data=error)
    create_markdown_artifact(_markdown(report), key="inference", description=f"By {report.model}")
    return report


@task(
    task_run_name="predict with {resolved.version.ref}",
    **RETRY,
)
def predict_files(
    registry: Registry, resolved: Resolved, files: list[InputFile], output: Path
) -> JobReport:
    """Run the job and log what it did."""
    report = run_job(registry, resolved, files, output, flow_run_id=str(flow_run.id))
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
