"""The commands and examples in README.md and docs/, and modelmint's own parser for them."""

import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import typer

from cli.main import app
from tasks import params

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
_CODE = re.compile(r"^```(\w*)\n(.*?)^```|`([^`]+)`", re.DOTALL | re.MULTILINE)
# Words of the pages that stand for a value which a parser reads.
_EXAMPLES = {"EVENT": "1", "examples/NAME.yaml": "examples/digits-mlp.yaml"}


@cache
def modelmint_command() -> Any:
    """The command `modelmint`; making it takes as long as ten tests."""
    return typer.main.get_command(app)


def in_repository(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks_of(page: Path, language: str = "") -> list[str]:
    """The fenced blocks of a page in a language, in order."""
    found = _CODE.findall(page.read_text(encoding="utf-8"))
    return [block for marked, block, _ in found if block and marked == language]


def commands_of(page: Path, programs: tuple[str, ...] = ("modelmint",)) -> list[str]:
    """The commands of these programs in a page, in order, without comments.

    They are lines of fenced blocks, and inline code. Inline code that only names a command, such
    as `modelmint models tag`, is left out if that command needs arguments.
    """
    found = []
    for _, block, inline in _CODE.findall(page.read_text(encoding="utf-8")):
        lines = block.splitlines() or [" ".join(inline.split())]
        for line in lines:
            text = line.partition(" #")[0].strip()
            if text.split(" ")[0] in programs and (block or not is_only_a_name(text)):
                found.append(text)
    return found


def is_only_a_name(text: str) -> bool:
    """Whether a command names a group of commands, or one that cannot run without arguments."""
    command = modelmint_command()
    for word in text.split()[1:]:
        if word not in getattr(command, "commands", {}):
            return False
        command = command.commands[word]
    return hasattr(command, "commands") or any(p.required for p in command.params)


def options_of(page: Path) -> list[str]:
    """The options in inline code that begins with one, such as `--keep id,ts`."""
    found = [inline for _, _, inline in _CODE.findall(page.read_text(encoding="utf-8"))]
    return [re.split(r"[ =]", text)[0] for text in found if text.startswith("--")]


def known_options() -> set[str]:
    """All options of all commands."""
    waiting = [modelmint_command()]
    found = {"--help"}
    while waiting:
        command = waiting.pop()
        waiting += getattr(command, "commands", {}).values()
        found |= {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
    return found


def check_command(text: str) -> None:
    """Parse a command, and the parameters that it names, as modelmint does, without running it.

    Raises a usage error of the parser if a command or an option does not exist, a value is not
    allowed or an argument is missing, and `InputError` if a parameter is wrong.
    """
    program, *words = [_EXAMPLES.get(word, word) for word in shlex.split(text)]
    assert program == "modelmint"
    if words[:1] == ["prefect"]:
        check_prefect_command(words[1:])
        return
    command = modelmint_command()
    context = command.make_context(program, words)
    while hasattr(command, "commands"):
        name, command, words = command.resolve_command(
            context, [*context._protected_args, *context.args]
        )
        context = command.make_context(name, words, parent=context)
    if command.name == "train":
        given = context.params
        path = ROOT / given["params"]
        params.load(path, given["overrides"] or [], look=given["look"])


def check_prefect_command(words: list[str]) -> None:
    """Parse a command of Prefect with Prefect's own parser. Raises its usage error."""
    from prefect.cli._app import _app as prefect  # it has no public name

    own = [word for word in words if word != "--no-prompt"]  # parsed before a command is chosen
    prefect.parse_args(own, exit_on_error=False, print_error=False)
