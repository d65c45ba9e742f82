"""What a batch job's rows are compared with, for `profile.json`; see `tasks.drift.reference`."""

import copy
from typing import Any

from tasks.columns import EncodeContext, SourceLocation
from tasks.counts import Counts
from tasks.drift.reference import Values
from tasks.encoding import one_array
from tasks.preparing.fitting import Dataset

ROWS = 8192  # encoded at a time: texts and sequences are padded to the longest of them


def reference(dataset: Dataset) -> dict[str, Any]:
    """The bins and counts of every column, and the substituted values of held-out rows."""
    signature = dataset.signature
    columns, seen = {}, Counts()
    tokenizer = copy.deepcopy(dataset.tokenizer)  # `encode` sets where it truncates
    for column in signature.columns:
        values = Values(column.measures())
        for split, rows in dataset.splits.items():
            held_out = split != "train"
            counts = seen if held_out else Counts()
            location = SourceLocation(f"the {split} split")
            context = EncodeContext(location, signature.read_as, tokenizer, counts)
            every = one_array(rows.features[column.name])
            for start in range(0, len(every), ROWS):
                values.add(column.encode(every[start : start + ROWS], context), held_out)
        columns[column.name] = values.document()
    return {"columns": columns, "seen": seen.columns}
