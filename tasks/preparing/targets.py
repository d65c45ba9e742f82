"""Reads the target from raw data: classes or finite numbers."""

import re
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.columns.looks import advice
from tasks.config import Prepare, TabularSource
from tasks.dataset import SPLITS
from tasks.errors import InputError
from tasks.files.convert import EXACT, convert, first_misfit, fits
from tasks.files.infer import kind_of, typed
from tasks.files.spelling import without_na
from tasks.preparing.rows import CleanColumn, PreparedRows, cell, is_number
from tasks.problems import PROBLEMS
from tasks.sources.raw import Raw
from tasks.words import some

CLASSES_ARE = "classes must be text, whole numbers, or true and false"


def read_target(raw: Raw, params: Prepare) -> CleanColumn | None:
    """The target: strings for classes, float64 for numbers; None for a language model.

    Raises:
        InputError: there is no target, or it does not fit the task; names row and column.
    """
    target = PROBLEMS[params.task].target
    if target is None:
        if "text" not in raw.features.values():
            raise InputError(
                f"{raw.where} has no text; a language model needs prepare.source.kind: text"
            )
        return None
    if raw.target is None:
        raise InputError(
            f"{raw.where}: the target is unknown. Name the column to predict in "
            "prepare.source.target, or set prepare.task: language_model."
        )
    values = raw.table[raw.target].combine_chunks()
    if pa.types.is_null(values.type):
        return CleanColumn.of(values.cast(pa.string()))
    return READERS[target.kind](raw, params, values)


def _classes(raw: Raw, params: Prepare, values: pa.Array) -> CleanColumn:
    """Class labels, with the same spelling for every file format."""
    kind, name = values.type, str(raw.target)
    declared = params.source.columns if isinstance(params.source, TabularSource) else {}
    if declared.get(name) == "category":
        return CleanColumn.of(values.cast(pa.string()))
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        numbers = CleanColumn.of_numbers(values).values.cast(pa.float64()).fill_null(0.0).to_numpy()
        _refuse_fractions(raw, numbers)
        values = values.cast(pa.float64())
    elif pa.types.is_string(kind):
        _refuse_numbers_and_dates(raw, values)
    elif not (pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise InputError(f"{raw.where}: column {name!r} is {kind}; {CLASSES_ARE}")
    return CleanColumn.of(convert(values, "category", name, raw.describe, raw.reading))


def _refuse_fractions(raw: Raw, numbers: NDArray[np.float64]) -> None:
    broken = (numbers != np.rint(numbers)) | (np.abs(numbers) > EXACT)
    if broken.any():
        row = int(np.argmax(broken))
        raise InputError(
            f"{cell(raw, row, str(raw.target))}: {numbers[row]} is not a class; {CLASSES_ARE}. To "
            "predict a number, set prepare.task: regression."
        )


def _refuse_numbers_and_dates(raw: Raw, values: pa.Array) -> None:
    """Refuse dates and fractions as class labels; whole numbers are allowed."""
    kind = kind_of(values, raw.reading)
    if kind == "date":
        raise InputError(f"{raw.where}: column {str(raw.target)!r} has dates; {CLASSES_ARE}")
    if kind == "number":
        numbers = convert(values, "number", str(raw.target), raw.describe, raw.reading)
        finite = CleanColumn.of_numbers(numbers).values.fill_null(0.0)
        _refuse_fractions(raw, finite.to_numpy())


def _numbers(raw: Raw, params: Prepare, values: pa.Array) -> CleanColumn:
    if pa.types.is_string(values.type):
        values = _from_text(raw, values)
    if not is_number(values.type):
        row = int(np.argmin(values.is_null().to_numpy(zero_copy_only=False)))
        raise _not_a_number(raw, row, values[row].as_py())
    numbers = values.cast(pa.float64(), safe=False)
    if pa.types.is_integer(values.type):
        large = np.abs(numbers.fill_null(0.0).to_numpy()) >= EXACT
        if large.any():
            row = int(np.argmax(large))
            raise InputError(
                f"{cell(raw, row, str(raw.target))}: {values[row]} is too large to be exact in "
                f"float64; whole numbers between -{EXACT} and {EXACT} are allowed. Divide the "
                "column by a power of ten, or choose another target"
            )
    return CleanColumn.of_numbers(without_na(numbers, raw.reading))


def _from_text(raw: Raw, values: pa.Array) -> pa.Array:
    """Convert text to numbers, also with leading zeros or exponents."""
    found = typed(values, raw.reading)
    if pa.types.is_integer(found.type) or pa.types.is_null(found.type):
        return found.cast(pa.int64())
    if not fits(values, "number", raw.reading):
        row = first_misfit(values, "number", raw.reading)
        raise _not_a_number(raw, row, values[row].as_py(), advice(values, raw.reading))
    return convert(values, "number", str(raw.target), raw.describe, raw.reading)


def _not_a_number(raw: Raw, row: int, value: object, way: str = "") -> InputError:
    return InputError(
        f"{cell(raw, row, str(raw.target))}: {value!r} is not a number; a regression needs a "
        f"column of numbers. {way}{'. ' if way else ''}To predict a class, set prepare.task: "
        "classification."
    )


READERS: dict[str, Callable[[Raw, Prepare, pa.Array], CleanColumn]] = {
    "category": _classes,
    "number": _numbers,
}


def class_names(raw: Raw, rows: PreparedRows, *, distinct: bool) -> tuple[str, ...]:
    """The class names in order: by number if all are whole numbers, else alphabetical.

    `distinct` says that `rows` has no duplicates, for the message.

    Raises:
        InputError: there is only one class, or a class has fewer rows than there are splits.
    """
    counts = {c["values"]: c["counts"] for c in pc.value_counts(rows.target).to_pylist()}
    if len(counts) < 2:
        raise InputError(
            f"{raw.where}: every row has the label {next(iter(counts))!r}; "
            "a classifier needs at least two classes"
        )
    rare = sorted(label for label, count in counts.items() if count < len(SPLITS))
    if rare:
        row = int(rows.keys[pc.index(rows.target, rare[0]).as_py()])
        raise InputError(
            f"{raw.describe(row)}: the label {rare[0]!r} has {counts[rare[0]]} "
            f"{'distinct ' * distinct}rows; "
            f"every class needs at least {len(SPLITS)}, one for each of {', '.join(SPLITS)}. "
            f"Add rows or remove the class (such classes: {some(map(repr, rare), 20)})."
        )
    numeric = all(re.fullmatch(r"-?\d+", label) for label in counts)
    return tuple(sorted(counts, key=(lambda c: (int(c), c)) if numeric else None))


def refuse_constant(raw: Raw, target: pa.Array) -> None:
    """Raises `InputError` if all values of `target` (N,) are equal."""
    lowest, highest = pc.min_max(target).as_py().values()
    if lowest == highest:
        raise InputError(
            f"{raw.where}: every row of the training split has the target {lowest} in column "
            f"{raw.target!r}; there is nothing to learn"
        )
