"""Make the registry of the present release that tests/registry/test_kept_registry.py opens.

    python tests/data/make_registry.py

It writes tests/data/registry_NNNN, where NNNN is the schema's revision; README.md says when. Times,
ids, the key and its signature are new each time; everything else is the same.
"""

import contextlib
import json
import os
import shutil
import sqlite3
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from flows.job import run_job
from registry import Candidate, Lineage, Policy, Registry
from registry.rules.history import KINDS
from registry.schema import HEAD, VERSION_TABLE
from registry.signing import sign
from registry.transfer.backup import backup
from registry.transfer.oci import export_version, import_version
from registry.upkeep.collection import purge
from tasks.drift.record import record_of
from tasks.encoding import Encoder
from tasks.inputs import find
from tasks.predict import How
from tasks.serving.options import BadLimit

DATA = Path(__file__).parent
sys.path.append(str(DATA.parent / "helpers"))

from kept_drift import drift_reports  # noqa: E402

BUNDLE = DATA / "release_0_1/bundle"
ELSEWHERE = "/srv/homes"
"""Stands in for the folder on the machine that ran this script."""
INPUT = "key,area,town\n1,50,Bern\n2,large,Ulm\n3,,Ulm\n4,90,Graz\n"
"""Four rows: the second goes to quarantine, the others have a missing and an unknown value."""


def main() -> None:
    target = DATA / f"registry_{HEAD}"
    with tempfile.TemporaryDirectory() as made:
        work = Path(made).resolve()
        os.chdir(work)  # the manifest of the predictions names its input relative to this
        (work / "homes.csv").write_text(INPUT)
        with open_at(work, "first.db") as registry:
            fill(registry, work)
        script = dump(work / "first.db").replace(str(work), ELSEWHERE)
        with contextlib.closing(sqlite3.connect("registry.db")) as connection:
            connection.executescript(script)
        with open_at(work, "registry.db") as registry:
            backup(registry, work / "backup")
            registry.promote("homes", 2, "staging", **by("bo", "after the backup"))
            registry.tag("homes", 2, "region", "south", actor="ada")
        (work / "registry.sql").write_text(dump(work / "registry.db"))
        check(work / "registry.db")
        (work / "backup/last-hashed.txt").unlink(missing_ok=True)  # of this machine's clock
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        for name in ("artifacts", "backup", "predictions"):
            shutil.copytree(work / name, target / name)
        for name in ("registry.sql", "homes.csv", "homes-1.tar", "signer.pub.pem"):
            shutil.copy(work / name, target)


def open_at(work: Path, database: str) -> Registry:
    return Registry(f"sqlite:///{work / database}", work / "artifacts")


def by(actor: str, reason: str) -> dict:
    """Who moves an alias, and why."""
    return {"expect_revision": None, "actor": actor, "reason": reason}


