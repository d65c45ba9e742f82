"""`modelmint models`: the registry on the command line."""

from functools import cached_property
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_group


class _Commands(TyperGroup):
    """Imports the commands when one is looked up: 0.03 s, of which `predict` needs nothing."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        del self.commands  # which it has set, to none

    @cached_property
    def commands(self) -> Any:  # type: ignore[override]  # cached_property can be set
        from cli.models import decide, evaluate, look, move, upkeep  # noqa: F401  they register
        from cli.models.common import app

        return get_group(app).commands


app = typer.Typer(cls=_Commands, help="The model registry.", no_args_is_help=True)
