"""Files of rows and named columns: the one place that reads them.

A missing value is an empty field of CSV, `null` or nothing in JSON Lines, null in Parquet and
Arrow, and an empty string in any of them. Rows of CSV and JSON Lines are counted from 1, as a
person does below the header; those of Parquet and Arrow from 0. Blank lines do not count.
"""

import difflib
import fnmatch
import re
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from tasks.errors import InputError
from tasks.files import suffixes
from tasks.files.convert import plain
from tasks.files.delimited import Kinds, unique_names
from tasks.files.dialect import decimal_sign
from tasks.files.formats import FORMATS
from tasks.files.infer import typed
from tasks.files.reading import PLAIN, Reading

SUFFIXES = suffixes.TABLES
# What pandas calls the columns of an index without a name, one for each of its levels.
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
    """Which of `suffixes` a file's name ends in."""
    return next((s for s in suffixes if path.name.endswith(s)), None)


def first_row(path: Path) -> int:
    """The number that a file of this form gives to its first row."""
    found = FORMATS.get(_plain(path))
    return found.first_row if found else 0


def _plain(path: Path) -> str:
    """The form without its compression."""
    return (form(path) or "").removesuffix(".gz")


def chosen(file: Path, folder: Path, patterns: Collection[str]) -> bool:
    """Whether one of the globs fits a file's path below `folder`; without any, every file is."""
    name = file.relative_to(folder).as_posix()
    return not patterns or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def files(
    path: Path, suffixes: Collection[str] = SUFFIXES, patterns: Collection[str] = ()
) -> list[Path]:
    """`path` itself, or the files of a folder that one of the globs `patterns` fits; sorted.

    Raises:
        InputError: there are none, or they are of several forms.
    """
    found = [path]
    if path.is_dir():
        every = sorted(p for p in path.glob("[!.]*") if p.is_file() and form(p, suffixes))
        found = [file for file in every if chosen(file, path, patterns)]
    endings = ", ".join(suffixes)
    if not found:
        fitting = f" that {' or '.join(map(repr, patterns))} fits" if patterns else ""
        raise InputError(f"{path} holds no file ending in {endings}{fitting}")
    for file in found:
        if not form(file, suffixes):
            raise InputError(f"{file}: a file must end in {endings}, to be read by that form")
        if form(file, suffixes) != form(found[0], suffixes):
            raise InputError(f"{found[0]} and {file} are of two forms; put them apart")
    return found


def named(name: str, names: Iterable[str], where: str, what: str) -> str:
    """`name`, if it is one of the columns `names`.

    Raises:
        InputError: it is not; says which is close, and `what` named it.
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
    """Whatever a library says of a broken file, as an `InputError` that names the file."""
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing; give an existing file or folder") from error
    except UnicodeDecodeError as error:
        if not error.encoding.startswith("utf-8"):
            raise InputError(
                f"{path} is not {error.encoding}, as prepare.source.csv.encoding says: {error}"
            ) from error
        raise InputError(
            f"{path}: the header is not UTF-8: {error}. Convert the file, for instance with "
            "iconv, or name its encoding where the model is trained: if it is Latin-1, "
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
    """All rows of a file or folder, as `files` finds them, and how many come from each.

    Types are the file's own, in CSV as all values of a file suggest; columns named in `text` stay
    text, so that `007` keeps its zeros. Those of them that `numbers` names say, as the others do,
    which decimal sign a CSV file has. Also `given`, with what was detected.

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
    """A table of text with the types that its values have."""
    for number, name in enumerate(table.column_names):
        if name not in text:
            table = table.set_column(number, name, typed(table.column(number), given))
    return table


def without_index(rows: Any, kinds: Kinds | None = None) -> Any:
    """A table or batch without the columns into which pandas writes an index that has no name.

    They number the rows and say nothing of them. An index with a name is a column like any other,
    as it is in CSV. One that a model was once trained on, and `kinds` names, stays.
    """
    index = [n for n in rows.schema.names if _INDEX.fullmatch(n) and n not in (kinds or {})]
    return rows.drop_columns(index) if index else rows


def concat(parts: list[tuple[str, pa.Table]]) -> pa.Table:
    """Tables one below the other, each with the name of where it came from.

    Raises:
        InputError: columns differ; names which, and in which file.
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
                    for what, which in (("it has no column", lost), ("it adds", added))
                    if which
                )
            )
        for name in names:
            two = [pa.schema([s.field(name)]) for s in (schema, table.schema)]
            try:
                unified = pa.unify_schemas(two, promote_options="permissive")
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                raise InputError(
                    f"{where}: column {name!r} is {two[1].types[0]}; before it, from {first} on, "
                    f"it is {two[0].types[0]}. Say in prepare.source.columns what it is, or in "
                    "prepare.source.csv how it is written"
                ) from error
            schema = schema.set(schema.get_field_index(name), unified.field(0))
    tables = [table.select(names) for _, table in parts]
    return pa.concat_tables(tables, promote_options="permissive")


def stream(path: Path, size: int, kinds: Kinds, given: Reading = PLAIN) -> Iterator[pa.RecordBatch]:
    """The rows of one file, at most `size` a time.

    Columns of CSV and JSON Lines that are named in `kinds` become those kinds, as `given` says,
    or as the CSV file evidently is written; others of CSV are bytes as they stand there. Those of
    Parquet and Arrow keep their types.

    Raises:
        InputError: the file is missing or broken, or a value is not of the kind; names file, row
            and column.
    """
    with reading(path):
        for batch in FORMATS[_plain(path)].stream(path, size, kinds, given):
            unique_names(batch.schema.names, path)
            batch = without_index(batch, kinds)
            for number, name in enumerate(batch.schema.names):
                if name in kinds:
                    batch = batch.set_column(number, name, plain(batch.column(number)))
            for start in range(0, batch.num_rows, size):
                yield batch.slice(start, size)


def count(path: Path, kinds: Kinds | None = None, given: Reading = PLAIN) -> int:
    """Rows of one file, as `stream` finds them; of CSV and JSON Lines, by a pass over it."""
    with reading(path):
        return FORMATS[_plain(path)].count(path, kinds or {}, given)


def type_of_key(path: Path, kinds: Kinds, given: Reading = PLAIN) -> pa.DataType | None:
    """The type of the column `key` of one file, None where it has none.

    Where the form has no types, that is int64 if all are whole numbers, and else text.
    """
    with reading(path):
        return FORMATS[_plain(path)].key(path, kinds, given)
