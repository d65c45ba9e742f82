"""The prepared dataset on disk, whole or not at all."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.bundle.signature import Signature
from tasks.dataset import KEY, TARGET, write_split
from tasks.encoding import TOKENIZER
from tasks.preparing.fitting import Dataset
from tasks.preparing.rows import PreparedRows
from tasks.preparing.targets import numbered


def write(
    dataset: Dataset,
    hashes: Mapping[str, pa.Array],
    documents: Mapping[str, dict[str, Any]],
    folder: Path,
) -> None:
    """Replace `folder` by the dataset, `documents` beside it as JSON.

    `hashes` are columns (N,) of all raw rows, written beside those that are still in.
    """
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a run that was killed
    part.mkdir(parents=True)
    try:
        for name, rows in dataset.splits.items():
            write_split(_table(rows, dataset.signature, hashes), part / f"{name}.arrow")
        dataset.signature.write(part / "signature.json")
        if dataset.tokenizer is not None:
            dataset.tokenizer.save(str(part / TOKENIZER))
        for name, content in documents.items():
            text = json.dumps(content, indent=2, ensure_ascii=False)
            (part / name).write_text(text + "\n", encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _table(rows: PreparedRows, signature: Signature, hashes: Mapping[str, pa.Array]) -> pa.Table:
    columns = {KEY: pa.array(rows.keys)}
    for column in signature.columns:
        values = rows.features[column.name].combine_chunks()
        columns[column.name] = column.stored(values)
    if signature.classifies:
        codes = pa.array(numbered(rows.target, signature.classes).astype(np.int32))
        columns[TARGET] = pa.DictionaryArray.from_arrays(codes, pa.array(signature.classes))
    elif rows.target is not None:
        columns[TARGET] = rows.target
    taken = {name: pc.take(values, pa.array(rows.keys)) for name, values in hashes.items()}
    return pa.table(columns | taken)
