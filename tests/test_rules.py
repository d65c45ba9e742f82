"""Rules of the repository: what the README says is there, and what is there it says."""

import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
import typer
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cli.main import app
from tasks import params

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def listed() -> set[str]:
    """The paths of the README's tree; a folder ends in a slash."""
    tree = README.split("## The tree")[1].split("```")[1]
    found, folder = set(), ""
    for line in filter(None, tree.splitlines()):
        name = line.split()[0]
        if not line.startswith(" "):
            folder = name if name.endswith("/") else ""
            found.add(name)
        else:
            found.add(folder + name)
    return found


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


def test_the_tree_names_every_file_or_the_folder_it_lies_in():
    paths = listed()
    whole = {
        p for p in paths if p.endswith("/") and not any(q != p and q.startswith(p) for q in paths)
    }
    missing = {n for n in tracked() if n not in paths and not any(n.startswith(f) for f in whole)}
    assert missing == set()


def test_everything_that_the_tree_names_exists():
    assert {path for path in listed() if not (ROOT / path).exists()} == set()


def test_every_command_of_the_readme_exists_with_its_options():
    known = typer.main.get_command(app)
    seen = 0
    for text in re.findall(r"`(modelmint [^`]+)`", README):
        words = shlex.split(text)[1:]
        command = known
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        assert command is not known, text
        options = {o for p in command.params for o in p.opts}
        assert {w for w in words if w.startswith("-")} <= options, text
        seen += 1
    assert seen >= 10


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_example_is_valid_as_it_stands(path):
    params.load(path)


def test_params_yaml_names_every_parameter():
    given = params.read(ROOT / "params.yaml")
    assert params.validate(given, "").model_dump() == given


def test_every_direct_dependency_is_bounded_and_pinned():
    pins = {}
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            pins[canonicalize_name(requirement.name)] = requirement.specifier
    wanted = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]
    for requirement in map(Requirement, wanted):
        assert requirement.specifier, f"{requirement.name} has no bound"
        (pin,) = pins[canonicalize_name(requirement.name)]
        assert pin.operator == "=="
        assert requirement.specifier.contains(pin.version)


def test_the_lock_names_releases_and_no_builds_places_or_cuda_libraries():
    lock = (ROOT / "requirements.lock").read_text()
    assert "+" not in lock
    assert "://" not in lock
    assert "nvidia" not in lock


def test_no_file_is_read_by_pickle():
    for name in tracked():
        if name.endswith(".py") and not name.startswith("tests/"):
            text = (ROOT / name).read_text(encoding="utf-8")
            assert not re.search(
                r"\bimport (pickle|joblib|dill)|torch\.load|allow_pickle=True", text
            ), name
