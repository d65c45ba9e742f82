"""How long texts and sequences are, before any is cut."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from tokenizers import Tokenizer

from tasks.preparing.fitting import Dataset
from tasks.preparing.tokenizing import count_tokens
from tasks.signature import SequenceColumn, TextColumn

PERCENTILES = (5, 25, 50, 75, 95, 99, 100)


def measure(dataset: Dataset) -> tuple[dict[str, NDArray[np.int64]], dict[str, Any]]:
    """By split, the lengths (N,) of its rows in tokens or steps, and what the report says of them.

    Nothing for data without lengths.
    """
    column = dataset.signature.columns[0]
    if not isinstance(column, SequenceColumn | TextColumn):
        return {}, {}
    measured = {
        split: _measure(rows.features[column.name].combine_chunks(), column, dataset.tokenizer)
        for split, rows in dataset.splits.items()
    }
    lengths = {split: found for split, (found, _) in measured.items()}
    return lengths, {"lengths": {split: report for split, (_, report) in measured.items()}}


def _measure(
    values: pa.Array, column: SequenceColumn | TextColumn, tokenizer: Tokenizer | None
) -> tuple[NDArray[np.int64], dict[str, Any]]:
    report: dict[str, Any] = {}
    if isinstance(column, SequenceColumn):
        lengths = pc.list_value_length(values).to_numpy().astype(np.int64)
    else:
        assert tokenizer is not None
        lengths, unknown = count_tokens(tokenizer, values.to_pylist())
        tokens = int((lengths - 1).sum())  # without the beginnings
        report = {"tokens": tokens, "unknown_share": round(unknown / max(1, tokens), 6)}
    report["truncated"] = int((lengths > column.max_length).sum())
    found = np.percentile(lengths, PERCENTILES).tolist()
    return lengths, report | {"percentiles": dict(zip(map(str, PERCENTILES), found, strict=True))}
