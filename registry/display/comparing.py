"""Comparison of two versions, for the web page, the command line and Python."""

from dataclasses import asdict, dataclass

from registry.display.documents import (
    Gate,
    flat,
    gates,
    headline,
    lower_is_better,
    measurement,
    per_class,
)
from registry.records import Json, Version

_WORDS = ("uncommitted changes", "parent")
"""The fields of a version's lineage that are not hashes."""


@dataclass(frozen=True, slots=True)
class MetricLine:
    """One metric of both versions."""

    name: str
    left: float | None
    right: float | None
    difference: float | None
    """Right minus left; None if one of them was not measured."""
    verdict: str
    """The right one is better, worse or same; empty if one was not measured."""
    lower: bool
    """Whether lower is better."""
    headline: bool


@dataclass(frozen=True, slots=True)
class Change:
    """A value that differs between the two versions; None if one does not have it."""

    key: str
    left: str | None
    right: str | None
    is_hash: bool = False


@dataclass(frozen=True, slots=True)
class GateLine:
    """One gate of both versions, with value and verdict; None if one does not have it."""

    name: str
    left: Gate | None
    right: Gate | None


@dataclass(frozen=True, slots=True)
class ClassLine:
    """One metric of one class, such as its F1; None if it was not measured."""

    label: str
    name: str
    left: float | None
    right: float | None
    difference: float | None
    """Right minus left."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The differences between two versions."""

    left: Version
    right: Version
    metrics: tuple[MetricLine, ...]
    gates: tuple[GateLine, ...]
    classes: tuple[ClassLine, ...]
    """By class, in the order of the left version; every metric that the evaluations have."""
    params: tuple[Change, ...]
    params_alike: int
    """The number of parameters that are equal in both."""
    origin: tuple[Change, ...]
    """Data, code and run."""
    libraries: tuple[Change, ...]
    left_on: str
    right_on: str
    """Descriptions of the rows on which each version was evaluated."""
    same_split: bool
    """Whether these are the same rows."""
    same_bytes: bool

    def as_dict(self) -> Json:
        """The comparison as plain JSON values, with references in place of versions."""
        document = {
            name: [asdict(line) for line in getattr(self, name)]
            for name in ("metrics", "gates", "classes", "params", "origin", "libraries")
        }
        return {
            "left": self.left.ref,
            "right": self.right.ref,
            "same_bytes": self.same_bytes,
            "left_on": self.left_on,
            "right_on": self.right_on,
            "same_split": self.same_split,
            "params_alike": self.params_alike,
            **document,
        }


def compare(left: Version, right: Version) -> Comparison:
    """Compare two versions."""
    a, b = measurement(left), measurement(right)
    first = headline(b.metrics, right.evaluation) or headline(a.metrics, left.evaluation)
    names = dict.fromkeys((*first, *sorted({*a.metrics, *b.metrics})))
    before, after = dict(flat(left.params)), dict(flat(right.params))
    changed = _changes(before, after)
    return Comparison(
        left,
        right,
        tuple(
            _metric(name, a.metrics.get(name), b.metrics.get(name), name in first) for name in names
        ),
        _gates(left, right),
        _classes(left, right),
        changed,
        len(before.keys() | after.keys()) - len(changed),
        (
            *_changes(_origin(left), _origin(right), hashes=True),
            *_changes(_files(left), _files(right), hashes=True),
        ),
        _changes(left.lineage.libraries, right.lineage.libraries),
        a.where,
        b.where,
        a.split == b.split,
        left.digest == right.digest,
    )


def _metric(name: str, a: float | None, b: float | None, first: bool) -> MetricLine:
    lower = lower_is_better(name)
    if a is None or b is None:
        return MetricLine(name, a, b, None, "", lower, first)
    verdict = "same" if a == b else "better" if (b < a) == lower else "worse"
    return MetricLine(name, a, b, b - a, verdict, lower, first)


def _gates(left: Version, right: Version) -> tuple[GateLine, ...]:
    before = {gate.name: gate for gate in gates(left.evaluation)}
    after = {gate.name: gate for gate in gates(right.evaluation)}
    names = dict.fromkeys((*before, *after))
    return tuple(GateLine(name, before.get(name), after.get(name)) for name in names)


def _classes(left: Version, right: Version) -> tuple[ClassLine, ...]:
    before, after = _by_class(left), _by_class(right)
    labels = dict.fromkeys(label for label, _ in (*before, *after))
    names = dict.fromkeys(name for _, name in (*before, *after))
    found = []
    for key in ((label, name) for label in labels for name in names):
        a, b = before.get(key), after.get(key)
        if a is not None or b is not None:
            difference = None if a is None or b is None else b - a
            found.append(ClassLine(*key, a, b, difference))
    return tuple(found)


def _by_class(version: Version) -> dict[tuple[str, str], float | None]:
    """The metrics of the classes in an evaluation, by class and name."""
    classes = per_class(version.evaluation)
    if classes is None:
        return {}
    return {
        (line.label, name): value
        for line in classes.lines
        for name, value in zip(classes.names, line.values, strict=True)
    }


def _origin(version: Version) -> dict[str, str]:
    lineage = version.lineage
    commit = lineage.git_commit
    found = {
        "dataset": lineage.dataset,
        "test split": lineage.test_split,
        "commit": commit,
        "uncommitted changes": "yes" if lineage.git_dirty else "no",
        "parent": lineage.parent,
        "flow run": lineage.flow_run_id,
    }
    return {name: value for name, value in found.items() if value}


def _files(version: Version) -> dict[str, str]:
    """The files that the pipeline read, and their hashes: MD5 of data, SHA-256 of weights."""
    return version.lineage.data | version.lineage.weights


def _changes(
    left: dict[str, str], right: dict[str, str], *, hashes: bool = False
) -> tuple[Change, ...]:
    """The keys whose values differ, in the order of the left version, then the right."""
    return tuple(
        Change(key, left.get(key), right.get(key), hashes and key not in _WORDS)
        for key in dict.fromkeys((*left, *right))
        if left.get(key) != right.get(key)
    )
