"""Rules of the repository: the docs name existing commands and files; nothing uses pickle."""

import re
import subprocess
from pathlib import Path

import pytest
from pages import PAGES, README, ROOT, check_command, commands_of, in_repository

from tasks import params

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


@pytest.mark.parametrize("page", PAGES, ids=in_repository)
def test_every_command_in_the_docs_exists_with_its_options(page):
    for text in commands_of(page):
        if not text.startswith("modelmint prefect "):  # see test_documented_commands
            check_command(text)


def test_commands_of_finds_the_commands_in_the_docs():
    assert sum(len(commands_of(page)) for page in PAGES) >= 60
    assert "modelmint models list" in commands_of(README)  # of a fenced block
    assert "modelmint models ui" in commands_of(README)  # inline


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("modelmint nothing", "No such command 'nothing'"),
        ("modelmint models nothing", "No such command 'nothing'"),
        ("modelmint models promot digits:3", "No such command 'promot'"),
        ("modelmint train --nothing", "No such option: --nothing"),
        ("modelmint predict digits --output DIR", "Missing parameter: inputs"),
        ("modelmint predict digits INPUT --output DIR --device tpu", "'tpu' is not one of"),
        ("modelmint models show digits:3 digits:4", "unexpected extra argument"),
        ("modelmint train -S train.epoch=3", "did you mean 'epochs'"),
        ("modelmint train --params examples/nothing.yaml", "cannot read the parameters"),
    ],
)
def test_check_command_refuses_a_mistyped_command(text, expected):
    with pytest.raises(Exception, match=expected):
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
