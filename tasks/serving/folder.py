"""What lies in the output folder of a batch job, and who may write there.

Until a job is complete, everything of it lies in `.unfinished/IDENTITY/`: the plan, and the files
and a record of each finished shard. Then `predictions/` and `quarantine/` get their names, each as
a whole. `manifest.json` follows last: where it is, the job is complete.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tasks import formats
from tasks.counts import Counts
from tasks.drift.report import DRIFT
from tasks.errors import SetupError
from tasks.serving.plan import Plan
from tasks.serving.writing import Written, sync_folder, write_whole

PREDICTIONS, QUARANTINE, MANIFEST = "predictions", "quarantine", "manifest.json"
LABELS = "labels"  # of `tasks.feedback`
OLD_PREDICTIONS = "predictions.parquet"
"""The one file of release 0.1."""
UNFINISHED, PLAN, SHARDS = ".unfinished", "plan.json", "shards"


@dataclass(frozen=True)
class ShardRecord:
    """A finished shard: its files are on the disk under their names."""

    number: int
    rows: int
    """Rows read: predicted and quarantined ones."""
    quarantined: int
    files: tuple[Written, ...]
    reasons: Mapping[str, int] = field(default_factory=dict)
    """Quarantined rows by reason."""
    substituted: Mapping[str, Any] = field(default_factory=dict)
    given: Mapping[str, list[str]] = field(default_factory=dict)
    """Some unknown values by column, for a message; see `tasks.counts.Counts`."""
    counters: tuple[int, ...] | None = None
    """For drift, see `tasks.drift.counting.Tally`; None in a record of an older release."""
    keys: tuple[str, str] | None = None
    """The first and the last key, as text."""
    example: str | None = None
    """What was said of the first bad row."""

    @property
    def counts(self) -> Counts:
        return Counts(
            {name: dict(found) for name, found in self.substituted.items()},
            {name: list(values) for name, values in self.given.items()},
        )


class JobFolder:
    """The folder of an unfinished job."""

    def __init__(self, output: Path, identity: str) -> None:
        self.output = output
        self.path = output / UNFINISHED / identity[:16]
        self.plan = self.path / PLAN

    def create(self) -> None:
        """Make it, and remove what is left of other unfinished jobs: nobody can go on with them."""
        (self.path / SHARDS).mkdir(parents=True, exist_ok=True)
        for other in self.path.parent.iterdir():
            if other != self.path:
                shutil.rmtree(other, ignore_errors=True)

    def record(self, record: ShardRecord) -> None:
        """Note that a shard is finished; its files must be on the disk."""
        for folder in {(self.path / file.path).parent for file in record.files}:
            sync_folder(folder)
        path = self.path / SHARDS / f"{record.number:05d}.json"
        write_whole(path, json.dumps(asdict(record), default=str))

    def recorded(self) -> set[int]:
        """The numbers of the shards that have a record."""
        with suppress(FileNotFoundError):
            names = os.listdir(self.path / SHARDS)
            return {int(name.partition(".")[0]) for name in names if not name.startswith(".")}
        return set()

    def finished(self, number: int) -> ShardRecord | None:
        """The record of a shard, if its files are there as well."""
        path = self.path / SHARDS / f"{number:05d}.json"
        try:
            document = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        files = tuple(Written(**file) for file in document["files"])
        keys = document["keys"] and tuple(document["keys"])
        record: ShardRecord = formats.record(ShardRecord, document | {"files": files, "keys": keys})
        return record if all(self._has(file) for file in files) else None

    def _has(self, file: Written) -> bool:
        for root in (self.path, self.output):  # killed while it was published
            with suppress(FileNotFoundError):
                return (root / file.path).stat().st_size == file.size
        return False

    def publish(self, files: Iterable[Written]) -> None:
        """Give predictions and quarantine their names, each as a whole; `files` are all of them."""
        named = {self.path / file.path for file in files}
        for name in (PREDICTIONS, QUARANTINE):
            for path in (self.path / name).rglob("*"):
                if path.is_file() and path not in named:  # of a worker that was killed
                    path.unlink()
            if (self.path / name).exists():
                os.replace(self.path / name, self.output / name)
        (self.output / PREDICTIONS).mkdir(exist_ok=True)  # where every row is in quarantine
        sync_folder(self.output)

    def place(self, name: str, text: str) -> None:
        """Write a small file of the output, whole or not at all. What a kill leaves of it lies in
        the folder of the job, and is removed with that."""
        write_whole(self.path / name, text)
        os.replace(self.path / name, self.output / name)
        sync_folder(self.output)

    def remove(self) -> None:
        """Remove what is not needed any more: the manifest is there, or nobody can go on."""
        clear(self.output)
        with suppress(OSError):
            self.output.rmdir()  # if nothing else is there


def others(output: Path) -> list[str]:
    """What lies in an output folder and is not of a job, without hidden files."""
    ours = {PREDICTIONS, QUARANTINE, MANIFEST, DRIFT, LABELS, OLD_PREDICTIONS}
    return sorted(
        path.name
        for path in output.iterdir()
        if path.name not in ours and not path.name.startswith(".")
    )


def clear(output: Path) -> None:
    """Remove what is left of unfinished jobs."""
    shutil.rmtree(output / UNFINISHED, ignore_errors=True)


def unfinished(output: Path) -> Plan | None:
    """The plan of a job that was begun in `output` and not finished; None if there is none."""
    for path in sorted((output / UNFINISHED).glob(f"*/{PLAN}")):
        with suppress(OSError, ValueError, TypeError, KeyError):
            return Plan.read(path)
    return None


@contextmanager
def owned(output: Path, wait: Callable[[], None]) -> Iterator[None]:
    """Lock a folder against other jobs, after `wait()` if another one has it.

    If the folder is new and stays empty, it is removed again.

    Raises:
        SetupError: it cannot be made or opened.
    """
    made = not output.exists()
    try:
        output.mkdir(parents=True, exist_ok=True)
        folder = os.open(output, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise SetupError(
            f"{output} cannot be a folder for predictions: {error.strerror}. Name another one."
        ) from error
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            wait()
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    except BaseException:
        if made:
            with suppress(OSError):
                output.rmdir()
        raise
    finally:
        os.close(folder)
