"""Checks of single values and of JSON documents; each returns the value in its stored form.

So a value has the same hash after it was read back, and limits are the same on every database. Each
check raises InvalidCandidate, unless another error is passed; the message says what was given and
what is allowed. `registry.validation.arguments` assigns the checks to arguments.
"""

import hashlib
import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

from registry.errors import InvalidCandidate, RegistryError

# A row of an index in PostgreSQL has at most 2.7 kB.
KEY = 500
"""Characters of a key, of a path in a bundle, of an output path of predictions."""
LINE = 200
"""Characters of a person, a request id, a hash."""
TEXT = 100_000
"""Characters of a reason, or of the value of a tag."""
DOCUMENT = 2**24
"""Bytes of a JSON document in canonical form."""
DEPTH = 100
"""Levels of a JSON document."""
EXACT = 2**53 - 1
"""The largest integer that every JSON reader reads exactly."""

# Characters that move a terminal's cursor or change the direction of a line.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
# One slash: a Path turns s3://bucket into s3:/bucket. A single letter is a drive.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
NEVER = re.compile("[\x00\ud800-\udfff]")
"""Characters that no database can store in a text."""
_SURROGATE = re.compile("[\ud800-\udfff]")
# Invisible letters and marks: fillers, joiners, variation selectors, the empty Braille pattern.
_BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0100-\U000e01ef]"
)
_HEX = re.compile(r"[0-9a-f]{64}")
_Error = type[RegistryError]


def shown(value: object) -> str:
    """A value for an error message: shortened, and with its type unless it is text or None."""
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    text = text if len(text) <= 80 else f"{text[:77]}..."
    return text if value is None or isinstance(value, str) else f"{text} ({type(value).__name__})"


# Single values


def url_scheme(path: object) -> str | None:
    """The scheme of a URL that was given as a path, as in s3://bucket; None for a path."""
    found = _URL.match(str(path))
    return found[1] if found else None


def text(
    field: str,
    value: object,
    *,
    most: int = LINE,
    lines: bool = False,
    empty: bool = False,
    error: _Error = InvalidCandidate,
) -> str:
    """A text that every database can store and a terminal can show; with `lines`, several."""
    if not isinstance(value, str):
        raise error(f"{field} is {shown(value)}. Give text.")
    plain = str.__str__(value)
    if not (empty or plain.strip()):
        raise error(f"{field} is empty. Give text that is not blank.")
    if len(plain) > most:
        raise error(f"{field} has {len(plain):,} characters. Give at most {most:,}.")
    found = _SURROGATE.search(plain)
    if found is None:
        found = _CONTROL.search(re.sub("[\t\n\r\u2028\u2029]", " ", plain) if lines else plain)
    if found:
        raise error(
            f"{field} is {shown(plain)}: the character U+{ord(found[0]):04X} at position "
            f"{found.start()} is not allowed. Leave it out."
        )
    return plain


def person(field: str, value: object) -> str:
    """A person's name in one form: NFC, stripped, without invisible characters."""
    name = unicodedata.normalize("NFC", text(field, value)).strip()
    if unseen := next(filter(is_unseen, name), None):
        raise InvalidCandidate(
            f"{field} is {shown(name)}: the character U+{ord(unseen):04X} at position "
            f"{name.index(unseen)} is invisible, so one person could pass for two. Leave it out."
        )
    return text(field, name)


def is_unseen(character: str) -> bool:
    """Whether a character is invisible, looks like a blank, or is not assigned in Unicode."""
    kind = unicodedata.category(character)
    return (
        kind in ("Cc", "Cf", "Cn", "Co", "Cs")
        or (kind == "Zs" and character != " ")
        or _BLANK.fullmatch(character) is not None
    )


def reason(field: str, value: object) -> str:
    """A reason; may have several lines."""
    return text(field, value, most=TEXT, lines=True)


def whole(
    field: str, value: object, least: int, most: int = EXACT, error: _Error = InvalidCandidate
) -> int:
    """An integer in a range; NumPy's become Python's."""
    value = python_scalar(value)
    if isinstance(value, bool) or not isinstance(value, int):
        at_least = f" of {least:,} or more" if least >= 0 else ""
        raise error(f"{field} is {shown(value)}. Give a whole number{at_least}.")
    if not least <= value <= most:
        raise error(f"{field} is {shown(int(value))}. Give a number from {least:,} to {most:,}.")
    return int(value)


def sha256(field: str, value: object) -> str:
    """A SHA-256 in hex."""
    if not isinstance(value, str) or not _HEX.fullmatch(value):
        raise InvalidCandidate(f"{field} is {shown(value)}. Give a SHA-256: 64 digits of 0-9a-f.")
    return str.__str__(value)


def storable(field: str, value: object) -> str:
    """The text of an error: characters that cannot be stored are escaped, long text is cut."""
    if not isinstance(value, str):
        raise InvalidCandidate(f"{field} is {shown(value)}. Give text.")
    return escaped(value, lines=True)[:TEXT]


