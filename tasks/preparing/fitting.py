"""What is fitted, on the training split alone: tokenizer, categories, what stands for a missing
value; and with these the signature.
"""

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
    """The rows of each split, and what was fitted on those of training."""

    splits: dict[str, PreparedRows]
    signature: Signature
    tokenizer: Tokenizer | None


def fit(
    raw: Raw, splits: dict[str, PreparedRows], classes: tuple[str, ...], params: Prepare
) -> Dataset:
    """The dataset of these splits.

    Raises:
        InputError: there is nothing in the training split to fit on; says of which column.
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
    # Nothing is said of how text is read where no column has any.
    reading = raw.reading if any(column.reads_text for column in columns) else None
    tokenizer = next((found.tokenizer for found in fitted if found.tokenizer is not None), None)
    signature = Signature.of(problem.task(classes), columns, classes, reading)
    return Dataset(splits, signature, tokenizer)


def _refuse_two_tokenizers(raw: Raw) -> None:
    names = [name for name, column in raw.types().items() if column.tokenized]
    if len(names) > 1:
        raise InputError(
            f"{raw.where}: {' and '.join(map(repr, names))} are texts, and a model has one "
            "tokenizer. Name one of them in prepare.source.ignore"
        )
