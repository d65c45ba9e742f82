"""Reads a version's JSON documents for display: evaluation, signature, parameters.

An import may have any JSON, or none. Values without the expected form are left out, so that a page
never fails because of a document.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from registry.display.formatting import plain
from registry.records import Json, Version

_HEADLINE = ("pinball_loss", "macro_f1", "accuracy", "r2", "mae", "perplexity")
"""The metrics to show first, if an evaluation does not name its own."""

_LOWER = frozenset({"log_loss", "calibration_error", "mse", "rmse", "mae", "perplexity"})


@dataclass(frozen=True, slots=True)
class Gate:
    """A condition with its verdict."""

    name: str
    value: float | None
    condition: str
    passed: bool

    @property
    def verdict(self) -> str:
        """The condition and the verdict: `>= 0.9: passed`."""
        return f"{self.condition}: {'passed' if self.passed else 'refused'}".lstrip(": ")


@dataclass(frozen=True, slots=True)
class Parity:
    """The difference between the outputs of ONNX Runtime and PyTorch."""

    passed: bool
    max_error: float | None
    tolerance: float | None
    flipped: float | None
    rows: float | None
    batch_sizes: str


@dataclass(frozen=True, slots=True)
class Baseline:
    """A simple model that was evaluated on the same rows."""

    name: str
    metrics: Mapping[str, float]
    rows: str
    """The training rows that it learnt from: `1,000 of 20,000`; empty if unknown."""


@dataclass(frozen=True, slots=True)
class ClassLine:
    """The metrics of one class, in the order of `Classes.names`."""

    label: str
    values: tuple[float | None, ...]
    support: int | None


@dataclass(frozen=True, slots=True)
class Classes:
    """The metrics of each class."""

    names: tuple[str, ...]
    lines: tuple[ClassLine, ...]


@dataclass(frozen=True, slots=True)
class Measurement:
    """The metrics of one evaluation."""

    metrics: Mapping[str, float]
    where: str
    """A description of the rows that they were computed on."""
    split: str
    """SHA-256 of these rows."""
    registered: bool
    """Whether the version was registered with these metrics."""


@dataclass(frozen=True, slots=True)
class Part:
    """A column of the input rows, or a tensor of the graph."""

    name: str
    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class SignatureView:
    """The contract of a model's inputs and outputs."""

    task: str | None
    groups: tuple[tuple[str, tuple[Part, ...]], ...]
    """Columns, inputs and outputs; empty groups are left out."""
    classes: tuple[str, ...]
    rule: str
    """As `rule` returns it."""


def lower_is_better(metric: str) -> bool:
    """Whether a lower value of a metric is better."""
    return metric in _LOWER or metric.endswith(("_loss", "_error"))


def headline(metrics: Mapping[str, float], evaluation: Json | None = None) -> list[str]:
    """The names of the metrics to show first, at most two."""
    own = texts(mapping((evaluation or {}).get("metrics")).get("headline"))
    known = [name for name in (*own, *_HEADLINE, *sorted(metrics)) if name in metrics]
    return list(dict.fromkeys(known))[:2]


def gates(evaluation: Json) -> list[Gate]:
    """The gates with their verdicts, in their order."""
    found = []
    for gate in map(mapping, items(evaluation.get("gates"))):
        name = gate.get("gate", gate.get("metric"))
        if isinstance(name, str):
            value, condition = number(gate.get("value")), gate.get("condition")
            if not isinstance(condition, str):
                least = number(gate.get("minimum"))
                condition = "" if least is None else f">= {least:g}"
            found.append(Gate(name, value, condition, gate.get("passed") is True))
    return found


def parity(evaluation: Json) -> Parity | None:
    """The parity check, if there was one."""
    found = mapping(evaluation.get("parity"))
    if not isinstance(found.get("passed"), bool):
        return None
    return Parity(
        found["passed"],
        max_error=number(found.get("max_error")),
        tolerance=number(found.get("tolerance")),
        flipped=number(found.get("flipped")),
        rows=number(found.get("rows")),
        batch_sizes=", ".join(plain(size) for size in items(found.get("batch_sizes"))),
    )


def baselines(evaluation: Json) -> list[Baseline]:
    """The baselines of an evaluation, those that ignore the columns first."""
    found = []
    for one in map(mapping, items(evaluation.get("baselines"))):
        name, rows, of = one.get("name"), number(one.get("rows")), number(one.get("of"))
        if isinstance(name, str):
            learnt = "" if rows is None or of is None else f"{rows:,.0f} of {of:,.0f}"
            found.append(Baseline(name, _numbers(one.get("metrics")), learnt))
    return found


def repeats(evaluation: Json) -> list[Baseline]:
    """The same training with other seeds, in the form of baselines."""
    return [
        Baseline(f"seed {plain(one.get('seed'))}", _numbers(one.get("metrics")), "")
        for one in map(mapping, items(evaluation.get("repeats")))
    ]


def intervals(evaluation: Json) -> dict[str, tuple[float, float]]:
    """The 95 % intervals of the headline metrics of an evaluation."""
    found = {}
    for name, ends in mapping(mapping(evaluation.get("metrics")).get("intervals")).items():
        low, high = (number(end) for end in ([*items(ends), None, None])[:2])
        if low is not None and high is not None:
            found[name] = (low, high)
    return found


