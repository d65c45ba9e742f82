"""Columns from one Arrow type to another, saying which row does not fit.

Training and prediction both convert here, so that a row means the same in either.
"""

from collections.abc import Callable
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from tasks.errors import InputError

Kind = Literal["number", "boolean", "date", "category", "text"]
_TYPES = {
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.timestamp("us"),
    "category": pa.string(),
    "text": pa.string(),
}
_WORDS = {
    "number": "a number",
    "boolean": "true or false",
    "date": "a date (ISO 8601)",
    "category": "text, a number or true and false",
    "text": "text",
}
EXACT = 2**53  # to here float64 has every whole number
_MISFIT = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError)


def convert(
    column: Any, kind: Kind, name: str, describe: Callable[[int], str]
) -> pa.Array | pa.ChunkedArray:
    """A column as what it holds; one that is so already comes back as it is, not copied.

    A `number` is float64, or float32 if it was, and keeps its NaN, which is null in all others. A
    `boolean` is bool, a `date` a timestamp in UTC of whole microseconds, `text` a string. So is a
    `category`, where blank is null, and which each form of file spells alike: `1.0` is `1`, `True`
    and `TRUE` are `true`, but `007` and `1.50` stay as they are.

    Raises:
        InputError: a value is none of that kind; `describe` says where its row is.
    """
    try:
        return _cast(column, kind)
    except _MISFIT as error:
        row = _first_misfit(column, lambda part: _cast(part, kind))
        value = _python(column[row])
        said = f"is {value!r}; {_WORDS[kind]} is wanted"
        if isinstance(value, bytes):
            try:
                said = f"is {value.decode()!r}; {_WORDS[kind]} is wanted"
            except UnicodeDecodeError:
                said = f"is not UTF-8: {value[:60]!r}. Convert the file, for instance with iconv"
        raise InputError(f"{describe(row)}: column {name!r} {said}") from error


def _cast(column: Any, kind: Kind) -> Any:
    wanted = _TYPES[kind]
    if pa.types.is_binary(column.type):
        column = column.cast(pa.string())  # checks that it is UTF-8
    if pa.types.is_float16(column.type):
        column = column.cast(pa.float32())  # which Arrow can count with
    if kind == "category":
        return _one_spelling(_as_text(column))
    if column.type == wanted or (kind == "number" and pa.types.is_floating(column.type)):
        return column
    if kind == "text":
        return _as_text(column)
    if kind in ("boolean", "date") and _is_number(column.type):
        # A cast would make any number true, or a moment just after 1970.
        column = _without_nan(column).cast(pa.string())
    if pa.types.is_string(column.type):
        column = pc.utf8_trim_whitespace(column)
        return _moments(column) if kind == "date" else column.cast(wanted)
    if kind == "date":
        # What is finer than a microsecond is cut; what is out of range must not wrap around.
        return column.cast(options=pc.CastOptions(wanted, allow_time_truncate=True))
    return column.cast(wanted, safe=False)


def _moments(column: Any) -> Any:
    """Dates and times of ISO 8601, in UTC where they say no offset."""
    wanted = _TYPES["date"]
    column = pc.replace_substring_regex(column, r"(\.\d{6})\d{1,3}", r"\1")
    # Arrow reads times with an offset and those without as two types.
    zoned = pc.match_substring_regex(column, r"[T ]\d\d.*(Z|[+-]\d\d(:?\d\d)?)$")
    aware = _without(column, pc.invert(zoned)).cast(pa.timestamp("us", "UTC")).cast(wanted)
    return pc.coalesce(aware, _without(column, zoned).cast(wanted))


def _as_text(column: Any) -> Any:
    """Text; a whole number has no fraction and no exponent, as in an integer column."""
    if not pa.types.is_floating(column.type):
        return column.cast(pa.string())
    column = _without_nan(column)
    whole = pc.and_(pc.equal(column, pc.round(column)), pc.less_equal(pc.abs(column), float(EXACT)))
    digits = _without(column, pc.invert(whole)).cast(pa.int64())
    return pc.coalesce(digits.cast(pa.string()), column.cast(pa.string()))


def _one_spelling(text: Any) -> Any:
    if isinstance(text, pa.ChunkedArray):
        text = text.combine_chunks()
    encoded = text.dictionary_encode()  # a regular expression is slow, and distinct values are few
    values = without_blank(encoded.dictionary)
    values = pc.replace_substring_regex(values, r"^([+-]?\d+)\.0+$", r"\1")
    word = pc.is_in(values, pa.array(["True", "TRUE", "False", "FALSE"]))
    return pc.if_else(word, pc.utf8_lower(values), values).take(encoded.indices)


def _python(value: Any) -> Any:
    """A value for a message; Python has no dates after 9999, and none of nanoseconds."""
    try:
        return value.as_py()
    except (ValueError, OverflowError):
        return value.cast(pa.string()).as_py()


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


def plain(column: Any) -> Any:
    """Dictionaries resolved; one type of string, the empty ones missing."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
        column = column.cast(pa.string())
    if pa.types.is_string(column.type):
        column = _without(column, pc.equal(column, ""))
    return column


def without_blank(column: Any) -> Any:
    """Strings, those missing that are nothing but white space."""
    return _without(column, pc.equal(pc.utf8_trim_whitespace(column), ""))


def _without_nan(column: Any) -> Any:
    """Numbers, those missing that are NaN."""
    if not pa.types.is_floating(column.type):
        return column
    return _without(column, pc.is_nan(column))


def _without(column: Any, mask: Any) -> Any:
    return pc.if_else(mask, pa.scalar(None, column.type), column)
