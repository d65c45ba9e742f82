"""Tables of numbers, booleans, dates and categories."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from tasks.columns import COLUMNS
from tasks.config import Csv, TabularSource, TextSource
from tasks.errors import InputError
from tasks.files import tables
from tasks.files.infer import kind_of, typed
from tasks.files.reading import PLAIN, Reading
from tasks.sources.globs import patterns
from tasks.sources.raw import Origin, Raw, refuse_unfit

# Numbers that lose nothing as a number: not `007`, `1e3` or `+1`, which may be codes.
_CANONICAL = r"^\s*-?(0|[1-9]\d*)([.,]\d+)?\s*$"


def reading_of(csv: Csv) -> Reading:
    """The rules for text, from the parameters."""
    return Reading(**csv.model_dump())


def rows_of(source: TabularSource | TextSource, path: Path, text: Collection[str]) -> Raw:
    """The table at `path` and its target, without features.

    The columns `text`, and the target if its spelling may matter, are read as text.
    """
    as_text = {*text, *([source.target] if source.target else [])}
    numbers = [name for name in (source.target, *_numbers(source)) if name]
    table, rows, reading = tables.read(
        path, reading_of(source.csv), as_text, patterns(source), numbers
    )
    if source.target is not None:
        tables.named(source.target, table.column_names, str(path), "prepare.source.target")
        if source.target not in text:
            table = with_typed_target(table, source.target, reading)
    return Raw(source, table, {}, source.target, str(path), origins(rows), reading=reading)


def _numbers(source: TabularSource | TextSource) -> list[str]:
    """Columns that the parameters declare as numbers."""
    columns = source.columns if isinstance(source, TabularSource) else {}
    return [name for name, kind in columns.items() if kind == "number"]


def origins(rows: list[tuple[Path, int]]) -> tuple[Origin, ...]:
    """The origins of rows, from the row counts of `tables.read`."""
    return tuple(Origin(str(file), count, tables.first_row(file)) for file, count in rows)


def with_typed_target(table: pa.Table, name: str, reading: Reading) -> pa.Table:
    """Convert the target from text to numbers if this loses nothing."""
    column = table[name]
    if (
        pa.types.is_string(column.type)
        and pc.all(pc.match_substring_regex(column, _CANONICAL)).as_py()
        and kind_of(column, reading) == "number"
    ):
        column = typed(column, reading)
    return table.set_column(table.column_names.index(name), name, column)


def read(source: TabularSource, path: Path, reserved: Collection[str]) -> Raw:
    """All columns except target, ignored and reserved ones are features.

    Raises:
        InputError: a column is missing, has an unsupported type, or a value that cannot be
            converted; text is probably not a category, or a category has too many values.
    """
    raw = rows_of(source, path, {*source.columns, *source.ignore, *reserved})
    for key, names in (("ignore", source.ignore), ("columns", source.columns)):
        for name in names:
            tables.named(name, raw.table.column_names, raw.where, f"prepare.source.{key}")
    refuse_unfit(raw, reserved)
    aside = {source.target, *source.ignore, *reserved}
    features: dict[str, str] = {}
    for name in raw.table.column_names:
        declared = source.columns.get(name)
        if name in aside and declared is None:
            continue
        kind = declared or _kind_of(raw, name)
        if name not in aside:
            COLUMNS[kind].check_feature(raw.table[name], raw.column(name))
            features[name] = kind
        raw = raw.read_as(name, kind)
    return replace(raw, features=features)


def _kind_of(raw: Raw, name: str) -> str:
    """The column type of the values, a key of `COLUMNS`."""
    values = raw.table[name]
    for kind, column in COLUMNS.items():
        if any(test(values.type) for test in column.arrow_types):
            return kind
    if pa.types.is_string(values.type):
        found = kind_of(values, raw.reading)
        # A typed file has plain numbers as text: they may be codes. As a category, they are refused
        # unless declared. They are numbers if they need options of `csv`.
        if found == "number" and kind_of(values, PLAIN) == "number":
            return "category"
        if found is not None:
            return "category" if found == "text" else found
    if pa.types.is_null(values.type) or pa.types.is_string(values.type):
        raise InputError(
            f"{raw.where}: column {name!r} has no values; name it in prepare.source.ignore"
        )
    raise InputError(
        f"{raw.where}: column {name!r} is {values.type}, which is not a number, boolean, date or "
        "category. Name it in prepare.source.ignore, or convert it"
    )
