"""The inference flow: a batch job under Prefect, for schedules and the UI."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows import quiet
from flows.alive import be_watched
from flows.artifacts import tag_run
from flows.broken import LEFT_OUT
from flows.cluster import connected
from flows.copies import Copies
from flows.drift_shown import show_drift
from flows.inbox import After
from flows.incremental import NewReport, folder_name, predict_new
from flows.job import JobReport, close_dead_jobs, run_job, signature_of
from flows.latest import point_to
from flows.links import job_link, version_link
from flows.objects import is_url
from flows.progress import JobProgress
from flows.retries import RETRY
from flows.run_ends import end_of_run
from flows.settings import Settings
from registry import Registry, RegistryError, Resolved
from tasks.counts import WORDS, Substituted
from tasks.errors import InputError
from tasks.inputs import anything_in, fingerprint
from tasks.predict import How
from tasks.serving import MAX_BAD
from tasks.serving.options import BadLimit, Options

quiet.install()


def run_name() -> str:
    return f"predict with {flow_run.parameters['model']}"


@flow(name="inference", flow_run_name=run_name, persist_result=False)
def inference(
    model: str,
    inputs: list[str] | None = None,
    output: str = "predictions",
    probabilities: bool = False,
    new: bool = False,
    again: bool = False,
    after: After = "leave",
    max_bad: str = MAX_BAD,
    cluster: str | None = None,
) -> JobReport | NewReport | State[JobReport]:
    """Predict the input files with a registered model; an unchanged input is not predicted again.

    Args:
        model: NAME[@ALIAS|:VERSION], as in digits@champion.
        inputs: Files or folders, relative to the project's folder, or s3:// URLs of such. Default:
            data/inbox.
        output: Folder in which each version and input gets a folder of its own.
        probabilities: Whether to write the probability of each class too; such predictions have
            folders of their own.
        new: Whether to predict each file that is new in the inputs, which are folders, as a job of
            its own. Otherwise all files are one job.
        again: With new: whether to predict all files, new or not, also those that failed before.
        after: With new: whether to leave files, or to move them to done/ and failed/ beside them.
        max_bad: How many rows of a job may be set aside because they cannot be predicted: a share
            such as 0.1%, or a number.
        cluster: The scheduler of a Dask cluster that predicts, as in tcp://scheduler:8786; its
            workers must see the same folders. Default: this machine.
    """
    be_watched(str(flow_run.id))
    tag_run("inference")
    settings = Settings.from_environment()
    inbox = settings.root / "data/inbox"
    paths = [p if is_url(p) else str(settings.root / p) for p in inputs or [str(inbox)]]
    options = Options(probabilities=probabilities)
    try:
        how = How(limit=BadLimit.parse(max_bad), cache=settings.cache)
        if inputs is None and not anything_in(inbox):
            return _idle(inbox)
        log = get_run_logger()
        with connected(cluster, log.warning) as executor, settings.open_registry() as registry:
            how = replace(how, executor=executor, notice=log.warning)
            resolved = registry.resolve(model)
            signature = signature_of(resolved.version)
            if inputs is None and not anything_in(inbox, signature):
                return _idle(inbox)
            # Before it asks which files are new: those of a job that was killed at its end are not.
            close_dead_jobs(registry, resolved.version.model, end_of_run)
            report: JobReport | NewReport
            if new:
                report = predict_new_files(
                    registry, resolved, paths, settings.root / output, options, how, again, after
                )
            else:
                report = predict_files(
                    registry, resolved, paths, settings.root / output, options, how
                )
    except (InputError, RegistryError) as error:
        return Failed(message=str(error), data=error)
    jobs = report.jobs if isinstance(report, NewReport) else [report]
    for job in jobs:
        create_markdown_artifact(_markdown(job), key="inference", description=f"By {job.model}")
        show_drift(job)
    if isinstance(report, NewReport):
        return _ended(report)
    return report


def _idle(folder: Path) -> State[JobReport]:
    return Completed(name="Idle", message=f"nothing to predict in {folder}")


def _ended(report: NewReport) -> State[Any]:
    """One broken file does not stop the others, but the run fails: somebody must look at it."""
    number = len(report.jobs)
    done = f"{number:,} new files, {report.rows:,} rows; {report.known:,} were predicted before"
    left = report.failed_before
    if left:
        done += f"; {len(left):,} failed before and did not change"
    if report.failed:
        failed = "; ".join(f"{path}: {why}" for path, why in list(report.failed.items())[:5])
        return Failed(message=f"{len(report.failed)} files failed: {failed}. Predicted: {done}")
    if left:
        path, why = next(iter(left.items()))
        return Completed(name=LEFT_OUT, message=f"{done}: {path}: {why}", data=report)
    if not number:
        waiting = f", {len(report.waiting)} still being written" if report.waiting else ""
        message = f"nothing new: {report.known:,} files were predicted before{waiting}"
        return Completed(name="Idle", message=message)
    return Completed(message=done, data=report)


@task(task_run_name="predict with {resolved.version.ref}", **RETRY)
def predict_files(
    registry: Registry,
    resolved: Resolved,
    paths: list[str],
    output: Path,
    options: Options,
    how: How,
) -> JobReport:
    """Run one job of all files and log what it did."""
    how = replace(how, tell=JobProgress().tell, status=_status())
    with Copies(paths, output, how) as copies:
        files = copies.find(paths, signature_of(resolved.version))
        copies.job = output / folder_name(resolved, fingerprint(files), options)
        report = run_job(
            registry,
            resolved,
            files,
            copies.job,
            flow_run_id=str(flow_run.id),
            options=options,
            how=replace(how, check_input=copies.refuse_changed),
        )
    point_to(copies.job, how.notice)
    _log(report)
    return report


@task(task_run_name="predict new files with {resolved.version.ref}", **RETRY)
def predict_new_files(
    registry: Registry,
    resolved: Resolved,
    inboxes: list[str],
    output: Path,
    options: Options,
    how: How,
    again: bool,
    after: After,
) -> NewReport:
    """Run a job for each new file and log what they did."""
    report = predict_new(
        registry,
        resolved,
        inboxes,
        output,
        flow_run_id=str(flow_run.id),
        options=options,
        how=replace(how, tell=JobProgress().tell, status=_status()),
        again=again,
        after=after,
    )
    for job in report.jobs:
        _log(job)
    for remark in report.own_remarks:
        get_run_logger().warning("%s", remark)
    return report


def _status() -> Callable[[str], None]:
    """Logs the progress of copies, every 10 s."""
    logger, last = get_run_logger(), time.monotonic()

    def status(text: str) -> None:
        nonlocal last
        if time.monotonic() - last >= 10:
            last = time.monotonic()
            logger.info("%s", text)

    return status


def _log(report: JobReport) -> None:
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


def _markdown(report: JobReport) -> str:
    rows = {
        "model": f"{version_link(report.model)} (digest `{report.digest}`)",
        "trained on dataset": f"`{report.dataset}`",
        "rows": f"{report.rows:,}",
        "rows in quarantine": f"{report.quarantined:,}",
        "execution provider": report.provider,
        "predictions": f"`{report.output}`",
        "job": job_link(report.job) + (", run before: the input is unchanged" * report.fresh),
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
