"""Column: what every column type says of itself, and what its methods are given.

A column type is a class. Class methods work on raw values, before anything is fitted; an instance
is what was fitted, and its fields are what `signature.json` says of the column. The steps know no
type: they ask `tasks.columns.COLUMNS` for it.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from tokenizers import Tokenizer

from tasks.columns import comparing
from tasks.counts import Counts
from tasks.errors import InputError
from tasks.files.convert import Kind, convert
from tasks.files.reading import PLAIN, Reading
from tasks.files.spelling import without_blank

if TYPE_CHECKING:
    from tasks.config import Source

Arrays = dict[str, NDArray[Any]]
Mask = NDArray[np.bool_]


class Tensor(BaseModel):
    """One named input or output of the ONNX graph.

    `shape` is that of a single row, without the batch; None is the number of timesteps, which
    varies from batch to batch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    dtype: Literal["uint8", "float32", "float64", "int64"]
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join(str(s or 'time') for s in self.shape)}]"

    @property
    def is_vector(self) -> bool:
        """Whether several such tensors can be joined to one, as the numbers of a table are."""
        return len(self.shape) == 1 and None not in self.shape


LENGTH = Tensor(name="length", dtype="int64", shape=())
"""How many timesteps of a row are not padding."""


@dataclass(frozen=True)
class SourceLocation:
    """Where a batch of rows lies, for messages: a file, and the number of its first row."""

    file: str
    first: int = 0

    def describe(self, row: int) -> str:
        """A row of the batch: `new/a.csv, row 17`."""
        return f"{self.file}, row {self.first + row}"

    def missing(self, name: str, bad: Mask, what: str = "missing") -> InputError:
        """The error for the rows `bad` (N,) of the column `name`."""
        row = self.first + int(np.argmax(bad))
        return InputError(
            f"{self.file}: row {row} of column {name!r} is {what}; "
            f"fill or remove such rows ({int(bad.sum())} in this batch)"
        )

    def wrong_type(self, name: str, values: pa.Array, expected: str) -> InputError:
        return InputError(f"{self.file}: column {name!r} is {values.type}; {expected} is expected")


@dataclass(frozen=True)
class RawColumn:
    """A column of the raw data: its name, where it lies, and what the parameters say of it."""

    name: str
    where: str
    """The file or folder, for messages."""
    describe: Callable[[int], str]
    """Names a row as its file counts it."""
    source: "Source"
    reading: Reading = PLAIN
    fill: bool = False
    """Whether missing values are to be filled."""
    changed: Counter[str] = field(default_factory=Counter, compare=False)
    """Filled by `read`: of how many values something was changed, and what."""

    def cell(self, row: int) -> str:
        """`data/raw/a.csv, row 17, column 'age'`."""
        return f"{self.describe(row)}, column {self.name!r}"


@dataclass(frozen=True)
class CleanColumn:
    """Values (N,) as they will be used, null where there is none; `missing` (N,) says where."""

    values: pa.Array
    missing: Mask

    @classmethod
    def of(cls, values: pa.Array) -> "CleanColumn":
        """Missing is what is null, and text of nothing but white space."""
        if pa.types.is_string(values.type):
            values = without_blank(values)
        return cls(values, values.is_null().to_numpy(zero_copy_only=False))

    @classmethod
    def of_numbers(cls, values: pa.Array) -> "CleanColumn":
        """Missing is also what is not finite as a float32, in which networks count."""
        if pa.types.is_decimal(values.type) or pa.types.is_float16(values.type):
            values = values.cast(pa.float64())
        if pa.types.is_floating(values.type):
            with np.errstate(over="ignore"):
                single = values.to_numpy(zero_copy_only=False).astype(np.float32)
            values = pc.if_else(np.isfinite(single), values, pa.scalar(None, values.type))
        return cls.of(values)


@dataclass(frozen=True)
class EncodeContext:
    """What the values of a batch are encoded with."""

    location: SourceLocation
    reading: Reading = PLAIN
    tokenizer: Tokenizer | None = None
    counts: Counts = field(default_factory=Counts)
    """Counts values that were unknown, missing, truncated or outside the training range."""


