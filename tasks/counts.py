"""What a prediction put in place of values that the model does not know, column by column."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tasks.errors import InputError

if TYPE_CHECKING:
    from tasks.columns import Column

SHARE = 0.01  # above it, the summary has a line
SHOWN = 3
# What is counted of each column, and how a sentence says it.
WORDS = {
    "unknown": "unknown categories",
    "filled": "filled values",
    "outside": "outside the training range",
    "unknown_tokens": "unknown tokens",
    "truncated": "truncated",
}
Substituted = dict[str, dict[str, int | None]]
"""By column: `rows`, and some of `WORDS`; of text also `tokens`. None is what was not counted."""


@dataclass
class Counts:
    """What `Encoder.encode` found in the batches so far."""

    columns: Substituted = field(default_factory=dict)
    given: dict[str, list[str]] = field(default_factory=dict)
    """Of each column, a few values that are not known."""

    def add(self, column: str, rows: int, **found: int | None) -> None:
        """What was found in one batch of a column."""
        total = self.columns.setdefault(column, {"rows": 0})
        for name, number in {"rows": rows, **found}.items():
            before = total.get(name, 0)
            total[name] = None if number is None or before is None else before + int(number)

    def show(self, column: str, values: Sequence[object]) -> None:
        """Keep the first of the unknown `values` for a message."""
        shown = self.given.setdefault(column, [])
        shown += [v for v in map(repr, values) if v not in shown][: SHOWN - len(shown)]

    def wants(self, column: str) -> bool:
        """Whether a message has room for a value."""
        return len(self.given.get(column, ())) < SHOWN

    def refuse_unknown(self, columns: Sequence["Column"], where: str) -> None:
        """See that the model knew some value of each of `columns`, over the whole input.

        Raises:
            InputError: of one it knew none; shows values that were given and some that are known.
        """
        for column in columns:
            found = self.columns.get(column.name, {})
            rows, unknown = (found.get(key) or 0 for key in column.counted[:2])
            # What is missing was filled by rule, and is reported; it may be one row of one.
            if not unknown or unknown + (found.get("filled") or 0) < rows:
                continue
            given = ", ".join(self.given.get(column.name, ()))
            raise InputError(
                f"{where}: column {column.name!r}: the model knows none of the {unknown} "
                f"{column.counted[2]}. Given: {given}; known: {column.known()}. "
                "Spell them as in training, or train on data like these"
            )


def summary(substituted: Substituted | None) -> str:
    """One line about each column and kind with a share above `SHARE`; empty where there is none."""
    said: list[tuple[float, str]] = []
    for column, found in (substituted or {}).items():
        for name, words in WORDS.items():
            number = found.get(name) or 0
            rows = found.get("tokens" if name == "unknown_tokens" else "rows") or 0
            if number > SHARE * rows:
                said.append((number / rows, f"{column}: {words}, {number:,} of {rows:,}"))
    return "; ".join(text for _, text in sorted(said, key=lambda s: -s[0]))


def not_counted(substituted: Substituted | None) -> str:
    """What an older model or an older job leaves open, in a sentence; empty where nothing is."""
    if substituted is None:
        return "an older release made these predictions, and counted no substitutions"
    names = [column for column, found in substituted.items() if None in found.values()]
    if not names:
        return ""
    return (
        "not checked against the training range, which this model does not record: "
        + ", ".join(names[:SHOWN])
        + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
    )
