"""The rows of input files: read in chunks, and made into what a model takes."""

from collections.abc import Collection, Iterable, Iterator, Mapping

import pyarrow as pa

from tasks.bundle.signature import Signature
from tasks.columns import SourceLocation
from tasks.dataset import KEY
from tasks.errors import InputError
from tasks.files import tables
from tasks.files.chunks import Chunk
from tasks.files.convert import Kind, plain
from tasks.files.json_lines import JSON_TYPES, common_type
from tasks.inputs import InputFile, first_row, form_of, kinds_of, may_take, other_form


def key_type(files: Iterable[InputFile], signature: Signature) -> pa.DataType | None:
    """The type of the column `key` over all files; None where they have none.

    Parquet and Arrow have types. Keys of CSV and JSON Lines are int64 where all of them are whole
    numbers as Python writes them, and text otherwise: `007` is not 7.

    Raises:
        InputError: files with types have different ones, which are not all whole numbers.
    """
    kinds, reading = kinds_of(signature), signature.read_as
    typed: set[pa.DataType] = set()
    plainly: set[pa.DataType] = set()
    for path in (file.path for file in files if tables.form(file.path)):
        found = tables.type_of_key(path, kinds, reading)
        (plainly if tables.first_row(path) else typed).add(found)
    every = (typed | plainly) - {None}
    if len(every) > 1 and all(map(pa.types.is_signed_integer, every)):
        return pa.int64()
    if len(every) > 1 and typed - {None, pa.string()}:
        names = ", ".join(sorted(map(str, every)))
        raise InputError(
            f"the column 'key' has different types in the input files: {names}. Predict them one "
            "after the other, or write the keys with one type"
        )
    return every.pop() if len(every) == 1 else pa.string() if every else None


def kept_types(
    files: Iterable[InputFile], names: Collection[str], signature: Signature
) -> dict[str, str]:
    """The types of columns that are passed through, if they come from JSON Lines.

    They are those of the values: bool, int64, float64 or text; text where they differ. A column
    that the model takes has the type that it is read as, and is not among them.

    Raises:
        InputError: a column has several types; a reader of the predictions could not put its parts
            together.
    """
    names = set(names)
    paths = [file.path for file in files if tables.form(file.path)] if names else []
    read = kinds_of(signature).keys()
    every = {path: tables.types_of(path, names) for path in paths}
    found = {}
    for name in sorted(names):
        types = {path: of[name] for path, of in every.items() if name in of}
        untyped = {path for path in types if tables.has_json(path) and name not in read}
        common = common_type({kind for kinds in types.values() for kind in kinds})
        fixed = {kind for path in types.keys() - untyped for kind in types[path]}
        if untyped:
            found[name] = common
        if len(fixed) > 1 or (untyped and (fixed - {common} or common not in JSON_TYPES)):
            shown = [f"{common_type(kinds)} in {path}" for path, kinds in types.items()]
            raise InputError(
                f"--keep {name}: the column has several types: {', '.join(shown[:5])}. Convert it, "
                "or predict the files one by one"
            )
    return found


class RowsOf:
    """The rows of one input file for a model, with the columns that `keep` names."""

    def __init__(
        self,
        file: InputFile,
        signature: Signature,
        keep: Collection[str] = (),
        also: Mapping[str, Kind] | None = None,
        types: Mapping[str, str] | None = None,
    ) -> None:
        """`types` are those of `kept_types`. `also` gives the kinds of other columns of a table,
        all of which are then read.

        Raises:
            InputError: the model takes no rows of such a file.
        """
        self.file, self._signature = file, signature
        self._form, self._types = form_of(file), types or {}
        self._table: tables.TableRows | None = None
        if self._form is None:
            # Values of JSON Lines would have another type in each chunk: these are read as text.
            kept: dict[str, Kind] = dict.fromkeys(keep, "text")
            kinds = {**kept, **(also or {}), **kinds_of(signature)}
            needed = {KEY, *keep, *(column.name for column in signature.columns)}
            only = () if also is not None else needed
            self._table = tables.TableRows(file.path, kinds, signature.read_as, only)
        elif not may_take(signature, self._form):
            raise other_form(file.path, signature)
        elif keep:
            raise InputError(
                f"{file.name} has no columns, so --keep {','.join(keep)} cannot be kept"
            )

    def chunks(self, start: int, size: int) -> Iterator[Chunk]:
        """Chunks of up to `size` rows as they are in the file, with row `start` in the first.

        Raises:
            InputError: the file is missing or broken.
        """
        if self._table is not None:
            yield from self._table.chunks(start, size)
            return
        assert self._form is not None
        column, file = self._signature.columns[0], self.file
        for rows in column.read_file(self._form, file.path, file.members, start, size):
            yield Chunk.following(rows, start)
            start += rows.num_rows

    def typed(self, rows: pa.RecordBatch, location: SourceLocation) -> pa.RecordBatch:
        """Rows of a chunk with values as `Encoder.encode` takes them.

        Raises:
            BadRows: some rows have no such values; names the file, row and column of the first.
        """
        path = self.file.path
        if self._table is not None:
            rows = self._table.typed(rows, location.describe)
        folder = path if self.file.is_images else path.parent
        for column in self._signature.columns:
            rows = column.read_cells(rows, folder, self.file.members, location.describe)
        return rows

    def kept(self, rows: pa.RecordBatch, name: str) -> pa.Array:
        """A column that is passed through, (N,): of CSV as text.

        Raises:
            InputError: there is none of that name.
        """
        tables.named(name, rows.schema.names, self.file.name, "--keep")
        column = plain(rows[name])
        if name in self._types and tables.has_json(self.file.path):
            return column.cast(self._types[name])
        untyped = tables.first_row(self.file.path) and pa.types.is_binary(column.type)
        return column.cast(pa.string()) if untyped else column


def rows(
    file: InputFile, signature: Signature, size: int, also: Mapping[str, Kind] | None = None
) -> Iterator[pa.RecordBatch]:
    """Batches with the columns of the signature; `also` gives the kinds of other table columns.

    Raises:
        InputError: the file is broken, or a row of it; names the file and the row.
    """
    source = RowsOf(file, signature, also=also or {})
    for chunk in source.chunks(0, size):
        location = SourceLocation(file.name, first_row(file), chunk.refuse_bad().index)
        yield source.typed(chunk.rows, location)


def pieces(file: InputFile, signature: Signature, size: int) -> list[int]:
    """The rows of each part of a file that can be read without the parts before it, in order.

    Of image files any `size` rows are such a part; CSV, JSON Lines and the like are one.
    """
    if file.is_images:
        return [min(size, file.rows - start) for start in range(0, file.rows, size)]
    if tables.form(file.path) in (".parquet", ".arrow"):
        return tables.lengths(file.path, kinds_of(signature), signature.read_as)
    return [file.rows]
