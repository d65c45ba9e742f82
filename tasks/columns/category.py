"""Category columns: one of the values in the training split, as text."""

from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.columns.base import (
    Arrays,
    Column,
    EncodeContext,
    Fitted,
    RawColumn,
    Tensor,
)
from tasks.columns.distributions import counts
from tasks.columns.looks import refuse_lookalikes
from tasks.columns.number import present_in
from tasks.errors import InputError
from tasks.files.convert import Kind, convert, plain
from tasks.measures import Measure
from tasks.words import some


class CategoryColumn(Column):
    """One of `values`, with codes from 1 in this order; 0 is a value unseen in training.

    Values are text in the spelling of `tasks.files.convert`. A category becomes one int64 in the
    tensor `categories`.
    """

    kind: Literal["category"] = "category"
    values: tuple[str, ...]
    fill: str | None = None
    """The value for missing ones; without it, a missing value is refused."""

    read_as: ClassVar[Kind | None] = "category"
    fillable: ClassVar[bool] = True
    takes_dictionary: ClassVar[bool] = True
    baseline: ClassVar = "trees"

    @classmethod
    def check_feature(cls, values: pa.ChunkedArray, raw: RawColumn) -> None:
        """Refuses text that looks like numbers or dates, or hardly repeats, unless declared."""
        source = raw.source
        most, named = getattr(source, "max_categories", None), getattr(source, "columns", {})
        if most is None:
            return
        if raw.name not in named:
            refuse_lookalikes(values, raw, most)
        distinct = pc.count_distinct(values).as_py()
        if distinct > most:
            raise InputError(
                f"{raw.where}: column {raw.name!r} has {distinct} distinct values in {len(values)} "
                f"rows, more than a category may have ({most}). If it is a category, increase "
                "prepare.source.max_categories; if it is an identifier, name it in "
                "prepare.source.ignore"
            )

    @classmethod
    def fit(cls, train: pa.Array, every: pa.ChunkedArray, raw: RawColumn) -> Fitted:
        present = present_in(train, raw)
        categories = tuple(sorted(present.unique().to_pylist()))
        fill = _most_frequent(present) if raw.fill else None
        return Fitted(cls(name=raw.name, values=categories, fill=fill))

    def stored(self, values: pa.Array) -> pa.Array:
        return values.dictionary_encode()

    def tensors(self) -> tuple[Tensor, ...]:
        return (Tensor(name="categories", dtype="int64", shape=(1,)),)

    def encode(self, values: pa.Array, context: EncodeContext) -> Arrays:
        location, seen = context.location, context.counts
        text, place = self._spelled(values, context)
        known = pa.array(self.values, pa.string())
        found = pc.index_in(text, value_set=known).fill_null(-1).to_numpy().astype(np.int64) + 1
        codes: NDArray[np.int64] = found[place]
        filled = 0
        if text.null_count:
            missing = text.is_null().to_numpy(zero_copy_only=False)[place]
            filled = int(missing.sum())
        if filled:
            if self.fill is None:
                raise location.missing(self.name, missing)
            codes[missing] = self.values.index(self.fill) + 1
        unknown = np.flatnonzero(codes == 0)
        seen.add(self.name, len(codes), unknown=len(unknown), filled=filled)
        if len(unknown) and seen.wants(self.name):
            seen.show(self.name, text.take(pa.array(place[unknown])).unique()[:3].to_pylist())
        return {"categories": codes[:, np.newaxis]}

    def _spelled(
        self, values: pa.Array, context: EncodeContext
    ) -> tuple[pa.Array, NDArray[np.int64]]:
        """The distinct values (M,) as they are spelled, and the place (N,) of each row's among
        them: a thousand rows have a few categories, and spelling is slow.

        Raises:
            BadRows: values are no categories.
        """
        describe, reading = context.location.describe, context.reading
        try:
            distinct, place = _distinct(values)
            text = convert(distinct, "category", self.name, describe, reading)
        except (InputError, pa.ArrowNotImplementedError):  # the error would name other rows
            text = convert(plain(values), "category", self.name, describe, reading)
            return text, np.arange(len(text))
        return text, place

    def profile(self, values: pa.Array, context: EncodeContext) -> dict[str, Any]:
        return {"categories": {self.name: counts(values)}}

    def measures(self) -> tuple[Measure, ...]:
        return (Measure("value", lambda arrays: arrays["categories"][:, 0], self.values),)

    def baseline_codes(self) -> int:
        return len(self.values) + 1  # with that of values unseen in training

    def encoded_features(self, values: pa.Array, context: EncodeContext) -> tuple[Any, Any]:
        from sklearn.preprocessing import OneHotEncoder

        return OneHotEncoder(handle_unknown="ignore"), self.encode(values, context)["categories"]

    def describe(self) -> str:
        return f"category: {some(self.values, 12)}"

    def known(self) -> str:
        return some([repr(value) for value in self.values], 3)


def _distinct(values: pa.Array) -> tuple[pa.Array, NDArray[np.int64]]:
    """The distinct values (M,), of which one may be null, and the place (N,) of each row's."""
    if pa.types.is_dictionary(values.type):
        if values.indices.null_count == 0 and len(values.dictionary) <= len(values):
            return values.dictionary, values.indices.to_numpy().astype(np.int64)
        values = values.dictionary_decode()
    encoded = values.dictionary_encode(null_encoding="encode")
    return encoded.dictionary, encoded.indices.to_numpy().astype(np.int64)


def _most_frequent(values: pa.Array) -> str:
    """The most frequent value; of several, the first in alphabetical order."""
    found = pc.value_counts(values).to_pylist()
    return str(min(found, key=lambda c: (-c["counts"], c["values"]))["values"])
