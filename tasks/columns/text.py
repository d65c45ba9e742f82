"""Text columns: tokens of a tokenizer that is trained on the training split."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from tokenizers import Tokenizer

from tasks.columns.base import (
    LENGTH,
    Arrays,
    Column,
    EncodeContext,
    Fitted,
    RawColumn,
    Tensor,
)
from tasks.columns.tokenizing import UNKNOWN, count_tokens, train_tokenizer
from tasks.errors import InputError
from tasks.files import lines, suffixes
from tasks.files.convert import Kind, convert
from tasks.files.spelling import without_blank, without_na
from tasks.measures import Measure

if TYPE_CHECKING:
    from tasks.config import Source, TextSource


BASELINE_CHARACTERS = 2000
"""The quick model reads the beginning of longer texts: one text could use up its whole budget."""


class TextColumn(Column):
    """Text, split into tokens by `tokenizer.json` beside the signature.

    It becomes the tensors `tokens` (time,) int64 and `length`.
    """

    kind: Literal["text"] = "text"
    vocabulary: int
    """The number of token ids; 0 is padding, 1 the unknown token, 2 the start token."""
    max_length: int
    """The maximum number of tokens of a text, including the start token."""

    data: ClassVar[str] = "text"
    read_as: ClassVar[Kind | None] = "text"
    cleaned_as_read: ClassVar[bool] = True
    equal_is_copy: ClassVar[bool] = True
    tokenized: ClassVar[bool] = True
    baseline_sees: ClassVar[str] = "character TF-IDF"
    file_forms: ClassVar[tuple[str, ...]] = (suffixes.LINES,)
    counted: ClassVar[tuple[str, str, str]] = ("tokens", "unknown_tokens", "tokens")

    @classmethod
    def read(cls, values: pa.ChunkedArray, raw: RawColumn) -> pa.Array | pa.ChunkedArray:
        """Blank texts are missing."""
        if not pa.types.is_string(values.type):
            raise InputError(
                f"{raw.where}: column {raw.name!r} is {values.type}; texts are expected. Name "
                "the column of texts in prepare.source.column, or set prepare.source.kind: tabular "
                "for numbers, dates and booleans"
            )
        return without_blank(without_na(values, raw.reading))

    @classmethod
    def fit(cls, train: pa.Array, every: pa.ChunkedArray, raw: RawColumn) -> Fitted:
        source = _parameters(raw.source)
        print(f"training a {source.tokenizer.name} tokenizer on {len(train)} texts", flush=True)
        tokenizer = train_tokenizer(train.to_pylist(), source.tokenizer)
        size = tokenizer.get_vocab_size()
        return Fitted(cls(name=raw.name, vocabulary=size, max_length=source.max_length), tokenizer)

    def read_file(
        self, form: str, path: Path, members: Mapping[str, str], start: int, size: int
    ) -> Iterator[pa.RecordBatch]:
        texts = itertools.islice(lines.raw(path), start, None)
        while part := list(itertools.islice(texts, size)):
            yield pa.record_batch({self.name: pa.array(part, pa.binary())})

    def read_cells(
        self,
        rows: pa.RecordBatch,
        folder: Path,
        members: Mapping[str, str] | None,
        describe: Callable[[int], str],
    ) -> pa.RecordBatch:
        """Lines of a file of texts are bytes until here."""
        names = rows.schema.names
        if self.name not in names or not pa.types.is_binary(rows[self.name].type):
            return rows
        texts = convert(rows[self.name], "text", self.name, describe)
        return rows.set_column(names.index(self.name), self.name, texts)

    def tensors(self) -> tuple[Tensor, ...]:
        return Tensor(name="tokens", dtype="int64", shape=(None,)), LENGTH

    def encode(self, values: pa.Array, context: EncodeContext) -> Arrays:
        location, tokenizer, counts = context.location, context.tokenizer, context.counts
        if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
            raise location.wrong_type(self.name, values, "text")
        values = without_blank(without_na(values, context.reading))
        if values.null_count:
            raise location.missing(self.name, values.is_null().to_numpy(zero_copy_only=False))
        assert tokenizer is not None
        tokenizer.enable_truncation(self.max_length)
        encoded = tokenizer.encode_batch_fast(values.to_pylist())
        length = np.array([len(e.ids) for e in encoded], np.int64)
        tokens = np.zeros((len(encoded), max(1, length.max(initial=1))), np.int64)
        for row, e in enumerate(encoded):
            tokens[row, : len(e.ids)] = e.ids
        unknown = (tokens == UNKNOWN).any(axis=1)
        counts.add(
            self.name,
            len(encoded),
            tokens=int(length.sum()) - len(encoded),  # without start tokens
            unknown_tokens=int((tokens == UNKNOWN).sum()),
            truncated=sum(bool(e.overflowing) for e in encoded),
        )
        if unknown.any() and counts.wants(self.name):
            texts = values.take(pa.array(np.flatnonzero(unknown)[:3])).to_pylist()
            counts.show(self.name, [text[:40] for text in texts])
        return {"tokens": tokens, "length": length}

    def lengths(
        self, values: pa.Array, tokenizer: Tokenizer | None
    ) -> tuple[NDArray[np.int64], dict[str, Any]] | None:
        assert tokenizer is not None
        lengths, unknown = count_tokens(tokenizer, values.to_pylist())
        tokens = int((lengths - 1).sum())  # without start tokens
        return lengths, {"tokens": tokens, "unknown_share": round(unknown / max(1, tokens), 6)}

    def measures(self) -> tuple[Measure, ...]:
        return (
            Measure("length", lambda arrays: arrays["length"]),
            Measure("unknown tokens", _unknown_share, held_out=True),
        )

    def linear_features(
        self, values: pa.Array, context: EncodeContext, source: "Source"
    ) -> tuple[Any, Any]:
        from sklearn.feature_extraction.text import TfidfVectorizer

        character = _parameters(source).tokenizer.name == "character"
        words = TfidfVectorizer(
            analyzer="char" if character else "word",
            token_pattern=None if character else r"\w+|[^\w\s]+",
            ngram_range=(1, 2),
            sublinear_tf=True,
            max_features=20_000,
        )
        return words, values.to_pylist()

    def baseline_features(self, values: pa.Array, context: EncodeContext) -> tuple[Any, Any]:
        """Single characters and sequences of two and three, which need no spaces between words."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        characters = TfidfVectorizer(
            analyzer="char",
            ngram_range=(1, 3),
            sublinear_tf=True,
            max_features=30_000,
            dtype=np.float32,
        )
        return characters, pc.utf8_slice_codeunits(values, 0, BASELINE_CHARACTERS).to_pylist()

    def baseline_cells(self, values: pa.Array) -> float:
        lengths = pc.min_element_wise(pc.utf8_length(values), BASELINE_CHARACTERS)
        return float(pc.mean(lengths).as_py() or 1)

    def known(self) -> str:
        return "the tokens of the training texts"


def _unknown_share(arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    """(N,): of the tokens of a text, without the start token."""
    unknown = (arrays["tokens"] == UNKNOWN).sum(axis=1)
    share: NDArray[np.float64] = unknown / np.maximum(1, arrays["length"] - 1)
    return share


def _parameters(source: "Source") -> "TextSource":
    """The parameters for texts: the defaults if the source is not a `TextSource`."""
    from tasks.config import TextSource

    return source if isinstance(source, TextSource) else TextSource(kind="text", path=source.path)
