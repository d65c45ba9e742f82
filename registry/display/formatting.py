"""Formats values for people: numbers, times, sizes, hashes. Times are UTC."""

import json
import math
from datetime import UTC, datetime

_WORDS = {
    "f1": "F1",
    "r2": "R²",
    "mae": "MAE",
    "mse": "MSE",
    "rmse": "RMSE",
    "roc": "ROC",
    "auc": "AUC",
}
_UNITS = (("year", 31_536_000), ("month", 2_592_000), ("day", 86_400), ("hour", 3600), ("min", 60))


def figure(value: float) -> str:
    """A number with four decimals, so that columns align; a tiny one in exponent notation."""
    size = abs(value)
    if not math.isfinite(value):
        return str(value)
    if size >= 1000:
        return f"{value:,.2f}"
    return f"{value:.1e}" if 0 < size < 0.00005 else f"{value:.4f}"


def signed(value: float) -> str:
    """A difference with its sign; the typographic minus is as wide as the plus."""
    sign = "+" if value > 0 else "\N{MINUS SIGN}" if value < 0 else "±"
    return sign + figure(abs(value))


def exact(value: float) -> str:
    """A number with every digit it has."""
    return repr(value)


def spelled(name: str) -> str:
    """The display name of a metric: `macro_f1` is macro F1."""
    return " ".join(_WORDS.get(word, word) for word in name.split("_"))


def short(digest: str) -> str:
    """The first ten digits of a hash."""
    return digest.partition(".")[0][:10]


def day(time: datetime) -> str:
    """A time for a table, to the minute."""
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def iso(time: datetime) -> str:
    """A time in full."""
    return time.astimezone(UTC).isoformat()


def ago(time: datetime) -> str:
    """The time since then, in the largest unit that fits."""
    seconds = (datetime.now(UTC) - time).total_seconds()
    for unit, length in _UNITS:
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'s' * (count > 1 and unit != 'min')} ago"
    return "just now"


def duration(seconds: float) -> str:
    """A number of seconds in suitable units."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def size(count: int) -> str:
    """A number of bytes in a suitable unit."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def clip(text: str, most: int = 80) -> str:
    """A text for a list, shortened with an ellipsis; its own page has the whole text."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def plain(value: object) -> str:
    """A value of a JSON document: text unchanged, other values as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


FILTERS = {
    function.__name__: function
    for function in (
        figure,
        signed,
        exact,
        spelled,
        short,
        day,
        iso,
        ago,
        duration,
        size,
        plain,
        clip,
    )
}
"""For templates, by name."""
