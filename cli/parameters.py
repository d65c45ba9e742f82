"""`modelmint params`: every parameter, as a person reads them."""

import difflib
import shutil
import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from tasks.config import PRESETS
from tasks.config.describing import Parameter, parameters, shown
from tasks.errors import InputError

WIDTH = 100


def chosen(section: str | None) -> list[Parameter]:
    """The parameters of a section, of one key, or all.

    Raises:
        InputError: there is no such section; names a close match.
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
    """The same as JSON."""
    return [asdict(parameter) for parameter in found]


def lines(found: list[Parameter]) -> Iterator[str]:
    """Lines of at most 100 columns: path, type and default, and below them the meaning."""
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
