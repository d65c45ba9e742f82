"""Rows in bins then and now, as bars in SVG; computed here, printed by a template."""

from dataclasses import dataclass
from itertools import pairwise

from registry.display.drift import Measure, Part
from registry.web.plots import Tick

WIDTH, HEIGHT = 560, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 8, 10, 26
_GAP = 0.25
"""The space between bins, as a share of a bin."""
_TICKS = 7
"""Labels that fit on the axis, of up to `_LETTERS`."""
_LETTERS = 9


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Bars:
    """A plot of one measure."""

    title: str
    summary: str
    """The plot in a sentence, for users who cannot see it."""
    then: tuple[Bar, ...]
    now: tuple[Bar, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    rows: tuple[tuple[str, str, str], ...]
    """The values as a table: a bin, its share then and now."""


def bars(part: Part, measure: Measure) -> Bars | None:
    """The plot of a measure; None if a side has no rows, or it is a share with one number each."""
    if not sum(measure.now) or not sum(measure.then) or not (measure.edges or measure.labels):
        return None
    then = [n / sum(measure.then) for n in measure.then]
    now = [n / sum(measure.now) for n in measure.now]
    top = max(*then, *now)
    names = _names(measure)
    most = max(range(len(now)), key=lambda i: abs(now[i] - then[i]))
    what = part.name if measure.name == "value" else f"{part.name}: {measure.name}"
    summary = (
        f"The share of rows changed most in the bin {names[most]}: {_percent(then[most])} in "
        f"training, {_percent(now[most])} now."
    )
    return Bars(
        title=f"{what}, then and now",
        summary=summary,
        then=_bars(then, top, 0),
        now=_bars(now, top, 1),
        x_ticks=_x_ticks(measure),
        y_ticks=tuple(Tick(_y(share, top), _percent(share)) for share in (0, top / 2, top)),
        rows=tuple(zip(names, map(_percent, then), map(_percent, now), strict=True)),
    )


def _bars(shares: list[float], top: float, place: int) -> tuple[Bar, ...]:
    """One of the two bars of each bin."""
    step = _step(len(shares))
    width = step * (1 - _GAP) / 2
    found = []
    for i, share in enumerate(shares):
        y = _y(share, top)
        x = _LEFT + step * (i + _GAP / 2) + place * width
        found.append(Bar(round(x, 1), y, round(width, 1), round(HEIGHT - _BOTTOM - y, 1)))
    return tuple(found)


def _step(bins: int) -> float:
    return (WIDTH - _LEFT - _RIGHT) / bins


def _y(share: float, top: float) -> float:
    return round(HEIGHT - _BOTTOM - share / top * (HEIGHT - _TOP - _BOTTOM), 1)


def _x_ticks(measure: Measure) -> tuple[Tick, ...]:
    """Edges between the bars, or labels below them, as many as fit."""
    step = _step(len(measure.now))
    shown = measure.labels if measure.labels else [f"{edge:.3g}" for edge in measure.edges]
    start = 0.5 if measure.labels else 1.0
    every = -(-len(shown) // _TICKS)
    return tuple(
        Tick(
            round(_LEFT + step * (i + start), 1), text if len(text) <= _LETTERS else text[:8] + "…"
        )
        for i, text in enumerate(shown)
        if i % every == 0
    )


def _names(measure: Measure) -> list[str]:
    if measure.labels:
        return [*measure.labels, "all others"]
    edges = [f"{edge:.4g}" for edge in measure.edges]
    between = [f"{low} to {high}" for low, high in pairwise(edges)]
    return [f"below {edges[0]}", *between, f"from {edges[-1]}"]


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
