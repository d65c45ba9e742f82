"""Checks of candidates for registration, before any row is written."""

import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import rfc8785

from registry.errors import InvalidCandidate, InvalidReference, choices
from registry.records import Candidate, Lineage
from registry.validation.checks import (
    DOCUMENT,
    EXACT,
    KEY,
    document,
    hash_,
    items,
    non_finite_text,
    python_scalar,
    sha256,
    shown,
    tag_value,
    text,
    texts,
)

UNKNOWN = "unknown"
"""The dataset and test split of an import whose digests MLflow does not have."""


def check(candidate: object, *, non_finite: bool = False) -> Candidate:
    """The candidate as it is stored, with plain Python values. Refuses a candidate that could not
    be opened, identified or read back later.

    With `non_finite`, for candidates that are only recorded, numbers that are not finite become the
    texts NaN, Infinity and -Infinity.

    Raises:
        InvalidCandidate: the message names the field, the value and what is allowed.
        InvalidReference: the parent is not a reference to a version.
    """
    if not isinstance(candidate, Candidate):
        raise InvalidCandidate(f"candidate is {shown(candidate)}. Give a registry.Candidate.")
    files = _files(candidate.files)
    documents = {
        field: document(field, getattr(candidate, field), non_finite=non_finite)
        for field in ("signature", "params", "evaluation")
    }
    return Candidate(
        files=files,
        identity=_identity(candidate.identity, files),
        metrics=_metrics(candidate.metrics, non_finite=non_finite),
        lineage=_lineage(candidate.lineage),
        tags=texts("tags", candidate.tags, tag_value),
        **documents,
    )


def canonical(candidate: Candidate) -> dict[str, bytes]:
    """The documents of a candidate that was checked, in canonical form (RFC 8785), by field.

    Raises:
        InvalidCandidate: one is too long; the message names it.
    """
    documents = ("signature", "params", "evaluation")
    return {field: canonical_form(field, getattr(candidate, field)) for field in documents}


def check_json(field: str, value: object) -> bytes:
    """The canonical form (RFC 8785) of a JSON document.

    Raises:
        InvalidCandidate: names the field, and the key of what cannot be stored.
    """
    return canonical_form(field, document(field, value))


def canonical_form(field: str, value: Any) -> bytes:
    """The canonical form of a document that was checked. Raises InvalidCandidate if too long."""
    form = rfc8785.dumps(value)
    if len(form) > DOCUMENT:
        raise InvalidCandidate(
            f"{field} has {len(form):,} bytes as JSON; a document has at most {DOCUMENT:,}. Put "
            "long values into a file of the bundle."
        )
    return form


# Its fields


def _files(given: object) -> dict[str, Path]:
    found = {}
    for path, source in items("files", given, KEY, "a path in the bundle"):
        _check_path(path)
        if not isinstance(source, str | Path):
            raise InvalidCandidate(f"files[{path!r}] is {shown(source)}. Give the path of a file.")
        found[path] = Path(source)
    return found


def _check_path(path: str) -> None:
    # Normal form only: no path outside the bundle, and no two spellings of one file.
    pure = PurePosixPath(path)
    normal = path == str(pure) and path not in ("", ".") and "\\" not in path
    if not normal or pure.is_absolute() or ".." in pure.parts:
        raise InvalidCandidate(
            f"{path!r} cannot be a path in a bundle. Use a relative one with forward slashes and "
            "without '.' or '..', as in model.onnx or weights/model.safetensors."
        )


def _identity(given: object, files: Mapping[str, Path]) -> frozenset[str]:
    if isinstance(given, str) or not isinstance(given, Collection):
        raise InvalidCandidate(f"identity is {shown(given)}. Give a set of paths in the bundle.")
    if not given:
        raise InvalidCandidate(
            "No file is marked as identity. Name the files whose bytes decide a prediction: "
            "at least model.onnx and signature.json."
        )
    for path in given:
        if not isinstance(path, str) or path not in files:
            raise InvalidCandidate(
                f"Identity file {shown(path)} is not among the files. {choices(str(path), files)}"
            )
    return frozenset(map(str, given))


def _metrics(given: object, *, non_finite: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in items("metrics", given, KEY):
        number = python_scalar(value)
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise InvalidCandidate(f"Metric {key!r} is {shown(value)}; give a finite number.")
        if isinstance(number, int) and abs(number) > EXACT:
            raise InvalidCandidate(
                f"Metric {key!r} is {shown(number)}; give an integer up to 2**53 - 1, or a float."
            )
        found[key] = float(number) + 0.0  # -0.0 becomes 0.0, as SQLite keeps it
        if not math.isfinite(found[key]):
            if not non_finite:
                raise InvalidCandidate(f"Metric {key!r} is {found[key]}; give a finite number.")
            found[key] = non_finite_text(found[key])
    return found


def _lineage(value: object) -> Lineage:
    if not isinstance(value, Lineage):
        raise InvalidCandidate(f"lineage is {shown(value)}. Give a registry.Lineage.")
    if not isinstance(python_scalar(value.git_dirty), bool):
        raise InvalidCandidate(
            f"lineage.git_dirty is {shown(value.git_dirty)}. Give True or False."
        )
    split = value.test_split
    return replace(
        value,
        dataset=hash_("lineage.dataset", value.dataset),
        test_split=split if split == UNKNOWN else sha256("lineage.test_split", split),
        git_commit=_maybe(hash_, "lineage.git_commit", value.git_commit),
        git_dirty=bool(value.git_dirty),
        flow_run_id=_maybe(text, "lineage.flow_run_id", value.flow_run_id),
        libraries=texts("lineage.libraries", value.libraries, text),
        parent=_maybe(_parent, "lineage.parent", value.parent),
        data=texts("lineage.data", value.data, hash_),
    )


def _maybe(check: Callable[[str, object], str], field: str, value: object) -> str | None:
    return None if value is None else check(field, value)


def _parent(field: str, value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[^:@\s]+:[1-9][0-9]{0,8}", value):
        raise InvalidReference(
            f"{field} is {shown(value)}. Give the version whose weights the training started from, "
            "as NAME:VERSION (digits:3), or None."
        )
    return text(field, value, error=InvalidReference)
