"""Snapshots of files and folders: they have DVC's hashes and detect every kind of change."""

import os
import shutil
import time
from pathlib import Path

import pytest
from projects import Project

from tasks import snapshot
from tasks.errors import InputError
from tasks.recorded import locked_stages, wrong_files


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Project:
    made = Project(tmp_path_factory.mktemp("hashes"))
    made.run("git", "init", "-q")
    made.run("dvc", "init", "-q")
    return made


NAMES = ["a.txt", "b/c.txt", "b/ä ü.txt", "b.txt", "B/z", "deep/er/x.py", "empty", ".hidden"]


def test_snapshot_hashes_equal_those_of_dvc(repository):
    root = repository.root
    (root / ".dvcignore").write_text("# notes\n__pycache__/\n*.tmp\n/raw/deep/secret\n!keep.tmp\n")
    ignored = ["deep/__pycache__/x.pyc", "a.tmp", "deep/secret", "deep/er/y.tmp"]
    for name in [*NAMES, *ignored, "deep/keep.tmp", "other/secret"]:
        path = root / "raw" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("" if name == "empty" else f"the content of {name}\n")
    (root / "raw/link.txt").symlink_to("a.txt")
    (root / "raw/nothing/here").mkdir(parents=True)
    stage = ["dvc", "stage", "add", "-q", "-n", "s", "-d", "raw", "-d", "raw/a.txt", "true"]
    repository.run(*stage)
    repository.run("dvc", "repro", "-q")
    found = {dep["path"]: dep["md5"] for dep in locked_stages(root)["s"]["deps"]}
    rules = snapshot.ignore_rules(root)
    assert {path: snapshot.take(root / path, rules).md5 for path in found} == found
    names = snapshot.take(root / "raw", rules).files
    assert set(names) == {*NAMES, "deep/keep.tmp", "other/secret", "link.txt"}


def test_a_broken_file_in_a_cache_above_the_project_is_named(repository):
    project = Project(repository.root / "ml")
    project.root.mkdir()
    project.run("dvc", "stage", "add", "-q", "-n", "s", "-o", "out.txt", "printf abc > out.txt")
    project.run("dvc", "repro", "-q")
    (out,) = locked_stages(project.root)["s"]["outs"]
    cached = repository.root / ".dvc/cache/files/md5" / out["md5"][:2] / out["md5"][2:]
    for path in (cached, project.root / "out.txt"):
        path.unlink()
        path.write_text("abd")
    found = snapshot.take(project.root / "out.txt", snapshot.ignore_rules(project.root))
    assert wrong_files(project.root, out, found) == (["out.txt"], [str(cached)])


def every(path, is_folder):
    return False


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "data"
    (root / "sub").mkdir(parents=True)
    for name in ("a", "b", "sub/c"):
        (root / name).write_text(f"content of {name}")
        # An old time: recently changed files are always read again.
        os.utime(root / name, ns=(10**18 + 1, 10**18 + 1))
    return root


def same_times(path: Path, text: str) -> None:
    times = path.stat()
    path.write_text(text)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def replace(path: Path, text: str) -> None:
    new = path.with_name("new")
    new.write_text(text)
    new.replace(path)


def there_and_back(path: Path) -> None:
    aside = path.with_name("aside")
    path.rename(aside)
    path.write_text("something else, for a moment")
    path.unlink()
    aside.rename(path)


CHANGES = {
    "written": (lambda d: (d / "a").write_text("changed"), ["a"]),
    "of the same size and times": (lambda d: same_times(d / "a", "Content of a"), ["a"]),
    "replaced": (lambda d: replace(d / "sub/c", "other"), ["sub/c"]),
    "added": (lambda d: (d / "new").write_text("more"), ["new"]),
    "removed": (lambda d: (d / "b").unlink(), ["b"]),
    "renamed": (lambda d: (d / "b").rename(d / "d"), ["b", "d"]),
    "cut short": (lambda d: os.truncate(d / "a", 3), ["a"]),
    "gone": (lambda d: shutil.rmtree(d), ["a", "b", "sub/c"]),
}


@pytest.mark.parametrize(("change", "expected"), CHANGES.values(), ids=CHANGES)
def test_changed_names_changed_files(change, expected, folder):
    before = snapshot.take(folder, every)
    assert before.changed(every) == []
    change(folder)
    assert before.changed(every) == expected


RESTORED = {
    "written again with the same content": lambda d: (d / "a").write_text("content of a"),
    "replaced by a copy": lambda d: replace(d / "a", "content of a"),
    "changed and changed back": lambda d: [
        (d / "a").write_text(text) for text in ("other", "content of a")
    ],
    "moved away and back": lambda d: there_and_back(d / "a"),
}


@pytest.mark.parametrize("change", RESTORED.values(), ids=RESTORED)
def test_changed_detects_files_that_were_changed_and_restored(change, folder):
    before = snapshot.take(folder, every)
    change(folder)
    assert before.changed(every)


def test_changed_detects_a_folder_that_was_moved_away_and_back(folder):
    before = snapshot.take(folder, every)
    folder.rename(folder.with_name("aside"))
    shutil.copytree(folder.with_name("aside"), folder)
    shutil.rmtree(folder)
    folder.with_name("aside").rename(folder)
    assert before.changed(every)


def test_changed_ignores_new_links_and_modes(folder, tmp_path):
    before = snapshot.take(folder, every)
    os.link(folder / "a", tmp_path / "link")
    (folder / "b").chmod(0o444)
    assert before.changed(every) == []


def test_changed_detects_a_change_within_one_clock_tick(folder):
    # An hour ahead, so that the file is young however slow this machine is.
    then = time.time_ns() + 3_600 * 10**9
    (folder / "a").write_text("content 1")
    os.utime(folder / "a", ns=(then, then))
    before = snapshot.take(folder, every)
    file = before.files["a"]
    assert file.stamp.young
    (folder / "a").write_text("content 2")
    os.utime(folder / "a", ns=(then, then))
    # Simulate a file system that gives both the same times.
    stamp = snapshot.Stamp.of(folder / "a")
    unseen = snapshot.Snapshot(
        folder,
        before.place,
        True,
        {**before.files, "a": snapshot.File(stamp, file.md5, file.folder)},
    )
    assert unseen.changed(every) == ["a"]


def test_snapshot_refuses_a_link_to_a_folder(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"data/link is a link to a folder.*but not recorded"):
        snapshot.take(folder, every)


def test_snapshot_follows_a_link_to_the_data(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    found = snapshot.take(tmp_path / "link", every)
    assert found.md5 == snapshot.take(folder, every).md5
    (tmp_path / "link").unlink()
    shutil.copytree(folder, tmp_path / "other")
    (tmp_path / "link").symlink_to(tmp_path / "other")
    assert found.changed(every)
