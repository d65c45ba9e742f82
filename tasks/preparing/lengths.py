"""Lengths of texts and sequences before truncation."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.preparing.fitting import Dataset

PERCENTILES = (5, 25, 50, 75, 95, 99, 100)


def measure_lengths(dataset: Dataset) -> tuple[dict[str, NDArray[np.int64]], dict[str, Any]]:
    """The lengths (N,) of training rows by column, and the report about all splits.

    Columns without lengths are left out. In the report, the key of the first column with lengths is
    `lengths`; of the others, `NAME.lengths`.
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
