"""Signature: the inputs and outputs of a model, or the columns of a prepared dataset."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

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


# Type checkers see the base class; pydantic chooses the class by `kind`.
if TYPE_CHECKING:
    AnyColumn = Column
else:
    AnyColumn = Annotated[Union[tuple(COLUMNS.values())], Field(discriminator="kind")]  # noqa: UP007


class Signature(BaseModel):
    """Columns of the user's rows, input and output tensors of the graph, and classes.

    Part of a bundle's digest. `tasks.encoding` encodes the columns as tensors.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1, 2] = 1
    """2 with a `threshold` or `quantile`: a reader of 1 would take the prediction for another."""
    task: Task
    columns: tuple[AnyColumn, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    classes: tuple[str, ...] = ()
    """Labels in the order of the model's outputs; for a binary task, the second is positive."""
    threshold: float | None = Field(default=None, gt=0, lt=1)
    """Of a binary task, the probability from which on the second class is predicted; None: the more
    probable class."""
    quantile: float | None = Field(default=None, gt=0, lt=1)
    """Of a regression that predicts a quantile: which share of the values is below it."""
    reading: Reading | None = None
    """Rules for text in tables; None for images and sequences, and in older signatures."""

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

    @model_validator(mode="after")
    def _rules_of_prediction(self) -> "Signature":
        if (self.threshold is None and self.quantile is None) != (self.schema_version == 1):
            raise ValueError("threshold and quantile belong to schema_version 2, and to no other")
        if self.quantile is not None and "quantile" not in self.problem.losses:
            raise ValueError(f"the task {self.task} has no quantile")
        if self.threshold is not None and len(self.classes) != 2:
            raise ValueError(f"a threshold needs two classes; these are {len(self.classes)}")
        return self

    def predicting(self, **rule: float) -> "Signature":
        """The same, but predicting by a `threshold`, or a `quantile`."""
        return self.model_validate({**self.model_dump(), "schema_version": 2, **rule})

    @classmethod
    def read(cls, path: Path) -> "Signature":
        """Raises `InputError` if this release cannot read the file."""
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
        optional = ("reading", "threshold", "quantile")
        left_out = {name for name in optional if getattr(self, name) is None}
        text = self.model_dump_json(indent=2, exclude=left_out)
        path.write_text(text + "\n", encoding="utf-8")

    @property
    def data(self) -> str:
        """The kind of data, for messages: `tabular`, `image`, `tabular and text`."""
        return data_of(self.columns)

    @property
    def read_as(self) -> Reading:
        """The rules for text, with a default for signatures without them."""
        return self.reading or EARLIER

    @property
    def problem(self) -> Problem:
        return BY_TASK[self.task]

    @property
    def classifies(self) -> bool:
        return isinstance(self.problem.target, ClassTarget)

    @property
    def rule(self) -> str:
        """What is predicted, in words, if it is neither the most probable class nor the mean."""
        if self.threshold is not None:
            chosen = f"{self.classes[1]!r} where its probability is {self.threshold:g} or more"
            return f"threshold: {chosen}"
        return "" if self.quantile is None else f"predicts the quantile {self.quantile:g}"

    @property
    def tokenized(self) -> bool:
        """Whether the model needs `tokenizer.json`."""
        return any(column.tokenized for column in self.columns)

    @property
    def has_variable_length(self) -> bool:
        """Whether the inputs have variable length."""
        return any(None in tensor.shape for tensor in self.inputs)

    def trim_padding(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Cut the inputs of one batch, arrays or tensors, to the length of its longest row."""
        trimmed = dict(inputs)
        for tensor in self.inputs:
            if None in tensor.shape:
                length = inputs[length_of(tensor)]
                trimmed[tensor.name] = inputs[tensor.name][:, : max(1, int(length.max()))]
        return trimmed


def length_of(tensor: Tensor) -> str:
    """The name of the tensor with the lengths of a padded tensor."""
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
