"""Reads files of rows and named columns in all formats.

Missing values are empty fields of CSV, `null` or absent keys in JSON Lines, nulls in Parquet and
Arrow, and empty strings in all formats. Rows of CSV and JSON Lines are counted from 1, without the
header; rows of Parquet and Arrow from 0. Blank lines do not count.
"""

import difflib
import fnmatch
import re
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from tasks.errors import InputError
from tasks.files import suffixes
from tasks.files.chunks import Chunk
from tasks.files.convert import plain
from tasks.files.delimited import Kinds, unique_names
from tasks.files.dialect import decimal_sign
from tasks.files.formats import FORMATS
from tasks.files.infer import typed
from tasks.files.reading import PLAIN, Reading

SUFFIXES = suffixes.TABLES
# Names that pandas gives to the columns of an unnamed index, one for each level.
_INDEX = re.compile(r"__index_level_\d+__")
_BROKEN = (
    pa.ArrowException,
    OSError,
    TypeError,
    ValueError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
)


def form(path: Path, suffixes: Collection[str] = SUFFIXES) -> str | None:
    """The one of `suffixes` that a file name ends in; None if there is none."""
    return next((s for s in suffixes if path.name.endswith(s)), None)


def first_row(path: Path) -> int:
    """The number of the first row of a file in this format."""
    found = FORMATS.get(_plain(path))
    return found.first_row if found else 0


def has_json(path: Path) -> bool:
    """Whether each value of the file has a type of its own."""
    return _plain(path) == ".jsonl"


def _plain(path: Path) -> str:
    """The suffix without `.gz`."""
    return (form(path) or "").removesuffix(".gz")


def matches_patterns(file: Path, folder: Path, patterns: Collection[str]) -> bool:
    """Whether the path below `folder` matches one of the globs, or there are no globs."""
    name = file.relative_to(folder).as_posix()
    return not patterns or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def files(
    path: Path, suffixes: Collection[str] = SUFFIXES, patterns: Collection[str] = ()
) -> list[Path]:
    """`path` itself, or the files of a folder that match one of the globs `patterns`; sorted.

    Raises:
        InputError: there are none, or they have different formats.
    """
    found = [path]
    if path.is_dir():
        every = sorted(p for p in path.glob("[!.]*") if p.is_file() and form(p, suffixes))
        found = [file for file in every if matches_patterns(file, path, patterns)]
    endings = ", ".join(suffixes)
    if not found:
        matching = f" that matches {' or '.join(map(repr, patterns))}" if patterns else ""
        raise InputError(f"{path} holds no file ending in {endings}{matching}")
    for file in found:
        if not form(file, suffixes):
            raise InputError(f"{file}: the file name must end in {endings}")
        if form(file, suffixes) != form(found[0], suffixes):
            raise InputError(
                f"{found[0]} and {file} have different formats; put them into separate folders"
            )
    return found


