"""Copies of objects that a batch job reads, in `OUTPUT/.copies/HASH/BUCKET/KEY` while it runs.

In the output folder, because the workers of a cluster read them there too. An object is downloaded
once and hashed meanwhile; what was downloaded completely before a kill is kept, and compared with
its SHA-256. HASH is of the URLs that were asked for, so the same command finds it. When the job is
done, the copies are removed.
"""

import fcntl
import hashlib
import itertools
import os
import shutil
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from uuid import uuid4

from flows.downloads import DownloadProgress
from flows.facts import Facts
from flows.objects import Named, Object, Objects, cannot_be_a_file, is_url
from tasks.bundle.signature import Signature
from tasks.errors import InputError
from tasks.hashed import HashedFile, changed
from tasks.inputs import InputFile, find, pictures, refuse_same_keys
from tasks.predict import How
from tasks.serving.folder import unfinished
from tasks.snapshot import Stamp

COPIES = ".copies"
_PARTS = ".parts"  # no name of a bucket begins with a dot
_THREADS = 16
"""Downloads at a time, each with a piece of a megabyte in memory."""


class Copies:
    """The inputs of one job, of which those in S3 are copied. A context manager.

    A `tasks.inputs.Source`. On the way out, copies are removed unless the job can go on with them.
    """

    def __init__(
        self,
        inputs: Sequence[str],
        output: Path,
        how: How,
        objects: Objects | None = None,
    ) -> None:
        """`inputs` are what was asked for. `how` has the folder of `Facts`, and says where what is
        waited for and the progress are shown."""
        self.job: Path | None = None
        """The folder of the job, once it is known."""
        self.facts = Facts(how.cache)
        self._output = output.absolute()
        asked = hashlib.sha256("\n".join(inputs).encode()).hexdigest()
        self._root = self._output / COPIES / asked[:16]
        self._objects = objects or Objects(how.status)
        self._how = how
        self._lock: int | None = None
        self._read: dict[Path, tuple[Object, str]] = {}
        self._listed: dict[tuple[str, str], dict[str, Object]] = {}
        self._alone: list[Object] = []
        self._keep = False

    def __enter__(self) -> "Copies":
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if isinstance(error, InputError):
            error.args = tuple(self._by_url(a) if isinstance(a, str) else a for a in error.args)
        if self._lock is None:
            return
        ended = error is None or isinstance(error, InputError)
        if ended and not self._keep and not (error and self.job and unfinished(self.job)):
            self._remove()
        os.close(self._lock)

    def find(self, given: Sequence[str], signature: Signature) -> list[InputFile]:
        """The input files that paths and URLs name, as `tasks.inputs.find` does.

        Raises:
            InputError: as `tasks.inputs.find`, or a URL is wrong, or names nothing.
            Unreachable: S3 does not answer; the same command goes on.
        """
        named = {url: self._objects.named_by(url, signature) for url in given if is_url(url)}
        found: list[InputFile] = []
        for in_s3, group in itertools.groupby(given, key=named.__contains__):
            if in_s3:
                found += self.copied([one for url in group for one in named[url]], signature)
            else:
                found += find(map(Path, group), signature)
        refuse_same_keys(found)
        return found

    def copied(self, named: Sequence[Named], signature: Signature) -> list[InputFile]:
        """The same as files, with the URLs that they are copies of."""
        self.fetch(named)
        paths = [self._root / one.place for one in named]
        return [self.with_url(file) for file in find(paths, signature, self)]

    def pictures(self, folder: str, objects: Sequence[Object], prefix: str) -> InputFile:
        """Images as one input, a row each, by their paths in the `folder` BUCKET/PREFIX."""
        self.fetch([Named(folder, objects, prefix)])
        files = [self._root / one.bucket / one.key for one in objects]
        return self.with_url(pictures(self._root / folder, files, self))

    def with_url(self, file: InputFile) -> InputFile:
        """The file with the URL that it is a copy of."""
        place = file.path.relative_to(self._root).as_posix()
        if file.is_images:  # of several buckets, if it is the root
            place = "" if place == "." else f"{place}/"
        return replace(file, url=f"s3://{place}")

    def fetch(self, named: Iterable[Named]) -> None:
        """Copy objects, except those that are here already.

        Raises:
            InputError: one was removed or replaced meanwhile, or the disk is full.
            Unreachable: S3 does not answer.
        """
        wanted: list[Object] = []
        named = list(named)
        for one in named:
            wanted += one.objects
            if one.prefix is None:
                self._alone += one.objects
            else:
                listed = self._listed.setdefault((one.objects[0].bucket, one.prefix), {})
                listed.update({found.key: found for found in one.objects})
        self._fetch(wanted)
        for folder in (self._root / one.place for one in named):
            for path in folder.rglob("*"):  # of an object that was removed after a kill
                if path.is_file() and path not in self._read:
                    path.unlink()

    def refuse_changed(self) -> None:
        """Raises `InputError` if an object is not any more what was read."""
        for (bucket, prefix), read in self._listed.items():
            left = dict(read)
            for now in self._objects.below(bucket, prefix):
                if _same(left.get(now.key), now):
                    del left[now.key]
            if left:
                raise changed(next(iter(left.values())).url)
        with ThreadPoolExecutor(_THREADS) as pool:
            ask = pool.map(lambda found: self._objects.one(found.bucket, found.key), self._alone)
            for found, there in zip(self._alone, ask, strict=True):
                if not _same(found, there):
                    raise changed(found.url)

    # What `tasks.inputs.find` asks of a source.

    def bring(self, paths: Iterable[Path]) -> None:
        """Image files that a table names, by their paths beside the copy of the table."""
        places = {place for path in paths if (place := self._place(path)) is not None}
        keys = [place.relative_to(self._root).parts for place in places - self._read.keys()]
        with ThreadPoolExecutor(_THREADS) as pool:
            asked = pool.map(lambda parts: self._objects.one(parts[0], "/".join(parts[1:])), keys)
            found = [one for one in asked if one is not None]
        self._alone += found
        self._fetch(found)

    def has(self, path: Path) -> bool:
        return self._place(path) in self._read

    def content(self, path: Path) -> HashedFile:
        found, sha256 = self._read[Path(os.path.normpath(path))]
        stamp = Stamp.of(path)
        while stamp.young:  # or every shard would hash the whole file again, to be certain
            time.sleep(0.02)
            stamp = Stamp.of(path)
        if stamp.size != found.size:
            raise changed(found.url)
        return HashedFile(path, sha256, stamp, os.stat(path.parent).st_mtime_ns)

    def _place(self, path: Path) -> Path | None:
        """Where an object is copied to; None if no object can be meant: a table names any path."""
        place = Path(os.path.normpath(path))
        if not place.is_relative_to(self._root):
            return None
        bucket, _, key = place.relative_to(self._root).as_posix().partition("/")
        return None if cannot_be_a_file(key) or not bucket else place

    def _fetch(self, objects: Sequence[Object]) -> None:
        if self._lock is None:
            self._lock = self._locked()
            shutil.rmtree(self._root / _PARTS, ignore_errors=True)  # of a process that was killed
        known = [self.facts.get(found) for found in objects]
        progress = DownloadProgress(objects, self._how.status)
        pool = ThreadPoolExecutor(_THREADS, "download")
        try:
            fetch = partial(self._one, progress)
            for found, sha256 in zip(objects, pool.map(fetch, objects, known), strict=True):
                self._read[self._root / found.bucket / found.key] = (found, sha256)
        except OSError as error:
            self._keep = True
            raise InputError(
                f"{self._root} cannot be written ({error.strerror or error}). Input from S3 is "
                "copied there while a job runs. Make room, and give the same command again: it "
                "goes on where it stopped"
            ) from error
        finally:
            progress.stop()
            pool.shutdown(cancel_futures=True)

    def _one(self, progress: DownloadProgress, found: Object, known: str | None) -> str:
        """Make sure that an object is here; its SHA-256."""
        target = self._root / found.bucket / found.key
        if known is not None and target.is_file():
            with target.open("rb") as stream:
                if hashlib.file_digest(stream, "sha256").hexdigest() == known:
                    progress.add(found.size)
                    return known
        part = self._root / _PARTS / uuid4().hex
        part.parent.mkdir(exist_ok=True)
        sha256 = hashlib.sha256()
        with part.open("wb") as stream:
            for piece in self._objects.content(found):
                sha256.update(piece)
                stream.write(piece)
                progress.add(len(piece))
        target.parent.mkdir(parents=True, exist_ok=True)
        part.replace(target)
        self.facts.put(found, sha256.hexdigest())
        return sha256.hexdigest()

    def _locked(self) -> int:
        """Lock the copies against other jobs with this output; they remove what they are done with.

        A folder that another job removed while this one waited is made again.
        """
        try:
            while True:
                try:
                    self._root.mkdir(parents=True, exist_ok=True)
                    folder = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY)
                except FileNotFoundError:
                    continue
                self._wait_for(folder)
                with suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(folder), os.stat(self._root)):
                        return folder
                os.close(folder)
        except OSError as error:
            raise InputError(
                f"{self._output} cannot be a folder for predictions: {error.strerror}. Name "
                "another one."
            ) from error

    def _wait_for(self, folder: int) -> None:
        """Lock an open folder."""
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._how.notice(f"another job copies input to {self._root}; waiting for it")
            fcntl.flock(folder, fcntl.LOCK_EX)

    def _remove(self) -> None:
        """Remove these copies, and those that a killed job with other inputs has left."""
        shutil.rmtree(self._root, ignore_errors=True)
        with suppress(OSError):  # another job may do the same now
            for other in self._root.parent.iterdir():
                _remove_idle(other)
            self._root.parent.rmdir()
            self._output.rmdir()  # if nothing was written there

    def _by_url(self, text: str) -> str:
        return text.replace(f"{self._root}/", "s3://")


def _remove_idle(folder: Path) -> None:
    """Remove copies, unless a job has locked them."""
    with suppress(OSError):
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
        finally:
            os.close(opened)


def _same(read: Object | None, now: Object | None) -> bool:
    return read is not None and now is not None and (read.etag, read.size) == (now.etag, now.size)
