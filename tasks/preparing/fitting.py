"""What is fitted, on the training split alone: tokenizer, categories, what stands for a missing
value; and with these the signature.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer

from tasks.config import ImageSource, Prepare, SequenceSource, TabularSource, TextSource
from tasks.encoding import MICROSECONDS_OF_A_DAY, narrowed
from tasks.errors import InputError
from tasks.files.convert import convert
from tasks.narrowing import by_chance, example, merged
from tasks.preparing.rows import Rows
from tasks.preparing.targets import refuse_constant
from tasks.preparing.tokenizing import train_tokenizer
from tasks.signature import (
    CategoryColumn,
    Column,
    ImageColumn,
    NumberColumn,
    SequenceColumn,
    Signature,
    Task,
    TextColumn,
)
from tasks.sources.raw import FeatureKind, Raw


@dataclass(frozen=True)
class Dataset:
    """The rows of each split, and what was fitted on those of training."""

    splits: dict[str, Rows]
    signature: Signature
    tokenizer: Tokenizer | None


def fit(raw: Raw, splits: dict[str, Rows], classes: tuple[str, ...], params: Prepare) -> Dataset:
    """The dataset of these splits.

    Raises:
        InputError: there is nothing in the training split to fit on; says of which column.
    """
    train, source, tokenizer = splits["train"].features, params.source, None
    if params.task == "regression":
        refuse_constant(raw, splits["train"].target)
    if isinstance(source, TextSource):
        print(f"training a {source.tokenizer.name} tokenizer on {len(train)} texts", flush=True)
        tokenizer = train_tokenizer(train[source.column].to_pylist(), source.tokenizer)
    columns = tuple(
        _column(raw, name, train[name].combine_chunks(), params, tokenizer)
        for name in train.column_names
    )
    every = pa.concat_tables([rows.features for rows in splits.values()])
    columns = tuple(
        _distinguished(raw, column, train[column.name], every[column.name])
        if isinstance(column, NumberColumn)
        else column
        for column in columns
    )
    # Only tables have text that must be read: nothing else is said of images and sequences.
    reading = raw.reading if isinstance(source, TabularSource | TextSource) else None
    task: Task = "binary" if len(classes) == 2 else "multiclass"
    if params.task != "classification":
        task = params.task
    return Dataset(splits, Signature.of(task, columns, classes, reading), tokenizer)


def _column(
    raw: Raw, name: str, values: pa.Array, params: Prepare, tokenizer: Tokenizer | None
) -> Column:
    source, kind = params.source, raw.features[name]
    match kind:
        case "image":
            return ImageColumn(
                name=name,
                dtype="uint8" if values.type.value_type == pa.uint8() else "float32",
                shape=tuple(values.type.shape),
                resize="bilinear" if isinstance(source, ImageSource) and source.size else None,
                colour=source.colour if isinstance(source, ImageSource) else None,
            )
        case "text":
            assert isinstance(source, TextSource)
            assert tokenizer is not None
            size = tokenizer.get_vocab_size()
            return TextColumn(name=name, vocabulary=size, max_length=source.max_length)
        case "sequence":
            assert isinstance(source, SequenceSource)
            lows, highs = _ranges_of_steps(values, source.max_length)
            return SequenceColumn(
                name=name,
                features=values.type.value_type.list_size,
                max_length=source.max_length,
                low=lows,
                high=highs,
            )
    present, fill = values.drop_null(), params.missing == "fill"
    if fill and not len(present):
        raise InputError(
            f"{raw.where}: column {name!r} has no value in the training split that could stand "
            "for missing ones. Put it into prepare.source.ignore."
        )
    if kind == "category":
        categories = tuple(sorted(present.unique().to_pylist()))
        most = _most_frequent(present) if fill else None
        return CategoryColumn(name=name, values=categories, fill=most)
    low, high = _range(present, kind)
    typical = _typical(present, kind) if fill else None
    return NumberColumn(name=name, kind=kind, fill=typical, low=low, high=high)


def _range(values: pa.Array, kind: FeatureKind) -> tuple[float, float] | tuple[None, None]:
    """The smallest and largest, in the column's unit; none of booleans."""
    if kind == "boolean" or not len(values):
        return None, None
    found = pc.min_max(values.cast(pa.int64()) if kind == "date" else values).as_py()
    unit = MICROSECONDS_OF_A_DAY if kind == "date" else 1.0
    return float(found["min"]) / unit, float(found["max"]) / unit


