"""Differences between a candidate and the existing version with the same identity bytes, as text.

A version never changes: its parameters, metrics, lineage, tags and other files stay as they were
registered. If a candidate with the same bytes has other values, `register` returns this list.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

import rfc8785

from registry.records import Artifact, Candidate, Lineage, Version
from registry.validation.checks import escaped

SHOWN = 60  # characters of a value


def differences(
    known: Version, candidate: Candidate, artifacts: tuple[Artifact, ...]
) -> tuple[str, ...]:
    """A line for each value of the candidate that differs from the version's value.

    As in `params.train.epochs: 3 is kept, 5 was offered`. Evaluations are not compared here.
    """
    pairs: list[tuple[str, Any, Any]] = [
        ("signature", known.signature, candidate.signature),
        ("params", known.params, candidate.params),
        ("metrics", known.metrics, candidate.metrics),
        *(
            (f"lineage.{name}", getattr(known.lineage, name), getattr(candidate.lineage, name))
            for name in sorted(field.name for field in fields(Lineage))
        ),
        ("tags", known.tags, candidate.tags),
    ]
    lines = [line for pair in pairs for line in _differing(*pair)]
    # Keys and values may contain control characters, and these lines go into logs.
    return tuple(map(escaped, (*lines, *_files(known.artifacts, artifacts))))


def _differing(name: str, kept: Any, offered: Any) -> Iterator[str]:
    if isinstance(kept, Mapping) and isinstance(offered, Mapping):
        for key in sorted(kept.keys() | offered.keys()):
            yield from _differing(
                f"{name}.{key}", kept.get(key, _NOTHING), offered.get(key, _NOTHING)
            )
    elif _canonical(kept) != _canonical(offered):
        yield f"{name}: {_shown(kept)} is kept, {_shown(offered)} was offered"


class _Nothing:
    """Stands for a missing value, which is not null."""


_NOTHING = _Nothing()


def _canonical(value: Any) -> bytes | None:
    return None if value is _NOTHING else rfc8785.dumps(value)


def _shown(value: Any) -> str:
    if value is _NOTHING:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def _files(kept: tuple[Artifact, ...], offered: tuple[Artifact, ...]) -> Iterator[str]:
    """Compare the files outside the identity; identity files are equal here."""
    ours, theirs = ({a.path: a.sha256 for a in one} for one in (kept, offered))
    for path in sorted(ours.keys() | theirs.keys()):
        if ours.get(path) != theirs.get(path):
            words = [
                f"SHA-256 {one[path][:12]}…" if path in one else "no such file"
                for one in (ours, theirs)
            ]
            yield f"file {path}: {words[0]} is kept, {words[1]} was offered"
