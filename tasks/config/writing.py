"""Writes `params.yaml` with all parameters, each explained by a comment above it."""

import json
import re
import textwrap
from collections.abc import Iterator
from typing import Any

from tasks.config import Params
from tasks.config.describing import Parameter, parameters

WIDTH = 96
_WORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}
_HEAD = """\
# All parameters of the pipeline, one section for each stage. `modelmint train -S train.epochs=3`
# overrides one for a single run. `modelmint params` says which values are allowed.
"""


def explained(params: Params) -> str:
    """The parameters as YAML, each value explained by a comment."""
    described: dict[str, list[Parameter]] = {}
    for parameter in parameters():
        described.setdefault(parameter.path, []).append(parameter)
    return _HEAD + "".join(
        f"{line}\n" for line in _lines(params.model_dump(mode="json"), "", described, 0)
    )


def _lines(
    values: dict[str, Any], prefix: str, described: dict[str, list[Parameter]], depth: int
) -> Iterator[str]:
    indent = "  " * depth
    for key, value in values.items():
        parameter = _chosen(described.get(f"{prefix}{key}", []), values)
        if depth == 0:
            yield ""
        if parameter and parameter.meaning:
            start = f"{indent}# "
            yield from textwrap.wrap(
                parameter.meaning, WIDTH, initial_indent=start, subsequent_indent=start
            )
        # A mapping whose keys are the user's own, such as `columns`, stays on one line.
        if isinstance(value, dict) and parameter and parameter.section:
            yield f"{indent}{key}:"
            yield from _lines(value, f"{prefix}{key}.", described, depth + 1)
        elif f"{prefix}{key}" == "tune.parameters" and value:  # far too long for one
            yield f"{indent}{key}:"
            yield from (f"{indent}  {name}: {_plain(one)}" for name, one in value.items())
        else:
            yield f"{indent}{key}: {_plain(value)}"


def _plain(value: Any) -> str:
    """A value in YAML, quoted only where it needs to be."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_plain(key)}: {_plain(v)}" for key, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_plain, value)) + "]"
    plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z][\w./@-]*", value)
    if plain and value.lower() not in _WORDS:
        return str(value)
    # The character U+0085 is a line break in YAML, but not in JSON.
    return json.dumps(value, ensure_ascii=False).replace("\x85", "\\N")


def _chosen(found: list[Parameter], values: dict[str, Any]) -> Parameter | None:
    """The parameter that belongs to the chosen architecture or kind of source."""
    chosen = {f"{key}: {value}" for key, value in values.items() if isinstance(value, str)}
    return next((p for p in found if p.only in chosen), found[0] if found else None)
