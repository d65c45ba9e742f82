"""Registries that earlier releases wrote (tests/data/registry_NNNN): opened, verified, continued.

Also by a later release: a copy of the package whose dataclasses have a field more, and whose schema
has another revision.
"""

import ast
import json
import os
import shutil
import subprocess
import sys
from dataclasses import make_dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from kept_drift import drift_reports
from kept_registry import KEPT, Continued, continue_kept, load
from projects import ROOT, SECONDS

from flows.job import run_job, signature_of
from registry import Registry, SchemaMismatch, upgrade
from registry.digests import seal_json
from registry.integrity import verify
from registry.schema import HEAD
from registry.transfer.backup import restore, verify_backup
from tasks import formats
from tasks.drift.record import record_of
from tasks.inputs import find
from tasks.predict import How
from tasks.serving.manifest import PredictReport, completed
from tasks.serving.options import BadLimit

NEXT = f"{int(HEAD) + 1:04}"
MIGRATION = f"""
from alembic import op

revision = "{NEXT}"
down_revision = "{HEAD}"


def upgrade() -> None:
    op.execute("ALTER TABLE jobs ADD COLUMN later TEXT")
    op.execute("ALTER TABLE models ADD COLUMN later TEXT DEFAULT 'by default' NOT NULL")
"""
COLUMNS = {
    'Column("keep_last",': 'Column("later", Text, nullable=False, server_default="by default")',
    'Column("substituted",': 'Column("later", Text)',
}
"""The columns of the later schema, by what they stand before. A policy has one for each field."""


@pytest.fixture(params=KEPT, ids=lambda folder: folder.name)
def kept(request, tmp_path) -> Path:
    """A copy of a kept registry: of SQL, a store, a backup, an archive, predictions."""
    return Path(shutil.copytree(request.param, tmp_path / "kept"))


@pytest.fixture(scope="module")
def later(tmp_path_factory) -> Path:
    """A folder with the package of a later release."""
    folder = tmp_path_factory.mktemp("later")
    shutil.copytree(ROOT / "registry", folder / "registry")
    assert sum(lengthen(module) for module in folder.rglob("*.py")) > 50
    schema = folder / "registry/schema.py"
    text = schema.read_text().replace(f'HEAD = "{HEAD}"', f'HEAD = "{NEXT}"')
    for before, column in COLUMNS.items():
        assert text.count(before) == 1
        text = text.replace(before, f"{column},\n    {before}")
    schema.write_text(text)
    (folder / f"registry/migrations/versions/{NEXT}_later.py").write_text(MIGRATION)
    return folder


def lengthen(module: Path) -> int:
    """Add a field with a default to every dataclass of a module; returns the number of these."""
    lines, found = module.read_text().splitlines(), 0
    classes = [node for node in ast.walk(ast.parse("\n".join(lines))) if is_dataclass(node)]
    for node in sorted(classes, key=lambda node: -node.end_lineno):
        lines.insert(node.end_lineno, f'{" " * (node.col_offset + 4)}later: str = "by default"')
        found += 1
    module.write_text("\n".join(lines) + "\n")
    return found


def is_dataclass(node: ast.AST) -> bool:
    return isinstance(node, ast.ClassDef) and any(
        "dataclass" in ast.unparse(decorator) for decorator in node.decorator_list
    )


