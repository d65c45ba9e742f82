"""The plan of a batch job: which rows make which shard. It is written before anything is predicted.

It depends on the input, the model and the options, and not on the number of workers: a job that was
killed goes on with any number of them.
"""

import base64
import hashlib
import itertools
import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from tasks import formats
from tasks.bundle.signature import Signature
from tasks.dataset import KEY
from tasks.hashed import HashedFile
from tasks.input_rows import key_type, pieces
from tasks.inputs import InputFile, fingerprint
from tasks.serving.options import Options
from tasks.snapshot import Stamp

ROWS = 262_144
"""Of a shard, about: whole row groups of 65,536 or 131,072 rows fit. A killed job repeats one for
each worker: half a second for a table."""
BYTES = 64 << 20
"""Of the tensors of a shard whose rows are larger, such as images: 27,000 of 28x28x3."""
CHUNK_ROWS, CHUNK_BYTES = 65_536, 8 << 20
"""Of a chunk. With 16,384 rows, threads wait for Python's lock: a table takes 1.3 times as long."""


@dataclass(frozen=True)
class Shard:
    """Rows of one file that become one piece of the output, whole or not at all."""

    number: int
    file: int
    """The number of its file."""
    start: int
    """Its first row in the file, from 0."""
    rows: int
    first: int
    """The number of its first row over all files: its key, where rows have none."""

    @property
    def end(self) -> int:
        return self.start + self.rows


@dataclass(frozen=True)
class Plan:
    """Everything that a worker needs to predict a shard, and that a repeated command must match."""

    model: str
    digest: str
    reference: str
    """As it was asked for. An alias is resolved once: whoever goes on takes `model`."""
    provenance: Mapping[str, Any]
    bundle: Mapping[str, tuple[str, str]]
    """Path and SHA-256 of each of the model's files, by name."""
    runtime: Mapping[str, str]
    """What else decides the bytes of all rows: the execution provider of ONNX Runtime, modelmint's
    code, and the releases of the libraries."""
    options: Options
    batch_size: int
    key: str | None
    """The Arrow type of the keys, see `key_of`; None where rows have none."""
    files: tuple[InputFile, ...]
    shards: tuple[Shard, ...]
    chains: tuple[tuple[int, ...], ...]
    """Shards that one reader must read in order, since their file cannot be entered in between:
    all of a CSV file, of a row group of Parquet; every other shard is one of its own."""
    kept: Mapping[str, str] = field(default_factory=dict)
    """The Arrow type of columns of JSON Lines that are passed through; see `kept_types`."""
    format: int = formats.PLAN

    @property
    def rows(self) -> int:
        return sum(shard.rows for shard in self.shards)

    @property
    def input_sha256(self) -> str:
        return fingerprint(self.files)

    @property
    def key_type(self) -> pa.DataType | None:
        if self.key is None:
            return None
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(self.key)))
        found: pa.DataType = schema.field(0).type
        return found

    @property
    def identity(self) -> str:
        """SHA-256 of what makes two jobs the same; names the folder of an unfinished one."""
        document = {
            "model": self.model,
            "digest": self.digest,
            "runtime": dict(self.runtime),
            "input": [(file.name, file.identity) for file in self.files],
            "options": asdict(self.options),
            "format": self.format,
        }
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()

    def placed_as(self, now: "Plan") -> "Plan":
        """The plan with input and model where an equal plan has found them now: a copy has other
        stamps, and the artifact store may have been moved."""
        return replace(self, files=now.files, bundle=now.bundle)

    def write(self) -> str:
        """As JSON."""
        document = asdict(self)
        document["files"] = [_file(file) for file in self.files]
        return json.dumps(document)

    @classmethod
    def read(cls, path: Path) -> "Plan":
        """Raises `InputError` if a newer release wrote it; `OSError` or `ValueError` if broken."""
        document = formats.read(path, formats.PLAN)
        options = formats.record(Options, _tuples(document["options"]))
        given = document | {
            "options": options,
            "bundle": {name: tuple(file) for name, file in document["bundle"].items()},
            "files": tuple(_input_file(file) for file in document["files"]),
            "shards": tuple(Shard(**shard) for shard in document["shards"]),
            "chains": tuple(tuple(chain) for chain in document["chains"]),
        }
        return formats.record(cls, given)


