"""Rows from a notebook (DataFrame, dict, list, Arrow, arrays) as an Arrow table for a model."""

import reprlib
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.bundle.signature import Signature
from tasks.columns import Column
from tasks.dataset import KEY
from tasks.errors import InputError
from tasks.files.convert import from_values

_MISFIT = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError)

_CONVERSIONS = {"period": ".dt.to_timestamp()", "sparse": ".sparse.to_dense()"}
"""How to convert a pandas column of a type that a model does not take, by a word in its name."""
_DEFAULT_CONVERSION = ".astype(str)"


@dataclass(frozen=True)
class Rows:
    """A table, its name in messages, and the DataFrame it was made from, if any."""

    table: pa.Table
    where: str
    frame: Any = None


def paths_of(given: Any) -> list[Path] | None:
    """`given` as paths of files or folders; None if it is not a path or several."""
    if isinstance(given, str | Path):
        return [Path(given)]
    if isinstance(given, list | tuple) and given and all(isinstance(p, str | Path) for p in given):
        return [Path(path) for path in given]
    return None


def rows_of(given: Any, signature: Signature) -> Rows:
    """A DataFrame, an Arrow table or batch, columns by name, or a list of rows by name.

    Also takes anything with `__arrow_c_stream__`, such as a Polars DataFrame. A named index of a
    DataFrame counts as a column.

    Raises:
        InputError: it is of another type, or a column cannot be read; names the column.
    """
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(given, pandas.DataFrame):
        return Rows(_of_frame(given, signature), "the DataFrame", given)
    if isinstance(given, pa.Table):
        return _of_arrow(given, signature, "the table")
    if isinstance(given, pa.RecordBatch):
        return _of_arrow(pa.Table.from_batches([given]), signature, "the batch")
    if isinstance(given, Mapping):
        return Rows(_of_columns(given, signature, "the columns"), "the columns")
    if isinstance(given, list | tuple) and all(isinstance(row, Mapping) for row in given):
        names = dict.fromkeys(str(name) for row in given for name in row)
        columns = {name: [row.get(name) for row in given] for name in names}
        if not given:  # so no column is missing from any row
            columns = {column.name: [] for column in signature.columns}
        return Rows(_of_columns(columns, signature, "the rows"), "the rows")
    if hasattr(given, "__arrow_c_stream__"):
        with suppress(TypeError, ValueError):  # of one column alone, which Arrow calls invalid
            return _of_arrow(pa.table(given), signature, f"the {type(given).__name__}")
    raise InputError(
        f"a {type(given).__name__} cannot be predicted. Give a DataFrame, an Arrow table, a dict "
        "with a list for each column, a list with a dict for each row, or paths of files"
    )


def _of_arrow(table: pa.Table, signature: Signature, where: str) -> Rows:
    read = {column.name for column in signature.columns}
    for field in table.schema:
        if field.name in read:
            _refuse_unknown(field.type, field.name, where)
    return Rows(table, where)


def _of_frame(frame: Any, signature: Signature) -> pa.Table:
    names = [str(name) for name in frame.columns]
    columns: list[tuple[str, Any]] = [(n, frame.iloc[:, i]) for i, n in enumerate(names)]
    for level, name in enumerate(frame.index.names):
        if name is not None and str(name) not in names:
            columns.append((str(name), frame.index.get_level_values(level)))
    return _table(columns, signature, "the DataFrame", len(frame))


def _of_columns(columns: Mapping[Any, Any], signature: Signature, where: str) -> pa.Table:
    lengths: dict[str, int] = {}
    for name, values in columns.items():
        if not _is_column(values):
            raise InputError(
                f"{where}: column {str(name)!r} is {reprlib.repr(values)} "
                f"({type(values).__name__}); give a list for each column, as of a DataFrame "
                "to_dict('list') does. Rows are a list with a dict for each, also one alone: "
                "[{...}]"
            )
        lengths[str(name)] = len(values)
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name} {length:,}" for name, length in lengths.items())
        raise InputError(f"{where}: the columns have different numbers of rows: {counts}")
    rows = next(iter(lengths.values()), 0)
    return _table([(str(n), values) for n, values in columns.items()], signature, where, rows)