def continue_with(package: Path, kept: Path) -> Continued:
    """`continue_kept` in a process with another copy of the package."""
    path = os.pathsep.join([str(package), str(ROOT / "tests/helpers")])
    done = subprocess.run(
        [sys.executable, "-m", "kept_registry", str(kept)],
        env={**os.environ, "PYTHONPATH": path},
        cwd=kept,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return Continued(**json.loads(done.stdout))


def test_a_kept_registry_is_verified_and_its_history_continued(kept):
    found = continue_kept(kept, load(kept))
    assert found.problems == []
    assert found.champions == [2, 1, 3]
    assert (found.registered, found.restored) == ("homes:6", 7)
    # Jobs measure their drift since schema 0006; the first one's model has nothing to compare with.
    expected = [(None, None), ("none", None), ("drifted", "drifted")]
    assert found.drift == (expected if found.revision >= "0006" else [])


def test_a_job_is_compared_with_the_kept_drift_of_earlier_jobs(kept, tmp_path):
    url = load(kept)
    upgrade(url)
    with Registry(url, kept / "artifacts") as registry:
        earlier = [job.drift for job in registry.jobs("homes") if job.drift]
    if kept_revision(kept) < "0006":
        assert earlier == []
        return
    usual, _ = drift_reports(tmp_path / "again")
    found = record_of(usual, earlier)["earlier"]
    assert (found["jobs"], found["rows"], found["verdict"]) == (2, 800, "drifted")


def test_the_kept_backup_is_restored_into_any_database_and_continued(kept, place):
    found = restore(kept / "backup", place.url, kept / "restored")
    assert found.problems == []
    shutil.rmtree(kept / "artifacts")
    (kept / "restored").rename(kept / "artifacts")
    found = continue_kept(kept, place.url)
    assert found.problems == []
    assert found.champions == [2, 1, 3]


def test_a_later_release_with_longer_records_upgrades_and_continues_it(kept, later):
    found = continue_with(later, kept)
    assert found.code == str(later / "registry")
    assert found.problems == []
    assert (found.revision, found.registered) == (kept_revision(kept), "homes:6")
    assert found.champions == [2, 1, 3]
    assert len(found.drift) == (3 if found.revision >= "0006" else 0)
    with pytest.raises(SchemaMismatch, match=f"has schema {NEXT}"):
        Registry(f"sqlite:///{kept}/registry.db", kept / "artifacts")


def kept_revision(kept: Path) -> str:
    """The revision in the database's SQL."""
    (line,) = [
        line
        for line in (kept / "registry.sql").read_text().splitlines()
        if line.startswith('INSERT INTO "registry_alembic_version"')
    ]
    return line.split("'")[1]


def test_kept_predictions_are_complete_and_not_predicted_again(kept, monkeypatch):
    monkeypatch.chdir(kept)  # the manifest has relative paths
    url = load(kept)
    upgrade(url)
    output, quarantine = Path("predictions"), Path("predictions/quarantine")
    before = pq.read_table(output / "predictions")
    with Registry(url, kept / "artifacts") as registry:
        resolved = registry.resolve("homes@champion")
        files = find([Path("homes.csv")], signature_of(resolved.version))
        how = How("cpu", limit=BadLimit.parse("1"))
        done = run_job(registry, resolved, files, output, how=how)
        assert (done.fresh, done.rows, done.quarantined) == (True, 3, 1)
        (output / "manifest.json").unlink()
        shutil.rmtree(output)
        again = run_job(registry, resolved, files, output, how=how)
        assert (again.fresh, again.rows, again.quarantined) == (False, 3, 1)
        assert verify(registry).problems == []
    now = pq.read_table(output / "predictions")
    assert now.schema == before.schema
    assert now["prediction"].to_pylist() == pytest.approx(before["prediction"].to_pylist())
    assert pq.read_table(quarantine).num_rows == 1


def test_a_report_class_with_a_new_field_reads_a_kept_manifest(kept):
    document = formats.read(kept / "predictions/manifest.json", formats.MANIFEST)
    fields = [("seconds", float, 0.0)]
    longer = make_dataclass("Longer", fields, bases=(PredictReport,), frozen=True)
    report = formats.record(longer, document)
    assert (report.rows, report.seconds) == (4, 0.0)
    assert completed(kept / "predictions").predicted == 3


def test_a_kept_backup_with_fields_of_a_later_release_is_readable(kept):
    path = kept / "backup/manifest.json"
    document = json.loads(path.read_bytes())
    del document["seal"]
    document["later"] = True
    for segment in document["segments"]:
        segment["compression"] = "none"
    path.write_text(json.dumps(document | {"seal": seal_json(document)}))
    report = verify_backup(kept / "backup")
    assert (report.problems, report.models) == ([], 2)
