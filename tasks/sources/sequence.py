"""Numeric sequences: a list column of a table, or a NumPy `.npz` file."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pyarrow as pa

from tasks.columns.sequence import refuse_equal_in_float32
from tasks.config import SequenceSource
from tasks.errors import InputError
from tasks.files import npz, tables
from tasks.sources.globs import patterns
from tasks.sources.raw import Origin, Raw
from tasks.sources.tabular import origins, with_typed_target


def read(source: SequenceSource, path: Path, reserved: Collection[str]) -> Raw:
    """Sequences as lists of fixed-size lists of float32; a sequence without timesteps is missing.

    Raises:
        InputError: a column or array is missing or has another type, or timesteps differ in width.
    """
    if path.suffix == ".npz":
        arrays = npz.load(path, "sequences")
        column = npz.sequences(arrays, path)
        steps = arrays["sequences"]
        exact = steps if steps.ndim > 2 else steps[..., np.newaxis]
        refuse_equal_in_float32(exact, str(path), "sequences")
        labels = npz.labels(arrays, len(column), path)
        table = pa.table({source.column: column, source.target: labels})
        features = {source.column: "sequence"}
        origin = Origin(str(path), len(column), 0)
        raw = Raw(source, table, features, source.target, str(path), (origin,))
        if not len(raw):
            raise InputError(f"{path} has no rows")
        return raw
    table, rows, reading = tables.read(
        path, text=[source.target, *reserved], patterns=patterns(source)
    )
    for name, key in ((source.column, "column"), (source.target, "target")):
        tables.named(name, table.column_names, str(path), f"prepare.source.{key}")
    table = with_typed_target(table, source.target, reading)
    features = {source.column: "sequence"}
    raw = Raw(source, table, features, source.target, str(path), origins(rows))
    return raw.read_as(source.column, "sequence")
