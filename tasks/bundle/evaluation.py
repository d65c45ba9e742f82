"""Evaluation: `evaluation.json`, with gates, parity and metrics, and their form as text.

All other code formats gates and metrics with `figure`, `Gate` and `Parity`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks import formats
from tasks.errors import InputError
from tasks.formats import record
from tasks.problems import METRICS, Metric, Metrics

if TYPE_CHECKING:
    from tasks.config import Bounds

# The name of the failed gate that is added if no gates are given.
NO_GATES = "gates"
# The name of the failed gate that is added if a model predicts one class only.
SINGLE_CLASS = "predicted classes"


def figure(value: float | None) -> str:
    """A metric as text."""
    return "not measured" if value is None else f"{value:.4f}"


def with_interval(metrics: Metrics, name: str) -> str:
    """A metric as text, with its interval if it has one: `0.9123 [0.8801, 0.9412]`."""
    value = figure(metrics.summary.get(name))
    if name not in metrics.intervals:
        return value
    low, high = metrics.intervals[name]
    return f"{value} [{figure(low)}, {figure(high)}]"


@dataclass(frozen=True)
class Gate:
    """A condition for registration, and whether the model passed it."""

    gate: str
    """The metric's name."""
    value: float | None
    """None if it was not measured."""
    condition: str
    """Such as `>= 0.9`."""
    passed: bool
    explanation: str = ""
    """Why it failed and what to do, if the condition does not say so."""

    @property
    def figure(self) -> str:
        return figure(self.value)

    @property
    def verdict(self) -> str:
        return "passed" if self.passed else "refused"

    @property
    def refusal(self) -> str:
        """Why the gate failed, in a sentence."""
        return self.explanation or f"{self.gate} is {self.figure}, but must be {self.condition}"

    def as_dict(self) -> dict[str, Any]:
        found = asdict(self)
        return found if self.explanation else {k: v for k, v in found.items() if k != "explanation"}

    def __str__(self) -> str:
        verdict = "passed" if self.passed else "REFUSED"
        return f"{self.gate} {self.figure} {self.condition}: {verdict}"


@dataclass(frozen=True)
class Parity:
    """The difference between ONNX Runtime and PyTorch on the whole test split.

    `max_error` is the largest |onnx - torch| / max(unit, |torch - centre|) over all outputs and
    batch sizes. `flipped` counts rows whose best class, or next token, differs; None of a
    regression, which has no classes. Rows whose two best logits in PyTorch are equal within the
    tolerance do not count: they are ties.
    """

    rows: int
    batch_sizes: tuple[int, ...]
    tolerance: float
    max_error: float
    flipped: int | None

    @property
    def passed(self) -> bool:
        return self.max_error <= self.tolerance and not self.flipped  # False with a NaN

    @property
    def verdict(self) -> str:
        return "passed" if self.passed else "refused"

    @property
    def refusal(self) -> str:
        """Why the check failed, in a sentence."""
        return (
            f"ONNX differs from PyTorch: max error {self.max_error:.1e}, tolerance "
            f"{self.tolerance:g}{self._flips}"
        )

    @property
    def summary(self) -> str:
        """The result in one line."""
        return (
            f"{'passed' if self.passed else 'REFUSED'}: ONNX is within {self.max_error:.1e} "
            f"of PyTorch (<= {self.tolerance:g}){self._flips}"
        )

    @property
    def _flips(self) -> str:
        return "" if self.flipped is None else f", {self.flipped} labels flipped"

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "passed": self.passed}

    def __str__(self) -> str:
        return (
            f"parity {'passed' if self.passed else 'REFUSED'}: max error {self.max_error:.1e} "
            f"(<= {self.tolerance:g}){self._flips}, {self.rows} rows at batch "
            f"sizes {', '.join(map(str, self.batch_sizes))}"
        )


