"""Plots as the templates draw them, in SVG: training curves, and calibration.

Everything is computed here, in the plot's own units; a template only prints it. Values that do not
have the expected form are left out, as in `registry.display.documents`.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from registry.display.documents import items, mapping, number
from registry.display.formatting import figure, spelled
from registry.records import Json

_Points = Sequence[tuple[float | None, float | None]]
_Series = Mapping[str, _Points]

WIDTH, HEIGHT = 560, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 12, 12, 34
_MOST = 400
"""Points per line; of more epochs, only every second or third and so on is drawn."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line: a path for each stretch without a gap."""

    name: str
    path: str
    """In SVG's notation: M x y L x y."""
    dots: tuple[tuple[float, float], ...]
    """Points to mark, if there are at most 30."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis: its position and label."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot with its labels."""

    title: str
    summary: str
    """The plot in a sentence, for users who cannot see it."""
    x_name: str
    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """The values as a table of at most 100 rows."""


def training(text: str) -> Plot | None:
    """The losses by epoch, from a `history.csv`."""
    try:
        table = list(csv.DictReader(io.StringIO(text)))
    except csv.Error:
        return None
    names = ("train_loss", "validation_loss")
    epochs = [_number(row.get("epoch")) for row in table]
    series = {name: [_number(row.get(name)) for row in table] for name in names}
    known = [
        (x, validation)
        for x, validation in zip(epochs, series["validation_loss"], strict=True)
        if x is not None and validation is not None
    ]
    if len(known) < 2 or any(x is None for x in epochs):
        return None
    best = min(known, key=lambda point: point[1])
    summary = (
        f"Validation loss is {figure(known[0][1])} in epoch {known[0][0]:g} and "
        f"{figure(known[-1][1])} in epoch {known[-1][0]:g}; the lowest is {figure(best[1])} in "
        f"epoch {best[0]:g}."
    )
    found: _Series = {spelled(name): list(zip(epochs, series[name], strict=True)) for name in names}
    rows = [
        (f"{x:g}", *("none" if s[i] is None else figure(s[i]) for s in series.values()))  # type: ignore[arg-type]
        for i, x in enumerate(epochs)
    ]
    columns = ("epoch", *(spelled(name) for name in names))
    return _plot("Training", summary, "epoch", found, columns, rows)


def study(trials: Sequence[Mapping[str, object]]) -> Plot | None:
    """The validation loss of each complete trial of a study, and the lowest so far."""
    points, best, rows = [], math.inf, []
    lowest: list[tuple[float, float]] = []
    for one in trials:
        at, loss = number(one.get("number")), number(one.get("loss"))
        if at is None or loss is None or not math.isfinite(loss):
            continue
        best = min(best, loss)
        points.append((at, loss))
        lowest.append((at, best))
        rows.append((f"{at:g}", figure(loss), figure(best)))
    if len(points) < 2:
        return None
    at = next(x for x, y in points if y == best)
    summary = (
        f"Of {len(trials)} trials {len(points)} are complete; the lowest validation loss is "
        f"{figure(best)} in trial {at:g}."
    )
    found: _Series = {"validation loss": points, "lowest so far": lowest}
    columns = ("trial", "validation loss", "lowest so far")
    return _plot("Study", summary, "trial", found, columns, rows)


def calibration(evaluation: Json) -> Plot | None:
    """The accuracy of predictions by their confidence."""
    bins = []
    for one in map(mapping, items(mapping(evaluation.get("metrics")).get("calibration"))):
        x, y, rows = (number(one.get(key)) for key in ("confidence", "accuracy", "rows"))
        if x is None or y is None or rows is None or not (0 <= x <= 1 and 0 <= y <= 1):
            return None
        bins.append((x, y, rows))
    if not bins:
        return None
    bins.sort()
    total = sum(rows for _, _, rows in bins)
    apart = sum(abs(x - y) * rows for x, y, rows in bins) / total if total else 0.0
    summary = (
        f"In {len(bins)} bins of confidence, the mean difference between confidence and accuracy "
        f"is {figure(apart)}, weighted by rows. On the diagonal it would be 0."
    )
    found: _Series = {
        "calibrated": [(0.0, 0.0), (1.0, 1.0)],
        "accuracy": [(x, y) for x, y, _ in bins],
    }
    rows_ = [(figure(x), figure(y), f"{rows:,.0f}") for x, y, rows in bins]
    columns = ("confidence", "accuracy", "rows")
    return _plot("Calibration", summary, "confidence", found, columns, rows_, unit=True)


def _plot(
    title: str,
    summary: str,
    x_name: str,
    series: _Series,
    columns: tuple[str, ...],
    rows: Sequence[tuple[str, ...]],
    *,
    unit: bool = False,
) -> Plot:
    """`unit` is for axes from 0 to 1."""
    points = [(x, y) for s in series.values() for x, y in s if x is not None and y is not None]
    xs, ys = [x for x, _ in points], [y for _, y in points]
    x_low, x_high = (0.0, 1.0) if unit else (min(xs), max(xs))
    y_low, y_high = (0.0, 1.0) if unit else _widened(min(ys), max(ys))

    def point(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / ((x_high - x_low) or 1)
        up = (y - y_low) / ((y_high - y_low) or 1)
        return (
            round(_LEFT + across * (WIDTH - _LEFT - _RIGHT), 1),
            round(HEIGHT - _BOTTOM - up * (HEIGHT - _TOP - _BOTTOM), 1),
        )

    def line(name: str, found: _Points) -> Line:
        every = -(-len(found) // _MOST)
        path, begin, dots = [], "M", []
        for x, y in found[::every]:
            if x is None or y is None:
                begin = "M"  # a gap: that epoch has no finite loss
                continue
            dots.append(point(x, y))
            path.append("{} {:g} {:g}".format(begin, *dots[-1]))
            begin = "L"
        return Line(name, " ".join(path), tuple(dots) if len(dots) <= 30 else ())

    middle = [x_low, (x_low + x_high) / 2, x_high]
    if not unit:
        middle = sorted({round(x) for x in middle})
    return Plot(
        title,
        summary,
        x_name,
        tuple(line(name, found) for name, found in series.items()),
        tuple(Tick(point(x, y_low)[0], f"{x:g}") for x in middle),
        tuple(Tick(point(x_low, y)[1], f"{y:.3g}") for y in (y_low, (y_low + y_high) / 2, y_high)),
        columns,
        tuple(rows[:100]),
    )


def _widened(low: float, high: float) -> tuple[float, float]:
    """The range of an axis; a constant line still gets some height."""
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
