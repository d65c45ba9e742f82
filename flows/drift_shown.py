"""Drift in Prefect: an artifact of each job, and an event if its rows are not as they were."""

import re
from pathlib import Path

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.events import emit_event

from flows.drift import drift_lines, estimated
from flows.job import JobReport
from flows.links import job_link, version_link
from tasks.drift.report import DRIFT, DriftReport, Part, sentence
from tasks.errors import InputError

EVENT = "modelmint.job.{verdict}"
"""`watch` or `drifted`; docs/monitoring.md has its resource and payload."""
SHOWN = 20


def show_drift(job: JobReport) -> None:
    """Show what moved. Nothing, if the job had been run before or has no verdict."""
    if job.fresh or not job.drift or job.drift["verdict"] is None:
        return
    name = job.model.partition(":")[0]
    key = re.sub("[^a-z0-9]", "-", f"{name}-drift")  # all that Prefect allows
    try:
        report = DriftReport.read(Path(job.output).with_name(DRIFT))
    except InputError as error:  # the job is complete, and somebody has taken its files
        get_run_logger().warning("no artifact of drift: %s", error)
        return
    create_markdown_artifact(
        _markdown(job, report), key=key, description=f"Drift, by {version_link(job.model)}"
    )
    if job.drift["verdict"] != "none":
        emit_event(
            EVENT.format(verdict=job.drift["verdict"]),
            resource={
                "prefect.resource.id": f"modelmint.model.{name}",
                "prefect.resource.name": name,
            },
            payload={
                "version": job.model,
                "job": job.job,
                "output": job.output,
                "rows": job.rows,
                "drift": job.drift,
            },
        )


def _markdown(job: JobReport, report: DriftReport) -> str:
    lines = drift_lines(job.drift) or [f"drift: {sentence(job.drift)}"]
    if estimate := estimated(job.drift):
        lines.append(estimate)
    others = (part for part in report.parts if part not in report.moved)
    parts = [*report.moved, *others][:SHOWN]
    table = [
        # Whole names would push the last column out of sight.
        "| column | verdict | measure | PSI | p | JS | KS |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: |",
        *(_row(part) for part in parts if part.measures),
    ]
    text = [f"{report.rows:,} rows of job {job_link(job.job)}, beside {report.against}.", *lines]
    return "\n\n".join([*text, "\n".join(table)])


def _row(part: Part) -> str:
    """The measure of a part that moved most."""
    most = part.measures[0]
    name = part.name.replace("|", "\\|")
    ks = "" if most.ks is None else f"{most.ks:.3f}"
    figures = f"{most.psi:.3f} | {most.p:.2g} | {most.js:.3f} | {ks}"
    return f"| {name} | {part.verdict} | {most.name} | {figures} |"
