"""Tables for people: as text in a shell, as HTML in a notebook.

Values may come from anybody who can write to the registry: HTML is escaped, and characters that
control a terminal are written as escapes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDEST = 80  # characters of a cell


@dataclass(frozen=True, slots=True)
class Table:
    """Rows below a header, under a title; both may be empty."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def printable(value: object) -> str:
    """A value as text, with characters that control a terminal escaped."""
    text = "" if value is None else str(value)
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def as_text(heading: str, tables: Sequence[Table] = ()) -> str:
    """Aligned columns; long values are cut short."""
    lines = [printable(heading)]
    for table in tables:
        if table.title:
            lines += ["", printable(table.title)]
        cells = [[_short(cell) for cell in row] for row in (table.header, *table.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for row in cells if any(table.header) else cells[1:]:
            padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            lines.append(("  " + "  ".join(padded)).rstrip())
    return "\n".join(lines)


def as_html(heading: str, tables: Sequence[Table] = ()) -> str:
    """HTML tables, whole values."""
    parts = [f"<p><strong>{_html(heading)}</strong></p>"]
    for table in tables:
        if table.title:
            parts.append(f"<p>{_html(table.title)}</p>")
        header = "".join(f"<th>{_html(cell)}</th>" for cell in table.header)
        rows = (
            "<tr>" + "".join(f"<td>{_html(cell)}</td>" for cell in row) + "</tr>"
            for row in table.rows
        )
        head = f"<thead><tr>{header}</tr></thead>" if any(table.header) else ""
        parts.append(f"<table>{head}<tbody>{''.join(rows)}</tbody></table>")
    return "<div>" + "".join(parts) + "</div>"


def _short(cell: str) -> str:
    text = printable(cell)
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"


def _html(text: str) -> str:
    return escape(printable(text))
