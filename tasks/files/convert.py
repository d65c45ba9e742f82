"""Columns from one Arrow type to another, saying which row does not fit."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.errors import InputError

MOMENT = pa.timestamp("us")
_WORDS = {
    pa.float64(): "a number",
    pa.bool_(): "true or false",
    MOMENT: "a date (ISO 8601)",
    pa.string(): "text",
}
_MISFIT = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError)


def convert(
    column: Any, wanted: pa.DataType, name: str, describe: Callable[[int], str]
) -> pa.Array | pa.ChunkedArray:
    """A column as another type: `float64`, `bool_`, `MOMENT` or `string`.

    Raises:
        InputError: a value is none of that type; `describe` says where its row is.
    """
    try:
        return _cast(column, wanted)
    except _MISFIT as error:
        row = _first_misfit(column, lambda part: _cast(part, wanted))
        value = column[row].as_py()
        said = f"is {value!r}; {_WORDS[wanted]} is wanted"
        if isinstance(value, bytes):
            try:
                said = f"is {value.decode()!r}; {_WORDS[wanted]} is wanted"
            except UnicodeDecodeError:
                said = f"is not UTF-8: {value[:60]!r}. Convert the file, for instance with iconv"
        raise InputError(f"{describe(row)}: column {name!r} {said}") from error


def _cast(column: Any, wanted: pa.DataType) -> Any:
    if pa.types.is_binary(column.type):
        column = column.cast(pa.string())  # checks that it is UTF-8
    if wanted == pa.string() or column.type == wanted:
        return column.cast(wanted)
    if wanted in (pa.bool_(), MOMENT) and _is_number(column.type):
        # A cast would make any number true, or a moment just after 1970.
        column = _without_nan(column).cast(pa.string())
    if not pa.types.is_string(column.type):
        return column.cast(wanted, safe=False)
    column = pc.utf8_trim_whitespace(column)
    if wanted != MOMENT:
        return column.cast(wanted)
    # Arrow reads times with an offset and those without as two types.
    zoned = pc.match_substring_regex(column, r":\d\d(\.\d+)?(Z|[+-]\d\d(:?\d\d)?)$")
    nothing = pa.scalar(None, pa.string())
    aware = pc.if_else(zoned, column, nothing).cast(pa.timestamp("us", "UTC")).cast(MOMENT)
    return pc.coalesce(aware, pc.if_else(zoned, nothing, column).cast(MOMENT))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def from_values(values: list[Any], name: str, describe: Callable[[int], str]) -> pa.Array:
    """Values of JSON as a column of the one type that they have.

    Raises:
        InputError: they are of several types; `describe` says where the first other one is.
    """
    try:
        return pa.array(values)
    except (*_MISFIT, OverflowError) as error:
        row = _first_misfit(values, pa.array)
        raise InputError(
            f"{describe(row)}: column {name!r} is {values[row]!r}, which is of another type than "
            "the values before it"
        ) from error


def _first_misfit(values: Any, attempt: Callable[[Any], Any]) -> int:
    """The number of the first value that `attempt` fails at; it fails at the whole."""
    bad, fine = len(values), 0  # of the shortest prefix that fails, and the longest that holds
    while bad - fine > 1:
        middle = (bad + fine) // 2
        try:
            attempt(values[:middle])
            fine = middle
        except (*_MISFIT, OverflowError):
            bad = middle
    return fine


def without_empty(column: Any) -> Any:
    """Strings, the empty ones missing."""
    return pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)


def _without_nan(column: Any) -> Any:
    """Numbers, those missing that are NaN."""
    if not pa.types.is_floating(column.type):
        return column
    return pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
