"""Detects how a CSV file is written: encoding, delimiter, quote and decimal sign."""

import codecs
import csv
import gzip
import io
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import pyarrow as pa
import pyarrow.compute as pc

from tasks.files.reading import Reading
from tasks.files.spelling import without_na

SAMPLE, ROWS = 1 << 20, 500  # bytes and rows that are read for the detection
DELIMITERS = ",;\t|"
_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, because it begins with the mark of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# These encodings can decode any bytes, also UTF-8.
_ONE_BYTE = re.compile(r"(iso8859|cp125|cp850|cp437|mac|koi8|latin)")


@dataclass(frozen=True)
class Dialect:
    """How one CSV file is written."""

    encoding: str
    delimiter: str
    quote: str


@contextmanager
def open_decompressed(path: Path) -> Iterator[BinaryIO | gzip.GzipFile]:
    """The bytes of a file, decompressed if its name ends in `.gz`."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
        yield stream


def detect(path: Path, reading: Reading, expected: Collection[str] = ()) -> tuple[Dialect, bool]:
    """The dialect of a file, and whether it is certain.

    It is the one of `reading`, unless the file evidently has another one. It is certain if most
    rows have as many fields as the header, and more than one. `expected` are the names of columns
    that the right delimiter must give.
    """
    with open_decompressed(path) as stream:
        head = stream.read(SAMPLE)
    encoding = _encoding(path, head, reading.encoding)
    text = head.decode("utf-8-sig" if encoding == "utf-8" else encoding, errors="replace")
    if len(head) == SAMPLE:
        text = text[: text.rfind("\n") + 1] or text
    tabs = path.name.endswith((".tsv", ".tsv.gz"))
    found = []
    for quote in [reading.quote] if reading.quote else ['"', "'"]:
        for delimiter in "\t" if tabs else _candidates(reading):
            rows = _rows(text, delimiter, quote)
            found.append((_score(rows, expected, quote), delimiter, quote))
            given = delimiter == reading.delimiter and (not expected or found[-1][0][0])
            if given or tabs:
                return Dialect(encoding, delimiter, _quote(reading, text, delimiter)), True
    score, delimiter, quote = max(found, key=lambda entry: entry[0])
    return Dialect(encoding, delimiter, quote), score[0] or score[2] >= 0.5


def _quote(reading: Reading, text: str, delimiter: str) -> str:
    if reading.quote:
        return reading.quote
    return max("\"'", key=lambda quote: _score(_rows(text, delimiter, quote), (), quote))


def _candidates(reading: Reading) -> str:
    given = reading.delimiter or ""
    return given + "".join(d for d in DELIMITERS if d != given)


def _rows(text: str, delimiter: str, quote: str) -> list[list[str]]:
    """The first rows; quoted fields may contain delimiters and line ends."""
    rows: list[list[str]] = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quotechar=quote)
    try:
        for row in reader:
            if row:
                rows.append(row)
            if len(rows) > ROWS:
                break
    except csv.Error:  # a field is longer than the module's limit
        pass
    return rows


def _score(
    rows: list[list[str]], expected: Collection[str], quote: str
) -> tuple[bool, bool, float, bool, int]:
    """Larger is likelier. By importance: expected columns present, all rows of equal length, share
    of rows of equal length, no quotes left, number of fields."""
    if not rows:
        return False, False, 0.0, True, 0
    header, rest = rows[0], rows[1:]
    fields = len(header)
    alike = sum(len(row) == fields for row in rest) / len(rest) if rest else 1.0
    if fields == 1:
        alike = 0.0
    complete = bool(expected) and set(expected) <= set(header)
    # If fields are still in quotes, the quote sign is another one.
    quoted = all(len(n) > 1 and n[0] == n[-1] and n[0] in "\"'" for n in header)
    return complete and not quoted, alike == 1.0 and not quoted, alike, not quoted, fields


def _encoding(path: Path, head: bytes, given: str | None) -> str:
    for mark, name in _BOMS:
        if head.startswith(mark):
            return name
    even, odd = head[0:4096:2], head[1:4096:2]
    for zeros, other, name in ((odd, even, "utf-16-le"), (even, odd, "utf-16-be")):
        # In UTF-16, one of the two bytes of a Latin letter is zero.
        if len(zeros) > 1 and zeros.count(0) > 0.5 * len(zeros) and other.count(0) == 0:
            return name
    if given is None:
        return "utf-8"
    name = codecs.lookup(given).name
    # UTF-16 and UTF-32 have zero bytes, at least in line ends.
    narrow = name.startswith(("utf-16", "utf-32")) and b"\0" not in head
    if narrow or (_ONE_BYTE.match(name) and _is_utf_8(path)):
        return "utf-8"
    return name


def _is_utf_8(path: Path) -> bool:
    """Whether a file has non-ASCII characters and is valid UTF-8."""
    decoder, beyond = codecs.getincrementaldecoder("utf-8")(), False
    with open_decompressed(path) as stream:
        try:
            while block := stream.read(SAMPLE):
                beyond |= not block.isascii()
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return beyond


_WITH_COMMA = r"^[+-]?\d*,\d+([eE][+-]?\d+)?$"
_WITH_POINT = r"^[+-]?\d*\.\d+([eE][+-]?\d+)?$"
_WHOLE = r"^[+-]?\d+$"
_GROUPS = {",": r"^[+-]?[1-9]\d{0,2}(,\d{3})+$", ".": r"^[+-]?[1-9]\d{0,2}(\.\d{3})+$"}


def decimal_sign(columns: Iterable[Any], delimiter: str, reading: Reading) -> Literal[".", ","]:
    """The decimal sign of text columns: that of `reading`, unless the values evidently differ.

    `1,250` is no evidence, because the comma may separate thousands. If the delimiter is a comma,
    the sign is a point.
    """
    usual: Literal[".", ","] = reading.decimal or "."
    if reading.thousands or (delimiter == "," and usual == "."):
        return usual
    evidence = {".": 0, ",": 0}
    for column in columns:
        if not (pa.types.is_string(column.type) or pa.types.is_binary(column.type)):
            continue
        try:
            values = without_na(column.cast(pa.string()), reading).unique().drop_null()
        except pa.ArrowInvalid:  # not UTF-8; reading the column raises an error with the row
            continue
        values = pc.utf8_trim_whitespace(values)
        whole = _count(values, _WHOLE)
        for sign, pattern in ((",", _WITH_COMMA), (".", _WITH_POINT)):
            matching = _count(values, pattern)
            if matching and matching + whole > 0.5 * len(values):
                evidence[sign] += 1
                if matching == _count(values, _GROUPS[sign]) and sign != usual:
                    evidence[sign] -= 1
    other: Literal[".", ","] = "," if usual == "." else "."
    return other if evidence[other] and not evidence[usual] else usual


def _count(values: Any, pattern: str) -> int:
    return int(pc.sum(pc.match_substring_regex(values, pattern)).as_py() or 0)
