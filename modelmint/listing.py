"""Lists of records, shown as a table and converted to a DataFrame."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, overload

from modelmint import tables
from modelmint.errors import import_pandas

T = TypeVar("T")
Row = dict[str, Any]

_SHOWN = 25  # rows of a list in a notebook or shell


@dataclass(frozen=True)
class Form(Generic[T]):
    """How records of one kind become a table or a DataFrame."""

    shown: Callable[[T], dict[str, str]]
    """A record as a line of the printed table."""
    flat: Callable[[T], Row]
    """A record as a row of the DataFrame."""
    columns: tuple[str, ...]
    """Columns that the DataFrame always has."""


class Listing(Sequence[T]):
    """A sequence of records; `to_pandas` gives them as a DataFrame.

    A notebook shows the first 25 as a table.

        >>> found = registry.search("pets")
        >>> len(found)
        2
        >>> [version.ref for version in found]
        ['pets:2', 'pets:1']
    """

    def __init__(self, records: Sequence[T], form: Form[T], title: str) -> None:
        self._records, self._form, self._title = tuple(records), form, title

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> "Listing[T]": ...
    def __getitem__(self, index: int | slice) -> "T | Listing[T]":
        if isinstance(index, slice):
            return Listing(self._records[index], self._form, self._title)
        return self._records[index]

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[T]:
        return iter(self._records)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def to_pandas(self) -> Any:
        """All records as a DataFrame, one in each row.

            >>> frame = registry.search("pets").to_pandas()
            >>> list(frame["version"])
            [2, 1]

        Raises:
            MissingPackage: pandas is not installed.
        """
        pandas = import_pandas()
        rows = [self._form.flat(record) for record in self._records]
        own = sorted({name for row in rows for name in row} - set(self._form.columns))
        found = {}
        for name in (*self._form.columns, *own):
            values = [row.get(name) for row in rows]
            # Without Int64, one missing value would turn version numbers into 3.0 and nan.
            whole = None in values and {type(v) for v in values} == {int, type(None)}
            found[name] = pandas.array(values, dtype="Int64") if whole else values
        return pandas.DataFrame(found)

    def __repr__(self) -> str:
        return tables.as_text(*self._content())

    def _repr_html_(self) -> str:
        return tables.as_html(*self._content())

    def _content(self) -> tuple[str, list[tables.Table]]:
        lines = [self._form.shown(record) for record in self._records[:_SHOWN]]
        if not lines:
            return self._title, []
        header = tuple(dict.fromkeys(name for line in lines for name in line))
        rows = tuple(tuple(line.get(name, "") for name in header) for line in lines)
        left = len(self._records) - len(lines)
        title = f"{self._title}; the first {len(lines)} of them" if left else self._title
        return title, [tables.Table("", header, rows)]
