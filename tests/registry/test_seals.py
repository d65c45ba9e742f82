"""Seals stay valid when records gain fields; the processes that compute seals for `verify`."""

import json
import subprocess
import sys
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

import pytest

from registry.digests import seal
from registry.integrity.helpers import _SERVE
from registry.records import Artifact, Lineage, Version

ARTIFACTS = (
    Artifact("model.onnx", "a" * 64, 1234, identity=True),
    Artifact("card.md", "b" * 64, 7, identity=False),
)
LINEAGE = Lineage(
    dataset="c" * 32 + ".dir",
    test_split="d" * 64,
    git_commit="e" * 40,
    git_dirty=True,
    flow_run_id=None,
    libraries={"torch": "2.13.0"},
    parent="digits:2",
    data={"data/raw/digits.csv.gz": "f" * 32},
)
VERSION = Version(
    model="digits",
    version=3,
    uid="0f3b2c1d",
    digest="1" * 64,
    status="candidate",
    signature={"task": "multiclass"},
    metrics={"accuracy": 0.975, "macro_f1": 1 / 3},
    params={"train": {"epochs": 3}},
    evaluation={"passed": True},
    lineage=LINEAGE,
    artifacts=ARTIFACTS,
    tags={"team": "risk"},
    aliases=("champion",),
    created_at=datetime(2026, 11, 29, 13, 0, 0, 123456, UTC),
    created_by="ada",
)
# Computed by the release that introduced seals.
SEAL = "34fba010b3823ab946fcf0604ec4f96bf9f898944ec18034b7e5474f2a679b6a"


@dataclass(frozen=True, slots=True)
class LaterArtifact(Artifact):
    compression: str = "none"


@dataclass(frozen=True, slots=True)
class LaterLineage(Lineage):
    machine: str = "somewhere"


@dataclass(frozen=True, slots=True)
class LaterVersion(Version):
    owner: str = "nobody"


def later(kind: type[Any], record: Any, **changes: Any) -> Any:
    """A record as a later release with one more field would read it."""
    return kind(**{field.name: getattr(record, field.name) for field in fields(record)} | changes)


def test_seal_of_an_earlier_release_still_matches():
    assert seal(VERSION) == SEAL


def test_seal_ignores_fields_that_a_later_release_adds():
    artifacts = tuple(later(LaterArtifact, artifact) for artifact in ARTIFACTS)
    lineage = later(LaterLineage, LINEAGE)
    assert seal(later(LaterVersion, VERSION, lineage=lineage, artifacts=artifacts)) == SEAL


def test_seal_covers_every_immutable_field():
    changing = {"status", "tags", "aliases", "evaluation"}
    for field in fields(Version):
        value = {"lineage": later(Lineage, LINEAGE, git_dirty=False), "artifacts": ARTIFACTS[:1]}
        if field.name == "created_at":
            value["created_at"] = datetime(2026, 11, 30, tzinfo=UTC)
        edited = later(Version, VERSION, **{field.name: value.get(field.name, "edited")})
        assert (seal(edited) == SEAL) == (field.name in changing), field.name
    for field in fields(Lineage):
        edited = later(Lineage, LINEAGE, **{field.name: "edited"})
        assert seal(later(Version, VERSION, lineage=edited)) != SEAL, field.name
    for field in fields(Artifact):
        edited = later(Artifact, ARTIFACTS[0], **{field.name: "edited"})
        assert seal(later(Version, VERSION, artifacts=(edited, ARTIFACTS[1]))) != SEAL, field.name


@pytest.mark.parametrize("left", ["in a line", "before the answer"])
def test_helper_process_exits_silently_when_verify_is_killed(left):
    task = json.dumps(["events", "digits", []]) + "\n"
    helper = subprocess.Popen(
        [sys.executable, "-c", _SERVE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    if left == "in a line":
        helper.stdin.write(task[:-9])
    else:
        helper.stdout.close()
        helper.stdin.write(task)
    helper.stdin.close()
    assert helper.wait(60) == 0
    assert helper.stderr.read() == ""
    helper.stderr.close()
