"""Labelled rows: the files that prediction reads, with the target of each row.

The target is a column of a table, `labels` of an `.npz` file, the label file beside an IDX file,
the name of an image's folder, or the name of a text file, as in training.
"""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.bundle.signature import Signature
from tasks.columns import Arrays, SourceLocation
from tasks.dataset import KEY, TARGET
from tasks.encoding import Encoder
from tasks.errors import InputError
from tasks.files import idx, lines, npz, tables
from tasks.files.convert import Kind
from tasks.input_rows import rows
from tasks.inputs import InputFile, first_row
from tasks.problems.targets import Target


def batches(
    file: InputFile, encoder: Encoder, target: str | None, size: int
) -> Iterator[tuple[Arrays, NDArray[Any]]]:
    """Inputs and targets (N,) in batches of at most `size` rows.

    Targets are class numbers (int64), values (float64), or zeros for a language model. `target`
    names the target column of a table; prepared splits do not need it.

    Raises:
        InputError: as `input_rows.rows` does; or a row has no target, or a class that the model
            does not know. The message names file, row and column.
    """
    signature, expected = encoder.signature, encoder.signature.problem.target
    if target in [column.name for column in signature.columns]:
        raise InputError(
            f"--target {target}: this column is an input of the model. Give the column that the "
            "model predicts"
        )
    is_table = tables.form(file.path) is not None and not file.is_images
    also: dict[str, Kind] = {target: expected.kind} if target and is_table and expected else {}
    labels = None if is_table or expected is None else _labels_beside(file)
    start = 0
    for batch in rows(file, signature, size, also):
        location = SourceLocation(str(file.path), first_row(file) + start)
        count = batch.num_rows
        if expected is None:
            targets: NDArray[Any] = np.zeros(count, np.int64)
        elif labels is not None:
            values = labels[start : start + count]
            targets = expected.parsed(values, signature, "label", location.describe)
        else:
            column = _target_column(file, batch.schema, signature, expected, target)
            targets = expected.parsed(batch[column], signature, column, location.describe)
        yield encoder.encode(batch, location), targets
        start += count


def _target_column(
    file: InputFile, schema: pa.Schema, signature: Signature, expected: Target, target: str | None
) -> str:
    """The name of a table's target column."""
    names = schema.names
    if target in names:
        return str(target)
    if _is_prepared(schema, signature, expected):
        return TARGET
    if target is None:
        raise InputError(
            f"{file.path}: the target column is unknown. Name it with --target; the columns are "
            f"{', '.join(names)}"
        )
    return tables.named(target, names, str(file.path), "the target (--target names another)")


def _is_prepared(schema: pa.Schema, signature: Signature, expected: Target) -> bool:
    """Whether a table is a split that `prepare` wrote."""
    if not {KEY, TARGET, *(column.name for column in signature.columns)} <= set(schema.names):
        return False
    return expected.is_stored(schema.field(TARGET).type)


def _labels_beside(file: InputFile) -> pa.Array:
    """The labels (N,) of a file that is not a table."""
    if file.is_images:
        return pa.array([_folder_of(file, name) for name in file.members], pa.string())
    if file.path.suffix == ".npz":
        return npz.labels(npz.load(file.path, "labels"), file.rows, file.path)
    if idx.is_images(file.path):
        found = idx.read(idx.labels_of(file.path), 1)
        if len(found) != file.rows:
            raise InputError(
                f"{file.path} has {file.rows} images, but {len(found)} labels; one label for each "
                "image is expected"
            )
        return pa.array(found.astype(np.int64))
    assert file.path.suffix == lines.SUFFIX, "no other kind of file is read"
    return pa.array([file.path.stem] * file.rows, pa.string())


def _folder_of(file: InputFile, name: str) -> str:
    """The class of an image: the name of its folder."""
    parts = PurePosixPath(name).parts
    if len(parts) != 2:
        raise InputError(
            f"{file.path / name}: the class of an image is the name of its folder. Give a folder "
            "with one sub-folder of images for each class, such as data/raw/test"
        )
    return parts[0]
