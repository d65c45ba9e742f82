"""How the project uses git: inside hooks, in fresh clones, before the first commit of data."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from projects import Project, make_project, worktree

from flows.git import git
from flows.raw import version_raw_data
from flows.settings import Settings
from tasks import params
from tasks.config import ImageSource, TabularSource


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    return make_project(tmp_path_factory.mktemp("git") / "project")


# What a flow does before it trains with other parameters.
WORK = """
from pathlib import Path
from flows.raw import version_raw_data
from flows.runs import claim_run
from flows.settings import Settings
from tasks import params
settings = Settings.from_environment()
given = params.load(settings.root / "params.yaml", ["train.epochs=7"])
version_raw_data(given.prepare.source, settings.root)
with claim_run(settings, given) as run:
    print(run.workspace.root)
"""


def test_a_run_inside_a_git_hook_adds_nothing_to_the_commit(project: Project):
    hook = project.root / ".git/hooks/pre-commit"
    hook.parent.mkdir(exist_ok=True)
    (project.root / ".git/work.py").write_text(WORK)
    hook.write_text(f"#!/bin/sh\nexec {sys.executable} .git/work.py\n")
    hook.chmod(0o755)
    (project.root / "wanted.txt").write_text("w")
    (project.root / "staged.txt").write_text("s")
    (project.root / "secret.txt").write_text("s")
    project.run("git", "add", "wanted.txt", "staged.txt")
    author = ["-c", "user.name=t", "-c", "user.email=t@t"]
    project.run("git", *author, "commit", "-qm", "wanted", "--", "wanted.txt")
    hook.unlink()
    committed = project.run("git", "show", "--name-only", "--format=", "HEAD").stdout
    assert committed.split() == ["wanted.txt"]
    status = project.run("git", "status", "--porcelain").stdout.splitlines()
    assert status == ["A  staged.txt", "?? secret.txt"]


@pytest.mark.parametrize(
    "variables",
    [
        {"GIT_INDEX_FILE": "{other}/index"},
        {"GIT_DIR": "{other}"},
        {"GIT_DIR": "{other}", "GIT_WORK_TREE": "{other}"},
        {"GIT_OBJECT_DIRECTORY": "{other}/objects"},
    ],
    ids=lambda variables: " ".join(variables),
)
def test_git_ignores_the_callers_git_variables(project, variables, tmp_path, monkeypatch):
    subprocess.run(["git", "init", "-q", "--bare", tmp_path / "other"], check=True)
    index = tmp_path / "other/index"
    shutil.copy(project.root / ".git/index", index)
    before = index.read_bytes()
    head = git(project.root, "rev-parse", "HEAD")
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(other=tmp_path / "other"))
    assert git(project.root, "rev-parse", "HEAD") == head
    settings = Settings(project.root, "", "", tmp_path, project.root / "runs")
    (project.root / f"new-{len(variables)}").write_text(str(variables))
    workspace = worktree(settings, params.load(project.root / "params.yaml", ["train.epochs=9"]))
    assert (workspace.root / f"new-{len(variables)}").read_text() == str(variables)
    assert index.read_bytes() == before


def test_importing_flows_removes_git_variables_from_the_environment(project):
    listed = subprocess.run(["git", "rev-parse", "--local-env-vars"], capture_output=True)
    local = listed.stdout.decode().split()
    code = "import flows, os; print(*(n for n in os.environ if n.startswith('GIT_')))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project.root,
        env={**os.environ, **dict.fromkeys(local, "0"), "GIT_AUTHOR_NAME": "ada"},
        capture_output=True,
        text=True,
    )
    assert "GIT_AUTHOR_NAME" in done.stdout.split()
    assert not set(local) & set(done.stdout.split())


def test_git_ignores_raw_data_before_and_after_it_is_under_dvc(project: Project):
    (project.root / "data/raw/own.csv").write_text("a,b\n1,2\n")
    nested = project.root / "data/raw/pets/cat"
    nested.mkdir(parents=True)
    (nested / "a.png").write_bytes(b"p")

    def offered() -> set[str]:
        listed = project.run("git", "ls-files", "-co", "--exclude-standard", "data/raw").stdout
        return set(listed.split())

    own = {"data/raw/.gitignore", "data/raw/dvc.yaml", "data/raw/dvc.lock"}
    assert offered() == own
    version_raw_data(
        TabularSource(kind="tabular", path="data/raw/own.csv", target="b"), project.root
    )
    version_raw_data(ImageSource(kind="image", path="data/raw/pets"), project.root)
    assert offered() == own | {"data/raw/own.csv.dvc", "data/raw/pets.dvc"}


def test_dvc_repro_works_in_a_fresh_clone_without_a_remote(project: Project, tmp_path):
    project.run("git", "clone", "-q", str(project.root), str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone")
    assert not (clone.root / "data/raw/digits.csv.gz").exists()
    done = clone.run("dvc", "repro", "prepare")
    assert "Running stage 'data/raw/dvc.yaml:digits'" in done.stdout
    assert (clone.root / "data/prepared/train.arrow").exists()
    # An existing file is never overwritten.
    (clone.root / "data/raw/digits.csv.gz").write_bytes(b"mine")
    clone.run("dvc", "repro", "data/raw/dvc.yaml")
    assert (clone.root / "data/raw/digits.csv.gz").read_bytes() == b"mine"


def test_dvc_pull_in_a_clone_gets_everything_that_was_pushed(trained: Project, tmp_path):
    # Clones, because tests share the trained project.
    trained.run("git", "clone", "-q", str(trained.root), str(tmp_path / "mine"))
    mine = Project(tmp_path / "mine")
    shutil.copy(trained.root / "dvc.lock", mine.root)
    remote = f"\n[core]\n    remote = r\n['remote \"r\"']\n    url = {tmp_path / 'remote'}\n"
    (mine.root / ".dvc/config.local").write_text(
        f"[cache]\n    dir = {trained.root / '.dvc/cache'}\n{remote}"
    )
    mine.run("dvc", "push")
    mine.commit()
    mine.run("git", "clone", "-q", str(mine.root), str(tmp_path / "theirs"))
    theirs = Project(tmp_path / "theirs")
    (theirs.root / ".dvc/config.local").write_text(remote)
    theirs.run("dvc", "pull")
    assert (theirs.root / "outputs/bundle/model.onnx").exists()
    assert "Running stage" not in theirs.run("dvc", "repro").stdout.replace(
        "Running stage 'data/raw/dvc.yaml:digits'", ""
    )
    assert Path(theirs.root / "data/raw/digits.csv.gz").exists()


def test_dvc_plots_prints_no_warning(trained: Project):
    done = trained.run("dvc", "plots", "show")
    assert "failed to load" not in done.stdout + done.stderr
    offered = trained.run("git", "status", "--porcelain", "--", "dvc_plots").stdout
    assert offered == ""
    shown = trained.run("dvc", "metrics", "show").stdout
    assert "macro_f1" in shown
    assert "per_class" not in shown
