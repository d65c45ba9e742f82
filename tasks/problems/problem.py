"""Problem: what the steps need to know of a learning problem. One subclass in each module here.

Imports neither torch nor scikit-learn: parameters and predictions need the names and columns alone.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.errors import InputError
from tasks.problems.targets import Target

if TYPE_CHECKING:  # the signature imports this package
    from tasks.bundle.signature import Signature
    from tasks.columns import Arrays, Column
    from tasks.encoding import Encoder

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Metric:
    """One number that says how good a model is on a split."""

    name: str
    """As `params.yaml` and `evaluation.json` write it."""
    label: str
    """As people write it."""
    compute: Callable[[Any], float | None]
    """From what the problem's `scored` returns; None where these classes or rows have no such
    metric."""
    lower_is_better: bool = False
    low: float = 0.0
    high: float = 1.0
    """The values that it can have; a gate outside of them is a mistake."""
    example: float | None = None
    """A bound for the gates in the examples that messages give."""

    @property
    def sign(self) -> str:
        """How a gate compares the metric with its bound."""
        return "<=" if self.lower_is_better else ">="

    def reaches(self, value: float, bound: float) -> bool:
        """Whether `value` is at least as good as `bound`; never for a NaN."""
        return value <= bound if self.lower_is_better else value >= bound


@dataclass(frozen=True)
class Metrics:
    """All metrics of a model on one split.

    `summary` by name; `headline` names those to show first, and to compare versions by. For classes
    also `per_class` by class, `confusion[actual][predicted]`, and `calibration`: one row for each
    bin that is not empty, of confidence, accuracy, rows.
    """

    rows: int
    headline: list[str]
    summary: dict[str, float]
    per_class: dict[str, dict[str, float]] = field(default_factory=dict)
    confusion: list[list[int]] = field(default_factory=list)
    calibration: list[dict[str, float]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return ", ".join(f"{name} {self.summary[name]:.4f}" for name in self.headline)


class Output(NamedTuple):
    """One output of the ONNX graph; `shape` is that of one row."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class Problem(ABC):
    """A learning problem. Stateless: there is one instance of each, in `PROBLEMS`."""

    name: ClassVar[str]
    """In `prepare.task`."""
    tasks: ClassVar[tuple[str, ...]]
    """The names that signatures have for it."""
    target: ClassVar[Target | None] = None
    """What is predicted; None where nothing but the inputs is needed."""
    metrics: ClassVar[tuple[Metric, ...]]
    """In the order of `evaluation.json`."""
    headline: ClassVar[tuple[str, ...]]
    """Metrics to show first; versions are compared by the first one."""
    evaluated: ClassVar[tuple[str, ...]]
    """Outputs of the graph that metrics are computed from."""
    predicted: ClassVar[tuple[str, ...]]
    """Outputs of the graph that the columns of predictions are made from."""
    loss: ClassVar[str]
    """In `tasks.training.losses`."""
    scores: ClassVar[str]
    """In `tasks.architectures.outputs`: how the network's scores become the graph's outputs."""
    standardised: ClassVar[bool] = False
    """Whether networks predict the target in standard deviations from its mean."""
    token_bound: ClassVar[bool] = False
    """Whether metrics only compare models with the same tokenizer."""

    def task(self, classes: tuple[str, ...]) -> str:
        """Which of `tasks` a model with these classes has."""
        return self.tasks[0]

    @abstractmethod
    def outputs(
        self, columns: "tuple[Column, ...]", classes: tuple[str, ...]
    ) -> tuple[Output, ...]:
        """The outputs of the ONNX graph, in order. A shape of () is one number for each row."""

    @abstractmethod
    def scored(
        self, signature: "Signature", targets: NDArray[Any], outputs: "Arrays", bins: int
    ) -> Any:
        """What the functions of `metrics` compute from.

        `targets` are (N,), `outputs` those that `evaluated` names, `bins` those of a calibration.
        """

    def details(self, scored: Any) -> dict[str, Any]:
        """Further fields of `Metrics`, such as those of each class."""
        return {}

    def compute_metrics(
        self, signature: "Signature", targets: NDArray[Any], outputs: "Arrays", bins: int
    ) -> Metrics:
        """The metrics of the graph's `outputs`, compared with `targets` (N,).

        Raises:
            InputError: an output is NaN or infinite: such a model has no metrics.
        """
        refuse_not_finite(outputs, "row {} of the test split".format)
        scored = self.scored(signature, targets, outputs, bins)
        found = {metric.name: metric.compute(scored) for metric in self.metrics}
        return Metrics(
            rows=len(targets),
            headline=list(self.headline),
            summary={name: float(value) for name, value in found.items() if value is not None},
            **self.details(scored),
        )

    @abstractmethod
    def columns(self, encoder: "Encoder", outputs: "Arrays") -> dict[str, pa.Array]:
        """The columns `prediction` and, where there is one, `score`, (N,) each."""

    def plots(
        self, signature: "Signature", metrics: Metrics, targets: NDArray[Any], outputs: "Arrays"
    ) -> dict[str, Rows]:
        """Rows of CSV files for `dvc plots`, by name of the file in `tasks.evaluate.PLOTS`."""
        return {}


def refuse_not_finite(outputs: Mapping[str, NDArray[Any]], describe: Callable[[int], str]) -> None:
    """Check that a model's `outputs`, batch first, are finite; `describe` says where a row is.

    Raises:
        InputError: one is NaN or infinite.
    """
    for name, array in outputs.items():
        finite = np.isfinite(array.reshape(len(array), -1)).all(axis=1)
        if not finite.all():
            raise InputError(
                f"{describe(int(np.argmin(finite)))}: the model's output {name!r} is NaN or "
                f"infinite ({int((~finite).sum())} such rows in this batch). Look for values far "
                "from those of the training in these rows; or train a model whose weights are "
                "finite, with a lower train.optimizer.learning_rate"
            )
