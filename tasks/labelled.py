"""Labelled rows: the files that prediction reads, with the expected answer of each row.

The answer is in a column of a table, in `labels` of an `.npz` file, in the file of labels beside an
IDX file, or in the name of the folder of an image and of the file of a text, as in training.
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
from tasks.inputs import InputFile, first_row, rows
from tasks.problems.targets import Target


def batches(
    file: InputFile, encoder: Encoder, target: str | None, size: int
) -> Iterator[tuple[Arrays, NDArray[Any]]]:
    """Inputs, and the targets (N,) to compare with, at most `size` rows a time.

    Targets are int64 numbers of classes, float64 values, or zeros for a language model. `target`
    names the column of a table; the one of a prepared split is found by itself.

    Raises:
        InputError: as `inputs.batches` does; or a row has no answer, or one that the model does
            not know. Names file, row and column.
    """
    signature, expected = encoder.signature, encoder.signature.problem.target
    if target in [column.name for column in signature.columns]:
        raise InputError(
            f"{target!r} is a column that the model takes, and not the answer. Name the column "
            "that it predicts with --target"
        )
    tabled = tables.form(file.path) is not None and not file.is_images
    also: dict[str, Kind] = {target: expected.kind} if target and tabled and expected else {}
    answers = None if tabled or expected is None else _beside(file)
    start = 0
    for batch in rows(file, signature, size, also):
        place = SourceLocation(str(file.path), first_row(file) + start)
        count = batch.num_rows
        if expected is None:
            targets: NDArray[Any] = np.zeros(count, np.int64)
        elif answers is not None:
            values = answers[start : start + count]
            targets = expected.parsed(values, signature, "label", place.describe)
        else:
            column = _column(file, batch.schema, signature, expected, target)
            targets = expected.parsed(batch[column], signature, column, place.describe)
        yield encoder.encode(batch, place), targets
        start += count


def _column(
    file: InputFile, schema: pa.Schema, signature: Signature, expected: Target, target: str | None
) -> str:
    """Which column of a table is the target."""
    names = schema.names
    if target in names:
        return str(target)
    if _is_prepared(schema, signature, expected):
        return TARGET
    if target is None:
        raise InputError(
            f"{file.path}: nothing says which column holds the answers; it has "
            f"{', '.join(names)}. Name it with --target"
        )
    return tables.named(target, names, str(file.path), "the target (--target names another)")


def _is_prepared(schema: pa.Schema, signature: Signature, expected: Target) -> bool:
    """Whether a table is a split that `prepare` wrote."""
    if not {KEY, TARGET, *(column.name for column in signature.columns)} <= set(schema.names):
        return False
    return expected.is_stored(schema.field(TARGET).type)


def _beside(file: InputFile) -> pa.Array:
    """The answers that are not in a table, a value for each row."""
    if file.is_images:
        return pa.array([_folder_of(file, name) for name in file.members], pa.string())
    if file.path.suffix == ".npz":
        return npz.labels(npz.load(file.path, "labels"), file.rows, file.path)
    if idx.is_images(file.path):
        found = idx.read(idx.labels_of(file.path), 1)
        if len(found) != file.rows:
            raise InputError(f"{file.path} has {file.rows} images, and {len(found)} labels")
        return pa.array(found.astype(np.int64))
    assert file.path.suffix == lines.SUFFIX, "no other form is read"
    return pa.array([file.path.stem] * file.rows, pa.string())


def _folder_of(file: InputFile, name: str) -> str:
    """The class of an image: the folder that it lies in."""
    parts = PurePosixPath(name).parts
    if len(parts) != 2:
        raise InputError(
            f"{file.path / name}: an image's class is the name of its folder, so name the folder "
            "that holds one sub-folder of images for each class, such as data/raw/test"
        )
    return parts[0]
