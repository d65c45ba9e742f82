"""DVC's repository in several threads and processes."""

import threading

import pytest
import zc.lockfile
from projects import Project, make_project

from flows import versioning
from flows.git import git
from flows.records import Run, write_record
from flows.runs import snapshot_of
from tasks import recorded
from tasks.recorded import dvc_folder, locked_stages
from tasks.workspace import Workspace


def test_the_repository_is_opened_by_one_thread_at_a_time(tmp_path):
    """The stages `evaluate` and `export` ask for their state at the same time. DVC's schemas keep
    state while they check a file, and said now and then that a valid dvc.yaml is invalid."""
    root = make_project(tmp_path / "project").root
    inside, leave, found = threading.Event(), threading.Event(), []

    def stay():
        with versioning._repo(root):
            inside.set()
            leave.wait(60)
            found.append("the first has left")

    def ask():
        found.append(versioning.why_stale(root, "prepare"))

    first, second = threading.Thread(target=stay), threading.Thread(target=ask)
    first.start()
    assert inside.wait(60)
    second.start()
    second.join(1)  # it takes 0.2 s if nobody is inside
    assert found == []
    leave.set()
    first.join()
    second.join(60)
    assert found[0] == "the first has left"
    assert found[1]


def recorded_lock(root):
    """What the record of a run has as `dvc.lock`."""
    write_record(Run("one", Workspace(root), root / "record"), "stopped")
    return (root / "record/dvc.lock").read_text()


READERS = {
    "pipeline": versioning.pipeline,
    "why_stale": lambda root: versioning.why_stale(root, "export"),
    "stale_stages": versioning.stale_stages,
    "locked_stages": locked_stages,
    "the worktree of a run": lambda root: git(root, "show", f"{snapshot_of(root)}:dvc.lock"),
    "the record of a run": recorded_lock,
}


@pytest.fixture(scope="module")
def read_once(tmp_path_factory) -> Project:
    made = make_project(tmp_path_factory.mktemp("versioning") / "project")
    versioning.pipeline(made.root)  # DVC makes the file of its lock
    return made


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_readers_of_dvc_lock_wait_until_dvc_has_written_it(read, read_once):
    """DVC truncates the file and writes it again; the part in between may be valid YAML."""
    root, found = read_once.root, []
    path = root / "dvc.lock"
    whole, expected = path.read_text(), read(root)
    reader = threading.Thread(target=lambda: found.append(read(root)))
    writing = zc.lockfile.LockFile(str(dvc_folder(root) / "tmp/lock"))
    try:
        path.write_text(whole[: whole.index("\n  evaluate:") + 1])
        reader.start()
        reader.join(0.5)
        assert found == []
    finally:
        path.write_text(whole)
        writing.close()
    reader.join(60)
    assert found == [expected]


def test_why_stale_does_not_wait_long_for_another_command(read_once):
    """It runs in a thread of the flow, which Ctrl-C could not end."""
    busy = zc.lockfile.LockFile(str(dvc_folder(read_once.root) / "tmp/lock"))
    try:
        with pytest.raises(versioning.WorkspaceBusy):
            versioning.why_stale(read_once.root, "export")
    finally:
        busy.close()


def test_who_waits_long_for_another_command_says_so(read_once, monkeypatch, capsys):
    monkeypatch.setattr(recorded, "SAY_AFTER_S", 0.1)
    busy = zc.lockfile.LockFile(str(dvc_folder(read_once.root) / "tmp/lock"))
    reader = threading.Thread(target=versioning.pipeline, args=[read_once.root])
    reader.start()
    reader.join(0.5)
    busy.close()
    reader.join(60)
    assert "waits for another DVC command, which holds" in capsys.readouterr().err
