"""Parses text: missing values, numbers, dates, booleans, and the normalized spelling of categories.

The functions take and return Arrow strings; columns of other types are returned unchanged.
"""

import datetime
import re
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.files.reading import Reading

MOMENT = pa.timestamp("us")


def without_na(column: Any, reading: Reading) -> Any:
    """Turn the values in `na_values` into nulls, in text and numbers."""
    if not reading.na_values:
        return column
    if pa.types.is_string(column.type):
        named = pa.array([value.strip() for value in reading.na_values], pa.string())
        return null_where(column, pc.is_in(pc.utf8_trim_whitespace(column), named))
    if is_number(column.type):
        found = {number for value in reading.na_values if (number := _float(value)) is not None}
        numbers = column.cast(pa.float64(), safe=False)
        return null_where(column, pc.is_in(numbers, pa.array(sorted(found), pa.float64())))
    return column


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def plain_numbers(text: Any, reading: Reading) -> Any:
    """Write numbers in trimmed text with a decimal point and without thousands separators.

    A separator that does not separate groups of three digits is not removed, nor a point if the
    decimal sign is a comma; such text is then not a number.
    """
    sign = re.escape(reading.decimal or ".")
    if reading.thousands:
        mark = re.escape(reading.thousands)
        grouped = pc.match_substring_regex(text, rf"^[+-]?\d{{1,3}}({mark}\d{{3}})+({sign}\d*)?$")
        text = pc.if_else(grouped, pc.replace_substring(text, reading.thousands, ""), text)
    if reading.decimal == ",":
        text = pc.replace_substring(text, ".", "?")
        text = pc.replace_substring(text, ",", ".")
    return text


def booleans(text: Any, reading: Reading) -> Any:
    """Replace `true_values` and `false_values` in trimmed text by true and false."""
    for word, values in (("true", reading.true_values), ("false", reading.false_values)):
        if values:
            named = pc.is_in(text, pa.array([v.strip() for v in values], pa.string()))
            text = pc.if_else(named, pa.scalar(word), text)
    return text


def dates(text: Any, reading: Reading) -> Any:
    """Parse dates in `date_format` if there is one, else in ISO 8601."""
    form = reading.date_format
    if form is None:
        return _moments(text)
    if isinstance(text, pa.ChunkedArray):
        text = text.combine_chunks()
    encoded = text.dictionary_encode()
    found = [_moment(value, form) for value in encoded.dictionary.to_pylist()]
    return pa.array(found, MOMENT).take(encoded.indices)


def _moment(text: str, form: str) -> datetime.datetime:
    try:
        return _in_utc(datetime.datetime.strptime(text, form))
    except ValueError as error:
        # A format that begins with the year could read an ISO date as another day.
        if form.startswith("%Y"):
            raise pa.ArrowInvalid(str(error)) from error
    moment = _moments(pa.array([text]))[0].as_py()
    assert isinstance(moment, datetime.datetime)
    return moment


def _in_utc(moment: datetime.datetime) -> datetime.datetime:
    return moment.astimezone(datetime.UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _moments(column: Any) -> Any:
    """Parse dates and times in ISO 8601; without an offset, they are in UTC."""
    column = pc.replace_substring_regex(column, r"(\.\d{6})\d{1,3}", r"\1")
    # Arrow has different types for times with and without an offset.
    zoned = pc.match_substring_regex(column, r"[T ]\d\d.*(Z|[+-]\d\d(:?\d\d)?)$")
    aware = null_where(column, pc.invert(zoned)).cast(pa.timestamp("us", "UTC")).cast(MOMENT)
    return pc.coalesce(aware, null_where(column, zoned).cast(MOMENT))


_WITH_TIME = r"^\d{4}-\d\d-\d\d[T ]\d\d(:\d\d(:\d\d(\.\d+)?)?)?(Z|[+-]\d\d(:?\d\d)?)?$"


def one_spelling(text: Any, reading: Reading) -> Any:
    """The spelling that a category has in all file formats; blank text becomes null."""
    if isinstance(text, pa.ChunkedArray):
        text = text.combine_chunks()
    encoded = text.dictionary_encode()  # regular expressions are slow: apply to distinct values
    values = encoded.dictionary
    if reading.spelling > 1:
        values = pc.utf8_normalize(pc.utf8_trim_whitespace(values), "NFC")
        if reading.decimal == ",":
            values = pc.replace_substring_regex(values, r"^([+-]?\d+),(\d+)$", r"\1.\2")
        timed = pc.match_substring_regex(values, _WITH_TIME)
        if pc.any(timed).as_py():
            values = pa.array(
                [
                    _spelled_moment(v) if t else v
                    for v, t in zip(values.to_pylist(), timed.to_pylist(), strict=True)
                ],
                pa.string(),
            )
    values = without_blank(values)
    values = pc.replace_substring_regex(values, r"^([+-]?\d+)\.0+$", r"\1")
    word = pc.is_in(values, pa.array(["True", "TRUE", "False", "FALSE"]))
    return pc.if_else(word, pc.utf8_lower(values), values).take(encoded.indices)


def _spelled_moment(text: str) -> str:
    """ISO 8601 in UTC, without the time if it is midnight, and without a fraction of zeros."""
    try:
        moment = _in_utc(datetime.datetime.fromisoformat(text))
    except ValueError:  # such as the 30th of February
        return text
    if moment.time() == datetime.time():
        return moment.date().isoformat()
    return moment.isoformat()


def without_blank(column: Any) -> Any:
    """Turn strings that are only white space into nulls."""
    return null_where(column, pc.equal(pc.utf8_trim_whitespace(column), ""))


def null_where(column: Any, mask: Any) -> Any:
    return pc.if_else(mask, pa.scalar(None, column.type), column)


def is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))
