"""Runs with their own worktree: made, resumed, removed, listed and cleaned."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from projects import Project, make_project, worktree

from flows import upkeep
from flows.git import git
from flows.raw import copy_salt, version_raw_data
from flows.runs import claim_run, resolve_paths
from flows.settings import Settings
from flows.versioning import pipeline, why_stale
from tasks import params
from tasks.config import TabularSource
from tasks.errors import InputError


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    return make_project(tmp_path_factory.mktemp("runs") / "project").root


@pytest.fixture
def project(template, tmp_path) -> Project:
    """A new copy of the project for each test."""
    shutil.copytree(template, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project")


def settings_of(root: Path) -> Settings:
    return Settings(root, "", "", root / "cache", root / "runs")


def params_with(root: Path, *assignments: str):
    return params.load(root / "params.yaml", assignments)


def worktrees(root: Path) -> list[str]:
    listed = git(root, "worktree", "list", "--porcelain").splitlines()
    return [line.removeprefix("worktree ") for line in listed if line.startswith("worktree ")][1:]


@pytest.mark.parametrize("state", ["registered", "refused", "looked"])
def test_a_finished_run_leaves_a_record_and_no_worktree(project, state):
    settings, expected = settings_of(project.root), params_with(project.root, "train.epochs=7")
    with claim_run(settings, expected, "flow-1") as run:
        folder = run.workspace.root
        (folder / "outputs").mkdir()
        (folder / "outputs/history.csv").write_text("epoch\n1\n")
        run.state, run.detail = state, "why"
    assert not folder.exists()
    assert worktrees(project.root) == []
    assert (run.folder / "history.csv").read_text() == "epoch\n1\n"
    assert params.load(run.folder / "params.yaml") == expected
    (row,) = upkeep.list_runs(settings)
    assert (row.id, row.state, row.detail) == (folder.name, state, "why")
    assert (row.changed, row.flow_run_id, row.folder) == ({"train.epochs": 7}, "flow-1", "")


@pytest.mark.parametrize(
    ("error", "state"), [(InputError("no"), "failed"), (KeyboardInterrupt(), "stopped")]
)
def test_a_resumable_run_keeps_its_worktree(project, error, state):
    settings, expected = settings_of(project.root), params_with(project.root, "train.epochs=7")
    kept = []

    def train_until_it_ends_early():
        with claim_run(settings, expected) as run:
            run.workspace.resume.mkdir(parents=True)
            kept.append(run)
            raise error

    with pytest.raises(type(error)):
        train_until_it_ends_early()
    (run,) = kept
    assert run.workspace.resume.exists()
    (row,) = upkeep.list_runs(settings)
    assert (row.state, row.folder) == (state, str(run.workspace.root))
    with claim_run(settings, expected) as again:
        assert again.workspace == run.workspace


def test_the_last_flow_in_a_worktree_removes_it(project):
    settings, expected = settings_of(project.root), params_with(project.root, "train.epochs=7")
    with claim_run(settings, expected) as second:
        with claim_run(settings, expected) as first:
            first.state = "registered"
        assert second.workspace.root.exists()
        second.state = "registered"
    assert not second.workspace.root.exists()


def test_a_run_in_the_checkout_leaves_no_record(project):
    settings = settings_of(project.root)
    with claim_run(settings, params_with(project.root)) as run:
        run.state = "registered"
    assert run.workspace.root == project.root
    assert not settings.runs.exists()
    assert upkeep.list_runs(settings) == []


HOLD = """
import sys
from pathlib import Path
from test_runs import claim_run, params_with, settings_of
root = Path.cwd()
with claim_run(settings_of(root), params_with(root, sys.argv[1])):
    print("holds", flush=True)
    sys.stdin.read()
