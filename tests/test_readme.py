"""The commands of README.md work in the order in which they stand, and print what it shows."""

import os
import re
import shlex
import subprocess

import commands
import pytest
from pages import README, ROOT, blocks_of, check_command, commands_of
from projects import SECONDS, Project, expect
from sample_data import houses

# Why a command does not run here.
NOT_RUN = {
    "git clone <this repository> modelmint && cd modelmint": "the tests run in a clone",
    "make run": "installs packages; it runs `modelmint run`, see below",
    "modelmint run": "flows/test_main_job",
    "make loop": "takes minutes: tests/test_examples",
    "make test": "these are the tests",
    "make bench": "takes minutes",
    "make test-gpu": "needs a GPU",
    "make bench-gpu": "needs a GPU",
    "modelmint serve": "ends when it is stopped: flows/test_serve",
    "modelmint models ui": "ends when it is stopped: registry/test_web",
}
AUTHOR = {
    f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
}
# Numbers and hashes that vary with the machine and the release.
VARYING = [
    (r"\b[0-9a-f]{12,}\b", "HASH"),
    (r"\b\d\.\de-\d\d\b", "SMALL"),
    (r"\b[01]\.\d{4}\b", "N"),
]


def commands_in_order() -> list[str]:
    """Each command that runs, once, where it stands first."""
    programs = ("modelmint", "cd", "dvc", "make", "git")
    found = dict.fromkeys(commands_of(README, programs))
    return [command for command in found if command not in NOT_RUN]


@pytest.mark.whole
@pytest.mark.timeout(1800)
def test_the_commands_of_the_readme_run_in_their_order(tmp_path, prefect_server):
    (tmp_path / "houses.csv").write_text(houses())
    project = Project(tmp_path, {"PREFECT_API_URL": prefect_server, "PYTHONPATH": str(ROOT)})
    project.environment |= AUTHOR
    said = {command: run(command, project) for command in commands_in_order()}
    assert "houses  2 " in said["modelmint models list"]  # two versions
    assert "rolled back" in said["modelmint models history houses"]
    assert (tmp_path / "houses/predictions/new/manifest.json").exists()
    assert len(said) >= 14


def run(command: str, project: Project) -> str:
    """What a command prints; it must exit with 0. `cd` changes the folder of the project."""
    program, *words = shlex.split(command)
    if program == "cd":
        project.root /= words[0]
        lines = (project.root.parent / "houses.csv").read_text().splitlines()
        without_price = [line.rpartition(",")[0] for line in lines[:20]]
        (project.root / "new.csv").write_text("\n".join(without_price) + "\n")
        return ""
    if program == "modelmint" and words[0] != "train":
        done = commands.run(tuple(words), project.root, project.variables, SECONDS)
        return expect(done, 0).stderr
    return project.run(program, *words).stderr


def test_make_run_runs_modelmint_run_and_make_test_runs_pytest():
    for target, expected in (("run", "bin/modelmint run"), ("test", "-m pytest -n 3 ")):
        # Below another make, as in `make check`, it would also print the folder that it leaves.
        environment = {name: value for name, value in os.environ.items() if "MAKE" not in name}
        command = ["make", "-n", target]
        recipe = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert expected in recipe.stdout.splitlines()[-1], recipe.stderr


def test_the_readme_shows_the_summary_of_make_run(main_job):
    (shown,) = (block for block in blocks_of(README) if block.startswith("dataset "))
    printed = main_job.summary.replace(f"{main_job.project.root}/", "")
    summary = [line for line in masked(printed) if line]
    start = summary.index(masked(shown)[0])
    assert summary[start : start + len(masked(shown))] == masked(shown)


def masked(text: str) -> list[str]:
    for pattern, word in VARYING:
        text = re.sub(pattern, word, text)
    return [" ".join(line.split()) for line in text.splitlines()]


def test_the_readme_has_at_most_150_lines():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


def test_a_command_that_does_not_run_is_in_the_readme():
    programs = ("modelmint", "make", "git")
    assert set(NOT_RUN) <= set(commands_of(README, programs))


def test_check_command_refuses_a_mistyped_command_of_the_readme():
    for command in commands_of(README):
        check_command(command)
        with pytest.raises(Exception, match="No such"):
            check_command(f"{command} --nothing")
