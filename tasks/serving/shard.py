"""Predicts shards: reads, encodes, predicts and writes their rows, several chunks at a time.

`predict_chain` is what an executor runs, in this process or on another machine: its arguments are
a folder and numbers, and everything else is in the plan.
"""

import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from tasks.columns import SourceLocation
from tasks.counts import Counts
from tasks.dataset import KEY
from tasks.drift.counting import Tally
from tasks.errors import SetupError
from tasks.files.chunks import BadRow, Chunk, sift
from tasks.files.convert import python_value
from tasks.hashed import HashedFile, refuse_changed
from tasks.input_rows import RowsOf
from tasks.inputs import InputFile, first_row
from tasks.serving import quarantine
from tasks.serving.folder import PREDICTIONS, QUARANTINE, JobFolder, ShardRecord
from tasks.serving.model import ReadyModel
from tasks.serving.plan import Plan, Shard, chunk_rows
from tasks.serving.writing import ShardFiles, Written, write_table
from tasks.session import Device

Progress = Callable[[int, int], None]
"""Gets how many more rows are predicted, and how many more shards are recorded."""


class Stopped(Exception):
    """Another shard failed or the job was stopped, so this shard was given up."""


class Sign(Protocol):
    """What tells threads to stop."""

    def is_set(self) -> bool: ...
    def set(self) -> None: ...


class TooMany(Exception):
    """A shard has more bad rows than the whole job may have: by reason, and what is said of one."""

    @property
    def found(self) -> tuple[dict[str, int], str | None]:
        reasons, example = self.args  # which another process sends as they are
        return reasons, example


@dataclass(frozen=True)
class Answer:
    """What became of one chunk."""

    shard: Shard
    read: int
    predictions: pa.RecordBatch | None
    bad: tuple[BadRow, ...]
    counts: Counts
    tally: Tally


@dataclass
class Workers:
    """The threads of this process that predict chunks, with which model, and a sign to stop."""

    threads: int
    model: ReadyModel
    stop: Sign = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.pool = ThreadPoolExecutor(self.threads, "predict")

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_error: object) -> None:
        self.pool.shutdown(cancel_futures=True)


def predict_chain(
    output: str,
    identity: str,
    numbers: Sequence[int],
    allowed: int,
    workers: Workers,
    progress: Progress | None = None,
) -> list[ShardRecord]:
    """Predict shards of one chain, in order, and record each; those that are recorded are skipped.

    Raises:
        InputError: an input changed since the plan was made, or a column does not fit.
        TooMany: one shard alone has more than `allowed` bad rows.
        Stopped: `workers` were told to stop.
    """
    folder = JobFolder(Path(output), identity)
    plan = plan_of(folder)
    records = []
    missing = []
    for number in numbers:
        record = folder.finished(number)
        if record is None:
            missing.append(plan.shards[number])
        else:
            records.append(record)
    if not missing:
        return records
    chain = _Chain(
        plan, folder, workers.model, allowed, workers, progress or (lambda rows, shards: None)
    )
    return records + chain.predict(missing)


def plan_of(folder: JobFolder) -> Plan:
    """The plan in a job's folder, read once. Raises `OSError` if there is none."""
    return _plan(folder.plan, os.stat(folder.plan).st_mtime_ns)


@lru_cache(maxsize=4)
def _plan(path: Path, _modified: int) -> Plan:
    return Plan.read(path)


def model_of(plan: Plan, device: Device) -> ReadyModel:
    """The model of a plan, in a process that has not made it. Kept for the next chain.

    Raises:
        SetupError: a file is not what was registered.
    """
    return _model_of(tuple(sorted(plan.bundle.items())), device)


@lru_cache(maxsize=2)
def _model_of(files: tuple[tuple[str, tuple[str, str]], ...], device: Device) -> ReadyModel:
    bundle = {}
    for name, (path, sha256) in files:
        bundle[name] = HashedFile.of(Path(path))
        if bundle[name].sha256 != sha256:
            raise _changed(path)
    return ready_model(tuple(sorted(bundle.items())), device)


@lru_cache(maxsize=2)
def ready_model(bundle: tuple[tuple[str, HashedFile], ...], device: Device) -> ReadyModel:
    """The model of these files by their names in the bundle. One for all threads of a process.

    Raises:
        SetupError: a file changed since it was hashed.
    """
    model = ReadyModel.open({name: file.path for name, file in bundle}, device, threads=1)
    for _, file in bundle:
        if not file.unchanged:
            raise _changed(file.path)
    return model


def _changed(path: str | Path) -> SetupError:
    return SetupError(f"{path} was changed since the job began; start the job again")


