"""Refuses text columns that look like numbers, dates or names, before they become categories."""

import datetime
import itertools
import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.errors import InputError
from tasks.files.convert import Kind, fits
from tasks.files.infer import leading_zeros
from tasks.files.reading import Reading
from tasks.files.spelling import without_blank, without_na

if TYPE_CHECKING:
    from tasks.columns.base import RawColumn

# A column with more distinct values than FEW, most of which occur once, is not a category.
FEW = 20
FEW_ODD = 3  # at most this many distinct words may mean a missing value
LOOKED_AT = 1000  # an option is recommended if it can read this many distinct values

_APART = " '_\u2019\u00a0\u202f"  # thousands separators besides point and comma
_DIGITS = rf"(\d+([.,]\d*)?|\d{{1,3}}([.,{_APART}]\d{{3}})+([.,]\d+)?|[.,]\d+)([eE][+-]?\d+)?"
_SIGN = r"(USD|EUR|GBP|CHF|JPY|[$€£¥%‰°])"
_MONTH = r"(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_YEAR = r"(\d{4}|\d\d)"
_TIME = r"([T ,]+\d{1,2}(:\d\d){1,2}([.,]\d+)?( ?[ap]m)?( ?(Z|[+-]\d\d(:?\d\d)?))?)?"
_DATES = (
    rf"\d{{1,2}}[/.-]\d{{1,2}}[/.-]{_YEAR}|\d{{4}}[/.-]\d{{1,2}}[/.-]\d{{1,2}}"
    rf"|\d{{1,2}}[ .-]*{_MONTH}[ .,-]*{_YEAR}|{_MONTH}[ .-]*\d{{1,2}}(st|nd|rd|th)?[ .,-]+{_YEAR}"
)
_PLUS = "[+\u2212-]?"  # U+2212 is the mathematical minus sign
_NUMBER = rf"^{_PLUS}{_DIGITS}$"
_MARKED = rf"^{_PLUS}\(?{_PLUS}{_SIGN}? ?{_PLUS}{_DIGITS} ?{_SIGN}?\)?-?$"
_DATE = rf"^(?i:({_DATES}){_TIME}|\d{{1,2}}(:\d\d){{1,2}}( ?[ap]m)?)$"
_HEX = r"^0[xX][0-9a-fA-F]+$"
_UNIT = r"^[+-]?\d+([.,]\d+)?\s*([[:alpha:]µ²³/%]{1,12})\.?$"
_ORDINAL = ("st", "nd", "rd", "th")

_NUMBERS = [
    {"thousands": ","},
    {"decimal": ","},
    {"decimal": ",", "thousands": "."},
    {"thousands": "."},
    *({"thousands": mark} for mark in _APART),
    *({"decimal": ",", "thousands": mark} for mark in _APART),
]
_DAYS = (
    *("%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y.%m.%d"),
    *("%d/%m/%y", "%m/%d/%y", "%d.%m.%y", "%d-%m-%y", "%m-%d-%y"),
    *("%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%b %d, %Y", "%b %d %Y", "%d %B %Y", "%B %d, %Y"),
)
_TIMES = ("", " %H:%M", " %H:%M:%S", "T%H:%M", "T%H:%M:%S", " %I:%M %p", " %I:%M:%S %p")


def refuse_lookalikes(column: pa.ChunkedArray, raw: "RawColumn", most_categories: int) -> None:
    """Refuse a text column that is probably not a category.

    Raises:
        InputError: most of its values look like numbers or dates, or occur once; recommends an
            option that reads them.
    """
    present = without_blank(without_na(column, raw.reading)).drop_null()
    counts = pc.value_counts(present)
    if not len(counts):
        return
    original = counts.field("values")
    values = pc.utf8_trim_whitespace(original)
    zeros = leading_zeros(values, raw.reading)
    whole, dated = numbers_and_dates(values, raw.reading)
    rows = pc.sum(pc.if_else(whole, counts.field("counts"), 0)).as_py()
    total = pc.sum(counts.field("counts")).as_py()
    if max(rows / total, pc.sum(whole).as_py() / len(values)) > 0.5:
        _refuse(raw, column, original, values, whole, dated, zeros)
    if len(values) > FEW and len(values) > 0.5 * total:
        first = original[0].as_py()
        row = pc.index(column.combine_chunks(), first).as_py()
        more = " with a larger prepare.source.max_categories"
        raise InputError(
            f"{raw.where}: column {raw.name!r} has {len(values)} distinct values in {total} rows, "
            f"such as {_short(first)} ({raw.describe(row)}). They hardly repeat, so a model cannot "
            "learn from them as categories. If it is an identifier, name it in "
            f"prepare.source.ignore; {_accept(raw.name)}"
            f"{more if len(values) > most_categories else ''}; or train on whole texts with "
            "prepare.source.kind: text"
        )


def advice(column: Any, reading: Reading) -> str:
    """Advice for text (N,) that mostly looks like numbers; empty if it does not."""
    values = pc.utf8_trim_whitespace(without_blank(without_na(column, reading))).unique()
    values = values.drop_null()
    alike = pc.or_(_matches(values, _NUMBER), _matches(values, _MARKED))
    chosen, odd = values.filter(alike), sorted(values.filter(pc.invert(alike)).to_pylist())
    if 2 * len(chosen) <= len(values):
        return ""
    if not fits(chosen[:LOOKED_AT], "number", reading):
        return _option(chosen, "number", odd, reading)
    return f"Set prepare.source.csv: {{{_na(odd)}}}" if 0 < len(odd) <= FEW_ODD else ""


