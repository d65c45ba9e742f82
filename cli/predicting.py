"""How batch jobs are shown: while they run, and when they have ended."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer
from rich.progress import BarColumn, Progress, TextColumn

from cli import output, status

if TYPE_CHECKING:
    from flows.incremental import NewReport
    from flows.job import JobReport
    from tasks.serving.status import Status


class _NoPandas:
    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name)


def keep_pandas_out() -> None:
    """Keep pyarrow from importing pandas with its first array: a fifth of a short job's time.

    No command needs a DataFrame. From now on pyarrow makes none in this process.
    """
    import pyarrow

    sys.meta_path.insert(0, finder := _NoPandas())
    try:
        pyarrow.array([])
    finally:
        sys.meta_path.remove(finder)


@contextmanager
def progress_bar() -> Iterator[tuple[Callable[["Status"], None], Callable[[str], None]]]:
    """A bar in a terminal; yields what is called with how far the job is, and what is called with
    a line about the time before."""
    bar = Progress(
        TextColumn("predicting"),
        BarColumn(bar_width=20),
        TextColumn("{task.description}"),
        console=output.console,
        transient=True,
        disable=not output.console.is_terminal,
    )
    with bar:
        task = bar.add_task("", total=None)

        def tell(status: "Status") -> None:
            bar.update(task, description=str(status), completed=status.rows, total=status.all_rows)

        yield tell, lambda text: bar.update(task, description=text)


def say_job(job: "JobReport", as_json: bool) -> None:
    """Say what a job did."""
    from flows.drift import drift_lines, estimated
    from tasks.drift.report import sentence
    from tasks.words import counted

    again = " (they were there already: same input, same model)" if job.fresh else ""
    output.say(f"{counted(job.rows, 'row')} predicted with {job.model} on {job.provider}{again}")
    output.say(job.output)
    if not drift_lines(job.drift):  # else it is among the remarks
        output.say(f"drift: {sentence(job.drift)}")
    if estimate := estimated(job.drift):
        output.say(estimate)
    for remark in job.remarks:
        output.say(remark)
    if as_json:
        output.print_json(asdict(job))


def say_new(report: "NewReport", as_json: bool) -> None:
    """Say what became of the files of an inbox; exits with status 2 if some failed."""
    from tasks.words import counted

    for job in report.jobs:
        output.say(f"{counted(job.rows, 'row')} predicted with {job.model}: {job.output}")
    before = len(report.failed_before)
    output.say(
        f"{len(report.jobs):,} new, {report.known:,} predicted before, "
        f"{len(report.waiting):,} still being written, {len(report.failed):,} failed"
        + (f", {before:,} failed before (--again tries again)" if before else "")
    )
    for remark in report.remarks:
        output.say(remark)
    if as_json:
        output.print_json(asdict(report))
    if report.failed:
        raise typer.Exit(status.INPUT)
