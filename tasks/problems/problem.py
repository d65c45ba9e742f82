"""Problem: the interface of all learning problems; each is a subclass in a module of its own.

Imports neither torch nor scikit-learn: parameters and predictions need only names and columns.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.errors import BadRows
from tasks.measures import Measure
from tasks.problems.bootstrap import interval
from tasks.problems.targets import Target
from tasks.reasons import BAD_PREDICTION

if TYPE_CHECKING:  # the signature imports this package
    from tasks.baselines import Examples
    from tasks.bundle.signature import Signature
    from tasks.columns import Arrays, Column
    from tasks.encoding import Encoder

    Predict = Callable[[Examples], Arrays]

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Metric:
    """A metric of a model on a split: its name, computation, direction and range."""

    name: str
    """The name in `params.yaml` and `evaluation.json`."""
    label: str
    """The display name."""
    compute: Callable[[Any], float | None]
    """Takes the result of the problem's `scored`; returns None if the metric is undefined."""
    lower_is_better: bool = False
    low: float = 0.0
    high: float = 1.0
    """The possible values; a gate outside of them is a mistake."""
    example: float | None = None
    """A bound for gates in the examples of messages; None leaves the metric out of them."""
    two_classes: bool = False
    """Whether it is only defined for two classes."""

    @property
    def sign(self) -> str:
        """The comparison of a gate, `>=` or `<=`."""
        return "<=" if self.lower_is_better else ">="

    def reaches(self, value: float, bound: float) -> bool:
        """Whether `value` is at least as good as `bound`; False for NaN."""
        return value <= bound if self.lower_is_better else value >= bound

    def better(self, value: Any, other: Any) -> Any:
        """Whether `value` is better than `other`, numbers or arrays of them; a tie is not."""
        return value < other if self.lower_is_better else value > other


