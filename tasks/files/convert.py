"""Columns from one Arrow type to another, saying which row does not fit.

Training and prediction both convert here, so that a row means the same in either.
"""

from collections.abc import Callable
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from tasks.errors import InputError
from tasks.files.reading import PLAIN, Reading
from tasks.files.spelling import (
    MOMENT,
    booleans,
    dates,
    is_number,
    one_spelling,
    plain_numbers,
    without,
    without_blank,
    without_na,
)

Kind = Literal["number", "boolean", "date", "category", "text"]
_TYPES = {
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "date": MOMENT,
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
    column: Any,
    kind: Kind,
    name: str,
    describe: Callable[[int], str],
    reading: Reading = PLAIN,
) -> pa.Array | pa.ChunkedArray:
    """Cast a column to `kind`; returned unchanged, not copied, if it already has that type.

    Text is read as `reading` says. A `number` is float64, or float32 if it was, and keeps its NaN,
    which is null in all others. A `boolean` is bool, a `date` a timestamp in UTC of whole
    microseconds, `text` a string. So is a `category`, where blank is null, and which each form of
    file spells alike: `1.0` is `1`, `True` and `TRUE` are `true`, midnight is a date without a
    time, blanks around it and the Unicode form do not count; `007` and `1.50` stay as they are.

    Raises:
        InputError: a value is none of that kind; `describe` says where its row is.
    """
    try:
        return _cast(column, kind, reading)
    except _MISFIT as error:
        row = misfit(column, kind, reading)
        value = _python(column[row])
        word = _WORDS[kind]
        if kind == "date" and reading.date_format:
            word = f"a date of the form {reading.date_format!r}"
        said = f"is {value!r}; {word} is expected"
        if isinstance(value, bytes):
            try:
                said = f"is {value.decode()!r}; {word} is expected"
            except UnicodeDecodeError:
                said = f"is not UTF-8: {value[:60]!r}. {_latin(value)}"
        raise InputError(f"{describe(row)}: column {name!r} {said}") from error


def misfit(column: Any, kind: Kind, reading: Reading) -> int:
    """The number of the first value that `convert` fails at; it fails at the whole."""
    return _first_misfit(column, lambda part: _cast(part, kind, reading))


def _latin(value: bytes) -> str:
    """What to do about bytes that are not UTF-8."""
    return (
        "Convert the file, for instance with iconv, or name its encoding where the model is "
        f"trained: if this is {value[:60].decode('latin-1')!r}, it is Latin-1, "
        "prepare.source.csv.encoding: latin-1"
    )


def fits(column: Any, kind: Kind, reading: Reading) -> bool:
    """Whether `convert` would succeed; true and false are not numbers by themselves."""
    try:
        if kind == "number" and pa.types.is_string(column.type):
            values = without_blank(without_na(column, reading))
            plain_numbers(pc.utf8_trim_whitespace(values), reading).cast(pa.float64())
        else:
            _cast(column, kind, reading)
    except _MISFIT:
        return False
    return True


def _cast(column: Any, kind: Kind, reading: Reading) -> Any:
    target = _TYPES[kind]
    if pa.types.is_binary(column.type):
        column = column.cast(pa.string())  # checks that it is UTF-8
    if pa.types.is_float16(column.type):
        column = column.cast(pa.float32())  # which Arrow can count with
    column = without_na(column, reading)
    if kind == "category":
        spelled = one_spelling(_as_text(column, reading), reading)
        named = one_spelling(pa.array(reading.na_values, pa.string()), reading)
        return without(spelled, pc.is_in(spelled, named)) if len(named) else spelled
    if column.type == target or (kind == "number" and pa.types.is_floating(column.type)):
        return column
    if kind == "text":
        return _as_text(column, reading)
    if kind in ("boolean", "date") and is_number(column.type):
        # A cast would make any number true, or a moment just after 1970.
        column = _without_nan(column).cast(pa.string())
    if pa.types.is_string(column.type):
        column = pc.utf8_trim_whitespace(column)
        column = without(column, pc.equal(column, ""))
        if kind == "date":
            return dates(column, reading)
        if kind == "boolean":
            return booleans(column, reading).cast(target)
        return _from_text(column, reading)
    if kind == "date":
        # What is finer than a microsecond is cut; what is out of range must not wrap around.
        return column.cast(options=pc.CastOptions(target, allow_time_truncate=True))
    return column.cast(target, safe=False)


def _from_text(column: Any, reading: Reading) -> Any:
    """Numbers; true and false are 1 and 0, as in a file with types that has booleans there."""
    plainly = plain_numbers(column, reading)
    try:
        return plainly.cast(pa.float64())
    except pa.ArrowInvalid:
        lower = pc.utf8_lower(plainly)
        words = pc.is_in(lower, pa.array(["true", "false"]))
        if not pc.any(words).as_py():
            raise
    digits = pc.if_else(pc.equal(lower, "true"), "1", "0")
    return pc.if_else(words, digits, plainly).cast(pa.float64())


def _as_text(column: Any, reading: Reading) -> Any:
    """Text; a whole number has no fraction and no exponent, as in an integer column."""
    if pa.types.is_timestamp(column.type) and reading.spelling > 1:
        column = column.cast(options=pc.CastOptions(MOMENT, allow_time_truncate=True))
    if not pa.types.is_floating(column.type):
        return column.cast(pa.string())
    column = _without_nan(column)
    whole = pc.and_(pc.equal(column, pc.round(column)), pc.less_equal(pc.abs(column), float(EXACT)))
    digits = without(column, pc.invert(whole)).cast(pa.int64())
    return pc.coalesce(digits.cast(pa.string()), column.cast(pa.string()))


def _python(value: Any) -> Any:
    """A value for a message; Python has no dates after 9999, and none of nanoseconds."""
    try:
        return value.as_py()
    except (ValueError, OverflowError):
        return value.cast(pa.string()).as_py()


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
        column = without(column, pc.equal(column, ""))
    return column


def _without_nan(column: Any) -> Any:
    """Numbers, those missing that are NaN."""
    if not pa.types.is_floating(column.type):
        return column
    return without(column, pc.is_nan(column))
