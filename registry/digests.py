"""The hashes that identify a bundle and seal the immutable fields of a version."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import rfc8785

from registry.errors import InvalidCandidate
from registry.records import Artifact, Candidate, Version


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
    """The identity files of a candidate, hashed in place and not stored.

    Raises:
        InvalidCandidate: a file cannot be read.
    """
    found = []
    for path in sorted(candidate.identity):
        source = candidate.files[path]
        found.append(Artifact(path, sha256_of(source), source.stat().st_size, identity=True))
    return tuple(found)


def sha256_of(source: Path) -> str:
    """The SHA-256 of a file of a candidate. Raises InvalidCandidate if it cannot be read."""
    try:
        with source.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InvalidCandidate(f"{source} cannot be read ({error.strerror}).") from error


_SEALED: dict[str, tuple[str, ...]] = {
    "version": (
        "artifacts",
        "created_at",
        "created_by",
        "digest",
        "lineage",
        "metrics",
        "model",
        "params",
        "signature",
        "uid",
        "version",
    ),
    "lineage": (
        "data",
        "dataset",
        "flow_run_id",
        "git_commit",
        "git_dirty",
        "libraries",
        "parent",
        "test_split",
    ),
    "artifact": ("identity", "path", "sha256", "size"),
}
"""The fields under a seal of format 1, by record. They are listed here, since the records may gain
fields and all existing seals would then be wrong. To seal another field, add a format 2 beside this
one and mark its seals, as in `2:<hash>`; a seal without a mark has format 1."""


def seal(version: Version, documents: Mapping[str, bytes] | None = None) -> str:
    """SHA-256, in hex, of the immutable fields of a version, for the event that records it.

    `documents` has fields that are already in canonical form.
    """
    kept = _sealed("version", version) | {
        "created_at": version.created_at.isoformat(),
        "lineage": _sealed("lineage", version.lineage),
        "artifacts": [_sealed("artifact", artifact) for artifact in version.artifacts],
    }
    ready = documents or {}
    texts = (
        b'"%b":%b' % (name.encode(), ready.get(name) or rfc8785.dumps(value))
        for name, value in sorted(kept.items())
    )
    return hashlib.sha256(b"{%b}" % b",".join(texts)).hexdigest()


def _sealed(kind: str, record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in _SEALED[kind]}


def seal_json(document: Any) -> str:
    """SHA-256, in hex, of the canonical form (RFC 8785) of a JSON document."""
    return hashlib.sha256(rfc8785.dumps(document)).hexdigest()
