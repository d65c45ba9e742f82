"""The prepared dataset on disk: one Arrow file for each split.

Arrow IPC, uncompressed, memory-mapped on reading. Columns: `key` (the row's number in the raw data,
int64), the columns of the signature before encoding (images as fixed-shape tensors), and `target`
(a dictionary of strings for classes, float64 for numbers; absent without a target).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.bundle.signature import Signature
from tasks.columns import Arrays, SourceLocation
from tasks.encoding import Encoder

SPLITS = ("train", "validation", "test")
KEY, TARGET = "key", "target"
REPORT = "report.json"


@dataclass(frozen=True)
class Split:
    """Rows of one split: `keys` (N,) int64, `inputs` by tensor of the signature, `targets` (N,).

    `targets` are class numbers (int64), values (float64), or zeros without a target.
    """

    keys: NDArray[np.int64]
    inputs: Arrays
    targets: NDArray[np.generic]

    def __len__(self) -> int:
        return len(self.keys)


def write_split(table: pa.Table, path: Path) -> None:
    """Write a split. The same rows give the same bytes."""
    table = table.combine_chunks()
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def read_table(folder: Path, name: str) -> pa.Table:
    """The stored columns of one of `SPLITS`, memory-mapped."""
    with pa.memory_map(str(folder / f"{name}.arrow")) as source:
        return pa.ipc.open_file(source).read_all()


def read_split(
    folder: Path, name: str, encoder: Encoder, rows: NDArray[np.int64] | None = None
) -> Split:
    """Read one of `SPLITS`, encoded, or its `rows` with these numbers.

    Images of all rows are views into the memory-mapped file.

    `encoder` may belong to another model: a champion is evaluated on the challenger's test split.
    Classes are numbered in the order of the encoder's signature.
    """
    table = read_table(folder, name)
    if rows is not None:
        table = table.take(rows)
    keys = table[KEY].to_numpy()
    inputs = encoder.encode(table, SourceLocation(str(folder / f"{name}.arrow")))
    return Split(keys, inputs, targets_of(table, encoder.signature))


def targets_of(table: pa.Table, signature: Signature) -> NDArray[np.generic]:
    """The targets of stored rows, as in `Split`."""
    target = signature.problem.target
    if target is None or TARGET not in table.schema.names:
        return np.zeros(table.num_rows, np.int64)
    loaded: NDArray[np.generic] = target.loaded(table[TARGET].combine_chunks(), signature)
    return loaded
