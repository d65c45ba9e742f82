"""Parts of sentences that many messages have."""

from collections.abc import Iterable


def some(names: Iterable[str], most: int = 5) -> str:
    """The first names, and how many more there are: there may be thousands."""
    listed = list(names)
    more = f" and {len(listed) - most:,} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def counted(number: int, what: str) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