@dataclass
class _Chain:
    """One pass over the rows of a chain."""

    plan: Plan
    folder: JobFolder
    model: ReadyModel
    allowed: int
    workers: Workers
    progress: Progress

    def predict(self, shards: Sequence[Shard]) -> list[ShardRecord]:
        file = self.plan.files[shards[0].file]
        records = []
        writer = _Writer(self.plan, self.folder, file, shards[0])
        try:
            for answer in self._answers(file, shards):
                if answer.shard != writer.shard:
                    records.append(self._finished(writer))
                    writer = _Writer(self.plan, self.folder, file, answer.shard)
                writer.add(answer, self.allowed)
                self.progress(answer.read, 0)
            records.append(self._finished(writer))
            return records
        except BaseException as error:
            writer.discard()
            if isinstance(error, Exception) and not isinstance(error, (Stopped, TooMany)):
                refuse_changed(file.hashed, error)  # half a file can look broken in any way
            raise

    def _finished(self, writer: "_Writer") -> ShardRecord:
        record = writer.finish()
        self.progress(0, 1)
        return record

    def _answers(self, file: InputFile, shards: Sequence[Shard]) -> Iterator[Answer]:
        """In the order of the rows; at most two chunks for each thread are in memory."""
        plan = self.plan
        rows = RowsOf(file, self.model.signature, plan.options.keep, types=plan.kept)
        waiting: deque[Future[Answer]] = deque()
        try:
            size = chunk_rows(self.model.signature, plan.options.keep)
            for shard, chunk in _chunks(rows, shards, size):
                if self.workers.stop.is_set():
                    raise Stopped
                waiting.append(self.workers.pool.submit(self._answer, rows, shard, chunk))
                if len(waiting) > 2 * self.workers.threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def _answer(self, rows: RowsOf, shard: Shard, chunk: Chunk) -> Answer:
        """Predict one chunk; rows that cannot be predicted are set aside."""
        read = chunk.size
        found, rest = sift(chunk, lambda some: self._attempt(rows, some))
        if found is None:
            return Answer(shard, read, None, rest.bad, Counts(), Tally(self.model.reference))
        columns, counts, tally = found
        keys = self._keys(rest, shard)
        kept = {name: rows.kept(rest.rows, name) for name in self.plan.options.keep}
        batch = pa.record_batch({KEY: keys, **columns, **kept})
        return Answer(shard, read, batch, rest.bad, counts, tally)

    def _attempt(self, rows: RowsOf, some: Chunk) -> tuple[dict[str, pa.Array], Counts, Tally]:
        file = rows.file
        location = SourceLocation(file.name, first_row(file), some.index)
        tally = Tally(self.model.reference)
        arrays, counts = self.model.encode(rows.typed(some.rows, location), location, tally)
        plan = self.plan
        columns = self.model.answer(arrays, plan.batch_size, plan.options, location, tally)
        return columns, counts, tally

    def _keys(self, some: Chunk, shard: Shard) -> pa.Array:
        if KEY not in some.rows.schema.names:
            return pa.array(some.index - shard.start + shard.first)
        keys, kind = some.rows[KEY], self.plan.key_type
        if kind is not None and keys.type != kind:
            keys = keys.cast(pa.string()) if pa.types.is_binary(keys.type) else keys
            keys = keys.cast(kind)
        return keys


def _chunks(rows: RowsOf, shards: Sequence[Shard], size: int) -> Iterator[tuple[Shard, Chunk]]:
    """Rows as they were read, each part with its shard; what is between the shards is skipped."""
    left = deque(shards)
    for chunk in rows.chunks(shards[0].start, size):
        _, end = chunk.span
        while left and left[0].start < end:
            part = chunk.within(left[0].start, left[0].end)
            if part.size:
                yield left[0], part
            if left[0].end > end:
                break
            left.popleft()
        if not left:
            return


class _Writer:
    """The files and the record of one shard."""

    def __init__(self, plan: Plan, folder: JobFolder, file: InputFile, shard: Shard) -> None:
        self.shard = shard
        self._plan, self._folder, self._file = plan, folder, file
        facts = {name: str(v) for name, v in plan.provenance.items() if name != "job"}
        self._files = ShardFiles(folder.path, PREDICTIONS, shard.number, plan.options, facts)
        self._bad: list[BadRow] = []
        self._reasons: Counter[str] = Counter()
        self._counts = Counts()
        self._tally: Tally | None = None
        self._read = 0
        self._keys: list[str] = []

    def add(self, answer: Answer, allowed: int) -> None:
        """Raises `TooMany` if more than `allowed` rows of the shard are bad by now."""
        self._read += answer.read
        self._bad += answer.bad
        self._reasons.update(row.reason for row in answer.bad)
        self._counts.merge(answer.counts)
        self._tally = answer.tally.after(self._tally)
        if answer.predictions is not None:
            keys = answer.predictions[KEY]
            ends = (str(python_value(keys[place])) for place in (0, len(keys) - 1))
            self._keys = [*self._keys[:1], *ends]
            self._files.add(answer.predictions)
        if len(self._bad) > allowed:
            self._quarantine()  # for whoever looks for the fault
            raise TooMany(dict(self._reasons), self._example)

    @property
    def _example(self) -> str | None:
        return min(self._bad, key=lambda row: row.row).message if self._bad else None

    def finish(self) -> ShardRecord:
        """Put the files in their places, and the record after them."""
        if self._read != self.shard.rows:
            raise RuntimeError(
                f"{self._read} rows of shard {self.shard.number} were read of {self.shard.rows}"
            )
        files = self._files.finish()
        if self._bad:
            files.append(self._quarantine())
        if not self._file.is_images:  # those are compared one by one, as they are read
            refuse_changed(self._file.hashed[:1])  # so are images that a table names
        record = ShardRecord(
            number=self.shard.number,
            rows=self._read,
            quarantined=len(self._bad),
            files=tuple(files),
            reasons=dict(self._reasons),
            substituted=self._counts.columns,
            given=self._counts.given,
            counters=() if self._tally is None else tuple(self._tally.counts.tolist()),
            keys=(self._keys[0], self._keys[-1]) if self._keys else None,
            example=self._example,
        )
        self._folder.record(record)
        return record

    def _quarantine(self) -> Written:
        table = quarantine.as_table(
            self._file.name, first_row(self._file), self._bad, self._plan.key_type
        )
        return write_table(
            self._folder.path, f"{QUARANTINE}/part-{self.shard.number:05d}.parquet", table
        )

    def discard(self) -> None:
        self._files.discard()
