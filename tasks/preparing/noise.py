"""Rows whose label looks wrong: confident learning (Northcutt, Jiang and Chuang 2021, Journal of
Artificial Intelligence Research 70, https://arxiv.org/abs/1911.00068).
"""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import make_column_transformer
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from tasks.config import Prepare, TextSource
from tasks.encoding import Encoder, Place
from tasks.preparing.rows import Describe, Numbers, Rows
from tasks.signature import Signature

MOST_ROWS = 5000
LISTED = 20
FOLDS = 5


def suspects(
    rows: Rows, labels: Numbers, signature: Signature, params: Prepare, describe: Describe
) -> dict[str, Any]:
    """How many rows were looked at, how many are suspect, and the most suspicious of them.

    `labels` (N,) are places in `signature.classes`. Each row is judged by a linear model that has
    not seen it. Above `MOST_ROWS`, that many are drawn by seed.
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
        # A model that is nearly fitted ranks rows as well.
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = cross_val_predict(model, features, given, cv=folds, method="predict_proba")
    # Classes too rare for the sample have no column.
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


def confident_labels(probabilities: NDArray[np.float64], given: Numbers) -> Numbers:
    """(N,): the likeliest of the classes that a row reaches the threshold of, else the given one.

    `probabilities` (N, K) are out of sample; the threshold of a class is the mean of what its own
    rows have for it.
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


def _sample(labels: Numbers, seed: int) -> Numbers:
    """Rows to look at, ascending; a class with a single one cannot be cross-validated."""
    chosen = np.arange(len(labels))
    if len(labels) > MOST_ROWS:
        chosen = np.random.default_rng(seed).choice(chosen, MOST_ROWS, replace=False)
    chosen = np.sort(chosen)
    return chosen[np.bincount(labels[chosen])[labels[chosen]] > 1]


def _model(rows: Rows, signature: Signature, params: Prepare) -> tuple[Pipeline, Any]:
    """A linear model for this kind of data, and what it is fitted on: (N, features), or texts."""
    linear = LogisticRegression(max_iter=200)
    if isinstance(params.source, TextSource):
        character = params.source.tokenizer.name == "character"
        words = TfidfVectorizer(
            analyzer="char" if character else "word",
            token_pattern=None if character else r"\w+|[^\w\s]+",
            ngram_range=(1, 2),
            sublinear_tf=True,
            max_features=20_000,
        )
        return make_pipeline(words, linear), rows.features.column(0).to_pylist()
    inputs = Encoder(signature).encode(rows.features, Place("rows"))
    if signature.kind == "image":
        flat = next(iter(inputs.values())).reshape(len(rows), -1).astype(np.float32)
        return make_pipeline(StandardScaler(), linear), flat
    if signature.kind == "sequence":
        return make_pipeline(StandardScaler(), linear), _summary(**inputs)
    scalers = {"numbers": StandardScaler(), "categories": OneHotEncoder(handle_unknown="ignore")}
    parts, start = [], 0
    for name, tensor in inputs.items():
        parts.append((scalers[name], slice(start, start := start + tensor.shape[1])))
    return make_pipeline(make_column_transformer(*parts), linear), np.hstack(list(inputs.values()))


def _summary(sequence: NDArray[Any], length: NDArray[Any]) -> NDArray[np.float32]:
    """(N, 4 F): mean, standard deviation, least and greatest of each feature over the steps."""
    step = np.arange(sequence.shape[1]) < length[:, np.newaxis]
    masked = np.ma.array(sequence, mask=np.broadcast_to(~step[..., np.newaxis], sequence.shape))
    parts = [masked.mean(axis=1), masked.std(axis=1), masked.min(axis=1), masked.max(axis=1)]
    return np.hstack([np.asarray(part) for part in parts]).astype(np.float32)
