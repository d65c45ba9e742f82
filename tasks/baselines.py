"""Baselines: simple models of the same rows, with which a network is compared.

Each problem has its own (`Problem.baselines`): one that ignores the columns, and one quick model.
They learn from training rows drawn by a seed, and are evaluated on every row of the test split.
"""

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.bundle.evaluation import Baseline
from tasks.bundle.signature import Signature
from tasks.columns import Arrays, SourceLocation
from tasks.config import Evaluate
from tasks.dataset import TARGET, read_table
from tasks.encoding import Encoder, one_array
from tasks.problems.thresholds import decided
from tasks.quick_models import KINDS, Budget, QuickModel, Target, kind_of

PROBED = 1000  # rows whose length says how many characters a text has
# Digits of the metrics: the last ones depend on the order in which threads add.
DIGITS = 6


@dataclass(frozen=True)
class Examples:
    """Rows of a prepared split, as baselines see them."""

    table: pa.Table
    encoder: Encoder
    params: Evaluate

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def targets(self) -> NDArray[Any]:
        """(N,): class numbers or values."""
        signature = self.encoder.signature
        assert signature.problem.target is not None
        found: NDArray[Any] = signature.problem.target.loaded(
            self.table[TARGET].combine_chunks(), signature
        )
        return found

    @cached_property
    def inputs(self) -> Arrays:
        """The inputs of the network."""
        return self.encoder.encode(self.table, SourceLocation("rows"))

    def quick_model(
        self, target: Target, outputs: int = 1, quantile: float | None = None
    ) -> QuickModel:
        """The quick model that suits the columns, fitted to these rows."""
        columns = self.encoder.signature.columns
        cells, seed = self.params.baseline_cells, self.params.seed
        budget = Budget(cells, len(self), columns, outputs, seed, quantile)
        return QuickModel(self.table, self.targets, target, budget, self.encoder)


def fit_baselines(
    params: Evaluate, prepared: Path, encoder: Encoder
) -> Iterator[tuple[Baseline, float]]:
    """Fit the problem's baselines. Yields each with its metrics on the test split, and the seconds
    that it took; nothing if `evaluate.baseline` is off.

    The seconds are not part of the baseline, since the same rows have to give the same files.
    """
    if not params.baseline:
        return
    signature = encoder.signature
    whole = read_table(prepared, "train")
    train = Examples(_sample(whole, params, encoder), encoder, params)
    test = Examples(read_table(prepared, "test"), encoder, params)
    targets = np.zeros(len(test)) if signature.problem.target is None else test.targets
    started = time.monotonic()
    for name, quick, predict in signature.problem.baselines(signature, train):
        outputs = predict(test)
        # A threshold of its own: that of the network is chosen for the network's probabilities.
        own = with_threshold(params, prepared, encoder, predict) if quick else signature
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of classes without a test row
            metrics = own.problem.compute_metrics(own, targets, outputs, params.calibration_bins)
        summary = {name: float(f"{v:.{DIGITS}g}") for name, v in metrics.summary.items()}
        found = Baseline(name, quick, len(train), len(whole), summary)
        yield found, time.monotonic() - started
        started = time.monotonic()


def with_threshold(
    params: Evaluate, prepared: Path, encoder: Encoder, predict: Callable[[Examples], Arrays]
) -> Signature:
    """The signature with a threshold for a model that predicts by `predict`, if there is one."""

    def validation() -> tuple[NDArray[Any], Arrays]:
        rows = Examples(read_table(prepared, "validation"), encoder, params)
        return rows.targets, predict(rows)

    return decided(params, encoder.signature, validation)


def _sample(table: pa.Table, params: Evaluate, encoder: Encoder) -> pa.Table:
    """Rows drawn by the seed, in their order, so many that they have `baseline_cells` in all."""
    columns = encoder.signature.columns
    order = np.random.default_rng(params.seed).permutation(len(table))
    probe = table.take(pa.array(order[:PROBED]))
    cells = sum(column.baseline_cells(one_array(probe[column.name])) for column in columns)
    most = max(1, int(params.baseline_cells / max(1.0, cells)))
    most = min(most, KINDS[kind_of(columns)].most_rows or most)
    if most >= len(table):
        return table
    return table.take(pa.array(np.sort(order[:most])))