@dataclass(frozen=True)
class Baseline:
    """A simple model of the same training rows, and its metrics on the same test rows."""

    name: str
    quick: bool
    """Whether it looks at the columns; the others predict the same for every row."""
    rows: int
    """The training rows that it learnt from, drawn by `evaluate.seed`."""
    of: int
    """All rows of the training split."""
    metrics: dict[str, float]

    def summary(self, names: Sequence[str]) -> str:
        """The name, the metrics `names` and the rows, in one line."""
        metrics = ", ".join(f"{name} {figure(self.metrics.get(name))}" for name in names)
        rows = f"{self.rows:,}" if self.rows == self.of else f"{self.rows:,} of {self.of:,}"
        return f"{self.name}: {metrics} ({rows} training rows)"


@dataclass(frozen=True)
class Repeat:
    """The same training with another seed, and its headline metrics on the same test rows."""

    seed: int
    metrics: dict[str, float]


def spread(metrics: Metrics, repeats: Sequence[Repeat], name: str) -> str:
    """A metric of the model and of the trainings with other seeds, as text: mean, standard
    deviation, lowest and highest."""
    values = [metrics.summary[name], *(one.metrics[name] for one in repeats)]
    deviation = figure(float(np.std(values, ddof=1)))
    ends = f"{figure(min(values))} to {figure(max(values))}"
    return f"{figure(float(np.mean(values)))} ± {deviation} ({ends})"


def spreads(metrics: Metrics, repeats: Sequence[Repeat]) -> str:
    """The spread of the headline metrics in one line; empty without repeats."""
    if not repeats:
        return ""
    shown = ", ".join(f"{name} {spread(metrics, repeats, name)}" for name in metrics.headline)
    return f"{len(repeats) + 1} seeds: {shown}"


def check_gates(
    gates: Mapping[str, "float | Bounds"],
    summary: Mapping[str, float],
    baselines: Sequence[Baseline] = (),
) -> list[Gate]:
    """Compare metrics with their bounds.

    Returns a failed gate if there are no gates. A gate fails if its metric is missing or NaN, or if
    it needs a baseline and none was measured.
    """
    if not gates:
        return [Gate(NO_GATES, None, "at least one in evaluate.gates", False)]
    checked = []
    for name, demanded in gates.items():
        metric, value = METRICS[name], summary.get(name, math.nan)
        found = None if math.isnan(value) else value
        bound, condition = _bound(metric, demanded, baselines)
        passed = bound is not None and metric.reaches(value, bound)
        checked.append(Gate(name, found, condition, passed))
    return checked


def _bound(
    metric: Metric, demanded: "float | Bounds", baselines: Sequence[Baseline]
) -> tuple[float | None, str]:
    """The stricter bound of a gate, None if it cannot be known; and the condition as text."""
    if isinstance(demanded, int | float):
        return demanded, f"{metric.sign} {demanded:g}"
    own = demanded.at_most if metric.lower_is_better else demanded.at_least
    margin = demanded.above_baseline
    if margin is None:
        return own, f"{metric.sign} {own:g}"
    best = best_baseline(baselines, metric.name)
    if best is None:
        return None, "better than a baseline, but none was measured"
    beaten = best.metrics[metric.name]
    bound = beaten - margin if metric.lower_is_better else beaten + margin
    if own is not None and metric.reaches(own, bound):
        return own, f"{metric.sign} {own:g}"
    better = f"{margin:g} better than" if margin else "as good as"
    return bound, f"{metric.sign} {bound:.6g}, {better} the baseline ({best.name})"


def check_single_class(metrics: Metrics, allowed: bool) -> tuple[list[Gate], list[str]]:
    """A failed gate, or if it is `allowed` a warning, if each row was predicted as one class."""
    columns = np.sum(metrics.confusion, axis=0) if metrics.confusion else ()
    predicted = [n for n, rows in zip(metrics.per_class, columns, strict=False) if rows]
    if len(predicted) != 1:
        return [], []
    (name,) = predicted
    said = f"every one of the {metrics.rows:,} test rows is predicted as {name!r}"
    if allowed:
        return [], [said]
    return [
        Gate(
            SINGLE_CLASS,
            1.0,
            ">= 2",
            False,
            f"{said}, so the model tells no classes apart. Rare classes: set train.imbalance: "
            "weights or sampler; one of two: evaluate.threshold: auto. Otherwise train longer, or "
            "with another learning rate; or add columns that tell the classes apart. To register "
            "it anyway: evaluate.single_class: allow",
        )
    ], []


