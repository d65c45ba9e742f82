"""`modelmint models evaluate`: a version on labelled rows, and the verdict for its history."""

import difflib
import math
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from cli import output
from cli.models.common import Json, app, open_registry, said
from flows.settings import actor
from tasks.errors import InputError

if TYPE_CHECKING:
    from tasks.config import Evaluate, Metric

GATE = re.compile(r"\s*([a-z0-9_]+)\s*(>=|<=)\s*(\S+)\s*")


@app.command()
def evaluate(
    reference: Annotated[
        str, typer.Argument(metavar="NAME:VERSION", help="Or NAME@ALIAS: what it means now.")
    ],
    data: Annotated[
        list[Path],
        typer.Argument(
            metavar="DATA...",
            help="Files of rows with the column to predict, a folder with one sub-folder of "
            "images for each class, or a prepared split such as data/prepared/test.arrow.",
        ),
    ],
    gates: Annotated[
        list[str] | None,
        typer.Option("--gate", help="What it must reach, as in macro_f1>=0.9. Any number."),
    ] = None,
    params: Annotated[
        Path | None, typer.Option(help="Take the gates from evaluate.gates of this file as well.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(help="The column to compare with; by default the one it was trained on."),
    ] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to run.")] = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show the figures; needs no gates.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Evaluate a version on labelled rows and add the verdict to its history.

    The newest evaluation counts: an approval needs one that passed.
    """
    from flows.evaluation import evaluate_version

    asked = settings_of(gates or [], params)
    with open_registry() as registry, output.counting("evaluating") as count:
        seen = 0

        def progress(rows: int) -> None:
            nonlocal seen
            seen += rows
            count(f"{seen:,} rows")

        report = evaluate_version(
            registry,
            registry.resolve(reference),
            data,
            asked,
            actor=actor(),
            target=target,
            device=device,
            record=not dry_run,
            progress=progress,
        )
    if not said(as_json, asdict(report)):
        facts = [
            ("version", report.model),
            ("rows", f"{report.rows:,}  (SHA-256 {report.sha256})"),
            ("provider", report.provider),
            *((name, f"{value:.4f}") for name, value in report.metrics.items()),
            *(("gate", output.gate(gate)) for gate in report.gates),
            *(("notice", text) for text in report.notices),
        ]
        output.table(["", ""], [[name, value] for name, value in facts])
        verdict = {True: "passed", False: "failed", None: "there were no gates"}[report.passed]
        kept = f"recorded for {report.model}" if report.recorded else "nothing was recorded"
        output.say(f"{verdict}; {kept}")
    raise typer.Exit(3 if report.passed is False else 0)


def settings_of(gates: list[str], params: Path | None) -> "Evaluate":
    """The gates that were given, those of the file first. Raises `InputError`."""
    from tasks.config import Evaluate

    if params is None:
        return Evaluate(gates=dict(map(gate_of, gates)))
    from tasks import params as parameters

    found = parameters.load(params).evaluate
    return found.model_copy(update={"gates": {**found.gates, **dict(map(gate_of, gates))}})


def gate_of(text: str) -> tuple["Metric", float]:
    """`macro_f1>=0.9` as a metric and its bound. Raises `InputError`."""
    from tasks.config import LowerIsBetter, Metric

    found = GATE.fullmatch(text)
    if found is None:
        raise InputError(
            f"{text!r} is not a gate. Give METRIC>=NUMBER, or METRIC<=NUMBER where lower is "
            "better, as in 'macro_f1>=0.9' or 'log_loss<=0.3'"
        )
    name, sign, number = found.groups()
    metrics: dict[str, Metric] = {name: name for name in get_args(Metric)}
    if name not in metrics:
        close = difflib.get_close_matches(name, metrics, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise InputError(
            f"{text!r}: there is no metric {name!r}{hint}; allowed: {', '.join(metrics)}"
        )
    lower = name in get_args(LowerIsBetter)
    if (sign == "<=") != lower:
        raise InputError(
            f"{text!r}: of {name}, {'lower' if lower else 'higher'} is better. Give "
            f"{name}{'<=' if lower else '>='}{number}"
        )
    try:
        bound = float(number)
    except ValueError:
        bound = math.nan
    if not math.isfinite(bound):
        raise InputError(f"{text!r}: {number!r} is not a finite number")
    return metrics[name], bound
