"""What columns of text hold, where the form of a file has no types of its own."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.files.convert import Kind, convert, fits
from tasks.files.reading import Reading
from tasks.files.spelling import plain_numbers, without_blank, without_na

_HEAD = 200


def kind_of(text: Any, reading: Reading) -> Kind | None:
    """What all values of a column of text are: `number`, `boolean`, `date`, or else `text`.

    Nothing where it has no value. Numbers with leading zeros are text, for the zeros tell `007`
    from `7`; so are whole numbers that no column of numbers could hold.
    """
    values = without_blank(without_na(text, reading)).drop_null()
    if not len(values):
        return None
    kinds: tuple[Kind, ...] = ("number", "boolean", "date")
    for kind in kinds:
        # Most columns of text are known by their first values.
        if fits(values[:_HEAD], kind, reading) and fits(values, kind, reading):
            told_by_spelling = kind == "number" and (
                pc.any(leading_zeros(values, reading)).as_py()
                or (_all_whole(values, reading) and _integers(values, reading) is None)
            )
            return "text" if told_by_spelling else kind
    return "text"


def typed(text: Any, reading: Reading) -> Any:
    """A column of text as what `kind_of` finds: whole numbers are int64, others float64."""
    kind = kind_of(text, reading)
    if kind is None:
        return pa.nulls(len(text))
    if kind == "text":
        return text
    if kind == "number" and _all_whole(text, reading):
        return _integers(without_blank(without_na(text, reading)), reading)
    return convert(text, kind, "", str, reading)


def leading_zeros(text: Any, reading: Reading) -> Any:
    """Where text (N,) is a number that begins with a zero too many."""
    return pc.match_substring_regex(_plain(text, reading), r"^[+-]?0\d[\d.]*$")


def _plain(text: Any, reading: Reading) -> Any:
    return plain_numbers(pc.utf8_trim_whitespace(text), reading)


def _all_whole(text: Any, reading: Reading) -> bool:
    values = _plain(without_blank(without_na(text, reading)), reading)
    return bool(pc.all(pc.match_substring_regex(values, r"^[+-]?\d+$")).as_py())


def _integers(text: Any, reading: Reading) -> Any:
    """int64, or None where it cannot hold them."""
    try:
        return pc.replace_substring_regex(_plain(text, reading), r"^\+", "").cast(pa.int64())
    except pa.ArrowInvalid:
        return None
