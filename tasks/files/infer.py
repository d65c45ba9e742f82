"""Infers the types of text columns, for file formats without types."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.files.convert import Kind, convert, fits
from tasks.files.reading import Reading
from tasks.files.spelling import null_where, plain_numbers, without_na

_HEAD = 200


def kind_of(text: Any, reading: Reading) -> Kind | None:
    """The kind of all values of a text column: `number`, `boolean`, `date`, or else `text`.

    None if it has no values. Numbers with leading zeros are text, because `007` may differ from
    `7`. Whole numbers beyond int64 are text too.
    """
    return _found(text, reading)[0]


def typed(text: Any, reading: Reading) -> Any:
    """A text column converted to the kind of `kind_of`; numbers become int64 or float64."""
    kind, values = _found(text, reading)
    return text if kind == "text" else values


def leading_zeros(text: Any, reading: Reading) -> Any:
    """(N,): True where the text is a number with leading zeros."""
    plain = plain_numbers(pc.utf8_trim_whitespace(text), reading)
    return pc.match_substring_regex(plain, r"^[+-]?0\d+(\.\d*)?$")


def _found(text: Any, reading: Reading) -> tuple[Kind | None, Any]:
    values = pc.utf8_trim_whitespace(without_na(text, reading))
    values = null_where(values, pc.equal(values, ""))
    if values.null_count == len(values):
        return None, pa.nulls(len(text))
    # The first values rule out most kinds, which saves converting the whole column.
    head = values.drop_null()[:_HEAD]
    if fits(head, "number", reading):
        try:
            numbers = _numbers(values, reading)
        except pa.ArrowInvalid:
            return "text", text
        return ("text", text) if numbers is None else ("number", numbers)
    kinds: tuple[Kind, ...] = ("boolean", "date")
    for kind in kinds:
        if fits(head, kind, reading) and fits(values, kind, reading):
            return kind, convert(values, kind, "", str, reading)
    return "text", text


def _numbers(values: Any, reading: Reading) -> Any:
    """int64 or float64; None if a number would lose spelling. Raises `ArrowInvalid` for text."""
    plain = plain_numbers(values, reading)
    numbers = plain.cast(pa.float64())
    if pc.any(pc.match_substring_regex(plain, r"^[+-]?0\d")).as_py():
        return None
    whole = pc.all(pc.equal(numbers, pc.round(numbers))).as_py()
    if not whole or not pc.all(pc.match_substring_regex(plain, r"^[+-]?\d+$")).as_py():
        return numbers
    try:
        return pc.replace_substring_regex(plain, r"^\+", "").cast(pa.int64())
    except pa.ArrowInvalid:
        return None
