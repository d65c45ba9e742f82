"""The role and kind of each column of a table, for the log and the report."""

from typing import Any

from tasks.config import Prepare
from tasks.files.convert import convert
from tasks.sources.raw import Raw

PRINTED, LONGEST = 60, 40  # columns in the log, characters of an example


def column_kinds(raw: Raw, params: Prepare) -> dict[str, Any]:
    """The report fields `reading` (the rules for text) and `columns` (the kind of each column).

    Each kind comes with an example, except for sensitive and ignored columns. Empty if no column
    can be text, as for images and sequences.
    """
    if not any(column.reads_text for column in raw.types().values()):
        return {}
    parts = {
        params.split_column: "split",
        params.group: "group",
        params.time: "time",
        raw.target: "target",
    }
    columns: dict[str, dict[str, str]] = {}
    for name in raw.table.column_names:
        if name in params.sensitive:
            columns[name] = {"kind": "sensitive"}
        elif name in raw.features or name in parts:
            kind = raw.features.get(name) or parts[name]
            columns[name] = {"kind": kind, **_example(raw, name)}
        else:
            columns[name] = {"kind": "ignored"}
    return {"reading": raw.reading.model_dump(exclude={"spelling"}), "columns": columns}


def log_lines(content: dict[str, Any]) -> list[str]:
    """The lines for the log about the result of `column_kinds`."""
    if not content:
        return []
    options = ", ".join(f"{k} {v!r}" for k, v in content["reading"].items() if v)
    found = [f"text is read with {options}" if options else "text is read without special rules"]
    for name, column in list(content["columns"].items())[:PRINTED]:
        such = f", such as {column['example']!r}" if "example" in column else ""
        found.append(f"  {name}: {column['kind']}{such}")
    more = len(content["columns"]) - PRINTED
    return [*found, f"  and {more} more columns, in report.json"] if more > 0 else found


def _example(raw: Raw, name: str) -> dict[str, str]:
    present = raw.table[name].drop_null()
    if not len(present):
        return {}
    value = str(convert(present[:1], "category", name, raw.describe)[0].as_py())
    return {"example": value if len(value) <= LONGEST else f"{value[:LONGEST]}..."}
