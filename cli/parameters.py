"""The reference of all parameters: `modelmint params`, and docs/parameters.md.

`python -m cli.parameters` prints the page.
"""

import difflib
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from tasks.config import PRESETS
from tasks.config.describing import Parameter, parameters, shown
from tasks.errors import InputError

WIDTH = 100
INTRODUCTION = """\
# Parameters

Every key of `params.yaml`, with its type, bounds, default and meaning. `make docs` writes this page
from the code that validates the parameters. Do not edit it by hand.

- A heading is the path of a section. The table below it lists the keys of that section.
- On the command line a key is written with its whole path:
  `modelmint train -S train.optimizer.learning_rate=0.001`.
- A key that is `required` has no default.
- `modelmint params train.optimizer` prints the same for one section.
"""


def chosen(section: str | None) -> list[Parameter]:
    """The parameters of a section, of one key, or all.

    Raises:
        InputError: the section does not exist; names a close match.
    """
    every = parameters()
    if section is None:
        return every
    found = [p for p in every if p.path == section or p.path.startswith(f"{section}.")]
    if not found:
        paths = list(dict.fromkeys(p.path for p in every))
        last = [path for path in paths if path.rpartition(".")[2] == section.rpartition(".")[2]]
        close = (last or difflib.get_close_matches(section, paths, n=1))[:3]
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        top = ", ".join(path for path in paths if "." not in path)
        raise InputError(f"there is no parameter {section!r}; {hint}sections: {top}")
    return found


def documents(found: list[Parameter]) -> list[dict[str, Any]]:
    """Parameters as JSON values."""
    return [asdict(parameter) for parameter in found]


def lines(found: list[Parameter]) -> Iterator[str]:
    """Parameters as text, at most 100 columns wide: path, type and default, then the meaning."""
    width = min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)
    only = ""
    for number, p in enumerate(found):
        if p.only != only:
            yield ""
        if p.only and p.only != only:
            yield f"--- {p.path.rpartition('.')[0]} with {p.only} ".ljust(width, "-")
        only = p.only
        if p.section:
            yield from [""] * (number > 0)
            yield f"{p.path}{' (required)' * p.required}"
        else:
            default = "required" if p.required else f"default {shown(p.default)}"
            yield from textwrap.wrap(
                f"{p.path}: {p.type}; {default}", width, subsequent_indent="        "
            )
        yield from textwrap.wrap(p.meaning, width, initial_indent="    ", subsequent_indent="    ")
        if p.path == "train.architecture":
            presets = "; ".join(f"{name}: {_flow(made)}" for name, made in PRESETS.items())
            yield from textwrap.wrap(
                f"Presets: {presets}", width, initial_indent="    ", subsequent_indent="    "
            )


def _flow(mapping: dict[str, Any]) -> str:
    return "{" + ", ".join(f"{key}: {shown(value)}" for key, value in mapping.items()) + "}"


def page() -> str:
    """docs/parameters.md: each section with a table of its keys."""
    sections: dict[tuple[str, str], Parameter] = {}
    tables: dict[tuple[str, str], list[Parameter]] = {}
    for p in parameters():
        prefix = p.path.rpartition(".")[0]
        if prefix:
            tables.setdefault((prefix, p.only), []).append(p)
        if p.section:
            sections[p.path, p.only] = p
            tables[p.path, p.only] = []  # before its own sections
    written = [INTRODUCTION]
    for (path, only), rows in tables.items():
        level = "#" * (2 + path.count(".") + bool(only))
        section = sections.get((path, only))
        # Without a section, the first key is the one that selects among the choices.
        meaning, keys = (section.meaning, rows) if section else (rows[0].meaning, rows[1:])
        written.append(f"{level} {_title(path, only)}\n\n{meaning}\n")
        choices = [other for p, other in tables if p == path and (p, other) not in sections]
        if section and choices:
            links = ", ".join(f"[`{choice}`]({_anchor(path, choice)})" for choice in choices)
            written.append(f"One of: {links}.\n")
        if path == "train.architecture" and section:
            presets = [f"- `{name}`: `{_flow(made)}`" for name, made in PRESETS.items()]
            written.append("\n".join(["Presets:", "", *presets, ""]))
        if keys:
            written.append("\n".join(["| key | type | default | meaning |", "|---|---|---|---|"]))
            written[-1] += "".join(f"\n{_row(p)}" for p in keys) + "\n"
    return "\n".join(written)


def _row(p: Parameter) -> str:
    name = f"`{p.path.rpartition('.')[2]}`"
    default = "" if p.section else f"`{shown(p.default)}`"
    if p.section:
        name = f"[{name}]({_anchor(p.path, p.only)})"
    cells = [name, p.type, "required" if p.required else default, p.meaning]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _title(path: str, only: str) -> str:
    return f"`{path}`" + f" with `{only}`" * bool(only)


def _anchor(path: str, only: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    return "#" + re.sub(r"[^\w -]", "", _title(path, only)).replace(" ", "-")


if __name__ == "__main__":
    sys.stdout.write(page())