def split(files: Sequence[InputFile], signature: Signature) -> tuple[list[Shard], list[list[int]]]:
    """The shards of files, in order, and their chains; see `Plan.chains`."""
    shards: list[Shard] = []
    chains: list[list[int]] = []
    first = 0
    for number, file in enumerate(files):
        for chain in _chains(file, signature):
            chains.append([])
            for start, rows in chain:
                chains[-1].append(len(shards))
                shards.append(Shard(len(shards), number, start, rows, first + start))
        first += file.rows
    return shards, chains


def _chains(file: InputFile, signature: Signature) -> Iterator[list[tuple[int, int]]]:
    """Starts and lengths of the shards of a file, those of a chain together."""
    size = rows_of_shard(signature)
    start = length = 0
    for piece in pieces(file, signature, size):
        if length and length + piece > size:
            yield _evenly(start, length, size)
            start, length = start + length, 0
        length += piece
    if length:
        yield _evenly(start, length, size)


def _evenly(start: int, length: int, size: int) -> list[tuple[int, int]]:
    parts = max(1, round(length / size))
    bounds = [start + length * part // parts for part in range(parts + 1)]
    return [(a, b - a) for a, b in itertools.pairwise(bounds)]


def rows_of_shard(signature: Signature) -> int:
    """How many rows make a shard of about `ROWS` rows or `BYTES` bytes, whichever is less."""
    return max(1, min(ROWS, BYTES // bytes_of_row(signature)))


def chunk_rows(signature: Signature, keep: Collection[str] = ()) -> int:
    """How many rows are read, encoded and predicted at a time by one thread.

    A quarter with columns that are passed through, which may be long texts.
    """
    most = CHUNK_ROWS // 4 if keep else CHUNK_ROWS
    return max(1, min(most, CHUNK_BYTES // bytes_of_row(signature)))


def bytes_of_row(signature: Signature) -> int:
    """Bytes of a row's tensors; of timesteps, a few hundred are assumed."""
    sizes = {"uint8": 1, "float32": 4, "float64": 8, "int64": 8}
    each = (
        sizes[tensor.dtype] * math.prod(64 if n is None else n for n in tensor.shape)
        for tensor in signature.inputs
    )
    return max(1, sum(each))


def key_of(files: Sequence[InputFile], signature: Signature) -> str | None:
    """The type of the keys of all files, as `Plan.key` has it: an Arrow schema in base64, since
    times with a zone and UUIDs have no name that Arrow reads back."""
    found = key_type(files, signature)
    return found and base64.b64encode(pa.schema([(KEY, found)]).serialize()).decode()


def _file(file: InputFile) -> dict[str, Any]:
    stamps = [
        {"path": str(each.path), "sha256": each.sha256, "stamp": asdict(each.stamp)}
        | {"folder": each.folder}
        for each in file.hashed
    ]
    return {**file.described(), "path": str(file.path), "hashed": stamps, "url": file.url}


def _input_file(document: Mapping[str, Any]) -> InputFile:
    hashed = tuple(
        HashedFile(
            Path(each["path"]),
            each["sha256"],
            Stamp(**each["stamp"]),
            each["folder"],
            elsewhere=True,
        )
        for each in document["hashed"]
    )
    members = dict(document.get("members", {}))
    path = Path(document["path"])
    url = document.get("url", "")
    return InputFile(path, document["sha256"], document["rows"], members, hashed, url)


def _tuples(document: Mapping[str, Any]) -> dict[str, Any]:
    """Lists of JSON as the tuples that they were."""
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in document.items()
    }
