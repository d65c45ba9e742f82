"""Numeric sequences: a list column of a table, or a NumPy `.npz` file."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.config import SequenceSource
from tasks.errors import InputError
from tasks.files import npz, tables
from tasks.narrowing import by_chance, example, merged
from tasks.sources.globs import patterns
from tasks.sources.raw import Origin, Raw
from tasks.sources.tabular import origins, with_typed_target


def read(source: SequenceSource, path: Path, reserved: Collection[str]) -> Raw:
    """Sequences as lists of fixed-size lists of float32; those without a step are missing.

    Raises:
        InputError: a column or array is missing or of another type, or steps differ in width.
    """
    if path.suffix == ".npz":
        arrays = npz.load(path, "sequences")
        column = npz.sequences(arrays, path)
        steps = arrays["sequences"]
        _distinguished(steps if steps.ndim > 2 else steps[..., np.newaxis], str(path), "sequences")
        labels = npz.labels(arrays, len(column), path)
        table = pa.table({source.column: column, source.target: labels})
        raw = Raw(table, {}, source.target, str(path), (Origin(str(path), len(column), 0),))
        if not len(raw):
            raise InputError(f"{path} holds no rows")
    else:
        table, rows, reading = tables.read(
            path, text=[source.target, *reserved], patterns=patterns(source)
        )
        for name, key in ((source.column, "column"), (source.target, "target")):
            tables.named(name, table.column_names, str(path), f"prepare.source.{key}")
        table = with_typed_target(table, source.target, reading)
        raw = Raw(table, {}, source.target, str(path), origins(rows))
        index = table.column_names.index(source.column)
        table = table.set_column(index, source.column, _normal(raw, source.column))
    return Raw(table, {source.column: "sequence"}, raw.target, raw.where, raw.origins)


def _distinguished(steps: NDArray[Any], where: str, name: str) -> None:
    """Raises `InputError` where float32 cannot tell the numbers of `steps` (..., F) apart."""
    single = steps.astype(np.float32)
    if steps.dtype.itemsize <= 2 or (single == steps).all():
        return
    for feature, numbers in enumerate(steps.reshape(-1, steps.shape[-1]).T):
        values = np.unique(numbers[np.isfinite(numbers)])
        least = 2.0**-14 * float(values.std()) if len(values) else 0.0
        lost = merged(values, values.astype(np.float32), least)
        if lost.sum() > by_chance(len(values)):
            raise InputError(
                f"{where}: number {feature} of the steps of {name!r}: {example(values, lost)}. "
                "Subtract what they have in common, such as each sequence's first time, or leave "
                "the number out"
            )


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _normal(raw: Raw, name: str) -> pa.ListArray:
    """list<fixed_size_list<float32>[F]>; a missing number is NaN."""
    column = raw.table[name].combine_chunks()
    kind = column.type
    refusal = InputError(
        f"{raw.where}: column {name!r} is {kind}; a list of numbers, or of lists of as many "
        "numbers each, is wanted"
    )
    if not _is_list(kind):
        raise refusal
    lengths = pc.list_value_length(column).fill_null(0).to_numpy().astype(np.int64)
    steps: Any = column.flatten()
    width = 1
    if _is_list(steps.type):
        widths = pc.list_value_length(steps).fill_null(0).to_numpy()
        width = int(widths[0]) if len(widths) else 1
        if (widths != width).any() or not width:
            row = int(np.repeat(np.arange(len(lengths)), lengths)[np.argmax(widths != width)])
            raise InputError(
                f"{raw.describe(row)}: column {name!r} has a step of "
                f"{widths[np.argmax(widths != width)]} numbers, where the first has {width}; "
                "every step needs as many"
            )
        steps = steps.flatten()
    if not (pa.types.is_integer(steps.type) or pa.types.is_floating(steps.type)):
        raise refusal
    _distinguished(steps.to_numpy(zero_copy_only=False).reshape(-1, width), raw.where, name)
    values = steps.cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(
        pa.array(offsets),
        pa.FixedSizeListArray.from_arrays(pa.array(values, from_pandas=False), width),
        mask=pa.array(lengths == 0),
    )
