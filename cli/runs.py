"""`modelmint runs`: trainings with a git worktree of their own."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from cli import output
from flows.settings import Settings

app = typer.Typer(help="Trainings with a git worktree of their own.", no_args_is_help=True)
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on standard output.")
]


@app.command("list")
def show(as_json: JsonOption = False) -> None:
    """List the runs: changed parameters, state, age, and size on disk."""
    from flows.upkeep import list_runs

    runs = list_runs(Settings.from_environment())
    output.table(
        ["run", "differs in", "state", "age", "size", "flow run"],
        [
            [
                run.id,
                ", ".join(f"{name}={value}" for name, value in run.changed.items()),
                " ".join(filter(None, [run.state, run.detail])),
                _age(run.started),
                _megabytes(run.size),
                run.flow_run_id,
            ]
            for run in runs
        ],
    )
    if as_json:
        output.print_json([asdict(run) for run in runs])


@app.command()
def clean(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN]...", help="By default all runs that no flow is using."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list them.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove worktrees and records of runs. A run that was stopped cannot be resumed then."""
    from flows import upkeep

    removed = upkeep.clean_runs(Settings.from_environment(), runs or [], dry_run)
    verb = "would remove" if dry_run else "removed"
    for run in removed:
        output.say(f"{verb} {run.id} ({run.state}), {_megabytes(run.size)}")
    total = _megabytes(sum(run.size for run in removed))
    output.say(f"{verb} {len(removed)} runs, {total} in all" if removed else "nothing to remove")
    if as_json:
        output.print_json([asdict(run) for run in removed])


def _age(started: datetime) -> str:
    minutes = int((datetime.now(UTC) - started).total_seconds() // 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // (24 * 60)} days"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
