"""Counts, for each column, the values that a prediction substituted for ones the model lacks."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tasks.errors import InputError
from tasks.words import some

if TYPE_CHECKING:
    from tasks.columns import Column

SHARE = 0.01  # of the rows; only above it the summary mentions a column
SHOWN = 3
# What is counted for each column, and its name in a sentence.
WORDS = {
    "unknown": "unknown categories",
    "filled": "filled values",
    "outside": "outside the training range",
    "unknown_tokens": "unknown tokens",
    "truncated": "truncated",
}
Substituted = dict[str, dict[str, int | None]]
"""By column: `rows`, and some of `WORDS`; of text also `tokens`. None: it was not counted."""


@dataclass
class Counts:
    """What `Encoder.encode` found in the batches so far."""

    columns: Substituted = field(default_factory=dict)
    given: dict[str, list[str]] = field(default_factory=dict)
    """By column: a few of the unknown values, for messages."""

    def add(self, column: str, rows: int, **found: int | None) -> None:
        """Add the counts of one batch of a column."""
        total = self.columns.setdefault(column, {"rows": 0})
        for name, number in {"rows": rows, **found}.items():
            before = total.get(name, 0)
            total[name] = None if number is None or before is None else before + int(number)

    def merge(self, other: "Counts") -> None:
        """Add what was found in other rows."""
        for column, found in other.columns.items():
            self.add(column, **{"rows": 0, **found})  # type: ignore[arg-type]
        for column, values in other.given.items():
            shown = self.given.setdefault(column, [])
            shown += [v for v in values if v not in shown][: SHOWN - len(shown)]

    def show(self, column: str, values: Sequence[object]) -> None:
        """Keep the first unknown `values` for a message."""
        shown = self.given.setdefault(column, [])
        shown += [v for v in map(repr, values) if v not in shown][: SHOWN - len(shown)]

    def wants(self, column: str) -> bool:
        """Whether a message has room for another value of the column."""
        return len(self.given.get(column, ())) < SHOWN

    def refuse_unknown(self, columns: Sequence["Column"], where: str) -> None:
        """Check that the model knew at least one value of each of `columns` in the whole input.

        Raises:
            InputError: it knew none of a column; shows some given values and some known ones.
        """
        for column in columns:
            found = self.columns.get(column.name, {})
            rows, unknown = (found.get(key) or 0 for key in column.counted[:2])
            # Filled values are reported elsewhere; a single row with one must not be refused.
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
    lines: list[tuple[float, str]] = []
    for column, found in (substituted or {}).items():
        for name, words in WORDS.items():
            number = found.get(name) or 0
            rows = found.get("tokens" if name == "unknown_tokens" else "rows") or 0
            if number > SHARE * rows:
                lines.append((number / rows, f"{column}: {words}, {number:,} of {rows:,}"))
    return "; ".join(text for _, text in sorted(lines, key=lambda s: -s[0]))


def not_counted(substituted: Substituted | None) -> str:
    """What an older model or job did not count, in a sentence; empty if everything was counted."""
    if substituted is None:
        return "an older release made these predictions, and counted no substitutions"
    names = [column for column, found in substituted.items() if None in found.values()]
    if not names:
        return ""
    shown = some(names, SHOWN)
    return f"not checked against the training range, which this model does not record: {shown}"