def candidate(work: Path, change: str = "", **changes: object) -> Candidate:
    """The bundle of release 0.1; `change` is white space that makes another version of it."""
    files = {path.name: path for path in BUNDLE.iterdir()}
    text = files["signature.json"].read_text()
    if change:
        files["signature.json"] = work / f"signature-{len(change)}.json"
        files["signature.json"].write_text(text + change)
    evaluation = json.loads(files["evaluation.json"].read_bytes())
    lineage = Lineage(
        dataset="d" * 32 + ".dir",
        test_split=evaluation["test_split"]["sha256"],
        git_commit="c" * 40,
        git_dirty=False,
        flow_run_id="0e3f6f3e-8d5c-4a5e-9d0a-5f6f3c6f8a11",
        libraries={"onnxruntime": "1.31.1", "torch": "2.13.0"},
        data={"data/raw/homes.csv": "a" * 32},
    )
    made = Candidate(
        files=files,
        identity=frozenset({"model.onnx", "signature.json"}),
        signature=json.loads(text),
        metrics=evaluation["metrics"]["summary"],
        params={"train": {"epochs": 3 + len(change), "resume": None, "widths": [64, 32]}},
        evaluation=evaluation,
        lineage=lineage,
        tags={"team": "Zürich"},
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def fill(registry: Registry, work: Path) -> None:
    """Rows in every table, and an event of every kind."""
    registry.set_policy("homes", Policy(four_eyes=True, protected=("champion", "eu")), actor="cy")
    registry.register("homes", candidate(work), actor="ada", request_id="night-1")
    child = replace(candidate(work).lineage, parent="homes:1", git_dirty=True)
    registry.register("homes", candidate(work, "\n", lineage=child), actor="ada")
    for count in (2, 3, 4):
        registry.register("homes", candidate(work, "\n" * count, tags={}), actor="bo")
    failed = {**candidate(work).evaluation, "passed": False}
    registry.refuse("homes", candidate(work, "\n" * 5, evaluation=failed), actor="bo", reason="r2")
    decide(registry)
    remove(registry)
    exchange(registry, work)
    predict(registry)
    drift(registry, work)


def decide(registry: Registry) -> None:
    registry.tag("homes", 2, "owner", "ada", actor="ada")
    registry.tag("homes", 2, "team", None, actor="ada")
    registry.note("homes", 2, "measured again on the data of autumn", actor="ada")
    again = {**registry.resolve("homes:2").version.evaluation, "reviewed": "autumn"}
    registry.evaluate("homes", 2, again, actor="cy")
    for number in (1, 2):
        registry.approve("homes", number, actor="cy", reason="agrees with last year")
        registry.promote("homes", number, **by("cy", "better"))
        registry.promote("homes", number, "eu", **by("cy", "better"))
    registry.rollback("homes", actor="bo", reason="slow")
    registry.promote("homes", 2, **by("cy", "fast now"))
    registry.promote("homes", 3, "challenger", **by("bo", "please compare"))
    registry.reject("homes", 3, actor="cy", reason="no gain")


def remove(registry: Registry) -> None:
    """Version 4 is archived without its files; 5 was archived for a while."""
    registry.archive("homes", 4, actor="cy", reason="a mistake")
    assert purge(registry, actor="cy", dry_run=False)
    registry.archive("homes", 5, actor="cy", reason="a mistake, too")
    registry.unarchive("homes", 5, actor="cy", reason="no, it was not")
    registry.archive("homes", 5, actor="cy", reason="but old")


def exchange(registry: Registry, work: Path) -> None:
    """A signature, an archive, and a version that comes from another registry."""
    key = ec.generate_private_key(ec.SECP256R1())
    none, pem = serialization.NoEncryption(), serialization.Encoding.PEM
    (work / "signer.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, none)
    )
    (work / "signer.pub.pem").write_bytes(
        key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    sign(registry, "homes:1", work / "signer.pem", actor="cy")
    export_version(registry, "homes:1", work / "homes-1.tar")
    other = work / "other"
    with Registry(f"sqlite:///{work}/other.db", other) as theirs:
        theirs.register("flats", candidate(work, "\n" * 6), actor="di")
        export_version(theirs, "flats:1", work / "flats-1.tar")
    import_version(registry, work / "flats-1.tar", actor="ada")


def predict(registry: Registry) -> None:
    """A job of each state; the completed one wrote the predictions."""
    resolved = registry.resolve("homes@champion")
    inputs = find([Path("homes.csv")], Encoder.read(BUNDLE).signature)
    run_job(
        registry, resolved, inputs, Path("predictions"), how=How("cpu", limit=BadLimit.parse("1"))
    )
    started = {"input_sha256": "1" * 64, "flow_run_id": "0e3f6f3e-8d5c-4a5e-9d0a-5f6f3c6f8a12"}
    registry.start_job(resolved, output=f"{ELSEWHERE}/friday", **started)  # becomes lost
    failed = registry.start_job(resolved, output=f"{ELSEWHERE}/friday", **started)
    registry.fail_job(failed, "OSError: no space left on device")
    registry.start_job(registry.resolve("homes:2"), output=f"{ELSEWHERE}/monday", **started)


def drift(registry: Registry, work: Path) -> None:
    """Two jobs of homes:1 whose rows were compared with the training: as they were, and moved."""
    resolved, earlier = registry.resolve("homes:1"), []
    for number, report in enumerate(drift_reports(work / "drift")):
        started = {"input_sha256": f"{number + 2}" * 64, "flow_run_id": None}
        job = registry.start_job(resolved, output=f"{ELSEWHERE}/drift-{number}", **started)
        record = record_of(report, earlier)
        ran = {"rows": report.rows, "quarantined": 0, "provider": "CPU", "onnxruntime": "1.31.1"}
        registry.finish_job(job, **ran, drift=record)
        earlier.append(record)


def dump(database: Path) -> str:
    """A database as SQL."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return "".join(f"{line}\n" for line in connection.iterdump())


def check(database: Path) -> None:
    """Every table has rows, and there is an event of every kind and a job in every state."""
    with contextlib.closing(sqlite3.connect(database)) as connection:

        def column(query: str) -> set[str]:
            return {row[0] for row in connection.execute(query)}

        tables = column("SELECT name FROM sqlite_master WHERE type = 'table'")
        empty = [name for name in tables if not column(f"SELECT 1 FROM {name} LIMIT 1")]
        assert not empty, f"no rows in {empty}"
        kinds = {kind.strip("' ") for kind in KINDS.split(",")}
        assert column("SELECT DISTINCT kind FROM events") == kinds
        assert column("SELECT DISTINCT state FROM jobs") == {
            "completed",
            "failed",
            "lost",
            "running",
        }
        assert column(f"SELECT version_num FROM {VERSION_TABLE}") == {HEAD}


if __name__ == "__main__":
    main()
