"""Finds rows whose label is probably wrong, by confident learning (Northcutt, Jiang and Chuang
2021, Journal of Artificial Intelligence Research 70, https://arxiv.org/abs/1911.00068).
"""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline

from tasks.bundle.signature import Signature
from tasks.columns import EncodeContext, SourceLocation, with_tensors
from tasks.columns.joining import side_by_side
from tasks.config import Prepare
from tasks.encoding import one_array
from tasks.preparing.rows import Describe, Indices, PreparedRows

MOST_ROWS = 5000
LISTED = 20
FOLDS = 5


def find_suspects(
    rows: PreparedRows, labels: Indices, signature: Signature, params: Prepare, describe: Describe
) -> dict[str, Any]:
    """The number of checked and of suspect rows, and the most suspicious rows, for the report.

    `labels` (N,) are indices into `signature.classes`. Each row is predicted by a linear model that
    was trained without it. Of more than `MOST_ROWS` rows, a random sample is checked.
    """
    chosen = _sample(labels, params.seed)
    given = labels[chosen]
    if len(np.unique(given)) < 2:
        return {"skipped": f"one class alone among {len(given)} rows drawn by seed"}
    model, features = _model(rows.take(chosen), signature, params)
    folds = StratifiedKFold(
        min(FOLDS, int(np.bincount(given)[given].min())), shuffle=True, random_state=params.seed
    )
    with warnings.catch_warnings():
        # A model that has not fully converged is good enough to rank rows.
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = cross_val_predict(model, features, given, cv=folds, method="predict_proba")
    # The model has no column for classes that are not in the sample.
    probabilities = np.zeros((len(given), len(signature.classes)))
    probabilities[:, np.unique(given)] = found
    suggested = confident_labels(probabilities, given)
    number = np.arange(len(given))
    margin = probabilities[number, suggested] - probabilities[number, given]
    wrong = np.flatnonzero(suggested != given)
    worst = wrong[np.argsort(-margin[wrong], kind="stable")][:LISTED]
    return {
        "rows_looked_at": len(given),
        "suspects": len(wrong),
        "most_suspicious": [
            {
                "row": describe(int(rows.keys[chosen[n]])),
                "given": signature.classes[given[n]],
                "suggested": signature.classes[suggested[n]],
                "probability": round(float(probabilities[n, suggested[n]]), 4),
            }
            for n in worst
        ],
    }


def confident_labels(probabilities: NDArray[np.float64], given: Indices) -> Indices:
    """(N,): the most probable class among those whose threshold a row reaches, else its own label.

    `probabilities` (N, K) are out of sample. The threshold of a class is the mean probability that
    its own rows have for it.
    """
    classes = probabilities.shape[1]
    threshold = np.array(
        [
            probabilities[given == k, k].mean() if (given == k).any() else np.inf
            for k in range(classes)
        ]
    )
    reached = np.where(probabilities >= threshold, probabilities, -1.0)
    best = reached.argmax(axis=1)
    return np.where(reached.max(axis=1) >= 0, best, given)


def _sample(labels: Indices, seed: int) -> Indices:
    """The rows to check, ascending, without classes of one row, which need two for folds."""
    chosen = np.arange(len(labels))
    if len(labels) > MOST_ROWS:
        chosen = np.random.default_rng(seed).choice(chosen, MOST_ROWS, replace=False)
    chosen = np.sort(chosen)
    return chosen[np.bincount(labels[chosen])[labels[chosen]] > 1]


def _model(rows: PreparedRows, signature: Signature, params: Prepare) -> tuple[Pipeline, Any]:
    """A linear model of these columns, and its input, (N, features) or N texts."""
    context, linear = (
        EncodeContext(SourceLocation("rows"), signature.read_as),
        LogisticRegression(max_iter=200),
    )
    parts: list[tuple[Any, Any]] = []
    for column, _ in with_tensors(signature.columns):
        values = one_array(rows.features[column.name])
        parts.append(column.linear_features(values, context, params.source))
    transformer, matrix = side_by_side(parts)
    return make_pipeline(transformer, linear), matrix
