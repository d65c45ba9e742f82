"""Fits tokenizer, categories and fill values on the training split, and makes the signature."""

from dataclasses import dataclass

import pyarrow as pa
from tokenizers import Tokenizer

from tasks.bundle.signature import Signature
from tasks.config import Prepare
from tasks.errors import InputError
from tasks.preparing.rows import PreparedRows
from tasks.preparing.targets import refuse_constant
from tasks.problems import PROBLEMS
from tasks.problems.targets import NumberTarget
from tasks.sources.raw import Raw


@dataclass(frozen=True)
class Dataset:
    """The rows of each split, and what was fitted on the training split."""

    splits: dict[str, PreparedRows]
    signature: Signature
    tokenizer: Tokenizer | None


def fit(
    raw: Raw, splits: dict[str, PreparedRows], classes: tuple[str, ...], params: Prepare
) -> Dataset:
    """Fit the columns on the training split.

    Raises:
        InputError: a column has no values in the training split; names it.
    """
    train, types = splits["train"].features, raw.types()
    problem = PROBLEMS[params.task]
    if isinstance(problem.target, NumberTarget):
        refuse_constant(raw, splits["train"].target)
    _refuse_two_tokenizers(raw)
    every = pa.concat_tables([rows.features for rows in splits.values()])
    fitted = [
        types[name].fit(
            train[name].combine_chunks(),
            every[name],
            raw.column(name, fill=params.missing == "fill"),
        )
        for name in train.column_names
    ]
    columns = tuple(found.column for found in fitted)
    # Images and sequences contain no text, so they need no rules for it.
    reading = raw.reading if any(column.reads_text for column in columns) else None
    tokenizer = next((found.tokenizer for found in fitted if found.tokenizer is not None), None)
    signature = Signature.of(problem.task(classes), columns, classes, reading)
    return Dataset(splits, signature, tokenizer)


def _refuse_two_tokenizers(raw: Raw) -> None:
    names = [name for name, column in raw.types().items() if column.tokenized]
    if len(names) > 1:
        raise InputError(
            f"{raw.where}: {' and '.join(map(repr, names))} are texts, but a model has only one "
            "tokenizer. Keep one of them, and name the others in prepare.source.ignore"
        )
