"""The input and output contract of a model, and of the dataset it was trained on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.errors import InputError
from tasks.files.reading import EARLIER, Reading

# The files of a bundle that decide a prediction, and so make its digest; the rest is evidence.
# Only models of text have a tokenizer.
IDENTITY = frozenset({"model.onnx", "signature.json", "tokenizer.json"})

# Token ids that every tokenizer reserves; the third is the beginning of each text.
PADDING, UNKNOWN, BEGIN = 0, 1, 2

Task = Literal["binary", "multiclass", "regression", "language_model"]
Array = TypeVar("Array", bound=Any)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str

    def __str__(self) -> str:
        return f"{self.name}: {getattr(self, 'kind', 'tensor')}"


class ImageColumn(_Part):
    """Images of one size, (height, width, channels); `tasks.files.images` reads image files."""

    kind: Literal["image"] = "image"
    dtype: Literal["uint8", "float32"]
    shape: tuple[int, int, int]
    resize: Literal["bilinear"] | None = None
    """How image files get this size; without it, those of another size are refused."""
    colour: Literal["grey", "rgb"] | None = None
    """What image files are converted to; without it, grey becomes RGB, and nothing grey."""

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join(map(str, self.shape))}]"


class NumberColumn(_Part):
    """One number for each row; booleans are 0 and 1, dates are days since 1970-01-01 (UTC)."""

    kind: Literal["number", "boolean", "date"] = "number"
    fill: float | None = None
    """What stands for a missing value; without it, a missing value is refused."""
    offset: float = 0.0
    """What is subtracted, as float64, before a value becomes float32; in the column's own unit,
    as are all numbers here. Other than 0 only where float32 would lose values."""
    low: float | None = None
    high: float | None = None
    """The smallest and largest value of the training split; older releases did not note them."""


class CategoryColumn(_Part):
    """One of `values`, coded from 1 in that order; 0 is every value never seen in training.

    Values are text, spelled by the rule of `tasks.files.convert`.
    """

    kind: Literal["category"] = "category"
    values: tuple[str, ...]
    fill: str | None = None
    """What stands for a missing value; without it, a missing value is refused."""


class TextColumn(_Part):
    """Text; `tokenizer.json` beside the signature makes tokens of it."""

    kind: Literal["text"] = "text"
    vocabulary: int
    """Token ids are below this; 0 is padding, 1 an unknown token, 2 the beginning of each text."""
    max_length: int
    """Tokens that are kept of a text, its beginning included."""


class SequenceColumn(_Part):
    """A sequence of steps of `features` numbers each."""

    kind: Literal["sequence"] = "sequence"
    features: int
    max_length: int
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None
    """The smallest and largest value of each feature in the training split, in steps that are kept;
    older releases did not note them."""


Column = Annotated[
    ImageColumn | NumberColumn | CategoryColumn | TextColumn | SequenceColumn,
    Field(discriminator="kind"),
]


class Tensor(_Part):
    """One named input or output of the ONNX graph.

    `shape` is that of a single row, without the batch; None is the number of steps, which varies
    from batch to batch.
    """

    dtype: Literal["uint8", "float32", "float64", "int64"]
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join(str(s or 'time') for s in self.shape)}]"


class Signature(BaseModel):
    """Columns of a user's rows, tensors in and out of the graph, and classes.

    Part of a bundle's digest. `tasks.encoding` makes the tensors of the columns.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    task: Task
    columns: tuple[Column, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    classes: tuple[str, ...] = ()
    """Labels in the order of the model's outputs; of a binary task, the second is the positive."""
    reading: Reading | None = None
    """How text in tables is read; None in signatures of images, sequences and earlier releases."""

    @classmethod
    def of(
        cls,
        task: Task,
        columns: tuple[Column, ...],
        classes: tuple[str, ...],
        reading: Reading | None = None,
    ) -> "Signature":
        """The signature of a model for `task` on `columns`."""
        return cls(
            task=task,
            columns=columns,
            inputs=_inputs(columns),
            outputs=_outputs(task, columns, classes),
            classes=classes,
            reading=reading,
        )

    @classmethod
    def read(cls, path: Path) -> "Signature":
        """Raises `InputError` if the file is not a signature that this release understands."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise InputError(f"{path} is no signature: {error}") from error

    @classmethod
    def of_document(cls, document: object, where: str) -> "Signature":
        """From parsed JSON; raises `InputError` as `read` does."""
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise InputError(f"{where} has no signature that can be read: {error}") from error

    def write(self, path: Path) -> None:
        unsaid = {"reading"} if self.reading is None else None
        text = self.model_dump_json(indent=2, exclude=unsaid)
        path.write_text(text + "\n", encoding="utf-8")

    @property
    def kind(self) -> Literal["image", "tabular", "text", "sequence"]:
        """What kind of data this is, all columns together."""
        first = self.columns[0].kind
        return first if first in ("image", "text", "sequence") else "tabular"

    @property
    def read_as(self) -> Reading:
        """How text is read, also where the signature does not say."""
        return self.reading or EARLIER

    @property
    def classifies(self) -> bool:
        return self.task in ("binary", "multiclass")

    @property
    def varies(self) -> bool:
        """Whether rows have numbers of steps of their own."""
        return any(None in tensor.shape for tensor in self.inputs)

    def cut(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Inputs of one batch, arrays or tensors, without the steps that no row of it has."""
        if not self.varies:
            return dict(inputs)
        varying = {tensor.name for tensor in self.inputs if None in tensor.shape}
        longest = max(1, int(inputs["length"].max()))
        return {n: a[:, :longest] if n in varying else a for n, a in inputs.items()}


def _inputs(columns: tuple[Column, ...]) -> tuple[Tensor, ...]:
    length = Tensor(name="length", dtype="int64", shape=())
    match columns[0]:
        case ImageColumn(name=name, dtype=dtype, shape=shape):
            return (Tensor(name=name, dtype=dtype, shape=shape),)
        case TextColumn():
            return (Tensor(name="tokens", dtype="int64", shape=(None,)), length)
        case SequenceColumn(features=features):
            return (Tensor(name="sequence", dtype="float32", shape=(None, features)), length)
    categories = sum(isinstance(column, CategoryColumn) for column in columns)
    widths = {
        "numbers": ("float32", len(columns) - categories),
        "categories": ("int64", categories),
    }
    return tuple(
        Tensor(name=name, dtype=dtype, shape=(width,))  # type: ignore[arg-type]
        for name, (dtype, width) in widths.items()
        if width
    )


def _outputs(
    task: Task, columns: tuple[Column, ...], classes: tuple[str, ...]
) -> tuple[Tensor, ...]:
    if task == "regression":
        return (Tensor(name="prediction", dtype="float64", shape=()),)
    if task == "language_model":
        assert isinstance(columns[0], TextColumn)
        return (
            # Of the token that would follow the text.
            Tensor(name="logits", dtype="float32", shape=(columns[0].vocabulary,)),
            # Of the text: the natural logarithm, summed over its `scored` tokens.
            Tensor(name="log_likelihood", dtype="float32", shape=()),
            Tensor(name="scored", dtype="int64", shape=()),
        )
    return tuple(
        Tensor(name=name, dtype="float32", shape=(len(classes),))
        for name in ("logits", "probabilities")
    )
