"""Snapshots of files and folders, with the hashes that DVC computes.

Imports only the standard library: a stage takes the stamps of its code before it loads the rest.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tasks.errors import InputError

# File times have a limited resolution: two changes within one tick leave the same time.
TICK_NS = 50_000_000
COARSE_TICK_NS = 2_000_000_000  # on file systems that store whole seconds
ALWAYS_IGNORED = {".git", ".hg", ".dvc"}

Ignored = Callable[[Path, bool], bool]


@dataclass(frozen=True)
class Stamp:
    """Metadata that tells whether a file was written; times in ns since 1970."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int
    young: bool = field(default=False, compare=False)
    """Whether the file changed so recently that another change may leave the same times."""
    links: int = field(default=1, compare=False)
    mode: int = field(default=0, compare=False)

    @classmethod
    def of(cls, file: Path | int) -> "Stamp":
        """The stamp of a path (following links) or of an open file. Raises `OSError`."""
        found = os.stat(file)
        whole = not (found.st_mtime_ns % 1_000_000_000 and found.st_ctime_ns % 1_000_000_000)
        latest = max(found.st_mtime_ns, found.st_ctime_ns)
        young = time.time_ns() - latest < (COARSE_TICK_NS if whole else TICK_NS)
        place = (found.st_dev, found.st_ino, found.st_size)
        times = (found.st_mtime_ns, found.st_ctime_ns)
        return cls(*place, *times, young, found.st_nlink, found.st_mode)

    def only_touched(self, earlier: "Stamp") -> bool:
        """Whether the content was not written; link count, mode and name may have changed."""
        return (self.device, self.inode, self.size, self.modified) == (
            earlier.device,
            earlier.inode,
            earlier.size,
            earlier.modified,
        )

    def linked_or_locked(self, earlier: "Stamp") -> bool:
        """Whether the link count or mode changed, which a rename does not do."""
        return (self.links, self.mode) != (earlier.links, earlier.mode)


@dataclass(frozen=True)
class File:
    """A file's stamp, taken before its MD5; `folder` is the modification time of its folder."""

    stamp: Stamp
    md5: str
    folder: int


@dataclass(frozen=True)
class Snapshot:
    """A file, or all files of a folder by relative path; a single file has the path ''."""

    path: Path
    place: Stamp
    """The stamp of the file or folder itself."""
    is_folder: bool
    files: Mapping[str, File]

    @property
    def md5(self) -> str:
        """The hash as in `dvc.lock`; for a folder, it ends in `.dir`."""
        if not self.is_folder:
            return self.files[""].md5
        return folder_md5({name: file.md5 for name, file in self.files.items()})

    def changed(self, ignored: Ignored) -> list[str]:
        """Names of the files that changed since the snapshot; '' for a single file.

        A file that was written or replaced also counts as changed if its content is the same:
        a reader may have seen other content in between.
        """
        now = dict(_walk(self.path, ignored))
        names = [name for name in self.files if name not in now]
        names += [name for name in now if name not in self.files]
        for name in self.files.keys() & now.keys():
            if not _is_unchanged(self.files[name], now[name]):
                names.append(name)
        if self.is_folder and not names and Stamp.of(self.path) != self.place:
            names.append("")  # the folder was moved away and back, or a file was added and removed
        return sorted(names)


def take(path: Path, ignored: Ignored) -> Snapshot | None:
    """A snapshot of `path`; None if nothing exists there.

    Raises:
        InputError: a file cannot be read, or a folder contains a link to a folder, which DVC does
            not follow.
    """
    if not os.path.lexists(path):
        return None
    try:
        place = Stamp.of(path)
        files = {name: _file(found) for name, found in _walk(path, ignored)}
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read: {error.strerror}") from error
    return Snapshot(path, place, path.is_dir(), files)


def python_stamps(folder: Path) -> dict[Path, Stamp]:
    """Stamps of all Python files in a folder and its sub-folders."""
    return {path: Stamp.of(path) for path in folder.rglob("*.py")}


def folder_md5(files: Mapping[str, str]) -> str:
    """DVC's hash of a folder, from the MD5 of each file by its relative POSIX path."""
    listed = [{"md5": md5, "relpath": name} for name, md5 in sorted(files.items())]
    text = json.dumps(listed, sort_keys=True).encode()
    return hashlib.md5(text, usedforsecurity=False).hexdigest() + ".dir"


def file_md5(path: Path) -> str:
    """MD5 of a file's content, in hex. Raises `OSError`."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def ignore_rules(root: Path) -> Ignored:
    """A function that says whether DVC ignores a path, by the `.dvcignore` in `root`."""
    rules = root / ".dvcignore"
    lines = rules.read_text(encoding="utf-8").splitlines() if rules.is_file() else []
    if not any(line.strip() and not line.startswith("#") for line in lines):
        return lambda path, is_folder: path.name in ALWAYS_IGNORED
    from pathspec import GitIgnoreSpec

    spec = GitIgnoreSpec.from_lines(lines)

    def ignored(path: Path, is_folder: bool) -> bool:
        if path.name in ALWAYS_IGNORED:
            return True
        if not path.is_relative_to(root):
            return False
        return spec.match_file(path.relative_to(root).as_posix() + "/" * is_folder)

    return ignored


def _walk(path: Path, ignored: Ignored) -> Iterator[tuple[str, Path]]:
    """Files by relative path, as DVC lists them: no empty folders, no links to folders."""
    if not path.is_dir():
        if os.path.lexists(path):
            yield "", path
        return
    for here, folders, files in os.walk(path):
        folder = Path(here)
        folders[:] = [name for name in folders if not ignored(folder / name, True)]
        for name in folders:
            if (folder / name).is_symlink():
                raise InputError(
                    f"{folder / name} is a link to a folder. DVC does not follow it, so its files "
                    "would be read but not recorded. Replace the link by the folder itself."
                )
        for name in files:
            if not ignored(folder / name, False):
                yield (folder / name).relative_to(path).as_posix(), folder / name


def _file(path: Path) -> File:
    folder = os.stat(path.parent).st_mtime_ns
    stamp = Stamp.of(path)
    return File(stamp, file_md5(path), folder)


def _is_unchanged(file: File, path: Path) -> bool:
    """Whether a file is unchanged, by its stamp or, if that is not certain, by its content."""
    try:
        now = Stamp.of(path)
        if now == file.stamp and not file.stamp.young:
            return True
        if now != file.stamp:
            # Another link to the same file is harmless (DVC creates some). A file that was moved
            # away and back is not: another file may have been read in between.
            moved = os.stat(path.parent).st_mtime_ns != file.folder
            if moved or not now.only_touched(file.stamp):
                return False
        return file_md5(path) == file.md5
    except OSError:  # removed in the meantime
        return False
