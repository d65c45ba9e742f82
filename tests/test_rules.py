"""Rules of the repository: the docs name existing commands and files; nothing uses pickle."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer

from cli.main import app
from tasks import params

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKING = [*PAGES, ROOT / "examples/README.md", ROOT / "benchmarks/README.md"]
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def tracked() -> set[str]:
    done = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    names = {name for name in done.stdout.splitlines() if (ROOT / name).is_file()}
    return {name for name in names if Path(name).name not in (".gitignore", ".dvcignore")}


def in_repository(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def commands_of(page: Path) -> list[str]:
    """The commands `modelmint ...` in inline code and in lines of fenced blocks."""
    text = page.read_text(encoding="utf-8")
    lines = "\n".join(FENCED.findall(text)).splitlines()
    inline = re.findall(r"`(modelmint [^`]+)`", FENCED.sub("", text))
    return inline + [line for line in lines if line.startswith("modelmint ")]


def check_command(text: str) -> None:
    """Assert that a command and all its options exist."""
    words = [word for word in shlex.split(text, comments=True)[1:] if word != "..."]
    command = known = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    assert command is not known, text
    if command.context_settings.get("ignore_unknown_options"):
        return  # the rest belongs to Prefect
    given = {word.partition("=")[0] for word in words if word.startswith("-")}
    options = {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {"--help"}
    assert given <= options, text
    assert not hasattr(command, "commands") or set(words) <= given, text


@pytest.mark.parametrize("page", PAGES, ids=in_repository)
def test_every_command_in_the_docs_exists_with_its_options(page):
    for text in commands_of(page):
        check_command(text)


def test_commands_of_finds_the_commands_in_the_docs():
    assert sum(len(commands_of(page)) for page in PAGES) >= 60
    assert "modelmint models list" in commands_of(ROOT / "README.md")  # of a fenced block
    assert "modelmint models ui" in commands_of(ROOT / "README.md")  # inline


@pytest.mark.parametrize(
    "text",
    ["modelmint nothing", "modelmint models nothing", "modelmint train --nothing", "modelmint"],
)
def test_check_command_refuses_a_missing_command(text):
    with pytest.raises(AssertionError):
        check_command(text)


@pytest.mark.parametrize("page", LINKING, ids=in_repository)
def test_every_relative_link_in_the_docs_leads_to_a_file(page):
    links = LINK.findall(FENCED.sub("", page.read_text(encoding="utf-8")))
    paths = [link.partition("#")[0] for link in links if "://" not in link]
    assert [path for path in paths if path and not (page.parent / path).exists()] == []


def test_params_yaml_has_every_parameter():
    given = params.read(ROOT / "params.yaml")
    assert params.validate(given, "").model_dump() == given


def test_no_module_uses_pickle():
    for name in tracked():
        if name.endswith(".py") and not name.startswith("tests/"):
            text = (ROOT / name).read_text(encoding="utf-8")
            assert not re.search(
                r"\bimport (pickle|joblib|dill)|torch\.load|allow_pickle=True", text
            ), name
