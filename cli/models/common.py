"""Shared arguments and functions of the commands of `modelmint models`."""

from typing import Annotated

import typer

from cli import output
from flows.settings import Places
from registry import Registry

app = typer.Typer()

Name = Annotated[str, typer.Argument(metavar="NAME", help="A model, such as digits.")]
OneModel = Annotated[str | None, typer.Argument(metavar="NAME", help="Only this model.")]
Reference = Annotated[
    str, typer.Argument(metavar="NAME[@ALIAS|:VERSION]", help="NAME alone means its champion.")
]
Reason = Annotated[str, typer.Option(help="Why; kept in the history.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only list them.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


def open_registry() -> Registry:
    """The registry that the settings name."""
    return Places.of_registry().open_registry()


def printed_json(as_json: bool, document: object) -> bool:
    """Print a document if `as_json`; returns `as_json`."""
    if as_json:
        output.print_json(document)
    return as_json