def named(name: str, names: Iterable[str], where: str, what: str) -> str:
    """Check that the column `name` is one of `names`; returns it.

    Raises:
        InputError: it is not. Suggests a similar name; `what` is the parameter with the name.
    """
    names = list(names)
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1)
        raise InputError(
            f"{where}: no column {name!r}"
            + (f" (did you mean {close[0]!r}?)" if close else "")
            + f", which {what} names; it has {', '.join(names)}"
        )
    return name


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn the errors of libraries about a broken file into an `InputError` with its name."""
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing; give an existing file or folder") from error
    except UnicodeDecodeError as error:
        if not error.encoding.startswith("utf-8"):
            raise InputError(
                f"{path} does not have the encoding {error.encoding} of "
                f"prepare.source.csv.encoding: {error}"
            ) from error
        raise InputError(
            f"{path}: the header is not UTF-8: {error}. Convert the file to UTF-8, for instance "
            "with iconv, or train the model with its encoding: for Latin-1, set "
            "prepare.source.csv.encoding: latin-1"
        ) from error
    except _BROKEN as error:
        raise InputError(
            f"{path} is not a readable {form(path) or path.suffix} file: {error}"
        ) from error


def read(
    path: Path,
    given: Reading = PLAIN,
    text: Collection[str] = (),
    patterns: Collection[str] = (),
    numbers: Collection[str] = (),
) -> tuple[pa.Table, list[tuple[Path, int]], Reading]:
    """All rows of a file or folder, the row count of each file, and `given` with what was detected.

    Types are those of the file, or inferred for CSV. Columns in `text` stay text, so that `007`
    keeps its zeros. The decimal sign of CSV is detected in columns that are not in `text`, and in
    those in `numbers`.

    Raises:
        InputError: a file is missing or broken, or differs from the first; names file, row, column.
    """
    parts, rows, dialects = [], [], []
    for file in files(path, patterns=patterns):
        with reading(file):
            table, dialect = FORMATS[_plain(file)].read(file, given, text)
            unique_names(table.column_names, file)
            table = without_index(table)
            table.validate(full=True)
        tidy = dict(zip(table.column_names, map(plain, table.columns), strict=True))
        parts.append((str(file), pa.table(tidy)))
        rows.append((file, table.num_rows))
        dialects.append(dialect)
    if dialects[0] is not None:
        columns = [
            table[name]
            for _, table in parts
            for name in table.column_names
            if name not in text or name in numbers
        ]
        sign = given.decimal or decimal_sign(columns, dialects[0].delimiter, given)
        given = given.model_copy(update={**asdict(dialects[0]), "decimal": sign})
        parts = [(file, _typed(table, given, text)) for file, table in parts]
    table = concat(parts)
    if not table.num_rows:
        raise InputError(f"{path} has columns ({', '.join(table.column_names)}) but no rows")
    return table, rows, given


def _typed(table: pa.Table, given: Reading, text: Collection[str]) -> pa.Table:
    """Convert the text columns that are not in `text` to the types inferred from their values."""
    for number, name in enumerate(table.column_names):
        if name not in text:
            table = table.set_column(number, name, typed(table.column(number), given))
    return table


def without_index(rows: Any, kinds: Kinds | None = None) -> Any:
    """Drop the columns of an unnamed pandas index: they only number the rows.

    A named index is a column like any other, as in CSV. Columns in `kinds` are kept, because the
    model was trained on them.
    """
    index = [n for n in rows.schema.names if _INDEX.fullmatch(n) and n not in (kinds or {})]
    return rows.drop_columns(index) if index else rows


def concat(parts: list[tuple[str, pa.Table]]) -> pa.Table:
    """Concatenate tables, each given with the name of its file.

    Raises:
        InputError: columns differ; names the columns and the file.
    """
    first, head = parts[0]
    names, schema = head.column_names, head.schema
    for where, table in parts[1:]:
        lost = [n for n in names if n not in table.column_names]
        added = [n for n in table.column_names if n not in names]
        if lost or added:
            raise InputError(
                f"{where} differs from {first}: "
                + "; ".join(
                    f"{what} {', '.join(map(repr, which))}"
                    for what, which in (("missing columns", lost), ("additional columns", added))
                    if which
                )
            )
        for name in names:
            two = [pa.schema([s.field(name)]) for s in (schema, table.schema)]
            try:
                unified = pa.unify_schemas(two, promote_options="permissive")
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                raise InputError(
                    f"{where}: column {name!r} is {two[1].types[0]}, but {two[0].types[0]} in the "
                    f"files before, from {first} on. Declare its type in prepare.source.columns, "
                    "or how it is written in prepare.source.csv"
                ) from error
            schema = schema.set(schema.get_field_index(name), unified.field(0))
    tables = [table.select(names) for _, table in parts]
    return pa.concat_tables(tables, promote_options="permissive")


class TableRows:
    """The rows of one table for a model; `kinds` are its columns, `only` all that are needed.

    Columns of CSV and JSON Lines that are named in `kinds` become those kinds, as `given` and the
    file's dialect say; other columns of CSV are bytes. Those of Parquet and Arrow keep their types.
    """

    def __init__(
        self, path: Path, kinds: Kinds, given: Reading = PLAIN, only: Collection[str] = ()
    ) -> None:
        self._path, self._kinds = path, kinds
        self._rows = FORMATS[_plain(path)].rows(path, kinds, given, only)

    def chunks(self, start: int, size: int) -> Iterator[Chunk]:
        """Chunks of up to `size` rows, not yet converted, with row `start` in the first of them.

        Raises:
            InputError: the file is missing or broken, or two columns have the same name.
        """
        with reading(self._path):
            for chunk in self._rows.chunks(start, size):
                unique_names(chunk.rows.schema.names, self._path)
                first, end = chunk.span
                for place in range(first, end, size):
                    yield chunk.within(place, place + size)

    def typed(self, rows: pa.RecordBatch, describe: Callable[[int], str]) -> pa.RecordBatch:
        """Rows of a chunk with the types that they should have; `describe` locates a row.

        Categories may be in a dictionary, which has null or blank text for missing values.

        Raises:
            BadRows: values cannot be converted; names row and column.
        """
        rows = without_index(self._rows.typed(rows, describe), self._kinds)
        for number, name in enumerate(rows.schema.names):
            column, kind = rows.column(number), self._kinds.get(name)
            coded = kind == "category" and pa.types.is_dictionary(column.type)
            if kind is not None and not coded:
                rows = rows.set_column(number, name, plain(column))
        return rows


def stream(path: Path, size: int, kinds: Kinds, given: Reading = PLAIN) -> Iterator[pa.RecordBatch]:
    """The rows of one file as `TableRows` has them, in batches of at most `size`.

    Raises:
        InputError: the file is missing or broken, or a value cannot be converted; names the file,
            row and column.
    """
    rows, first = TableRows(path, kinds, given), first_row(path)
    for chunk in rows.chunks(0, size):
        start = chunk.refuse_bad().span[0] + first
        yield rows.typed(chunk.rows, lambda row, start=start: f"{path}, row {start + row}")  # type: ignore[misc]


def lengths(path: Path, kinds: Kinds | None = None, given: Reading = PLAIN) -> list[int]:
    """The rows of each part of a file that can be read without those before it, in order.

    CSV and JSON Lines are one part, which is read to count its rows.
    """
    with reading(path):
        return FORMATS[_plain(path)].lengths(path, kinds or {}, given)


def types_of(path: Path, names: Collection[str]) -> Mapping[str, Collection[str]]:
    """The types of columns of one file, as `Format.types` has them."""
    with reading(path):
        return FORMATS[_plain(path)].types(path, names)


def type_of_key(path: Path, kinds: Kinds, given: Reading = PLAIN) -> pa.DataType | None:
    """The type of the column `key` of one file; None if there is no such column.

    For formats without types, int64 if all keys are whole numbers, else string.
    """
    with reading(path):
        return FORMATS[_plain(path)].key(path, kinds, given)