def best_baseline(baselines: Sequence[Baseline], metric: str) -> Baseline | None:
    """The baseline with the best value of a metric; None if none was measured."""
    measured = [one for one in baselines if metric in one.metrics]
    sign = 1 if METRICS[metric].lower_is_better else -1
    return min(measured, key=lambda one: sign * one.metrics[metric], default=None)


def below_baseline(metrics: Metrics, baselines: Sequence[Baseline]) -> list[str]:
    """A sentence if a baseline is better in the first headline metric, else nothing."""
    name = metrics.headline[0]
    best, value = best_baseline(baselines, name), metrics.summary.get(name, math.nan)
    if best is None or METRICS[name].reaches(value, best.metrics[name]):
        return []
    return [
        f"{METRICS[name].label} {figure(value)} is worse than that of a baseline on the same test "
        f"rows: {best.name}, {figure(best.metrics[name])}"
    ]


@dataclass(frozen=True)
class TestSplit:
    """The rows that metrics were computed on."""

    rows: int
    sha256: str
    __test__ = False  # pytest would collect it


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of a model, and whether it passed all gates and the parity check."""

    passed: bool
    gates: list[Gate]
    test_split: TestSplit
    metrics: Metrics
    """Computed from the outputs of ONNX Runtime."""
    parity: Parity | None = None
    """None in evaluations of a registered version, which do not use PyTorch."""
    threshold: float | None = None
    """From which probability on the second of two classes is predicted; None: the more probable."""
    baselines: list[Baseline] = field(default_factory=list)
    """Empty in evaluations of a registered version, which have no training rows."""
    repeats: list[Repeat] = field(default_factory=list)
    """Trainings with other seeds (`evaluate.repeat`)."""
    warnings: list[str] = field(default_factory=list)
    """What a person should know before using the model, such as a baseline that is better."""
    data: dict[str, Any] = field(default_factory=dict)
    """Facts about the data, such as dropped rows and `notices`."""
    evaluated_on: dict[str, Any] | None = None
    """Files and device of an evaluation of a registered version."""
    libraries: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def refusals(self) -> list[str]:
        """A sentence for each failed gate, and for parity if it failed."""
        found = [gate.refusal for gate in self.gates if not gate.passed]
        if self.parity is not None and not self.parity.passed:
            found.append(self.parity.refusal)
        return found

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Evaluation":
        """From a document in any format up to that of this release.

        Raises:
            KeyError, TypeError: a field is missing.
        """
        parity = document.get("parity")
        return record(
            cls,
            {
                **document,
                "gates": [record(Gate, gate) for gate in document["gates"]],
                "test_split": record(TestSplit, document["test_split"]),
                "metrics": record(Metrics, document["metrics"]),
                "parity": None if parity is None else record(Parity, parity),
                "baselines": [record(Baseline, one) for one in document.get("baselines", ())],
                "repeats": [record(Repeat, one) for one in document.get("repeats", ())],
            },
        )

    @classmethod
    def read(cls, path: Path) -> "Evaluation":
        """Raises `InputError` if this release cannot read the file."""
        try:
            return cls.of(formats.read(path, formats.EVALUATION))
        except InputError:
            raise
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(f"{path} is not an evaluation that can be read: {error!r}") from error

    def as_dict(self) -> dict[str, Any]:
        """The document, as JSON values."""
        document = {
            "format": formats.EVALUATION,
            "passed": self.passed,
            "gates": [gate.as_dict() for gate in self.gates],
            "parity": self.parity and self.parity.as_dict(),
            "test_split": asdict(self.test_split),
            "metrics": self.metrics.as_dict(),
            "threshold": self.threshold,
            "baselines": [asdict(one) for one in self.baselines],
            "repeats": [asdict(one) for one in self.repeats] or None,
            "warnings": self.warnings,
            "data": self.data,
            "evaluated_on": self.evaluated_on,
            "libraries": self.libraries,
            "parameters": self.parameters,
        }
        return {name: value for name, value in document.items() if value is not None}
