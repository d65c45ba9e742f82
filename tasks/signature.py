"""The input and output contract of a model, and of the dataset it was trained on."""

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.errors import InputError

# The files of a bundle that decide a prediction, and so make its digest; the rest is evidence.
IDENTITY = frozenset({"model.onnx", "signature.json"})


class Tensor(BaseModel):
    """One named input or output; `shape` is that of a single row, without the batch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    dtype: Literal["uint8", "float32"]
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join(map(str, self.shape))}]"


class Signature(BaseModel):
    """Columns, types, shapes and classes. Part of a bundle's digest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    task: Literal["multiclass"] = "multiclass"
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    classes: tuple[str, ...]
    """Labels in the order of the model's outputs."""

    @classmethod
    def read(cls, path: Path) -> "Signature":
        """Raises `InputError` if the file is not a signature that this release understands."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise InputError(f"{path} is no signature: {error}") from error

    def write(self, path: Path) -> None:
        path.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    def check(self, arrays: dict[str, NDArray[np.generic]], where: str, first: int = 0) -> None:
        """Refuse arrays, batch first, that the model does not take; row `first` is their first.

        Raises:
            InputError: names the input, what it is and what it must be.
        """
        for tensor in self.inputs:
            array = arrays[tensor.name]
            if array.dtype != tensor.dtype or array.shape[1:] != tensor.shape:
                given = f"{array.dtype}[{', '.join(map(str, array.shape[1:]))}]"
                raise InputError(
                    f"{where}: column {tensor.name!r} is {given}; the model takes {tensor}"
                )
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                row = first + int(np.argmin(np.isfinite(array.reshape(len(array), -1)).all(axis=1)))
                raise InputError(
                    f"{where}: row {row} of column {tensor.name!r} has a NaN or infinite value; "
                    "remove or fill such rows first"
                )
