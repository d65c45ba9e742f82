"""Output of commands: tables and text on standard error, JSON on standard output."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from registry.validation.checks import escaped

if TYPE_CHECKING:
    from flows.job import JobReport
    from flows.outcome import Outcome

# In a file or a pipe, wide enough for a digest.
WIDTH = None if sys.stderr.isatty() else 120
IGNORED = 12  # lines in the summary of a training
console = Console(stderr=True, highlight=False, soft_wrap=True, width=WIDTH)


def escaped_text(text: str, *, lines: bool = True) -> Text:
    """Text to print: markup has no effect, control characters are escaped, as in \\x1b.

    With `lines`, new lines and tabs are kept.
    """
    return Text(escaped(text, lines=lines))


def say(text: str) -> None:
    """Print one line on standard error."""
    console.print(escaped_text(text))


def print_json(document: Any) -> None:
    """Print one JSON document on standard output."""
    json.dump(document, sys.stdout, indent=2, default=_encode)
    sys.stdout.write("\n")


def table(header: list[str], rows: list[list[str]]) -> None:
    """Print a table, or `none` if it is empty."""
    if not rows:
        say("none")
        return
    shown = Table(box=None, pad_edge=False, header_style="bold", show_header=any(header))
    for name in header:
        # Folded and not cut: an incomplete digest is useless.
        shown.add_column(escaped_text(name, lines=False), overflow="fold")
    for row in rows:
        # On one line: a cell with several lines would look like several rows.
        shown.add_row(*(escaped_text(cell, lines=False) for cell in row))
    console.print(shown)


@contextmanager
def counting(what: str) -> Iterator[Callable[[str], None]]:
    """A line of progress, if standard error is a terminal."""
    if not console.is_terminal:
        yield lambda _text: None
        return
    with console.status(escaped_text(what)) as status:
        yield lambda text: status.update(escaped_text(f"{what}: {text}"))


def training(outcome: "Outcome", job: "JobReport | None" = None) -> None:
    """Print the summary of a training, and of the batch job that followed it."""
    from tasks.bundle.evaluation import NO_GATES, Baseline, Parity
    from tasks.formats import record
    from tasks.words import counted

    facts = [("warning", text) for text in outcome.warnings]
    if outcome.dataset:
        facts += [
            ("dataset", outcome.dataset),
            ("architecture", outcome.architecture),
            *(
                (
                    _metric_label(n),
                    f"{outcome.metrics[n]:.4f}{_interval(outcome, n)}  (ONNX Runtime, test split)",
                )
                for n in outcome.headline
            ),
        ]
        for one in outcome.baselines:
            facts.append(("baseline", record(Baseline, one).summary(outcome.headline)))
        if outcome.repeats:
            facts.append(("repeated", outcome.repeats))
        if outcome.looked:
            facts += _all_metrics(outcome)
        facts += [("gate", gate(g)) for g in outcome.gates if g["gate"] != NO_GATES]
        if outcome.parity:
            facts.append(("parity", record(Parity, outcome.parity).summary))
        facts += [("notice", text) for text in outcome.notices]
    if outcome.looked and outcome.ended_well:
        facts.append(("registered", "nothing was registered: this was a look"))
    if outcome.version:
        new = "registered now" if outcome.created else "the same bundle was registered before"
        facts += [
            ("version", f"{outcome.version}  ({new})"),
            *_taken_by_existing(outcome),
            ("digest", outcome.digest),
            ("champion", f"{outcome.champion or 'none yet'}  ({outcome.decision})"),
        ]
    if outcome.approval_hint:
        hint = f"{outcome.version} is challenger; approve it {outcome.approval_hint}"
        facts.append(("approval", hint))
    if job:
        again = ", predicted before" if job.fresh else ""
        facts += [
            ("predicted", f"{counted(job.rows, 'row')} with {job.model} on {job.provider}{again}"),
            ("predictions", job.output),
            *(("substituted", remark) for remark in job.remarks),
        ]
    facts += [(f"took: {s.name}", f"{s.seconds:.1f} s  ({s.how})") for s in outcome.steps]
    # Less than the sum of the steps: evaluate and export run at the same time.
    facts.append(("took: flow run", f"{outcome.seconds:.1f} s  (without the start of Prefect)"))
    console.print()
    table(["", ""], [[name, value] for name, value in facts])
    console.print()
    if not outcome.ended_well:
        error(outcome.message)


def _interval(outcome: "Outcome", metric: str) -> str:
    """The 95 % interval of a metric, if there is one."""
    if metric not in outcome.intervals:
        return ""
    low, high = outcome.intervals[metric]
    return f" [{low:.4f}, {high:.4f}]"


def _taken_by_existing(outcome: "Outcome") -> list[tuple[str, str]]:
    """If the bundle was registered before: what that version took from this run, and what not."""
    facts = [("evaluation", f"a new one, added to {outcome.version}")] if outcome.evaluated else []
    facts += [("not changed", line) for line in outcome.ignored[:IGNORED]]
    if (more := len(outcome.ignored) - IGNORED) > 0:
        facts.append(("not changed", f"and {more} more values; --json has all"))
    return facts


def _all_metrics(outcome: "Outcome") -> list[tuple[str, str]]:
    """What `--look` adds to the summary: all metrics, numbers of rows, and each class."""
    others = [name for name in outcome.metrics if name not in outcome.headline]
    facts = [(_metric_label(name), f"{outcome.metrics[name]:.4f}") for name in others]
    if outcome.rows:
        facts.append(("rows", ", ".join(f"{name} {n:,}" for name, n in outcome.rows.items())))
    for label, found in outcome.per_class.items():
        metrics = [f"{_metric_label(n)} {v:.4f}" for n, v in found.items() if n != "support"]
        rows = f"{found['support']:.0f} test rows"
        facts.append((f"class {label}", ", ".join([*metrics, rows])))
    return facts


def next_steps(*commands: tuple[str, str]) -> None:
    """Print the commands to run next, each with its purpose."""
    say("Next:")
    for command, purpose in commands:
        say(f"  {command:<50} {purpose}")


def error(message: str) -> None:
    """Print an error message."""
    console.print(escaped_text(f"error: {message}"), style="red")


def _metric_label(metric: str) -> str:
    from tasks.problems import label

    return label(metric)


def gate(found: dict[str, Any]) -> str:
    """A gate as text: its value, and whether it passed."""
    from tasks.bundle.evaluation import Gate
    from tasks.formats import record

    return str(record(Gate, found))


def _encode(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)