def warnings(evaluation: Json) -> tuple[str, ...]:
    """What to know before a version is used, such as a baseline that is better."""
    return texts(evaluation.get("warnings"))


def notices(evaluation: Json) -> tuple[str, ...]:
    """Warnings about the data, from the stage `prepare`."""
    return texts(mapping(evaluation.get("data")).get("notices"))


def measurement(version: Version) -> Measurement:
    """The metrics that belong to the gates and the classes of a version's newest evaluation.

    These are the metrics of its registration, unless the evaluation was on other rows.
    """
    evaluation = version.evaluation
    split = mapping(evaluation.get("test_split")).get("sha256")
    metrics = _numbers(mapping(evaluation.get("metrics")).get("summary"))
    rows, own = _rows(evaluation), version.lineage.test_split
    if not metrics or (split in (None, own) and "evaluated_on" not in evaluation):
        where = "the test split" if rows is None else f"{rows:,} rows of the test split"
        return Measurement(version.metrics, where, own, registered=True)
    files = [
        mapping(file).get("path")
        for file in items(mapping(evaluation.get("evaluated_on")).get("files"))
    ]
    named = ", ".join(path for path in files if isinstance(path, str)) or "other rows"
    where = named if rows is None else f"{rows:,} rows of {named}"
    return Measurement(metrics, f"{where}, by its newest evaluation", str(split), registered=False)


def _numbers(value: object) -> dict[str, float]:
    """The finite numbers of an object."""
    return {n: found for n, v in mapping(value).items() if (found := number(v)) is not None}


def _rows(evaluation: Json) -> int | None:
    rows = number(mapping(evaluation.get("test_split")).get("rows"))
    rows = number(mapping(evaluation.get("metrics")).get("rows")) if rows is None else rows
    return None if rows is None else int(rows)


def per_class(evaluation: Json) -> Classes | None:
    """The metrics of each class."""
    found = mapping(mapping(evaluation.get("metrics")).get("per_class"))
    each = {label: mapping(values) for label, values in found.items()}
    names = [n for n in dict.fromkeys(n for v in each.values() for n in v) if n != "support"]
    lines = []
    for label, values in each.items():
        rows = number(values.get("support"))
        figures = tuple(number(values.get(name)) for name in names)
        lines.append(ClassLine(label, figures, None if rows is None else int(rows)))
    return Classes(tuple(names), tuple(lines)) if lines and names else None


def labels(version: Version) -> tuple[str, ...]:
    """The classes that a version predicts."""
    own = texts(version.signature.get("classes"))
    metrics = mapping(version.evaluation.get("metrics"))
    return own or tuple(mapping(metrics.get("per_class")))


def signature(document: Json) -> SignatureView | None:
    """The signature as tables."""
    groups = []
    for group in ("columns", "inputs", "outputs"):
        parts = tuple(_part(mapping(part)) for part in items(document.get(group)))
        if parts:
            groups.append((group, parts))
    task = document.get("task")
    classes = texts(document.get("classes"))
    if not groups and not classes:
        return None
    shown = task if isinstance(task, str) else None
    return SignatureView(shown, tuple(groups), classes, rule(document))


def rule(document: Json) -> str:
    """What is predicted by a signature, if it is neither the most probable class nor the mean;
    else empty."""
    classes, threshold = texts(document.get("classes")), number(document.get("threshold"))
    if threshold is not None and len(classes) == 2:
        return f"{classes[1]!r} where its probability is {threshold:g} or more"
    quantile = number(document.get("quantile"))
    return "" if quantile is None else f"the quantile {quantile:g}"


def flat(document: object, prefix: str = "") -> Iterator[tuple[str, str]]:
    """A nested document as lines: `train.optimizer.name` and `adam`."""
    if isinstance(document, dict) and document:
        for key, value in document.items():
            yield from flat(value, f"{prefix}.{key}" if prefix else str(key))
    elif prefix:
        yield prefix, plain(document)


def _part(part: Mapping[str, Any]) -> Part:
    shape = [plain(n) if n is not None else "time" for n in items(part.get("shape"))]
    shown = {"name", "kind", "dtype", "shape", "values"}
    detail = [f"{key} {plain(v)}" for key, v in part.items() if key not in shown and v is not None]
    values = texts(part.get("values"))
    if values:
        more = f" and {len(values) - 12} more" if len(values) > 12 else ""
        detail.insert(0, ", ".join(values[:12]) + more)
    dtype = part.get("dtype")
    kind = [str(word) for word in (part.get("kind"), dtype) if word]
    if "shape" in part:
        kind.append(f"[{', '.join(shape)}]" if shape else "scalar")
    return Part(str(part.get("name", "")), " ".join(kind), "; ".join(detail))


# JSON values of unknown type


def mapping(value: object) -> Mapping[str, Any]:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[Any]:
    """The value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def texts(value: object) -> tuple[str, ...]:
    """The value if it is a list of texts, else nothing."""
    found = tuple(items(value))
    return found if all(isinstance(text, str) for text in found) else ()


def number(value: object) -> float | None:
    """The value if it is a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value
