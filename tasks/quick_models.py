"""Quick models: what scikit-learn predicts from the same columns without any tuning.

A kind of model says how it sees the columns of a row, and which estimator learns classes and which
one numbers. Columns say which kind suits them (`Column.baseline`).
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.columns import Column, EncodeContext, SourceLocation
from tasks.columns.joining import side_by_side
from tasks.encoding import Encoder, one_array

Target = Literal["class", "number"]

# Bins of a histogram and leaves of a tree. With scikit-learn's 255 bins, a tree on 1,000 columns
# and 2,000 rows takes twice as long; its histograms then cost more than its rows.
BINS, LEAVES = 127, 31
MOST_TREES, FEWEST_TREES = 100, 10
NEIGHBOURS = 5
# The nearest neighbours are searched in all training rows for each test row.
MOST_NEIGHBOURING = 10_000
BATCH = 10_000  # test rows at a time: 120 MB of the largest images


@dataclass(frozen=True)
class Budget:
    """What a quick model may cost: the rows and columns that it learns from, and `cells`, the
    numbers or characters that it may read."""

    cells: int
    rows: int
    columns: Sequence[Column]
    outputs: int
    """Trees for each step: one for each class, one for two classes or a number."""
    seed: int
    quantile: float | None = None
    """Of a number, the quantile to predict; None: the mean."""

    @property
    def trees(self) -> int:
        """Steps of boosting: a hundred, if reading the rows a hundred times stays within `cells`
        times a hundred; each tree also builds the histograms of its leaves."""
        reads = self.outputs * len(self.columns) * (self.rows + LEAVES * BINS)
        return min(MOST_TREES, MOST_TREES * self.cells // max(1, reads))


@dataclass(frozen=True)
class Kind:
    """A kind of quick model: its features, and its estimators by target."""

    features: Callable[[Sequence[tuple[Column, pa.Array]], EncodeContext], tuple[Any, Any]]
    estimators: dict[Target, Callable[[Budget], Any]]
    names: dict[Target, str]
    most_rows: int | None = None


def _boosted(name: str, budget: Budget) -> Any:
    from sklearn import ensemble

    trees = budget.trees
    return getattr(ensemble, name)(
        max_iter=trees,
        # The usual 0.1 for a hundred trees; fewer trees have to take larger steps.
        learning_rate=min(0.3, 0.1 * MOST_TREES / trees),
        max_bins=BINS,
        max_leaf_nodes=LEAVES,
        categorical_features=[0 < c.baseline_codes() <= BINS for c in budget.columns],
        random_state=budget.seed,
        **({} if budget.quantile is None else {"loss": "quantile", "quantile": budget.quantile}),
    )


def _encoded(columns: Sequence[tuple[Column, pa.Array]], context: EncodeContext) -> tuple[Any, Any]:
    """One number for each column, categories as codes."""
    found = [array for c, values in columns for array in c.encode(values, context).values()]
    return "passthrough", np.hstack(found).astype(np.float32)


def _scaled(columns: Sequence[tuple[Column, pa.Array]], context: EncodeContext) -> tuple[Any, Any]:
    return side_by_side([c.baseline_features(values, context) for c, values in columns])


def _logistic(budget: Budget) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=200)


def _ridge(budget: Budget) -> Any:
    from sklearn.linear_model import Ridge

    return Ridge()


def _neighbours(name: str, budget: Budget) -> Any:
    from sklearn import neighbors

    nearest = min(NEIGHBOURS, budget.rows)
    return getattr(neighbors, name)(nearest, weights="distance", algorithm="brute")


KINDS: dict[str, Kind] = {
    "trees": Kind(
        _encoded,
        {
            "class": lambda budget: _boosted("HistGradientBoostingClassifier", budget),
            "number": lambda budget: _boosted("HistGradientBoostingRegressor", budget),
        },
        {"class": "boosted trees", "number": "boosted trees"},
    ),
    "linear": Kind(
        _scaled,
        {"class": _logistic, "number": _ridge},
        {"class": "logistic regression", "number": "ridge regression"},
    ),
    "neighbours": Kind(
        _scaled,
        {
            "class": lambda budget: _neighbours("KNeighborsClassifier", budget),
            "number": lambda budget: _neighbours("KNeighborsRegressor", budget),
        },
        dict.fromkeys(("class", "number"), f"{NEIGHBOURS} nearest neighbours"),
        MOST_NEIGHBOURING,
    ),
}


def kind_of(columns: Sequence[Column]) -> str:
    """A key of `KINDS`: the one that suits all columns, else `linear`."""
    found = {column.baseline for column in columns}
    return found.pop() if len(found) == 1 else "linear"


class QuickModel:
    """A quick model, fitted to the raw columns of prepared rows."""

    def __init__(
        self,
        table: pa.Table,
        targets: NDArray[Any],
        target: Target,
        budget: Budget,
        encoder: Encoder,
    ) -> None:
        """Fit to the rows of `table`, with `targets` (N,) class numbers or values."""
        from sklearn.pipeline import make_pipeline

        self._columns, self._encoder = budget.columns, encoder
        kind = kind_of(budget.columns)
        if kind == "trees" and budget.trees < FEWEST_TREES:
            kind = "linear"  # many classes: it would be fewer trees than a class needs
        if kind == "neighbours" and budget.quantile is not None:
            kind = "linear"  # five neighbours have no quantile 0.9
        self._kind = KINDS[kind]
        self.name = self._kind.names[target]
        if len(budget.columns) == 1 and budget.columns[0].baseline_sees:
            self.name += f" on {budget.columns[0].baseline_sees}"
        transformer, features = self._features(table)
        self._model = make_pipeline(transformer, self._kind.estimators[target](budget))
        with warnings.catch_warnings():
            # A linear model that has not fully converged is a baseline, too.
            warnings.simplefilter("ignore")
            self._model.fit(features, targets)
        self._shift = 0.0
        if kind == "linear" and budget.quantile is not None:
            errors = targets - self._model.predict(features)
            self._shift = float(np.quantile(errors, budget.quantile))
            self.name += f" plus the quantile {budget.quantile:g} of its errors"

    def _features(self, table: pa.Table) -> tuple[Any, Any]:
        values = [(column, one_array(table[column.name])) for column in self._columns]
        reading, tokenizer = self._encoder.signature.read_as, self._encoder.tokenizer
        # With counts of its own: the values of the network's rows are not counted twice.
        context = EncodeContext(SourceLocation("rows"), reading, tokenizer)
        return self._kind.features(values, context)

    def predict(self, table: pa.Table) -> NDArray[np.float64]:
        """(N,): a number for each row."""
        return self._predict(table, "predict") + self._shift

    def probabilities(self, table: pa.Table, classes: int) -> NDArray[np.float32]:
        """(N, classes): also of classes that no row had; their probability is 0."""
        found = self._predict(table, "predict_proba")
        every = np.zeros((len(found), classes), np.float32)
        every[:, self._model.classes_] = found
        return every

    def _predict(self, table: pa.Table, method: str) -> NDArray[Any]:
        parts = []
        for start in range(0, len(table), BATCH):
            _, features = self._features(table.slice(start, BATCH))
            parts.append(getattr(self._model, method)(features))
        return np.concatenate(parts)
