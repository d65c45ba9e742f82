"""What columns of text hold, where the form of a file has no types of its own."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.files.convert import Kind, convert, fits
from tasks.files.reading import Reading
from tasks.files.spelling import plain_numbers, without, without_na

_HEAD = 200


def kind_of(text: Any, reading: Reading) -> Kind | None:
    """What all values of a column of text are: `number`, `boolean`, `date`, or else `text`.

    Nothing where it has no value. Numbers with leading zeros are text, for the zeros tell `007`
    from `7`; so are whole numbers that no column of numbers could hold.
    """
    return _found(text, reading)[0]


def typed(text: Any, reading: Reading) -> Any:
    """A column of text as what `kind_of` finds: whole numbers are int64, others float64."""
    kind, values = _found(text, reading)
    return text if kind == "text" else values


def leading_zeros(text: Any, reading: Reading) -> Any:
    """Where text (N,) is a number that begins with a zero too many."""
    plain = plain_numbers(pc.utf8_trim_whitespace(text), reading)
    return pc.match_substring_regex(plain, r"^[+-]?0\d+(\.\d*)?$")


def _found(text: Any, reading: Reading) -> tuple[Kind | None, Any]:
    values = pc.utf8_trim_whitespace(without_na(text, reading))
    values = without(values, pc.equal(values, ""))
    if values.null_count == len(values):
        return None, pa.nulls(len(text))
    # Most columns of text are known by their first values.
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
    """int64 or float64; None where the spelling says more. Raises `ArrowInvalid` if it is text."""
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