def _ranges_of_steps(
    values: pa.Array, most: int
) -> tuple[tuple[float, ...], tuple[float, ...]] | tuple[None, None]:
    """The smallest and largest value of each feature in the first `most` steps of sequences."""
    length = pc.list_value_length(values).to_numpy()
    steps = values.flatten()
    place = np.arange(len(steps)) - np.repeat(np.cumsum(length) - length, length)
    numbers = steps.flatten().to_numpy().reshape(-1, steps.type.list_size)
    kept = numbers[place < most]
    if not len(kept):
        return None, None
    return tuple(kept.min(axis=0).tolist()), tuple(kept.max(axis=0).tolist())


def _distinguished(
    raw: Raw, spec: NumberColumn, train: pa.ChunkedArray, column: pa.ChunkedArray
) -> NumberColumn:
    """With the offset by which float32 tells the values of `column`, of all splits, apart.

    Most columns need none, and get none. It comes from the training split alone.

    Raises:
        InputError: no offset helps; says what does.
    """
    if spec.kind == "boolean" or spec.low is None or spec.high is None:
        return spec
    present = column.drop_null().combine_chunks()
    moments = present.cast(pa.int64()) if spec.kind == "date" else present
    values, places = np.unique(moments.to_numpy(zero_copy_only=False), return_index=True)
    unique = convert(
        present.take(pa.array(places)), spec.kind, spec.name, raw.describe, raw.reading
    )
    lost = merged(values, narrowed(unique, spec))
    if not lost.any():
        return spec
    # The middle of most values, or of all of them.
    offsets = [_typical(train.drop_null(), spec.kind), (spec.low + spec.high) / 2]
    if spec.kind == "number":
        offsets = [float(np.floor(offset)) for offset in offsets]
    fitted = [spec.model_copy(update={"offset": offset}) for offset in (0.0, *offsets)]
    each = [merged(values, narrowed(unique, candidate)) for candidate in fitted]
    best = min(range(len(each)), key=lambda n: each[n].sum())
    if each[best].sum() > by_chance(len(values)):
        shown = unique.to_numpy(zero_copy_only=False) if spec.kind == "date" else values
        raise InputError(
            f"{raw.where}: column {spec.name!r}: {example(shown, each[best])}. Split it into "
            "several columns, such as the day and the second of the day; say in "
            f"prepare.source.columns that {spec.name} is a category; or name it in "
            "prepare.source.ignore, as you would an identifier"
        )
    # Where an offset does not help much, the column stays as it is.
    return fitted[best] if 4 * each[best].sum() < lost.sum() else spec


def _most_frequent(values: pa.Array) -> str:
    """The first by alphabet of those that are most frequent."""
    counts = pc.value_counts(values).to_pylist()
    return str(min(counts, key=lambda c: (-c["counts"], c["values"]))["values"])


def _typical(values: pa.Array | pa.ChunkedArray, kind: FeatureKind) -> float:
    """The median of numbers; of dates, in days since 1970; the more frequent of two booleans."""
    if kind == "boolean":
        return float(pc.mean(values).as_py() > 0.5)
    numbers = values.cast(pa.int64()) if kind == "date" else values
    median = float(np.median(numbers.cast(pa.float64(), safe=False).to_numpy()))
    return median / MICROSECONDS_OF_A_DAY if kind == "date" else median
