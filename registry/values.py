"""Values as the tables store them: times in microseconds since 1970 in UTC, JSON, and hashes."""

import json
import math
import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any

# Created once: `json.dumps` would create an encoder for each of hundreds of values.
_JSON = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":"))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

MALFORMED = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""Errors that an edited row may raise when it is converted to a record or hashed."""

_SHOWN = 60  # characters of a value in a message


SHA256 = "sha256:"
"""The beginning of the hash of a file of weights in `Lineage.data`."""


def spellings(given: str) -> list[str]:
    """The forms in which the registry may have a hash of data or weights; users copy all of them.

    DVC's hash of a folder ends in `.dir`. `dvc:` is shown, and not stored; `sha256:` is stored, and
    `sha256sum` does not print it.
    """
    bare = given.removeprefix("dvc:").removeprefix(SHA256).removesuffix(".dir")
    weights = [SHA256 + bare] if re.fullmatch(r"[0-9a-f]{64}", bare) else []
    return [bare, f"{bare}.dir", *weights]


def now() -> int:
    """Microseconds since 1970, by this machine's clock."""
    return time.time_ns() // 1000


def moment(microseconds: int) -> datetime:
    """A stored time as a datetime, exact to the microsecond."""
    return _EPOCH + timedelta(microseconds=microseconds)


def microseconds(moment: datetime) -> int:
    """A datetime as it is stored; without a time zone it counts as UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    # Not `aware - _EPOCH`: the difference of pendulum's, which Prefect returns, is no timedelta.
    return datetime.__sub__(aware, _EPOCH) // timedelta(microseconds=1)


def to_json(value: object) -> str:
    """Compact JSON. Raises ValueError for NaN and infinity, which are not JSON."""
    return _JSON.encode(value)


def _finite(text: str) -> float:
    """Refuse Infinity, NaN and 1e999, which Python's reader accepts and we never write."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a finite number")
    return number


_READER = json.JSONDecoder(parse_float=_finite, parse_constant=_finite)


def parse_object(text: object) -> tuple[dict[str, Any], str | None]:
    """Parse a stored document; returns the object, and what is wrong if it was edited."""
    try:
        found = _READER.decode(text) if isinstance(text, str) else text
    except ValueError:
        return {}, f"is not JSON: {shown(text)}"
    except RecursionError:
        return {}, "is nested too deeply to be read"
    if not isinstance(found, dict):
        return {}, f"is not a JSON object: {shown(found)}"
    return found, None


def shown(value: object) -> str:
    """A value for a message: on one line, and shortened."""
    text = ascii(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
