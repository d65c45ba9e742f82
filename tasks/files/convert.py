"""Converts columns to another Arrow type, and names the first row that does not fit.

Training and prediction share this code, so that they read a value the same way.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.errors import BadRows, InputError
from tasks.files.reading import PLAIN, Reading
from tasks.files.spelling import (
    MOMENT,
    booleans,
    dates,
    is_number,
    null_where,
    one_spelling,
    plain_numbers,
    without_blank,
    without_na,
)
from tasks.reasons import NOT_A_BOOLEAN, NOT_A_DATE, NOT_A_NUMBER, NOT_TEXT, NOT_UTF8, WRONG_TYPE

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
_REASONS: dict[str, str] = {
    "number": NOT_A_NUMBER,
    "boolean": NOT_A_BOOLEAN,
    "date": NOT_A_DATE,
    "category": NOT_TEXT,
    "text": NOT_TEXT,
}
EXACT = 2**53  # float64 represents every whole number up to this
_MISFIT = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError)


def convert(
    column: Any,
    kind: Kind,
    name: str,
    describe: Callable[[int], str],
    reading: Reading = PLAIN,
) -> pa.Array | pa.ChunkedArray:
    """Cast a column to `kind`; returned unchanged, not copied, if it already has that type.

    Text is read by the rules of `reading`. The types are:
    - `number`: float64, or float32 if the column has that type; NaN stays NaN.
    - `boolean`: bool. `date`: timestamp in UTC with microseconds. NaN becomes null in both.
    - `text`: string.
    - `category`: string, with one spelling for every file format: `1.0` becomes `1`, `True` and
      `TRUE` become `true`, midnight becomes a date without a time; surrounding white space and
      Unicode forms are normalized; blank text and NaN become null. `007` and `1.50` are unchanged.

    Raises:
        BadRows: values cannot be converted; `describe` gives the location of the first row.
        InputError: the type of the column cannot be.
    """
    try:
        return _cast(column, kind, reading)
    except _MISFIT as error:
        bad = _misfits(column, lambda part: _cast(part, kind, reading))
        row = int(np.argmax(bad))
        value = python_value(column[row])
        word, reason = _WORDS[kind], _REASONS[kind]
        if kind == "date" and reading.date_format:
            word = f"a date of the form {reading.date_format!r}"
        problem = f"is {value!r}; {word} is expected"
        if isinstance(value, bytes):
            try:
                problem = f"is {value.decode()!r}; {word} is expected"
            except UnicodeDecodeError:
                problem = f"is not UTF-8: {value[:60]!r}. {_latin(value)}"
                reason = NOT_UTF8
        message = f"{describe(row)}: column {name!r} {problem}"
        if _fails(column[:0], kind, reading):  # whatever its values are
            raise InputError(message) from error
        raise BadRows(message, bad, reason, name) from error


def first_misfit(column: Any, kind: Kind, reading: Reading) -> int:
    """The index of the first value that `convert` cannot convert; there must be one."""
    return _bisect_misfit(column, lambda part: _cast(part, kind, reading))


def _fails(column: Any, kind: Kind, reading: Reading) -> bool:
    try:
        _cast(column, kind, reading)
    except _MISFIT:
        return True
    return False


def _misfits(values: Any, attempt: Callable[[Any], Any]) -> NDArray[np.bool_]:
    """(N,): which values `attempt` fails at. Halves are tried until they hold: few calls for a few
    misfits, at most two for each value."""
    bad = np.zeros(len(values), bool)
    parts = [(0, len(values))]
    while parts:
        start, end = parts.pop()
        try:
            attempt(values[start:end])
        except (*_MISFIT, OverflowError):
            if end - start == 1:
                bad[start] = True
            else:
                middle = (start + end) // 2
                parts += [(start, middle), (middle, end)]
    return bad


def _latin(value: bytes) -> str:
    """Advice for bytes that are not UTF-8."""
    return (
        "Convert the file to UTF-8, for instance with iconv, or train the model with its encoding: "
        f"if the value is {value[:60].decode('latin-1')!r}, it is Latin-1; set "
        "prepare.source.csv.encoding: latin-1"
    )


def fits(column: Any, kind: Kind, reading: Reading) -> bool:
    """Whether `convert` would succeed; for `number`, the words true and false do not count."""
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
        column = column.cast(pa.float32())  # Arrow's functions do not take float16
    column = without_na(column, reading)
    if kind == "category":
        spelled = one_spelling(_as_text(column, reading), reading)
        named = one_spelling(pa.array(reading.na_values, pa.string()), reading)
        return null_where(spelled, pc.is_in(spelled, named)) if len(named) else spelled
    if column.type == target or (kind == "number" and pa.types.is_floating(column.type)):
        return column
    if kind == "text":
        return _as_text(column, reading)
    if kind in ("boolean", "date") and is_number(column.type):
        # A direct cast would turn any number into true, or into a time just after 1970.
        column = _without_nan(column).cast(pa.string())
    if pa.types.is_string(column.type):
        column = pc.utf8_trim_whitespace(column)
        column = null_where(column, pc.equal(column, ""))
        if kind == "date":
            return dates(column, reading)
        if kind == "boolean":
            return booleans(column, reading).cast(target)
        return _from_text(column, reading)
    if kind == "date":
        # Nanoseconds are truncated, but values out of range must raise and not wrap around.
        return column.cast(options=pc.CastOptions(target, allow_time_truncate=True))
    return column.cast(target, safe=False)


def _from_text(column: Any, reading: Reading) -> Any:
    """Numbers; the words true and false become 1 and 0, as booleans in typed files do."""
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
    """Text; whole numbers without fraction or exponent, as in an integer column."""
    if pa.types.is_timestamp(column.type) and reading.spelling > 1:
        column = column.cast(options=pc.CastOptions(MOMENT, allow_time_truncate=True))
    if not pa.types.is_floating(column.type):
        return column.cast(pa.string())
    column = _without_nan(column)
    whole = pc.and_(pc.equal(column, pc.round(column)), pc.less_equal(pc.abs(column), float(EXACT)))
    digits = null_where(column, pc.invert(whole)).cast(pa.int64())
    return pc.coalesce(digits.cast(pa.string()), column.cast(pa.string()))


def python_value(value: pa.Scalar) -> Any:
    """A value for a person, as Python has it; bytes of text that is not UTF-8.

    Of what Python lacks, such as nanoseconds and dates after 9999, the text that Arrow makes of it.
    """
    if isinstance(value, pa.DictionaryScalar):
        value = value.value
    with suppress(*NOT_IN_PYTHON):
        return value.as_py()
    for kind in (pa.string(), pa.binary()):
        with suppress(*NOT_IN_PYTHON, pa.ArrowException):
            return value.cast(kind).as_py()
    return f"<{value.type}>"


NOT_IN_PYTHON = (ValueError, OverflowError, KeyError)  # KeyError: the time zone is unknown


def from_values(values: list[Any], name: str, describe: Callable[[int], str]) -> pa.Array:
    """JSON values as a column of one type.

    Raises:
        BadRows: some have another type than most; `describe` gives the location of the first.
    """
    try:
        return pa.array(values)
    except (*_MISFIT, OverflowError) as error:
        types = Counter(type(value) for value in values if value is not None)
        most = types.most_common(1)[0][0]
        bad = np.array([v is not None and (type(v) is not most or not _alone(v)) for v in values])
        if not bad.any():
            bad[_bisect_misfit(values, pa.array)] = True
        row = int(np.argmax(bad))
        raise BadRows(
            f"{describe(row)}: column {name!r} is {values[row]!r}, which has another type than "
            "most values",
            bad,
            WRONG_TYPE,
            name,
        ) from error


def _alone(value: Any) -> bool:
    """Whether Arrow has a type for a value."""
    try:
        pa.array([value])
    except (*_MISFIT, OverflowError):
        return False
    return True


def converted(
    values: list[Any], kind: Kind, name: str, describe: Callable[[int], str], reading: Reading
) -> pa.Array:
    """JSON values as `kind`, each by itself: what one becomes does not depend on the others.

    Raises:
        BadRows: some cannot be converted; `describe` gives the location of the first.
    """
    try:
        column = pa.array(values)
    except (*_MISFIT, OverflowError):
        parts = [_single(value, kind, reading) for value in values]
        bad = np.array([part is None for part in parts])
        if bad.any():
            row = int(np.argmax(bad))
            problem = f"column {name!r} is {values[row]!r}; {_WORDS[kind]} is expected"
            raise BadRows(f"{describe(row)}: {problem}", bad, _REASONS[kind], name) from None
        fine = [part.cast(_TYPES[kind]) for part in parts if part is not None]
        return pa.concat_arrays(fine)
    return convert(column, kind, name, describe, reading)


def _single(value: Any, kind: Kind, reading: Reading) -> pa.Array | None:
    try:
        return _cast(pa.array([value]), kind, reading)
    except (*_MISFIT, OverflowError):
        return None


def _bisect_misfit(values: Any, attempt: Callable[[Any], Any]) -> int:
    """The index of the first value that `attempt` fails for; it must fail for all values."""
    bad, fine = len(values), 0  # lengths of prefixes known to fail and to succeed: bisection
    while bad - fine > 1:
        middle = (bad + fine) // 2
        try:
            attempt(values[:middle])
            fine = middle
        except (*_MISFIT, OverflowError):
            bad = middle
    return fine


def plain(column: Any) -> Any:
    """Resolve dictionaries, use one string type, and turn empty strings into nulls."""
    column = without_views(column)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_large_string(column.type):
        column = column.cast(pa.string())
    if pa.types.is_string(column.type):
        column = null_where(column, pc.equal(column, ""))
    return column


def _without_nan(column: Any) -> Any:
    """Turn NaN into null."""
    if not pa.types.is_floating(column.type):
        return column
    return null_where(column, pc.is_nan(column))


def without_views(column: Any) -> Any:
    """Views of text and bytes, and runs, as usual values, also within lists and structs.

    Arrow neither filters nor takes rows of them (26.0); other values come back as they are.
    """
    if pa.types.is_run_end_encoded(column.type):
        column = pc.run_end_decode(column)
    kind = _without_views(column.type)
    return column if kind == column.type else column.cast(kind)


def _without_views(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_without_views(field.type)) for field in kind.fields])
    if pa.types.is_dictionary(kind):
        return pa.dictionary(kind.index_type, _without_views(kind.value_type), kind.ordered)
    if pa.types.is_map(kind):
        return pa.map_(_without_views(kind.key_type), _without_views(kind.item_type))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_without_views(kind.value_type), kind.list_size)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        make = pa.list_ if pa.types.is_list(kind) else pa.large_list
        return make(kind.value_field.with_type(_without_views(kind.value_type)))
    return kind
