"""Joins the features of several columns, for models of scikit-learn."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def side_by_side(parts: Sequence[tuple[Any, Any]]) -> tuple[Any, Any]:
    """One transformer and one input for all columns; each part is a transformer and its input,
    (N, width) or N texts.

    Columns with the same transformer are transformed together, which is faster.
    """
    from sklearn.compose import make_column_transformer  # imported late: it takes 1 s

    if len(parts) == 1:
        return parts[0]
    slices: list[tuple[Any, Any]] = []
    start = 0
    for transformer, features in parts:
        if isinstance(features, list):  # texts, which scikit-learn takes as one column
            slices.append((transformer, start))
            start += 1
        elif slices and repr(slices[-1][0]) == repr(transformer):
            slices[-1] = transformer, slice(slices[-1][1].start, start := start + features.shape[1])
        else:
            slices.append((transformer, slice(start, start := start + features.shape[1])))
    matrices = [
        np.array(features, object)[:, np.newaxis] if isinstance(features, list) else features
        for _, features in parts
    ]
    return make_column_transformer(*slices), np.hstack(matrices)
