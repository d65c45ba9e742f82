"""Column types by name: one explicit dict, one module for each. `base.Column` is their interface.

Imports no torch; `tasks.architectures.fronts` says which part of a network takes each type.
"""

from collections.abc import Iterable, Sequence

from tasks.columns.base import (
    Arrays,
    CleanColumn,
    Column,
    EncodeContext,
    Fitted,
    RawColumn,
    SourceLocation,
    Tensor,
)
from tasks.columns.category import CategoryColumn
from tasks.columns.date import DateColumn
from tasks.columns.image import ImageColumn
from tasks.columns.number import BooleanColumn, NumberColumn, NumericColumn
from tasks.columns.sequence import SequenceColumn
from tasks.columns.text import TextColumn

__all__ = [
    "COLUMNS",
    "Arrays",
    "BooleanColumn",
    "CategoryColumn",
    "CleanColumn",
    "Column",
    "DateColumn",
    "EncodeContext",
    "Fitted",
    "ImageColumn",
    "NumberColumn",
    "NumericColumn",
    "RawColumn",
    "SequenceColumn",
    "SourceLocation",
    "Tensor",
    "TextColumn",
    "data_of",
    "with_tensors",
]

# In the order of their tensors in a signature.
COLUMNS: dict[str, type[Column]] = {
    "number": NumberColumn,
    "boolean": BooleanColumn,
    "date": DateColumn,
    "category": CategoryColumn,
    "text": TextColumn,
    "image": ImageColumn,
    "sequence": SequenceColumn,
}


def data_of(columns: Iterable[type[Column] | Column]) -> str:
    """The name for data with such columns: `tabular`, or `tabular and text`."""
    return " and ".join(dict.fromkeys(column.data for column in columns))


def with_tensors(columns: Sequence[Column]) -> list[tuple[Column, dict[str, Tensor]]]:
    """Each column with its tensors in the graph, by the column's own names for them.

    The order is that of `COLUMNS`; types with the same tensors, such as all numeric ones, stay in
    the order of the row. If two columns have tensors of the same name that cannot be joined, such
    as the `length` of a text and a sequence, the second gets a prefix: `pulse.length`.
    """
    order = [kind.tensors for kind in COLUMNS.values()]
    found, joined = [], dict[str, bool]()
    for column in sorted(columns, key=lambda c: order.index(type(c).tensors)):
        tensors = {tensor.name: tensor for tensor in column.tensors()}
        if not all(joined.get(name, True) for name in tensors) or any(
            name in joined and not tensor.is_vector for name, tensor in tensors.items()
        ):
            tensors = {
                name: tensor.model_copy(update={"name": f"{column.name}.{name}"})
                for name, tensor in tensors.items()
            }
        joined |= {tensor.name: tensor.is_vector for tensor in tensors.values()}
        found.append((column, tensors))
    return found
