"""The input and output contract of a model, and of the dataset it was trained on."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.columns import COLUMNS, Column, Tensor, data_of, with_tensors
from tasks.errors import InputError
from tasks.files.reading import EARLIER, Reading
from tasks.problems import BY_TASK, Problem
from tasks.problems.targets import ClassTarget

if TYPE_CHECKING:
    Task = str
else:
    Task = Literal[tuple(BY_TASK)]
Array = TypeVar("Array", bound=Any)


# A type checker sees the base class; pydantic picks the class by `kind`.
if TYPE_CHECKING:
    AnyColumn = Column
else:
    AnyColumn = Annotated[Union[tuple(COLUMNS.values())], Field(discriminator="kind")]  # noqa: UP007


class Signature(BaseModel):
    """Columns of a user's rows, tensors in and out of the graph, and classes.

    Part of a bundle's digest. `tasks.encoding` makes the tensors of the columns.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    task: Task
    columns: tuple[AnyColumn, ...]
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
            outputs=tuple(
                Tensor.model_validate(output._asdict())
                for output in BY_TASK[task].outputs(columns, classes)
            ),
            classes=classes,
            reading=reading,
        )

    @classmethod
    def read(cls, path: Path) -> "Signature":
        """Raises `InputError` if the file is not a signature that this release understands."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise InputError(f"{path} is not a signature: {error}") from error

    @classmethod
    def of_document(cls, document: object, where: str) -> "Signature":
        """From parsed JSON; raises `InputError` as `read` does."""
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise InputError(f"{where} has no readable signature: {error}") from error

    def write(self, path: Path) -> None:
        unsaid = {"reading"} if self.reading is None else None
        text = self.model_dump_json(indent=2, exclude=unsaid)
        path.write_text(text + "\n", encoding="utf-8")

    @property
    def data(self) -> str:
        """What data this is, for messages: `tabular`, `image`, `tabular and text`."""
        return data_of(self.columns)

    @property
    def read_as(self) -> Reading:
        """How text is read, also where the signature does not say."""
        return self.reading or EARLIER

    @property
    def problem(self) -> Problem:
        return BY_TASK[self.task]

    @property
    def classifies(self) -> bool:
        return isinstance(self.problem.target, ClassTarget)

    @property
    def tokenized(self) -> bool:
        """Whether `tokenizer.json` belongs beside this."""
        return any(column.tokenized for column in self.columns)

    @property
    def has_variable_length(self) -> bool:
        """Whether rows have different numbers of timesteps."""
        return any(None in tensor.shape for tensor in self.inputs)

    def trim_padding(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Inputs of one batch, arrays or tensors, without the timesteps that no row of it has."""
        trimmed = dict(inputs)
        for tensor in self.inputs:
            if None in tensor.shape:
                length = inputs[length_of(tensor)]
                trimmed[tensor.name] = inputs[tensor.name][:, : max(1, int(length.max()))]
        return trimmed


def length_of(tensor: Tensor) -> str:
    """The name of the tensor with the lengths of one that is padded."""
    column, dot, _ = tensor.name.rpartition(".")
    return f"{column}{dot}length"


def _inputs(columns: tuple[Column, ...]) -> tuple[Tensor, ...]:
    found: dict[str, Tensor] = {}
    for _, tensors in with_tensors(columns):
        for tensor in tensors.values():
            if joined := found.get(tensor.name):
                width = (joined.shape[0] or 0) + (tensor.shape[0] or 0)
                tensor = tensor.model_copy(update={"shape": (width,)})
            found[tensor.name] = tensor
    return tuple(found.values())
