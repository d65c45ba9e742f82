"""How long texts and sequences are, before any is truncated."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.preparing.fitting import Dataset

PERCENTILES = (5, 25, 50, 75, 95, 99, 100)


def measure(dataset: Dataset) -> tuple[dict[str, NDArray[np.int64]], dict[str, Any]]:
    """By column, the lengths (N,) of its training rows; and what the report says of all splits.

    Nothing for columns without lengths. The first column with them is called `lengths` in the
    report, others `NAME.lengths`.
    """
    training: dict[str, NDArray[np.int64]] = {}
    report: dict[str, Any] = {}
    for column in dataset.signature.columns:
        reports = {}
        for split, rows in dataset.splits.items():
            values = rows.features[column.name].combine_chunks()
            found = column.lengths(values, dataset.tokenizer)
            if found is None:
                break
            lengths, content = found
            if split == "train":
                training[column.name] = lengths
            most: int = getattr(column, "max_length", int(lengths.max(initial=0)))
            percentiles = np.percentile(lengths, PERCENTILES).tolist()
            reports[split] = content | {
                "truncated": int((lengths > most).sum()),
                "percentiles": dict(zip(map(str, PERCENTILES), percentiles, strict=True)),
            }
        if reports:
            report[f"{column.name}.lengths" if report else "lengths"] = reports
    return training, report
