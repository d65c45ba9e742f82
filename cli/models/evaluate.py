"""`modelmint models evaluate`: evaluates a version on labelled rows and records the verdict."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from cli import output
from cli.models.common import Json, app, open_registry, printed_json
from flows.settings import actor


@app.command()
def evaluate(
    reference: Annotated[
        str,
        typer.Argument(metavar="NAME:VERSION", help="Or NAME@ALIAS, the version it points to."),
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
        typer.Option("--gate", help="Such as macro_f1>=0.9; one for each metric."),
    ] = None,
    params: Annotated[
        Path | None,
        typer.Option(help="Also use evaluate.gates of this file; --gate takes precedence."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(help="The column to compare with; by default the one it was trained on."),
    ] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to run.")] = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show the metrics; needs no gates.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Evaluate a version on labelled rows and add the verdict to its history.

    The newest evaluation counts: an approval needs one that passed.
    """
    from flows.evaluation import evaluate_version
    from flows.gates import read_gates

    asked, replaced = read_gates(gates or [], params)
    for line in replaced:
        output.say(line)
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
    if not printed_json(as_json, asdict(report)):
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
