"""Reads what a job recorded of its drift, for display.

The registry does not know how it was measured; as in `documents`, values without the expected form
are left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from registry.display.documents import items, mapping, number, texts
from registry.records import Job, Json

VERDICTS = ("none", "watch", "drifted")


@dataclass(frozen=True, slots=True)
class Measure:
    """Rows in bins: of the job (`now`) and of the training (`then`)."""

    name: str
    verdict: str | None
    psi: float | None
    p: float | None
    now: tuple[int, ...]
    then: tuple[int, ...]
    edges: tuple[float, ...]
    """Bin i + 1 begins at edge i; empty for labels and shares."""
    labels: tuple[str, ...]
    """The last bin is for all others."""


@dataclass(frozen=True, slots=True)
class Part:
    """A column, or the predictions."""

    name: str
    verdict: str | None
    measures: tuple[Measure, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a comparison found: with the training, or with earlier jobs."""

    verdict: str | None
    reason: str
    """Why there is no verdict."""
    moved: int
    """Columns that are not as they were."""
    columns: tuple[str, ...]
    """Up to three of them in words, those that moved most first: `age PSI 0.31`."""

    def __str__(self) -> str:
        if self.verdict is None:
            return f"not judged: {self.reason}" if self.reason else "not judged"
        more = self.moved - len(self.columns)
        named = ", ".join(self.columns) + (f" and {more} more" if self.columns and more > 0 else "")
        return f"{self.verdict}: {named}" if named else self.verdict


@dataclass(frozen=True, slots=True)
class Drift:
    """The drift of a job."""

    training: Verdict
    earlier: Verdict | None
    """Beside earlier jobs; None if there were none."""
    earlier_jobs: int
    earlier_rows: int
    rows: int
    compared: int
    """Columns, and the predictions."""
    parts: tuple[Part, ...]
    """Some of them, those that moved most first."""
    accuracy: str
    """The accuracy as it was estimated without labels, in words; empty if it was not."""


def drift(document: Json | None) -> Drift | None:
    """The drift of a job; None if it was not measured."""
    if document is None:
        return None
    earlier = mapping(document.get("earlier"))
    accuracy = mapping(document.get("accuracy")).get("text")
    return Drift(
        training=_verdict(document),
        earlier=_verdict(earlier) if earlier else None,
        earlier_jobs=_whole(earlier.get("jobs")),
        earlier_rows=_whole(earlier.get("rows")),
        rows=_whole(document.get("rows")),
        compared=_whole(document.get("compared")),
        parts=tuple(_part(mapping(part)) for part in items(document.get("most"))),
        accuracy=accuracy if isinstance(accuracy, str) else "",
    )


WORDS = {"none": "no drift", "watch": "watch", "drifted": "drifted", None: "not judged"}
"""A verdict for a table."""


def verdict_of(job: Job) -> str:
    """The verdict of a job in a word or two; empty if its drift was not measured."""
    found = drift(job.drift)
    return "" if found is None else WORDS[found.training.verdict]


def said(job: Job) -> str:
    """The verdict of a job in words; empty if its drift was not measured."""
    found = drift(job.drift)
    return "" if found is None else str(found.training)


def _verdict(found: Mapping[str, Any]) -> Verdict:
    reason = found.get("reason")
    return Verdict(
        verdict=_word(found.get("verdict")),
        reason=reason if isinstance(reason, str) else "",
        moved=_whole(found.get("moved")),
        columns=texts(found.get("columns")),
    )


def _part(found: Mapping[str, Any]) -> Part:
    measures = [_measure(mapping(one)) for one in items(found.get("measures"))]
    return Part(
        name=str(found.get("name", "")),
        verdict=_word(found.get("verdict")),
        measures=tuple(measure for measure in measures if measure),
    )


def _measure(found: Mapping[str, Any]) -> Measure | None:
    now, then = (_counts(found.get(key)) for key in ("now", "then"))
    offset = number(found.get("offset")) or 0.0
    edges = [number(edge) for edge in items(found.get("edges"))]
    labels = texts(found.get("labels"))
    bins = len(edges) + 1 if edges else len(labels) + 1 if labels else 2
    if not len(now) == len(then) == bins:
        return None
    return Measure(
        name=str(found.get("name", "")),
        verdict=_word(found.get("verdict")),
        psi=number(found.get("psi")),
        p=number(found.get("p")),
        now=now,
        then=then,
        edges=tuple(edge + offset for edge in edges if edge is not None),
        labels=labels,
    )


def _counts(value: object) -> tuple[int, ...]:
    return tuple(n if type(n) is int and n >= 0 else 0 for n in items(value))


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and value in VERDICTS else None


def _whole(value: object) -> int:
    found = number(value)
    return 0 if found is None else int(found)