"""


def hold_run(project: Project, assignment: str) -> subprocess.Popen:
    here = Path(__file__).parent
    paths = os.pathsep.join(map(str, (project.root, here, here.parent / "helpers")))
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, assignment],
        cwd=project.root,
        env={**os.environ, "PYTHONPATH": paths},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "holds\n"
    return process


def test_clean_runs_refuses_a_run_in_use_and_removes_stopped_and_failed_ones(project):
    settings = settings_of(project.root)
    with (
        pytest.raises(InputError),
        claim_run(settings, params_with(project.root, "train.epochs=7")),
    ):
        raise InputError("no")
    process = hold_run(project, "train.epochs=8")
    states = {row.changed["train.epochs"]: row for row in upkeep.list_runs(settings)}
    assert {k: row.state for k, row in states.items()} == {7: "failed", 8: "running"}
    assert all(row.size > 100_000 for row in states.values())  # the checkout's files
    with pytest.raises(InputError, match=f"{states[8].id} is running; stop it first"):
        upkeep.clean_runs(settings, [states[8].id])
    with pytest.raises(InputError, match="there is no run nothing"):
        upkeep.clean_runs(settings, [states[7].id, "nothing"])
    assert [r.id for r in upkeep.clean_runs(settings, [], dry_run=True)] == [states[7].id]
    assert len(worktrees(project.root)) == 2
    assert [r.id for r in upkeep.clean_runs(settings, [])] == [states[7].id]
    assert worktrees(project.root) == [states[8].folder]
    process.kill()  # SIGKILL, so it cannot record its end
    process.wait()
    (row,) = upkeep.list_runs(settings)
    assert (row.state, row.changed) == ("stopped", {"train.epochs": 8})
    done = project.modelmint("runs", "list")
    assert row.id in done.stderr
    assert "train.epochs=8" in done.stderr
    done = project.modelmint("runs", "clean", "--json")
    assert [r["id"] for r in json.loads(done.stdout)] == [row.id]
    assert worktrees(project.root) == []
    assert upkeep.list_runs(settings) == []
    assert "no run" in project.modelmint("runs", "clean", row.id, status=2).stderr


def test_list_runs_and_clean_runs_include_a_worktree_without_a_record(project):
    """As made by a release without records."""
    settings = settings_of(project.root)
    workspace = worktree(settings, params_with(project.root, "train.epochs=7"))
    shutil.rmtree(settings.runs / "records")
    (row,) = upkeep.list_runs(settings)
    assert (row.state, row.changed) == ("stopped", {"train.epochs": 7})
    assert row.folder == str(workspace.root)
    upkeep.clean_runs(settings, [row.id])
    assert not workspace.root.exists()


def test_a_worktree_links_its_data_to_the_dvc_cache(project):
    own = project.root / "data/raw/own.csv"
    own.write_text("a,b\n" + "1,2\n" * 100_000)
    source = TabularSource(kind="tabular", path="data/raw/own.csv", target="b")
    version_raw_data(source, project.root)
    settings = settings_of(project.root)
    workspace = worktree(settings, params_with(project.root, "train.epochs=7"))
    version_raw_data(source, workspace.root, project.root)
    linked = workspace.root / "data/raw/own.csv"
    assert linked.read_text() == own.read_text()
    assert linked.lstat().st_nlink > 1 or linked.is_symlink()


def test_a_worktree_gets_a_file_that_replaces_the_embedded_digits(project):
    raw = project.root / "data/raw/digits.csv.gz"
    raw.write_bytes(b"mine")
    source = params_with(project.root).prepare.source
    assert "recorded the present" in version_raw_data(source, project.root)
    workspace = worktree(settings_of(project.root), params_with(project.root, "train.epochs=7"))
    version_raw_data(source, workspace.root, project.root)
    assert (workspace.root / "data/raw/digits.csv.gz").read_bytes() == b"mine"


@pytest.mark.parametrize("path", ["../own.csv", "../../own.csv", "data/raw/link.csv"])
def test_a_worktree_reads_files_outside_of_the_project_without_a_copy(template, tmp_path, path):
    root = tmp_path / "a/b/project"
    shutil.copytree(template, root, symlinks=True)
    outside = tmp_path / "a/b/outside.csv" if path.startswith("data") else root / path
    if path.startswith("data"):
        (root / path).symlink_to(outside)
    salt = root / "../salt"
    settings = settings_of(root)
    source = f"prepare.source={{kind: tabular, path: {path}, target: b}}"
    for seed, text in (("1", "older"), ("1", "newer"), ("2", "newest")):
        outside.write_text(text)
        salt.write_text(text)
        given = params_with(root, source, f"train.seed={seed}", "prepare.salt_file=../salt")
        expected = resolve_paths(settings, given)
        with claim_run(settings, expected) as run:
            worktree = run.workspace.root
            printed = version_raw_data(expected.prepare.source, worktree, root)
            assert "is outside of the project" in printed
            copy_salt(root, worktree, expected.prepare.salt_file)
            there = params.load(run.workspace.params)
            assert there == expected
            assert (worktree / there.prepare.source.path).read_text() == text
            assert (worktree / there.prepare.salt_file).read_text() == text
        row = next(row for row in upkeep.list_runs(settings) if row.id == run.id)
        assert row.changed["prepare.source.path"] == os.path.abspath(root / path)
    names = {"runs/.lock", "runs/records", *(f"runs/{r.id}" for r in upkeep.list_runs(settings))}
    assert {f"runs/{found.name}" for found in settings.runs.iterdir()} == names
    assert git(root, "status", "--porcelain") == ""


def test_git_does_not_store_the_weights_that_a_run_starts_from(project):
    weights = project.root / "weights/own.safetensors"
    weights.parent.mkdir()
    weights.write_text("large")
    (weights.parent / "notes.txt").write_text("small")
    given = params_with(project.root, "train.init_from=weights/own.safetensors")
    made = worktree(settings_of(project.root), given).root
    assert [path.name for path in (made / "weights").iterdir()] == ["notes.txt"]
    assert params.load(made / "params.yaml").train.init_from == "weights/own.safetensors"


# The project is a sub-folder of its repository.


@pytest.mark.parametrize("dvc", ["ml/.dvc", ".dvc"])
def test_worktrees_work_for_a_project_in_a_sub_folder(template, tmp_path, dvc):
    root = tmp_path / "big/ml"
    shutil.copytree(template, root, symlinks=True)
    shutil.move(root / ".git", tmp_path / "big/.git")
    if dvc == ".dvc":
        shutil.move(root / ".dvc", tmp_path / "big/.dvc")
    (tmp_path / "big/other").mkdir()
    (tmp_path / "big/other/dvc.yaml").write_text("stages: {prepare: {cmd: 'true'}}\n")
    repository = Project(tmp_path / "big")
    repository.commit()
    settings = settings_of(root)
    own = params_with(root)
    assert "data/raw/digits.csv.gz is current" in version_raw_data(own.prepare.source, root)
    assert list(pipeline(root)) == ["prepare", "train", "evaluate", "export"]
    with claim_run(settings, params_with(root, "train.epochs=7")) as run:
        workspace = run.workspace
        assert workspace.root == settings.runs / run.id / "ml"
        assert params.load(workspace.params).train.epochs == 7
        version_raw_data(own.prepare.source, workspace.root, root)
        assert list(pipeline(workspace.root)) == ["prepare", "train", "evaluate", "export"]
        assert why_stale(workspace.root, "train")
        run.state = "refused"
    assert worktrees(root) == []
    assert repository.run("git", "status", "--short").stdout == ""


def test_a_worktree_of_a_git_ignored_project_is_refused(template, tmp_path):
    root = tmp_path / "big/ml"
    shutil.copytree(template, root, symlinks=True)
    shutil.move(root / ".git", tmp_path / "big/.git")
    (tmp_path / "big/.gitignore").write_text("/ml/\n")
    repository = Project(tmp_path / "big")
    repository.run("git", "rm", "-rq", "--cached", ".")
    repository.commit()
    with pytest.raises(InputError, match="ignored by one of your"):
        worktree(settings_of(root), params_with(root, "train.epochs=7"))
    assert worktrees(root) == []
