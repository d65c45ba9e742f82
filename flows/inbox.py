"""Inboxes of `--new`: a folder of this machine, or a prefix of a bucket."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

from flows.copies import Copies
from flows.objects import Named, Object, Objects, is_url, parse
from tasks.bundle.signature import Signature
from tasks.errors import InputError
from tasks.files import suffixes
from tasks.inputs import InputFile, find, pictures
from tasks.predict import How

DONE, FAILED = "done", "failed"
After = Literal["leave", "move"]
Before = Callable[[dict[str, str]], set[str]]
"""Those of some files, SHA-256 by path or URL, that were predicted before."""


@dataclass
class Found:
    """Files of an inbox that are ready to be read, and how the job is to read them."""

    files: list[InputFile]
    how: How
    job: Path | None = None
    """The folder of the job, once it is known."""


class Inbox(Protocol):
    """Files are named by their paths in the inbox."""

    def names(self) -> Sequence[str]:
        """All files, in order."""

    def place(self, name: str) -> str:
        """The path or URL of a file, for messages."""

    def name_of(self, place: str) -> str:
        """The name of a file by its absolute path or URL."""

    def is_settled(self, name: str, settle_s: float) -> bool:
        """Whether a file has not changed for so long."""

    def files(
        self, names: list[str], signature: Signature, before: Before
    ) -> AbstractContextManager[Found]:
        """Files as inputs, while the block reads them: a table, or all image files, whose keys are
        their names. Those that are known from `before` may be left out."""

    def holds(self, place: str) -> bool:
        """Whether a path or URL lies in it."""

    def stamp(self, names: list[str]) -> str:
        """What differs if one of the files has another content; no file is read."""

    def left(self, names: list[str]) -> list[str]:
        """Those of the files that are still there."""

    def move(self, names: list[str], folder: str) -> None:
        """Move files to the same place in a folder of the inbox, if that was asked for."""


def opened(given: str | Path, output: Path, how: How, after: After) -> Inbox:
    """The inbox of a path or URL.

    Raises:
        InputError: it is missing, or it is in S3 and its files would have to be moved.
    """
    if is_url(str(given)):
        return ObjectInbox(str(given), output, how, after)
    # Absolute, also in manifests: another run may read them in another folder.
    return FolderInbox(Path(given).absolute(), how, after)


class FolderInbox:
    """A folder of this machine."""

    def __init__(self, folder: Path, how: How, after: After) -> None:
        if not folder.is_dir():
            raise InputError(f"{folder} is missing or not a folder; with --new, name the inbox")
        self._folder, self._how, self._after = folder, how, after

    def names(self) -> Sequence[str]:
        found = (path for path in sorted(self._folder.rglob("*")) if path.is_file())
        return [path.relative_to(self._folder).as_posix() for path in found]

    def place(self, name: str) -> str:
        return str(self._folder / name)

    def name_of(self, place: str) -> str:
        return os.path.relpath(place, self._folder)

    def is_settled(self, name: str, settle_s: float) -> bool:
        try:
            return time.time() - os.stat(self._folder / name).st_mtime >= settle_s
        except OSError:
            return False

    @contextmanager
    def files(self, names: list[str], signature: Signature, before: Before) -> Iterator[Found]:
        paths = [self._folder / name for name in names]
        if names[0].lower().endswith(suffixes.IMAGES):
            yield Found([pictures(self._folder, paths)], self._how)
        else:
            yield Found(find(paths, signature), self._how)

    def holds(self, place: str) -> bool:
        return Path(place).is_relative_to(self._folder)

    def stamp(self, names: list[str]) -> str:
        found = (os.stat(self._folder / name) for name in names)
        return " ".join(f"{f.st_size} {f.st_mtime_ns} {f.st_ctime_ns}" for f in found)

    def left(self, names: list[str]) -> list[str]:
        return [name for name in names if (self._folder / name).exists()]

    def move(self, names: list[str], folder: str) -> None:
        if self._after == "leave":
            return
        for name in names:
            path, target = self._folder / name, self._folder / folder / name
            number = 1
            while target.exists():
                number += 1
                target = target.with_name(f"{path.stem}-{number}{path.suffix}")
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)


class ObjectInbox:
    """What is below a URL in a bucket, as it was listed once."""

    def __init__(self, url: str, output: Path, how: How, after: After) -> None:
        bucket, key = parse(url)
        if after == "move":
            raise InputError(
                f"{url}: --after move is for folders of this machine. S3 cannot move objects; "
                "leave them, since none is predicted twice, and let a lifecycle rule of the bucket "
                "remove old ones"
            )
        self._bucket, self._how, self._output = bucket, how, output
        self._prefix = f"{key.rstrip('/')}/" if key else ""
        self._url = f"s3://{bucket}/{self._prefix}"
        self._objects = Objects(how.status)
        listed = self._objects.below(bucket, self._prefix)
        self._listed = {found.key.removeprefix(self._prefix): found for found in listed}
        if not self._listed:
            how.notice(f"{self._url} holds no objects")

    def names(self) -> Sequence[str]:
        return sorted(self._listed)

    def place(self, name: str) -> str:
        return self._url + name

    def name_of(self, place: str) -> str:
        return place.removeprefix(self._url)

    def is_settled(self, name: str, settle_s: float) -> bool:
        return time.time() - self._listed[name].modified >= settle_s

    @contextmanager
    def files(self, names: list[str], signature: Signature, before: Before) -> Iterator[Found]:
        is_images = names[0].lower().endswith(suffixes.IMAGES)
        asked = [self._url if is_images else self.place(names[0])]
        with Copies(asked, self._output, self._how, self._objects) as copies:
            new = self._new(names, signature, before, copies)
            files: list[InputFile] = []
            if new and is_images:
                files = [copies.pictures(self._folder, new, self._prefix)]
            elif new:
                one = Named(f"{self._bucket}/{new[0].key}", new, None)
                files = copies.copied([one], signature)
            found = Found(files, replace(self._how, check_input=copies.refuse_changed))
            try:
                yield found
            finally:
                copies.job = found.job

    def _new(
        self, names: list[str], signature: Signature, before: Before, copies: Copies
    ) -> list[Object]:
        """The objects that are not known to be predicted: those are not even downloaded."""
        objects = [self._listed[name] for name in names]
        if any(column.names_files for column in signature.columns) and len(names) == 1:
            return objects  # other files may belong to it
        hashes = {one.url: sha for one in objects if (sha := copies.facts.get(one)) is not None}
        known = before(hashes)
        return [one for one in objects if one.url not in known]

    @property
    def _folder(self) -> str:
        return f"{self._bucket}/{self._prefix}".rstrip("/")

    def holds(self, place: str) -> bool:
        return place.startswith(self._url)

    def stamp(self, names: list[str]) -> str:
        return " ".join(f"{self._listed[name].size} {self._listed[name].etag}" for name in names)

    def left(self, names: list[str]) -> list[str]:
        now = {found.key for found in self._objects.below(self._bucket, self._prefix)}
        return [name for name in names if self._prefix + name in now]

    def move(self, names: list[str], folder: str) -> None:
        """They stay."""
