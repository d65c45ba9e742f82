"""What the training split looks like: constants to normalise by, and a reference for drift."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.encoding import Encoder, Place
from tasks.preparing.fitting import Dataset
from tasks.preparing.rows import Rows
from tasks.signature import CategoryColumn, NumberColumn, Signature

BINS = 16
BATCH = 1 << 22  # bytes that are counted at once, for which they are widened to int64


def profile(dataset: Dataset, lengths: dict[str, NDArray[np.int64]]) -> dict[str, Any]:
    """The content of `profile.json`; `lengths` are those of `measure`.

    Statistics of an input have an entry for each element of its last axis: a channel, a column, a
    feature. Codes and tokens are not scaled, and have none.
    """
    train, signature = dataset.splits["train"], dataset.signature
    inputs: dict[str, Any] = {}
    content = {"rows": len(train), "inputs": inputs, "target": distribution(train, signature)}
    if signature.kind != "text":
        encoded = Encoder(signature).encode(train.features, Place("the training split"))
        for name, values in encoded.items():
            if name == "sequence":  # steps of padding do not count
                length = np.asarray(encoded["length"], np.int64)[:, np.newaxis]
                values = values[np.arange(values.shape[1]) < length]
            if values.dtype != np.int64:
                inputs[name] = _moments(values.reshape(-1, values.shape[-1]))
    if "numbers" in inputs:
        numbers = [c.name for c in signature.columns if isinstance(c, NumberColumn)]
        inputs["numbers"]["columns"] = numbers
        offsets = [c.offset for c in signature.columns if isinstance(c, NumberColumn)]
        if any(offsets):  # the statistics are of what is left of the values
            inputs["numbers"]["offset"] = offsets
    categories = [c.name for c in signature.columns if isinstance(c, CategoryColumn)]
    if categories:
        content["categories"] = {name: _counts(train.features[name]) for name in categories}
    if "train" in lengths:
        content["length"] = _distribution(lengths["train"])
    return content


def distribution(rows: Rows, signature: Signature) -> dict[str, Any]:
    """Rows of each class, or how the numbers are distributed; nothing without a target."""
    if rows.target is None:
        return {}
    if signature.classifies:
        counts = _counts(rows.target)
        return {name: counts.get(name, 0) for name in signature.classes}
    return _distribution(rows.target.to_numpy())


def _counts(values: pa.Array | pa.ChunkedArray) -> dict[str, int]:
    """Rows by value, in the order of the text; missing ones are not counted."""
    counts = pc.value_counts(values.drop_null()).to_pylist()
    return {c["values"]: c["counts"] for c in sorted(counts, key=lambda c: str(c["values"]))}


def _moments(values: NDArray[Any]) -> dict[str, list[Any]]:
    """Of each column of (N, C): mean, standard deviation, extremes and a histogram."""
    each = [_distribution(values[:, number]) for number in range(values.shape[1])]
    return {name: [found[name] for found in each] for name in each[0]}


def _distribution(values: NDArray[Any]) -> dict[str, Any]:
    weights, low, high = None, float(values.min()), float(values.max())
    if values.dtype == np.uint8:  # millions of pixels have 256 values
        batches = np.array_split(values, len(values) // BATCH + 1)
        weights = np.sum([np.bincount(batch, minlength=256) for batch in batches], axis=0)
        values = np.arange(256)
    values = values.astype(np.float64)
    mean = np.average(values, weights=weights)
    bins: int | list[float] = BINS
    if high - low < 2 * BINS * np.spacing(max(abs(low), abs(high))):
        bins = [low, float(np.nextafter(high, np.inf))]  # one value, or as good as one
    counts, edges = np.histogram(values, bins, (low, high), weights=weights)
    return {
        "mean": float(mean),
        "std": float(np.sqrt(np.average(np.square(values - mean), weights=weights))),
        "min": low,
        "max": high,
        "histogram": {"counts": counts.tolist(), "edges": edges.tolist()},
    }
