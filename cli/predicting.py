"""How a batch job is shown while it runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from cli import output


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.0f} rows/s")


@contextmanager
def progress_bar(rows: int) -> Iterator[Callable[[int], None]]:
    """A bar in a terminal for so many rows; yields what is called with how many more are done."""
    bar = Progress(
        TextColumn("predicting"),
        BarColumn(),
        MofNCompleteColumn(),
        _Speed(),
        TimeRemainingColumn(),
        console=output.console,
        transient=True,
        disable=not output.console.is_terminal,
    )
    with bar:
        task = bar.add_task("", total=rows)
        yield lambda done: bar.advance(task, done)
