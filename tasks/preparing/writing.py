"""Writes the prepared dataset, atomically."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.bundle.files import Bundle
from tasks.bundle.signature import Signature
from tasks.dataset import KEY, TARGET, write_split
from tasks.preparing.fitting import Dataset
from tasks.preparing.rows import PreparedRows


def write(
    dataset: Dataset,
    hashes: Mapping[str, pa.Array],
    documents: Mapping[str, dict[str, Any]],
    folder: Path,
) -> None:
    """Replace `folder` by the dataset and the `documents`, which are written as JSON.

    `hashes` are columns (N,) of all raw rows; only the rows of the dataset are written.
    """
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # left by a killed run
    part.mkdir(parents=True)
    try:
        for name, rows in dataset.splits.items():
            write_split(_table(rows, dataset.signature, hashes), part / f"{name}.arrow")
        files = Bundle.at(part)
        dataset.signature.write(files.signature)
        if dataset.tokenizer is not None:
            dataset.tokenizer.save(str(files.tokenizer))
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
    if (target := signature.problem.target) is not None:
        columns[TARGET] = target.stored(rows.target, signature.classes)
    taken = {name: pc.take(values, pa.array(rows.keys)) for name, values in hashes.items()}
    return pa.table(columns | taken)
