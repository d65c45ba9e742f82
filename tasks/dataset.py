"""The prepared dataset on disk: one Arrow file for each split.

Arrow IPC, uncompressed, memory-mapped on reading. Columns: `key` (the row's number in the raw
data, int64), one fixed-shape tensor for each input, `label` (dictionary of strings).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.signature import Signature

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """Rows of one split: `keys` (N,) int64, `inputs` (N, *shape) each, `labels` (N,) int64."""

    keys: NDArray[np.int64]
    inputs: dict[str, NDArray[np.generic]]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.keys)


def write_split(split: Split, signature: Signature, path: Path) -> None:
    """Write a split; the same rows give the same bytes."""
    columns: dict[str, pa.Array] = {"key": pa.array(split.keys)}
    for tensor in signature.inputs:
        array = np.ascontiguousarray(split.inputs[tensor.name])
        columns[tensor.name] = pa.FixedShapeTensorArray.from_numpy_ndarray(array)
    columns["label"] = pa.DictionaryArray.from_arrays(
        pa.array(split.labels, pa.int32()), pa.array(signature.classes, pa.string())
    )
    table = pa.table(columns)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def read_split(folder: Path, name: str, signature: Signature) -> Split:
    """Read one of `SPLITS`; inputs are views into the memory-mapped file."""
    with pa.memory_map(str(folder / f"{name}.arrow")) as source:
        table = pa.ipc.open_file(source).read_all()
    inputs = {
        tensor.name: table[tensor.name].combine_chunks().to_numpy_ndarray()
        for tensor in signature.inputs
    }
    labels = table["label"].combine_chunks().indices.to_numpy().astype(np.int64)
    return Split(table["key"].to_numpy(), inputs, labels)
