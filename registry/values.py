"""Values as the tables keep them: times in microseconds since 1970 in UTC, and JSON."""

import json
import time
from datetime import UTC, datetime, timedelta

# Made once: `json.dumps` would make one for each of hundreds of values.
_JSON = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":"))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def now() -> int:
    """The present, by this machine's clock."""
    return time.time_ns() // 1000


def moment(microseconds: int) -> datetime:
    """A stored time as a record shows it, exactly."""
    return _EPOCH + timedelta(microseconds=microseconds)


def microseconds(moment: datetime) -> int:
    """A moment as the tables keep it; one without a zone is in UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(microseconds=1)


def to_json(value: object) -> str:
    """Compact JSON. ValueError for NaN, which is no JSON: a reader elsewhere would trip over it."""
    return _JSON.encode(value)
