"""Evaluation: `evaluation.json`, with gates, parity and metrics, and their form as text.

All other code formats gates and metrics with `figure`, `Gate` and `Parity`.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tasks import formats
from tasks.errors import InputError
from tasks.formats import record
from tasks.problems import METRICS, Metrics

# The name of the failed gate that is added if no gates are given.
NO_GATES = "gates"


def figure(value: float | None) -> str:
    """A metric as text."""
    return "not measured" if value is None else f"{value:.4f}"


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

    @property
    def figure(self) -> str:
        return figure(self.value)

    @property
    def verdict(self) -> str:
        return "passed" if self.passed else "refused"

    @property
    def refusal(self) -> str:
        """Why the gate failed, in a sentence."""
        return f"{self.gate} is {self.figure}, but must be {self.condition}"

    def __str__(self) -> str:
        verdict = "passed" if self.passed else "REFUSED"
        return f"{self.gate} {self.figure} {self.condition}: {verdict}"


@dataclass(frozen=True)
class Parity:
    """The difference between ONNX Runtime and PyTorch on the whole test split.

    `max_error` is the largest |onnx - torch| / max(unit, |torch - centre|) over all outputs and
    batch sizes. `flipped` counts rows whose best class, or next token, differs. Rows whose two best
    logits in PyTorch are equal within the tolerance do not count: they are ties.
    """

    rows: int
    batch_sizes: tuple[int, ...]
    tolerance: float
    max_error: float
    flipped: int

    @property
    def passed(self) -> bool:
        return self.max_error <= self.tolerance and self.flipped == 0  # False with a NaN

    @property
    def verdict(self) -> str:
        return "passed" if self.passed else "refused"

    @property
    def refusal(self) -> str:
        """Why the check failed, in a sentence."""
        return (
            f"ONNX differs from PyTorch: max error {self.max_error:.1e}, tolerance "
            f"{self.tolerance:g}, {self.flipped} labels flipped"
        )

    @property
    def summary(self) -> str:
        """The result in one line."""
        return (
            f"{'passed' if self.passed else 'REFUSED'}: ONNX is within {self.max_error:.1e} "
            f"of PyTorch (<= {self.tolerance:g}), {self.flipped} labels flipped"
        )

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "passed": self.passed}

    def __str__(self) -> str:
        return (
            f"parity {'passed' if self.passed else 'REFUSED'}: max error {self.max_error:.1e} "
            f"(<= {self.tolerance:g}), {self.flipped} labels flipped, {self.rows} rows at batch "
            f"sizes {', '.join(map(str, self.batch_sizes))}"
        )


def check_gates(gates: Mapping[str, float], summary: Mapping[str, float]) -> list[Gate]:
    """Compare metrics with their bounds.

    Returns a failed gate if there are no gates. A gate fails if its metric is missing or NaN.
    """
    if not gates:
        return [Gate(NO_GATES, None, "at least one in evaluate.gates", False)]
    checked = []
    for name, bound in gates.items():
        metric, value = METRICS[name], summary.get(name, math.nan)
        found = None if math.isnan(value) else value
        passed = metric.reaches(value, bound)
        checked.append(Gate(name, found, f"{metric.sign} {bound:g}", passed))
    return checked


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
            "gates": [asdict(gate) for gate in self.gates],
            "parity": self.parity and self.parity.as_dict(),
            "test_split": asdict(self.test_split),
            "metrics": self.metrics.as_dict(),
            "data": self.data,
            "evaluated_on": self.evaluated_on,
            "libraries": self.libraries,
            "parameters": self.parameters,
        }
        return {name: value for name, value in document.items() if value is not None}