@dataclass(frozen=True)
class Metrics:
    """All metrics of a model on one split.

    `summary` has the metrics by name; `headline` names the metrics to show first and to compare
    versions by. For classes, also `per_class` by class, `confusion[actual][predicted]`, and
    `calibration`: confidence, accuracy and rows of each bin that is not empty.
    """

    rows: int
    headline: list[str]
    summary: dict[str, float]
    per_class: dict[str, dict[str, float]] = field(default_factory=dict)
    confusion: list[list[int]] = field(default_factory=list)
    calibration: list[dict[str, float]] = field(default_factory=list)
    intervals: dict[str, list[float]] = field(default_factory=dict)
    """Of the headline metrics, the lower and upper end of the 95 % bootstrap interval. Empty if it
    was not asked for, and in evaluations of earlier releases."""

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
    """The value of `prepare.task`."""
    tasks: ClassVar[tuple[str, ...]]
    """The values of `task` in signatures."""
    target: ClassVar[Target | None] = None
    """The kind of target; None if the problem needs no labels."""
    metrics: ClassVar[tuple[Metric, ...]]
    """All metrics, in the order of `evaluation.json`."""
    headline: ClassVar[tuple[str, ...]]
    """Metrics to show first; versions are compared by the first one."""
    evaluated: ClassVar[tuple[str, ...]]
    """Outputs of the graph from which metrics are computed."""
    predicted: ClassVar[tuple[str, ...]]
    """Outputs of the graph from which the columns of predictions are made."""
    loss: ClassVar[str]
    """A key of `tasks.training.losses.LOSSES`."""
    losses: ClassVar[tuple[str, ...]] = ()
    """Other losses to choose with `train.loss`."""
    thresholds: ClassVar[bool] = False
    """Whether what is predicted may follow from a threshold of a probability."""
    scores: ClassVar[str]
    """A key of `tasks.architectures.outputs.OUTPUTS`: computes the graph's outputs from scores."""
    standardised: ClassVar[bool] = False
    """Whether networks predict the standardised target (mean 0, standard deviation 1), which may be
    transformed before."""
    token_bound: ClassVar[bool] = False
    """Whether metrics are comparable only between models with the same tokenizer."""

    def task(self, classes: tuple[str, ...]) -> str:
        """The one of `tasks` for a model with these classes."""
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
        """The argument for `Metric.compute`.

        `targets` are (N,), `outputs` those in `evaluated`, `bins` the number of calibration bins.
        """

    def redrawn(
        self, models: Sequence[Any], names: Collection[str], seed: int
    ) -> list[dict[str, NDArray[np.float64]]]:
        """For each of the `models`, which are scored on the same rows, the values of the metrics
        `names` in many draws of these rows, (draws,) each, as in `tasks.problems.bootstrap`.

        Each draw has the same rows for all models. Empty if the problem has no intervals.
        """
        return [{} for _ in models]

    def details(self, scored: Any) -> dict[str, Any]:
        """More fields of `Metrics`, such as metrics of each class."""
        return {}

    def certainty(self, signature: "Signature") -> Measure | None:
        """The probability that the model gives to its prediction; None if it gives none."""
        return None

    def right(
        self, signature: "Signature", targets: NDArray[Any], outputs: "Arrays"
    ) -> NDArray[np.bool_]:
        """(N,): which predictions with a `certainty` are right. `targets` are (N,)."""
        raise NotImplementedError

    def headline_of(self, signature: "Signature") -> tuple[str, ...]:
        """`headline`, for a model with this signature."""
        return self.headline

    def measured(
        self, signature: "Signature", labels: NDArray[Any], predicted: NDArray[Any]
    ) -> dict[str, float]:
        """Metrics of predictions (N,), as a job writes them, beside labels (N,); N >= 1."""
        raise NotImplementedError

    def compute_metrics(
        self,
        signature: "Signature",
        targets: NDArray[Any],
        outputs: "Arrays",
        bins: int,
        seed: int | None = None,
    ) -> Metrics:
        """Compute the metrics of the graph's `outputs` against `targets` (N,).

        With a `seed`, also their bootstrap intervals.

        Raises:
            InputError: an output is NaN or infinite.
        """
        refuse_not_finite(outputs, "row {} of the test split".format)
        scored = self.scored(signature, targets, outputs, bins)
        found = {metric.name: metric.compute(scored) for metric in self.metrics}
        return Metrics(
            rows=len(targets),
            headline=list(self.headline_of(signature)),
            summary={name: float(value) for name, value in found.items() if value is not None},
            intervals={} if seed is None else self._intervals(signature, scored, seed),
            **self.details(scored),
        )

    def _intervals(self, signature: "Signature", scored: Any, seed: int) -> dict[str, list[float]]:
        (drawn,) = self.redrawn([scored], self.headline_of(signature), seed)
        found = {name: interval(draws) for name, draws in drawn.items()}
        return {
            name: list(ends) for name, ends in found.items() if ends is not None
        }  # as JSON has it

    def baselines(
        self, signature: "Signature", train: "Examples"
    ) -> Iterator[tuple[str, bool, "Predict"]]:
        """Simple models that learn from `train`: the name of each, whether it looks at the columns,
        and what it predicts for other rows, as the outputs in `evaluated`.

        The first ignores the columns; a model that is worse has learnt nothing.
        """
        return iter(())

    @abstractmethod
    def columns(self, encoder: "Encoder", outputs: "Arrays") -> dict[str, pa.Array]:
        """The columns `prediction` and, if the problem has one, `score`, (N,) each."""

    def measures(self, signature: "Signature") -> tuple[Measure, ...]:
        """What is counted of a job's predictions to detect drift. Takes outputs of the graph that
        are both `evaluated` and `predicted`."""
        return ()

    def plots(
        self, signature: "Signature", metrics: Metrics, targets: NDArray[Any], outputs: "Arrays"
    ) -> dict[str, Rows]:
        """Rows of CSV files for `dvc plots`, by file name in `tasks.evaluate.PLOTS`."""
        return {}


def refuse_not_finite(outputs: Mapping[str, NDArray[Any]], describe: Callable[[int], str]) -> None:
    """Check that a model's `outputs`, batch first, are finite; `describe` locates a row.

    Raises:
        BadRows: an output is NaN or infinite.
    """
    for name, array in outputs.items():
        finite = np.isfinite(array.reshape(len(array), -1)).all(axis=1)
        if not finite.all():
            raise BadRows(
                f"{describe(int(np.argmin(finite)))}: the model's output {name!r} is NaN or "
                f"infinite ({int((~finite).sum())} such rows in this batch). Check these rows for "
                "values far outside the training range; or train the model again with a lower "
                "train.optimizer.learning_rate",
                ~finite,
                BAD_PREDICTION,
            )