class Column(BaseModel):
    """A column of a user's rows. Subclasses add what was fitted on the training split."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: str

    data: ClassVar[str] = "tabular"
    """What a dataset of such columns is called, in messages."""
    arrow_types: ClassVar[tuple[Callable[[pa.DataType], bool], ...]] = ()
    """Tests for the Arrow types that are of this type unless the parameters say otherwise."""
    read_as: ClassVar[Kind | None] = None
    """What `tasks.files` reads such a column as, from files without types; None if it cannot."""
    reads_text: ClassVar[bool] = True
    """Whether values may be spelled as text, so that the signature must say how it is read."""
    fillable: ClassVar[bool] = False
    """Whether `prepare.missing: fill` has a value for it."""
    cleaned_as_read: ClassVar[bool] = False
    """Whether cleaning changes no value, so that comparing clean values compares raw ones."""
    equal_is_copy: ClassVar[bool] = False
    """Whether two equal values are one thing, such as an image, and not a coincidence."""
    tokenized: ClassVar[bool] = False
    """Whether `tokenizer.json` is needed beside the signature."""
    file_forms: ClassVar[tuple[str, ...]] = ()
    """Forms of file, named in `tasks.files.suffixes`, whose rows are a value of this type alone."""
    names_files: ClassVar[bool] = False
    """Whether a table may have paths of files in place of the values."""
    is_array: ClassVar[bool] = False
    """Whether a single value is an array of numbers."""
    counted: ClassVar[tuple[str, str, str]] = ("rows", "unknown", "values")
    """Keys of `Counts` for all values and for unknown ones, and a word for what they count."""

    def __str__(self) -> str:
        return f"{self.name}: {self.kind}"

    # Raw values of training

    @classmethod
    def read(cls, values: pa.ChunkedArray, raw: RawColumn) -> pa.Array | pa.ChunkedArray:
        """Values of a table (N,) in the one Arrow type that this column type has.

        Raises:
            InputError: a value is not of this type; names row and column.
        """
        if cls.read_as is None:
            return values
        return convert(values, cls.read_as, raw.name, raw.describe, raw.reading)

    @classmethod
    def check_feature(cls, values: pa.ChunkedArray, raw: RawColumn) -> None:
        """Raises `InputError` if unread `values` (N,) cannot sensibly be a feature of this type."""

    @classmethod
    def clean(cls, values: pa.Array, raw: RawColumn) -> CleanColumn:
        """What `read` gave (N,), as it will be written, and which values are missing."""
        return CleanColumn.of(cls.read(values, raw))

    @classmethod
    def identify(cls, values: pa.Array) -> NDArray[np.int64]:
        """(N,): the same number, below N, exactly for equal clean values."""
        return comparing.codes(values)

    @classmethod
    def fit(cls, train: pa.Array, every: pa.ChunkedArray, raw: RawColumn) -> "Fitted":
        """Fit on clean values of the training split; `every` are those of all splits.

        Raises:
            InputError: there is nothing to fit on, or `every` cannot be encoded without loss.
        """
        raise NotImplementedError

    # Raw values of prediction

    def read_file(
        self, form: str, path: Path, members: Mapping[str, str], size: int
    ) -> Iterator[pa.RecordBatch]:
        """The rows of a file of one of `file_forms`, at most `size` a time.

        `members` are the files of a folder by name, each with the SHA-256 that it must have.

        Raises:
            InputError: the file is broken, or what it holds does not fit.
        """
        raise NotImplementedError

    def read_table(
        self, batches: Iterator[pa.RecordBatch], table: Path, members: Mapping[str, str]
    ) -> Iterator[pa.RecordBatch]:
        """The rows of a table, with the values in place of the files that it names."""
        return batches

    # Fitted

    def stored(self, values: pa.Array) -> pa.Array:
        """Clean values (N,) as the prepared dataset has them on disk."""
        return values

    def tensors(self) -> tuple[Tensor, ...]:
        """Inputs of the graph that `encode` makes. Vectors of one name are joined in one tensor."""
        raise NotImplementedError

    def encode(self, values: pa.Array, context: EncodeContext) -> Arrays:
        """Values (N,) as the arrays of `tensors`, batch first, padded with zeros.

        Raises:
            InputError: a value has another type or shape, or is missing and none stands for it.
        """
        raise NotImplementedError

    def lengths(
        self, values: pa.Array, tokenizer: Tokenizer | None
    ) -> tuple[NDArray[np.int64], dict[str, Any]] | None:
        """Lengths (N,) in timesteps, before any is truncated, and what the report says of them.

        None where values have no length.
        """
        return None

    def profile(self, values: pa.Array, context: EncodeContext) -> dict[str, Any]:
        """What `profile.json` says of the training split, but for lengths. The parts of all columns
        are merged: objects key by key, lists by appending.

        `inputs` has, by tensor, lists with an entry for each element of its last axis.
        """
        return {}

    def linear_features(
        self, values: pa.Array, context: EncodeContext, source: "Source"
    ) -> tuple[Any, Any]:
        """For the linear model that doubts labels: a transformer of scikit-learn, and (N, width) or
        a list of N texts to fit it on. The encoded numbers, unless overridden."""
        from sklearn.preprocessing import StandardScaler  # most runs need none of it

        arrays = [array.reshape(len(array), -1) for array in self.encode(values, context).values()]
        return StandardScaler(), np.hstack(arrays).astype(np.float32)

    def of_arrays(self, values: Any, where: Path) -> pa.Array | None:
        """NumPy arrays as a column of a table, if `is_array`: one array (N, ...) of all rows, or a
        list with one for each row, which may hold None. None if there is no row.

        Raises:
            InputError: they have another shape or dtype; begins with `where`.
        """
        return None

    def describe(self) -> str:
        """What a value is, in a few words."""
        return self.kind

    def known(self) -> str:
        """Some of the values that a model knows, for a message."""
        return "those of the training split"


@dataclass(frozen=True)
class Fitted:
    """What `Column.fit` gives."""

    column: Column
    tokenizer: Tokenizer | None = None
