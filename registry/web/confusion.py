"""The confusion matrix as a table whose colours show the errors of a model."""

from dataclasses import dataclass

from registry.display.documents import items, labels, mapping
from registry.records import Version

MOST = 24
"""The most classes of a matrix that fits a page; of larger ones, the worst mistakes are listed."""

_LEVELS = 8


@dataclass(frozen=True, slots=True)
class Cell:
    """The number of rows of one class that were predicted as one class."""

    count: int
    level: int
    """The shade: 0 for no rows, up to 8 for all rows of the class."""
    right: bool
    predicted: str


@dataclass(frozen=True, slots=True)
class Mistake:
    """One class that was predicted as another."""

    actual: str
    predicted: str
    count: int
    share: float
    """The share of all rows of the actual class."""


@dataclass(frozen=True, slots=True)
class Confusion:
    """Rows by actual class, cells by predicted class; `mistakes` if that would be too wide."""

    labels: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    mistakes: tuple[Mistake, ...]


def confusion(version: Version) -> Confusion | None:
    """The matrix of a version's evaluation; None if it has none, or not a square one."""
    counts = items(mapping(version.evaluation.get("metrics")).get("confusion"))
    size = len(counts)
    if not size or not all(_is_row(row, size) for row in counts):
        return None
    names = labels(version)
    names = names if len(names) == size else tuple(map(str, range(size)))
    if size > MOST:
        return Confusion(names, (), _mistakes(names, counts))
    rows = tuple(
        (
            names[actual],
            tuple(
                Cell(count, _level(count, sum(row)), actual == predicted, names[predicted])
                for predicted, count in enumerate(row)
            ),
        )
        for actual, row in enumerate(counts)
    )
    return Confusion(names, rows, ())


def _is_row(row: object, size: int) -> bool:
    cells = items(row)
    return len(cells) == size and all(type(n) is int and n >= 0 for n in cells)


def _level(count: int, total: int) -> int:
    return max(1, round(_LEVELS * count / total)) if count else 0


def _mistakes(names: tuple[str, ...], counts: list[list[int]]) -> tuple[Mistake, ...]:
    found = [
        Mistake(names[actual], names[predicted], count, count / sum(row))
        for actual, row in enumerate(counts)
        for predicted, count in enumerate(row)
        if count and actual != predicted
    ]
    return tuple(sorted(found, key=lambda m: (-m.count, -m.share))[:MOST])