def numbers_and_dates(values: Any, reading: Reading) -> tuple[Any, Any]:
    """(N,), (N,): which texts look like a number or a date, in any spelling; which like a date."""
    alike = pc.or_(_matches(values, _NUMBER), _matches(values, _MARKED))
    alike = pc.or_(alike, leading_zeros(values, reading))
    alike = pc.or_(pc.or_(alike, _matches(values, _HEX)), _with_unit(values))
    dated = _matches(values, _DATE)
    return pc.or_(alike, dated), dated


def _matches(values: Any, pattern: str) -> Any:
    return pc.match_substring_regex(values, pattern)


def _with_unit(values: Any) -> Any:
    """(N,): True for values such as `5 kg`, if most have the same unit. Not for `1A` or `1st`."""
    found = _matches(values, _UNIT)
    units = pc.replace_substring_regex(values.filter(found), _UNIT, r"\2")
    if not len(units):
        return found
    counted = sorted(
        pc.value_counts(pc.utf8_lower(units)).to_pylist(), key=lambda c: c["counts"], reverse=True
    )
    unit, count = counted[0]["values"], counted[0]["counts"]
    if unit in _ORDINAL or count < 2 or count <= 0.5 * len(units):
        return pc.and_(found, False)
    return found


def _refuse(
    raw: "RawColumn",
    column: pa.ChunkedArray,
    original: Any,
    values: Any,
    whole: Any,
    dated: Any,
    zeros: Any,
) -> None:
    """Raises `InputError` with what most values look like, an example, and a recommended option.

    `values` are those of `original` without surrounding white space. `whole` is True where a value
    looks like a number or a date, `dated` where it looks like a date, `zeros` where it is a number
    with leading zeros.
    """
    is_dated = 2 * (pc.sum(dated).as_py() or 0) > pc.sum(whole).as_py()
    what: Kind = "date" if is_dated else "number"
    looks = "dates or times" if is_dated else "numbers"
    chosen = dated if is_dated else whole
    odd = sorted(values.filter(pc.invert(chosen)).unique().to_pylist())
    plainly = _fitting(values, what, raw.reading)
    strange = pc.and_(chosen, pc.invert(plainly))
    verb = "look like"
    if pc.any(zeros).as_py():
        example = zeros
        way = (
            f"Set prepare.source.columns: {{{raw.name}: number}} if the zeros mean nothing, or "
            f"{{{raw.name}: category}} if it is a code"
        )
    elif pc.any(strange).as_py():
        example, way = strange, _option(values.filter(chosen), what, odd, raw.reading)
    elif odd:
        example, verb = pc.invert(chosen), "are"
        way = "Leave missing values empty"
        if len(odd) <= FEW_ODD:
            way += f", or set prepare.source.csv: {{{_na(odd)}}}"
    else:
        example = chosen
        way = f"Set prepare.source.columns: {{{raw.name}: {what}}}"
    first = original.filter(example)[0].as_py()
    row = pc.index(column.combine_chunks(), first).as_py()
    accept = "" if pc.any(zeros).as_py() else f"; {_accept(raw.name)}"
    raise InputError(
        f"{raw.describe(row)}: column {raw.name!r} is {_short(first)}, where most values {verb} "
        f"{looks}. {way}{accept}; or name it in prepare.source.ignore"
    )


def _fitting(values: Any, kind: Kind, reading: Reading) -> Any:
    """(N,): True where values convert to `kind`; only the first `LOOKED_AT` are tested."""
    if fits(values, kind, reading):
        return pa.array([True] * len(values))
    seen = [fits(values[n : n + 1], kind, reading) for n in range(min(len(values), LOOKED_AT))]
    return pa.array(seen + [True] * (len(values) - len(seen)))


def _option(some: Any, what: str, odd: list[str], reading: Reading) -> str:
    """Advice: the options of `source.csv` that read such values."""
    sample = some[:LOOKED_AT]
    found = (
        [{"date_format": form} for form in _forms(sample.to_pylist())]
        if what == "date"
        else _readings(sample, reading)
    )
    missing = [_na(odd)] if 0 < len(odd) <= FEW_ODD else []
    texts = [
        "{"
        + ", ".join([*(f"{key}: {json.dumps(sign)}" for key, sign in option.items()), *missing])
        + "}"
        for option in found[:2]
    ]
    if texts:
        return "Set prepare.source.csv: " + " or ".join(texts)
    return "Write plain numbers" if what == "number" else "Write ISO dates, such as 2020-01-31"


def _na(odd: list[str]) -> str:
    words = [word if re.fullmatch(r"[A-Za-z]\w*", word) else json.dumps(word) for word in odd]
    return f"na_values: [{', '.join(words)}]"


def _readings(sample: Any, reading: Reading) -> list[dict[str, str]]:
    """The smallest changes of `reading` with which all of `sample` are numbers."""
    found = [o for o in _NUMBERS if fits(sample, "number", reading.model_copy(update=o))]
    least = min((len(option) for option in found), default=0)
    return [option for option in found if len(option) == least]


def _forms(texts: Sequence[str]) -> list[str]:
    return [day + time for day, time in itertools.product(_DAYS, _TIMES) if _all(texts, day + time)]


def _all(texts: Sequence[str], form: str) -> bool:
    try:
        for text in texts:
            datetime.datetime.strptime(text, form)
    except ValueError:
        return False
    return True


def _accept(name: str) -> str:
    return f"or set prepare.source.columns: {{{name}: category}} to use the values as categories"


def _short(value: str) -> str:
    """The beginning of a value, for a message."""
    return repr(value if len(value) <= 60 else value[:60] + "...")