def _is_column(values: Any) -> bool:
    """Whether these are values in an order. A dict or a set would be read as its keys."""
    if isinstance(values, np.ndarray):
        return values.ndim > 0
    if isinstance(values, Sequence | pa.Array | pa.ChunkedArray):
        return not isinstance(values, str | bytes | bytearray)
    # A column of pandas or Polars, a tensor.
    return hasattr(values, "__len__") and len(getattr(values, "shape", ())) == 1


def _table(
    columns: Collection[tuple[str, Any]], signature: Signature, where: str, rows: int
) -> pa.Table:
    """The columns that the model reads, converted; of other columns only the names."""
    kinds = {column.name: column for column in signature.columns}
    if not columns:
        taken = ", ".join(map(str, signature.columns))
        raise InputError(f"{where}: there are no columns. The model takes {taken}")
    names, arrays = [], []
    for name, values in columns:
        read = name in kinds or name == KEY
        names.append(name)
        arrays.append(_column(values, name, kinds.get(name), where) if read else pa.nulls(rows))
    return pa.Table.from_arrays(arrays, names)


def _column(values: Any, name: str, kind: Column | None, where: str) -> Any:
    arrow = isinstance(values, pa.Array | pa.ChunkedArray)
    if kind is not None:  # a key may be anything
        _refuse_unknown(values.type if arrow else getattr(values, "dtype", None), name, where)
    if arrow:
        return values
    place = Path(f"{where}, column {name!r}")
    if kind is not None and kind.is_array:
        many = _arrays(values, kind, place)
        if many is not None:
            return many
    if isinstance(values, np.ndarray) and values.ndim > 1:
        raise InputError(f"{place}: it has {values.ndim} dimensions; give one value for each row")
    values = _with_texts_for_paths(values)
    try:
        return pa.array(values, from_pandas=True)
    except _MISFIT:
        listed = [None if isinstance(v, float) and v != v else v for v in values]
        return from_values(listed, name, lambda row: f"{where}, row {row}")
    except (TypeError, ValueError) as error:  # objects that Arrow does not know
        raise InputError(f"{place} cannot be read: {error}") from error


def _refuse_unknown(kind: Any, name: str, where: str) -> None:
    """Refuse extension types: Arrow would read their storage, such as the number of a Period."""
    if isinstance(kind, pa.DataType):
        while isinstance(kind, pa.DictionaryType):
            kind = kind.value_type
        known = not isinstance(kind, pa.BaseExtensionType | pa.ExtensionType)
        known = known or isinstance(kind, pa.FixedShapeTensorType)
    else:
        pandas = sys.modules.get("pandas")
        if pandas is None or not isinstance(kind, pandas.api.extensions.ExtensionDtype):
            return
        if isinstance(kind, pandas.CategoricalDtype):
            _refuse_unknown(kind.categories.dtype, name, where)
        plain = (pandas.CategoricalDtype, pandas.DatetimeTZDtype, pandas.StringDtype)
        known = isinstance(kind, plain) or hasattr(kind, "numpy_dtype")
    if not known:
        how = next(
            (how for word, how in _CONVERSIONS.items() if word in str(kind).lower()),
            _DEFAULT_CONVERSION,
        )
        raise InputError(
            f"{where}: column {name!r} has the type {kind}, which a model does not take. Convert "
            f"it to numbers, text, dates, or true and false, for example with {how}"
        )


def _of_objects(values: Any) -> bool:
    """Whether the values are Python objects, of any type."""
    return str(getattr(values, "dtype", "object")) == "object"


def _with_texts_for_paths(values: Any) -> Any:
    """Convert paths of image files to text, as a table has them."""
    if _of_objects(values) and any(isinstance(v, Path) for v in values):
        return [str(v) if isinstance(v, Path) else v for v in values]
    return values


def _arrays(values: Any, column: Column, place: Path) -> Any:
    """NumPy arrays, one of all rows or one for each row, as a column; None if there are none."""
    if not (isinstance(values, np.ndarray) and values.ndim > 1):
        if not _of_objects(values):
            return None
        values = [np.asarray(v) if hasattr(v, "__array_interface__") else v for v in values]
        if not any(isinstance(v, np.ndarray) for v in values):
            return None
    return column.of_arrays(values, place)
