"""`modelmint new` and `modelmint code`: create a project, and record the code that it runs."""

from pathlib import Path
from typing import Annotated

import typer

from cli import output
from cli.status import ERROR
from flows.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]


def new(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or an empty folder.")],
    data: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE_OR_FOLDER",
            help="Your data: a table, a folder of images, texts. It is copied.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Create a project: parameters for your data, under git and DVC.

    Without --from it trains on scikit-learn's handwritten digits.
    """
    from flows.project import new_project

    if data is not None:
        output.say(f"copying {data} and putting the copy under DVC")
    made = new_project(folder, data)
    output.say(f"created {made.root}")
    if made.assumptions:
        output.say("Assumed from the data, and written to params.yaml:")
    for assumption in made.assumptions:
        output.say(f"  {assumption}")
    if made.uncommitted:
        output.say(f"Nothing is committed yet. {made.uncommitted}")
    if as_json:
        output.print_json(
            {
                "folder": str(made.root),
                "model": made.model,
                "assumptions": made.assumptions,
                "committed": not made.uncommitted,
            }
        )
    output.next_steps(
        (f"cd {folder}", "all commands work inside the project"),
        ("modelmint train --look", "train and show every metric, register nothing"),
        ("modelmint train", "train, register and promote"),
    )


def code(
    check: Annotated[
        bool, typer.Option("--check", help="Only compare; exit status 1 if they differ.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Update code.json to the installed code, and say which stages become stale.

    Comments, docstrings and formatting do not count. Commit code.json. Run this again after a
    merge.
    """
    from tasks import fingerprint
    from tasks.pipeline import STEPS

    root = Settings.from_environment().root
    changes = fingerprint.code_changes(root, STEPS)
    if not check:
        fingerprint.record_code(root, fingerprint.installed_code(STEPS))
    for change in changes:
        output.say(f"{change.stage} {'would become' if check else 'becomes'} stale: {change}")
    if not changes:
        output.say(f"{fingerprint.FILE} describes the installed code: no stage becomes stale")
    elif check:
        output.say(f"{fingerprint.FILE} does not describe the installed code; run `modelmint code`")
    else:
        output.say(f"updated {fingerprint.FILE}; commit it")
    if as_json:
        output.print_json({change.stage: list(change.files) for change in changes})
    if check and changes:
        raise typer.Exit(ERROR)
