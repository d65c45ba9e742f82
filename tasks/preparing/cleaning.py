"""Features as they will be written, and rows with missing values by rule.

Missing are nulls, NaN, infinities (also what float32 cannot hold), text of nothing but white space,
sequences without steps, sequences and images with a value that is not finite.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.errors import InputError
from tasks.files.convert import EXACT, convert
from tasks.preparing.rows import Column, Numbers, cell
from tasks.sources.raw import Raw

# What `prepare.missing: fill` has a value for; nobody could invent a text or an image.
FILLABLE = ("number", "boolean", "date", "category")


def clean(raw: Raw) -> dict[str, Column]:
    """The features by name, each of the type that it is written as.

    Raises:
        InputError: a value cannot be read as what its column holds; names the row.
    """
    return {name: _clean(raw, name, kind) for name, kind in raw.features.items()}


def complete(
    raw: Raw, features: dict[str, Column], others: dict[str, Column], rule: str
) -> Numbers:
    """Numbers of the rows that stay: those that lack nothing, or nothing that can be filled.

    `others` are the target and what decides the split: no rule fills those.

    Raises:
        InputError: the rule refuses a row, or none stays; names row and column.
    """
    fillable = [name for name in features if raw.features[name] in FILLABLE]
    missing = {name: found.missing for name, found in (features | others).items()}
    if rule == "fill":
        missing = {name: mask for name, mask in missing.items() if name not in fillable}
    bad = np.zeros(len(raw), bool)
    for mask in missing.values():
        bad |= mask
    if rule == "refuse" and bad.any():
        row = int(np.argmax(bad))
        name = next(name for name, mask in missing.items() if mask[row])
        ways = "drop or fill" if name in fillable else "drop"
        raise InputError(
            f"{cell(raw, row, name)}: missing, NaN or infinite ({int(bad.sum())} such rows in "
            f"all). Mend the data, or set prepare.missing to {ways}."
        )
    if bad.all():
        empty = [repr(name) for name, mask in missing.items() if mask.all()]
        raise InputError(
            f"{raw.where}: no row has all of its values"
            + (f"; no row at all has a value of {', '.join(empty)}" if empty else "")
        )
    return np.flatnonzero(~bad)


def _clean(raw: Raw, name: str, kind: str) -> Column:
    values = raw.table[name].combine_chunks()
    match kind:
        case "image":
            return _images(values)
        case "sequence":
            return _sequences(values)
        case "number":
            return _numbers(values)
        case "date" | "category":
            return Column.of(convert(values, kind, name, raw.describe, raw.reading))
    return Column.of(values)


def _numbers(values: pa.Array) -> Column:
    """Whole numbers as int64, whether their file has them as integers or as 1.0."""
    found = Column.of_numbers(values)
    numbers = found.values
    if (
        pa.types.is_floating(numbers.type)
        and pc.all(
            pc.and_(
                pc.equal(numbers, pc.round(numbers)), pc.less_equal(pc.abs(numbers), float(EXACT))
            )
        ).as_py()
    ):
        return Column(numbers.cast(pa.int64()), found.missing)
    return found


def _images(values: pa.FixedShapeTensorArray) -> Column:
    missing = values.is_null().to_numpy(zero_copy_only=False)
    if pa.types.is_floating(values.type.value_type):
        present = values.drop_null() if values.null_count else values
        pixels = present.to_numpy_ndarray().reshape(len(present), -1)
        missing[~missing] = ~np.isfinite(pixels).all(axis=1)
    return Column(values, missing)


def _sequences(values: pa.ListArray) -> Column:
    length = pc.list_value_length(values).fill_null(0).to_numpy()
    steps = values.flatten()
    numbers = steps.flatten().to_numpy(zero_copy_only=False)
    bad = ~np.isfinite(numbers.reshape(len(steps), -1)).all(axis=1)
    missing = length == 0
    missing[np.repeat(np.arange(len(values)), length)[bad]] = True
    return Column(values, missing)
