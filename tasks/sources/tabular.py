"""Tables of numbers, booleans, dates and categories."""

from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from tasks.config import TabularSource, TextSource
from tasks.errors import InputError
from tasks.files import tables
from tasks.files.convert import convert
from tasks.sources.globs import patterns
from tasks.sources.raw import FeatureKind, Origin, Raw

_NUMBER = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"
# A column of text with more numbers than this is one of numbers, with mistakes or a word for
# what is missing.
_MOSTLY = 0.9


def rows_of(
    source: TabularSource | TextSource, path: Path, text: Collection[str]
) -> tuple[pa.Table, tuple[Origin, ...]]:
    """The table that lies at `path`, with its target, and where its rows come from."""
    table, rows = tables.read(path, source.separator, text, patterns(source))
    if source.target is not None:
        tables.named(source.target, table.column_names, str(path), "prepare.source.target")
    return table, origins(rows)


def origins(rows: list[tuple[Path, int]]) -> tuple[Origin, ...]:
    """What `tables.read` says of its files."""
    return tuple(Origin(str(file), count, tables.first_row(file)) for file, count in rows)


def read(source: TabularSource, path: Path, reserved: Collection[str]) -> Raw:
    """Every column but the target and the ignored ones is a feature.

    Raises:
        InputError: a column is missing, is of no kind, or holds a value that is not of its kind;
            a category has too many values.
    """
    categories = [name for name, kind in source.columns.items() if kind == "category"]
    table, from_files = rows_of(source, path, categories)
    raw = Raw(table, {}, source.target, str(path), from_files)
    for name in source.ignore:
        tables.named(name, table.column_names, raw.where, "prepare.source.ignore")
    for name, kind in source.columns.items():
        tables.named(name, table.column_names, raw.where, "prepare.source.columns")
        column = convert(table[name], kind, name, raw.describe)
        table = table.set_column(table.column_names.index(name), name, column)
    raw = Raw(table, {}, source.target, str(path), from_files)
    aside = {source.target, *source.ignore, *reserved}
    features: dict[str, FeatureKind] = {
        name: source.columns.get(name) or _kind_by_type(raw, name)
        for name in table.column_names
        if name not in aside
    }
    for name, feature in features.items():
        if feature == "category":
            _judge_category(raw, name, source)
    return Raw(table, features, source.target, raw.where, from_files)


def _kind_by_type(raw: Raw, name: str) -> FeatureKind:
    kind = raw.table[name].type
    types = pa.types
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return "number"
    if types.is_boolean(kind):
        return "boolean"
    if types.is_date(kind) or types.is_timestamp(kind):
        return "date"
    if types.is_string(kind):
        return "category"
    if types.is_null(kind):
        raise InputError(
            f"{raw.where}: column {name!r} has no value in any row; name it in "
            "prepare.source.ignore"
        )
    raise InputError(
        f"{raw.where}: column {name!r} is {kind}, which is no number, boolean, date or category. "
        "Name it in prepare.source.ignore, or convert it"
    )


def _judge_category(raw: Raw, name: str, source: TabularSource) -> None:
    column = raw.table[name]
    distinct = pc.count_distinct(column).as_py()
    if name not in source.columns:
        _refuse_numbers(raw, name)
    if distinct > source.max_categories:
        raise InputError(
            f"{raw.where}: column {name!r} has {distinct} distinct values in {len(column)} rows, "
            f"more than a category may have ({source.max_categories}). Name an identifier in "
            "prepare.source.ignore; raise prepare.source.max_categories for a true category"
        )


def _refuse_numbers(raw: Raw, name: str) -> None:
    """Text by its type that nearly always is a number: a mistake that nobody would see later."""
    column = raw.table[name]
    numeric = pc.match_substring_regex(column, _NUMBER)
    if (pc.sum(numeric).as_py() or 0) > _MOSTLY * (len(column) - column.null_count):
        row = numeric.index(False).as_py()
        if row >= 0:
            raise InputError(
                f"{raw.describe(row)}: column {name!r} is {column[row].as_py()!r}, where most "
                "values are numbers. Leave a missing value empty; or say in "
                f"prepare.source.columns that {name} is a category"
            )
