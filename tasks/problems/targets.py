"""Targets, classes or numbers: how they are stored, encoded and compared.

`tasks.preparing.targets` reads them from raw data.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.errors import InputError
from tasks.files.convert import convert, plain

if TYPE_CHECKING:  # the signature imports this package
    from tasks.bundle.signature import Signature

Describe = Callable[[int], str]  # the location of a row, for messages


class Target(ABC):
    """The column to predict. `values` are (N,) strings or float64."""

    kind: ClassVar[Literal["category", "number"]]
    """The kind to which the target column of labelled rows is converted."""
    reported_as: ClassVar[str]
    """The key of its distribution in the report of `prepare`."""

    @abstractmethod
    def stored(self, values: pa.Array, classes: tuple[str, ...]) -> pa.Array:
        """The values as a column of a prepared split."""

    @abstractmethod
    def is_stored(self, kind: pa.DataType) -> bool:
        """Whether a prepared split stores the target in this Arrow type."""

    @abstractmethod
    def loaded(self, column: pa.Array, signature: "Signature") -> NDArray[Any]:
        """The stored column (N,) as numbers; classes by their index in the signature."""

    @abstractmethod
    def parsed(
        self, values: pa.Array, signature: "Signature", name: str, describe: Describe
    ) -> NDArray[Any]:
        """The column `name` of labelled rows, (N,), in the form of `loaded`.

        Raises:
            InputError: a row has no value, or a class that the model does not know.
        """


class ClassTarget(Target):
    """One of several classes, as an int64 index into the signature's classes."""

    kind = "category"
    reported_as = "class_balance"

    def stored(self, values: pa.Array, classes: tuple[str, ...]) -> pa.Array:
        codes = pa.array(class_numbers(values, classes).astype(np.int32))
        return pa.DictionaryArray.from_arrays(codes, pa.array(classes))

    def is_stored(self, kind: pa.DataType) -> bool:
        return bool(pa.types.is_dictionary(kind))

    def loaded(self, column: pa.Array, signature: "Signature") -> NDArray[np.int64]:
        names = column.dictionary.to_pylist()
        order = np.array([signature.classes.index(name) for name in names], np.int64)
        found: NDArray[np.int64] = order[column.indices.to_numpy()]
        return found

    def parsed(
        self, values: pa.Array, signature: "Signature", name: str, describe: Describe
    ) -> NDArray[np.int64]:
        text = convert(plain(values), "category", name, describe, signature.read_as)
        _refuse_missing(text.is_null().to_numpy(zero_copy_only=False), name, describe)
        classes = pa.array(signature.classes, pa.string())
        codes = pc.index_in(text.cast(pa.string()), value_set=classes)
        unknown = codes.is_null().to_numpy(zero_copy_only=False)
        if unknown.any():
            row = int(np.argmax(unknown))
            raise InputError(
                f"{describe(row)}: {name!r} is {text[row].as_py()!r}, which is not a class of "
                f"the model: {', '.join(signature.classes[:20])}. Correct or remove such rows "
                f"({int(unknown.sum())} in this batch)"
            )
        return np.asarray(codes.to_numpy(zero_copy_only=False), np.int64)


class NumberTarget(Target):
    """A finite number, float64."""

    kind = "number"
    reported_as = "target"

    def stored(self, values: pa.Array, classes: tuple[str, ...]) -> pa.Array:
        return values

    def is_stored(self, kind: pa.DataType) -> bool:
        return bool(kind == pa.float64())

    def loaded(self, column: pa.Array, signature: "Signature") -> NDArray[np.float64]:
        return np.asarray(column.to_numpy(), np.float64)

    def parsed(
        self, values: pa.Array, signature: "Signature", name: str, describe: Describe
    ) -> NDArray[np.float64]:
        numbers = convert(plain(values), "number", name, describe, signature.read_as)
        found = numbers.cast(pa.float64()).to_numpy(zero_copy_only=False)
        _refuse_missing(~np.isfinite(found), name, describe)
        return np.asarray(found, np.float64)


def class_numbers(values: pa.Array, classes: tuple[str, ...]) -> NDArray[np.int64]:
    """(N,): the index of each label in `classes`."""
    found: NDArray[np.int64] = pc.index_in(values, pa.array(classes)).to_numpy().astype(np.int64)
    return found


def _refuse_missing(missing: NDArray[np.bool_], name: str, describe: Describe) -> None:
    if missing.any():
        raise InputError(
            f"{describe(int(np.argmax(missing)))}: {name!r} has no value, but an evaluation needs "
            f"the target of every row. Fill or remove such rows ({int(missing.sum())} in this "
            "batch)"
        )
