"""What is offered for registration: checks before any row is written, its identity, its seals."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path, PurePosixPath
from typing import Any

import rfc8785

from registry.errors import InvalidCandidate, choices
from registry.records import Artifact, Candidate, Version


def check(candidate: Candidate) -> None:
    """Refuse a candidate that could not be opened or identified later; `canonical` does the rest.

    Raises:
        InvalidCandidate: the message names the field, the value and what is allowed.
    """
    for path in candidate.files:
        _check_path(path)
    if not candidate.identity:
        raise InvalidCandidate(
            "No file is marked as identity. Name the files whose bytes decide a prediction: "
            "at least model.onnx and signature.json."
        )
    for path in sorted(candidate.identity - candidate.files.keys()):
        raise InvalidCandidate(
            f"Identity file {path!r} is not among the files. {choices(path, candidate.files)}"
        )
    for key, value in candidate.metrics.items():
        if not math.isfinite(value):
            raise InvalidCandidate(f"Metric {key!r} is {value}; give a finite number.")


def canonical(candidate: Candidate) -> dict[str, bytes]:
    """The documents of a candidate in canonical form (RFC 8785), by field.

    Raises:
        InvalidCandidate: a field could not be stored; the message names it.
    """
    check_json("lineage.libraries", candidate.lineage.libraries)
    check_json("tags", candidate.tags)
    documents = ("signature", "params", "evaluation")
    return {field: check_json(field, getattr(candidate, field)) for field in documents}


def digest(artifacts: Iterable[Artifact]) -> str:
    """The identity of a bundle: SHA-256 of the canonical JSON list of its identity files.

    `[{"path":...,"sha256":...,"size":...},...]` sorted by path, without white space, in UTF-8.
    """
    manifest = [
        {"path": artifact.path, "sha256": artifact.sha256, "size": artifact.size}
        for artifact in sorted(artifacts, key=lambda artifact: artifact.path)
        if artifact.identity
    ]
    text = json.dumps(manifest, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def identify(candidate: Candidate) -> tuple[Artifact, ...]:
    """The identity files of a candidate, read where they lie and stored nowhere.

    Raises:
        InvalidCandidate: a file cannot be read.
    """
    found = []
    for path in sorted(candidate.identity):
        source = candidate.files[path]
        found.append(Artifact(path, sha256_of(source), source.stat().st_size, identity=True))
    return tuple(found)


def sha256_of(source: Path) -> str:
    """The digest of a file that was offered. Raises InvalidCandidate where it cannot be read."""
    try:
        with source.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InvalidCandidate(f"{source} cannot be read ({error.strerror}).") from error


def _check_path(path: str) -> None:
    # Normal form only: a path that climbs out, or two spellings of one file, must not get in.
    pure = PurePosixPath(path)
    normal = path == str(pure) and path not in ("", ".") and "\\" not in path
    if not normal or pure.is_absolute() or ".." in pure.parts:
        raise InvalidCandidate(
            f"{path!r} cannot be a path in a bundle. Use a relative one with forward slashes and "
            "without '.' or '..', as in model.onnx or weights/model.safetensors."
        )


def check_json(field: str, value: object) -> bytes:
    """Refuse what not every reader or database takes alike: NaN, integers over 2^53, NUL.

    Returns the canonical form (RFC 8785) of what is left.

    Raises:
        InvalidCandidate: names the field.
    """
    try:
        text = rfc8785.dumps(value)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise InvalidCandidate(f"{field} is not plain JSON: {error}.") from error
    if b"\\u0000" in text:  # which PostgreSQL keeps in no text
        raise InvalidCandidate(f"{field} holds a NUL character. Leave it out.")
    return text


def seal(version: Version, documents: Mapping[str, bytes] | None = None) -> str:
    """SHA-256 over all of a version that is for ever, for the event that records it.

    Fields of it that are in canonical form already, in `documents`, are taken as they are.
    """
    kept = _plain(version) | {
        "created_at": version.created_at.isoformat(),
        "lineage": _plain(version.lineage),
        "artifacts": [_plain(artifact) for artifact in version.artifacts],
    }
    for name in ("status", "tags", "aliases", "evaluation"):
        del kept[name]
    ready = documents or {}
    texts = (
        b'"%b":%b' % (name.encode(), ready.get(name) or rfc8785.dumps(value))
        for name, value in sorted(kept.items())
    )
    return hashlib.sha256(b"{%b}" % b",".join(texts)).hexdigest()


def _plain(record: Any) -> dict[str, Any]:
    """A record's fields; unlike `asdict`, without a copy of all that is in them."""
    return {field.name: getattr(record, field.name) for field in fields(record)}


def seal_json(document: Any) -> str:
    """SHA-256, in hex, of the canonical form (RFC 8785) of a JSON document."""
    return hashlib.sha256(rfc8785.dumps(document)).hexdigest()
