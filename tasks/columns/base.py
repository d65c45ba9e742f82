"""Column: the interface of all column types, and the types of its arguments.

A column type is a class. Its class methods work on raw values, before anything is fitted. An
instance is a fitted column, and its fields are those of the column in `signature.json`. The steps
find a type in `tasks.columns.COLUMNS` and do not know the single types.
"""

import math
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
from tasks.errors import BadRows, InputError
from tasks.files.convert import Kind, convert
from tasks.files.reading import PLAIN, Reading
from tasks.files.spelling import without_blank
from tasks.measures import Measure
from tasks.reasons import MISSING

if TYPE_CHECKING:
    from tasks.config import Source

Arrays = dict[str, NDArray[Any]]
Mask = NDArray[np.bool_]


class Tensor(BaseModel):
    """One named input or output of the ONNX graph.

    `shape` is the shape of one row, without the batch; None is the number of timesteps, which
    varies between batches.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    dtype: Literal["uint8", "float32", "float64", "int64"]
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join(str(s or 'time') for s in self.shape)}]"

    @property
    def is_vector(self) -> bool:
        """Whether tensors of this shape can be joined, as the numbers of a table are."""
        return len(self.shape) == 1 and None not in self.shape


LENGTH = Tensor(name="length", dtype="int64", shape=())
"""The number of timesteps of a row, without padding."""


@dataclass(frozen=True)
class SourceLocation:
    """Where a batch of rows comes from, for messages: the file, and the numbers of its rows."""

    file: str
    first: int = 0
    """The number of the batch's first row; with `index`, that of the file's first row."""
    index: NDArray[np.int64] | None = field(default=None, compare=False)
    """(N,): the place of each row in the file, from 0; None if the rows follow each other."""

    def describe(self, row: int) -> str:
        """A row of the batch: `new/a.csv, row 17`."""
        return f"{self.file}, row {self._number(row)}"

    def _number(self, row: int) -> int:
        return self.first + (row if self.index is None else int(self.index[row]))

    def missing(
        self, name: str, bad: Mask, what: str = "missing", reason: str = MISSING
    ) -> BadRows:
        """The error for the rows `bad` (N,) of the column `name`."""
        row = self._number(int(np.argmax(bad)))
        return BadRows(
            f"{self.file}: row {row} of column {name!r} is {what}. "
            f"Fill or remove such rows ({int(bad.sum())} in this batch)",
            bad,
            reason,
            name,
        )

    def wrong_type(self, name: str, values: pa.Array, expected: str) -> InputError:
        return InputError(f"{self.file}: column {name!r} is {values.type}; {expected} is expected")


@dataclass(frozen=True)
class RawColumn:
    """A column of the raw data: its name, its location, and the parameters that apply to it."""

    name: str
    where: str
    """The file or folder, for messages."""
    describe: Callable[[int], str]
    """The location of a row, counted as in its file."""
    source: "Source"
    reading: Reading = PLAIN
    fill: bool = False
    """Whether missing values are filled."""
    changed: Counter[str] = field(default_factory=Counter, compare=False)
    """Filled by `read`: how many values it changed, by a description of the change."""

    def cell(self, row: int) -> str:
        """`data/raw/a.csv, row 17, column 'age'`."""
        return f"{self.describe(row)}, column {self.name!r}"


@dataclass(frozen=True)
class CleanColumn:
    """Cleaned values (N,) with nulls for missing ones; `missing` (N,) is True there."""

    values: pa.Array
    missing: Mask

    @classmethod
    def of(cls, values: pa.Array) -> "CleanColumn":
        """Missing: nulls, and text that is only white space."""
        if pa.types.is_string(values.type):
            values = without_blank(values)
        return cls(values, values.is_null().to_numpy(zero_copy_only=False))

    @classmethod
    def of_numbers(cls, values: pa.Array) -> "CleanColumn":
        """Missing: also numbers that are not finite as float32, the type of network inputs."""
        if pa.types.is_decimal(values.type) or pa.types.is_float16(values.type):
            values = values.cast(pa.float64())
        if pa.types.is_floating(values.type):
            with np.errstate(over="ignore"):
                single = values.to_numpy(zero_copy_only=False).astype(np.float32)
            values = pc.if_else(np.isfinite(single), values, pa.scalar(None, values.type))
        return cls.of(values)


@dataclass(frozen=True)
class EncodeContext:
    """What `Column.encode` needs besides the values."""

    location: SourceLocation
    reading: Reading = PLAIN
    tokenizer: Tokenizer | None = None
    counts: Counts = field(default_factory=Counts)
    """Counts values that were unknown, missing, truncated or outside the training range."""


class Column(BaseModel):
    """A column of the user's rows. Subclasses add the fields fitted on the training split."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: str

    data: ClassVar[str] = "tabular"
    """The name for data with such columns, for messages."""
    arrow_types: ClassVar[tuple[Callable[[pa.DataType], bool], ...]] = ()
    """Predicates for Arrow types that are read as this column type by default."""
    read_as: ClassVar[Kind | None] = None
    """The kind to which `tasks.files` converts text of this column; None if it cannot be text."""
    reads_text: ClassVar[bool] = True
    """Whether values may be written as text, so that the signature needs the rules for reading."""
    fillable: ClassVar[bool] = False
    """Whether `prepare.missing: fill` can fill missing values."""
    cleaned_as_read: ClassVar[bool] = False
    """Whether cleaning changes no value, so that clean values can be compared in place of raw."""
    equal_is_copy: ClassVar[bool] = False
    """Whether equal values are copies, as for images, rather than a coincidence."""
    tokenized: ClassVar[bool] = False
    """Whether `tokenizer.json` is needed beside the signature."""
    file_forms: ClassVar[tuple[str, ...]] = ()
    """Kinds of file (see `tasks.files.suffixes`) whose rows are one value of this type."""
    names_files: ClassVar[bool] = False
    """Whether a table may have paths of files in place of the values."""
    is_array: ClassVar[bool] = False
    """Whether a single value is an array of numbers."""
    baseline: ClassVar[Literal["trees", "linear", "neighbours"]] = "linear"
    """The kind of quick model that suits such columns, a key of `tasks.quick_models.KINDS`."""
    baseline_sees: ClassVar[str] = ""
    """What that model sees of a value, for its name; empty if it sees all."""
    takes_dictionary: ClassVar[bool] = False
    """Whether `encode` takes dictionary arrays too, and encodes each of their values once."""
    counted: ClassVar[tuple[str, str, str]] = ("rows", "unknown", "values")
    """Keys of `Counts` for all values and for unknown ones, and a noun for what they count."""

    def __str__(self) -> str:
        return f"{self.name}: {self.kind}"

    # Raw values of training

    @classmethod
    def read(cls, values: pa.ChunkedArray, raw: RawColumn) -> pa.Array | pa.ChunkedArray:
        """Convert values (N,) of a table to the Arrow type of this column type.

        Raises:
            InputError: a value cannot be converted; names row and column.
        """
        if cls.read_as is None:
            return values
        return convert(values, cls.read_as, raw.name, raw.describe, raw.reading)

    @classmethod
    def check_feature(cls, values: pa.ChunkedArray, raw: RawColumn) -> None:
        """Raises `InputError` if raw `values` (N,) are not a sensible feature of this type."""

    @classmethod
    def clean(cls, values: pa.Array, raw: RawColumn) -> CleanColumn:
        """Clean the result of `read` (N,): the values to write, and which are missing."""
        return CleanColumn.of(cls.read(values, raw))

    @classmethod
    def identify(cls, values: pa.Array) -> NDArray[np.int64]:
        """(N,): a number below N for each clean value; equal values have equal numbers."""
        return comparing.codes(values)

    @classmethod
    def fit(cls, train: pa.Array, every: pa.ChunkedArray, raw: RawColumn) -> "Fitted":
        """Fit on the clean values of the training split; `every` are the values of all splits.

        Raises:
            InputError: there are no values to fit on, or encoding `every` would lose values.
        """
        raise NotImplementedError

    # Raw values of prediction

    def read_file(
        self, form: str, path: Path, members: Mapping[str, str], start: int, size: int
    ) -> Iterator[pa.RecordBatch]:
        """Rows of a file of one of `file_forms` as they are, from row `start`, up to `size` at a
        time; `read_cells` converts them.

        `members` are the files of a folder by name, each with its expected SHA-256.

        Raises:
            InputError: the file is broken, or its content does not fit.
        """
        raise NotImplementedError

    def read_cells(
        self,
        rows: pa.RecordBatch,
        folder: Path,
        members: Mapping[str, str] | None,
        describe: Callable[[int], str],
    ) -> pa.RecordBatch:
        """Rows with values of this type, such as images in place of the files that rows name.

        Files lie below `folder`; `members` has the SHA-256 of those that were found there, None if
        they were not hashed. `describe` locates a row.

        Raises:
            BadRows: some rows have no such value.
        """
        return rows

    # Fitted

    def stored(self, values: pa.Array) -> pa.Array:
        """Clean values (N,) in the form in which a prepared dataset stores them."""
        return values

    def tensors(self) -> tuple[Tensor, ...]:
        """The graph inputs that `encode` makes. Vectors of the same name are joined."""
        raise NotImplementedError

    def encode(self, values: pa.Array, context: EncodeContext) -> Arrays:
        """Encode values (N,) as the arrays of `tensors`, batch first, padded with zeros.

        Raises:
            InputError: a value has the wrong type or shape, or is missing without a fill value.
        """
        raise NotImplementedError

    def lengths(
        self, values: pa.Array, tokenizer: Tokenizer | None
    ) -> tuple[NDArray[np.int64], dict[str, Any]] | None:
        """Lengths (N,) in timesteps before truncation, and fields for the report.

        None if values have no length.
        """
        return None

    def profile(self, values: pa.Array, context: EncodeContext) -> dict[str, Any]:
        """The column's part of `profile.json`, without lengths. The parts of all columns are
        merged: objects key by key, lists by appending.

        `inputs` has, for each tensor, lists with one entry per element of its last axis.
        """
        return {}

    def measures(self) -> tuple[Measure, ...]:
        """What is counted of each batch of a job to detect drift, from the arrays of `encode`.

        Without any, drift of such columns is not detected.
        """
        return ()

    def linear_features(
        self, values: pa.Array, context: EncodeContext, source: "Source"
    ) -> tuple[Any, Any]:
        """A scikit-learn transformer and its input, (N, width) or N texts, for the linear model
        that finds label errors. By default, those of `encoded_features`."""
        return self.encoded_features(values, context)

    def baseline_features(self, values: pa.Array, context: EncodeContext) -> tuple[Any, Any]:
        """As `linear_features`, for the quick model that a network is compared with."""
        return self.encoded_features(values, context)

    def encoded_features(self, values: pa.Array, context: EncodeContext) -> tuple[Any, Any]:
        """A scikit-learn transformer for the encoded numbers, and these numbers, (N, width)."""
        from sklearn.preprocessing import StandardScaler  # imported late: most runs do not need it

        arrays = [array.reshape(len(array), -1) for array in self.encode(values, context).values()]
        return StandardScaler(), np.hstack(arrays).astype(np.float32)

    def baseline_codes(self) -> int:
        """How many codes of categories a value is one of; 0 if it is no category."""
        return 0

    def baseline_cells(self, values: pa.Array) -> float:
        """The numbers or characters that the quick model reads of an average one of `values`."""
        return sum(math.prod(n or 1 for n in tensor.shape) for tensor in self.tensors())

    def of_arrays(self, values: Any, where: Path) -> pa.Array | None:
        """Convert NumPy arrays to a column, if `is_array`: one array (N, ...) of all rows, or a
        list with an array or None for each row. Returns None if there are no rows.

        Raises:
            InputError: they have the wrong shape or dtype; the message begins with `where`.
        """
        return None

    def describe(self) -> str:
        """A short description of a value, for messages."""
        return self.kind

    def known(self) -> str:
        """Some of the values that the model knows, for messages."""
        return "those of the training split"


@dataclass(frozen=True)
class Fitted:
    """The result of `Column.fit`."""

    column: Column
    tokenizer: Tokenizer | None = None