def kept_path(path: str) -> str:
    """The path of an input file as it is stored and compared.

    A job must not fail at its end because of the name of a file. So characters that cannot be
    stored are escaped, and if the path is too long for an index, a hash replaces its end.
    """
    plain = escaped(path)
    if len(plain) <= KEY:
        return plain
    return f"{plain[: KEY - 68]}... {hashlib.sha256(plain.encode()).hexdigest()}"


def escaped(value: str, *, lines: bool = False) -> str:
    """A text with its control characters and lone surrogates escaped, as in \\x1b."""

    def written(found: re.Match[str]) -> str:
        kept = lines and found[0] in "\t\n"
        return found[0] if kept else found[0].encode("unicode_escape", "surrogatepass").decode()

    return _SURROGATE.sub(written, _CONTROL.sub(written, value))


def seen(name: str) -> str:
    """A person's name with invisible characters escaped (\\u200b); for old rows and imports."""
    return "".join(
        c.encode("unicode_escape", "surrogatepass").decode() if is_unseen(c) else c
        for c in unicodedata.normalize("NFC", name)
    )


def python_scalar(value: object) -> object:
    """A NumPy scalar as Python's; other values unchanged. Does not import NumPy."""
    if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():
        kind = getattr(getattr(value, "dtype", None), "kind", "")
        if kind and kind in "biufU":
            item: object = value.item()  # type: ignore[attr-defined]
            return item if type(item).__module__ != "numpy" else float(item)  # type: ignore[arg-type]
    return value


# Documents


def document(field: str, value: object, *, non_finite: bool = False) -> Any:
    """A JSON object of plain values, a copy: NumPy's scalars become Python's.

    Numbers that are not finite become the texts NaN, Infinity and -Infinity where `non_finite`.

    Raises:
        InvalidCandidate: names the key of what cannot be stored.
    """
    if not isinstance(value, Mapping):
        raise InvalidCandidate(
            f"{field} is not plain JSON: it is {shown(value)}. Give a dict with text as keys."
        )
    return _plain(field, value, DEPTH, non_finite)


def _plain(at: str, value: object, depth: int, non_finite: bool) -> Any:
    value = python_scalar(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _json_text(at, value)
    if isinstance(value, int):
        if abs(value) > EXACT:
            raise _not_plain(
                at,
                f"it is {shown(int(value))}, and not every reader is exact for integers beyond "
                "2**53 - 1. Give it as text.",
            )
        return int(value)
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        if non_finite:
            return non_finite_text(float(value))
        raise _not_plain(at, f"it is {float(value)}. Give a finite number, text or None.")
    if not isinstance(value, Mapping | list):
        allowed = "text, a number, a bool, None, a list or a dict"
        raise _not_plain(at, f"it is {shown(value)}. Give {allowed}.")
    if depth == 0:
        raise _not_plain(at[:80], f"there are more than {DEPTH} levels below. Make it flatter.")
    if isinstance(value, list):
        return [_plain(f"{at}[{i}]", one, depth - 1, non_finite) for i, one in enumerate(value)]
    found = {}
    for key, one in value.items():
        if not isinstance(key, str):
            raise _not_plain(at, f"its key {shown(key)} is not text. Give {str(key)!r}.")
        plain = _json_text(f"{at}, in a key", key)
        below = f"{at}.{plain}"
        if below.startswith("params.") and len(below) > len("params.") + KEY:
            raise _not_plain(
                at, f"a dotted name below has more than {KEY} characters. Shorten the keys."
            )
        found[plain] = _plain(below, one, depth - 1, non_finite)
    return found


def non_finite_text(value: float) -> str:
    """The text that stands for a number that is not finite, which JSON does not have."""
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _json_text(at: str, value: str) -> str:
    found = NEVER.search(value)
    if found:
        what = "a NUL character" if found[0] == "\x00" else "half of a surrogate pair"
        raise _not_plain(at, f"it has {what}. Leave it out.")
    return str.__str__(value)


def _not_plain(at: str, why: str) -> InvalidCandidate:
    field = re.split(r"[.\[,]", at, maxsplit=1)[0]
    where = "" if at == field else f"{escaped(at)}: "
    return InvalidCandidate(f"{field} is not plain JSON: {where}{why}")


# Dicts and tags


def texts(
    field: str, value: object, check: Callable[[str, object], str], *, most: int = KEY
) -> dict[str, str]:
    """A dict of text to text; the values are checked by `check`."""
    return {key: check(f"{field}[{key!r}]", one) for key, one in items(field, value, most)}


def items(field: str, value: object, most: int, key: str | None = None) -> list[tuple[str, Any]]:
    """The items of a dict whose keys are texts of at most `most` characters."""
    if not isinstance(value, Mapping):
        raise InvalidCandidate(f"{field} is {shown(value)}. Give a dict with text as keys.")
    what = key or f"a key of {field}"
    return [(text(what, one, most=most), value[one]) for one in value]


def tag_value(field: str, value: object) -> str:
    """The value of a tag: may have several lines, and may be empty."""
    return text(field, value, most=TEXT, lines=True, empty=True)


def hash_(field: str, value: object) -> str:
    """A hash as DVC, git or MLflow write it: one word."""
    found = text(field, value)
    if re.search(r"\s", found):
        raise InvalidCandidate(f"{field} is {shown(found)}. Give a hash, without white space.")
    return found
