"""The slow part of `verify`: hashing events and versions, from rows alone.

Arguments and results are plain JSON, so that other processes can compute them; see `helpers`.
"""

import hashlib
from functools import lru_cache
from typing import Any

import rfc8785

from registry import digests
from registry.integrity.snapshot import Row
from registry.queries.evaluations import has_passed
from registry.queries.events import hash_of
from registry.records import Artifact, Lineage, Version
from registry.values import MALFORMED, moment, parse_object


def edited_events(name: str, rows: list[Row]) -> list[int]:
    """The ids of events of a model whose content does not match their hash."""
    return [row["id"] for row in rows if not _makes_its_hash(name, row)]


def _makes_its_hash(name: str, row: Row) -> bool:
    payload, complaint = parse_object(row["payload text"])
    try:
        # A payload that is not an object was never recorded, even if its hash matches.
        return complaint is None and row["hash"] == hash_of(name, row | {"payload": payload})
    except MALFORMED:
        return False


def edited_versions(name: str, found: list[Row]) -> list[tuple[int, str]]:
    """Number and problem of each version of a model that differs from its history.

    Each of `found` has the `row` of a version, the rows of its `artifacts`, `metrics` and `data`,
    its `params` and its `parent`; its `evaluations`; and from the history `record` and `evaluated`.
    """
    wrong = []
    for one in found:
        number = one["row"]["version"]
        # A version of an early release has no seal.
        if one["record"] is not None and one["record"] != _seal(name, one):
            wrong.append((number, "its row was edited since it was registered"))
        if not _makes_its_digest(one):
            wrong.append((number, f"its files do not match digest {one['row']['digest']}"))
        evaluations, recorded = one["evaluations"], one["evaluated"]
        # Early releases did not record the evaluation that a version was registered with.
        unknown = one["record"] is None and len(evaluations) == len(recorded) + 1
        if [_evaluation_seal(row) for row in evaluations[unknown:]] != recorded:
            wrong.append((number, "an evaluation of it was edited, added or removed"))
    return wrong


def _seal(name: str, one: Row) -> str | None:
    try:
        row = one["row"]
        ready = {
            "signature": _canonical(row["signature text"]),
            "params": _canonical(one["params"]),
        }
        return digests.seal(_version(name, one), ready)
    except MALFORMED:
        return None


# Most versions of a model have the same signature, and many the same parameters.
@lru_cache(maxsize=64)
def _canonical(text: str) -> bytes:
    document, complaint = parse_object(text)
    if complaint:
        raise ValueError(complaint)
    return rfc8785.dumps(document)


def _version(name: str, one: Row) -> Version:
    row = one["row"]
    lineage = Lineage(
        dataset=row["dataset"],
        test_split=row["test_split"],
        git_commit=row["git_commit"],
        git_dirty=row["git_dirty"],
        flow_run_id=row["flow_run_id"],
        libraries=parse_object(row["libraries text"])[0],
        parent=one["parent"],
        data={part["path"]: part["md5"] for part in one["data"]},
    )
    return Version(
        model=name,
        version=row["version"],
        uid=row["uid"],
        digest=row["digest"],
        status="",
        signature={},
        metrics={part["key"]: part["value"] for part in one["metrics"]},
        params={},
        evaluation={},
        lineage=lineage,
        artifacts=_artifacts(one),
        tags={},
        aliases=(),
        created_at=moment(row["created_at"]),
        created_by=row["created_by"],
    )


def _artifacts(one: Row) -> tuple[Artifact, ...]:
    ordered = sorted(one["artifacts"], key=lambda part: str(part["path"]))
    return tuple(Artifact(p["path"], p["sha256"], p["size"], p["identity"]) for p in ordered)


def _makes_its_digest(one: Row) -> bool:
    try:
        return bool(digests.digest(_artifacts(one)) == one["row"]["digest"])
    except MALFORMED:
        return False


def _evaluation_seal(row: dict[str, Any]) -> str:
    """The seal of an evaluation, as its event has it; else why there is none."""
    report, complaint = parse_object(row["report text"])
    if complaint or row["passed"] != has_passed(report):
        return "the verdict was edited"
    try:
        return hashlib.sha256(rfc8785.dumps(report)).hexdigest()
    except MALFORMED:
        return "it has no canonical form"
