"""`modelmint models`: the registry on the command line."""

from cli.models import decide, evaluate, look, move, upkeep
from cli.models.common import app

__all__ = ["app", "decide", "evaluate", "look", "move", "upkeep"]
