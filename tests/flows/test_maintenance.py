"""The maintenance flows with a real Prefect server and its database, and a real registry."""

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from registry_helpers import make_candidate
from ruamel.yaml import YAML

from flows.git import git
from registry import Registry

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api) -> Path:
    """A project without a registry, as the current folder of flow runs."""
    root = tmp_path / "project"
    root.mkdir()
    for name in ("dvc.yaml", "params.yaml", "prefect.yaml"):
        shutil.copy(ROOT / name, root)
    git(root, "init", "-q")
    monkeypatch.chdir(root)
    monkeypatch.delenv("MODELMINT_BACKUP", raising=False)
    return root


def registry_of(root: Path) -> Registry:
    return Registry(f"sqlite:///{root / 'modelmint.db'}", root / "artifacts")


def register(root: Path, content: str) -> None:
    with registry_of(root) as registry:
        candidate = make_candidate(root.parent / content, content)
        registry.register("digits", candidate, actor="ada")


def shown(api, key: str) -> str:
    """The newest artifact with this key."""
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
    from prefect.client.schemas.sorting import ArtifactSort

    wanted = ArtifactFilter(key=ArtifactFilterKey(any_=[f"maintenance-{key}"]))
    found = api.read_artifacts(artifact_filter=wanted, sort=ArtifactSort.CREATED_DESC, limit=1)
    return found[0].data


def test_backup_without_its_folder_fails_and_says_how_to_set_it(folder, api, monkeypatch):
    from flows.maintenance import back_up

    assert back_up(return_state=True).name == "Idle"  # there is no registry yet
    register(folder, "one")
    state = back_up(return_state=True)
    assert state.is_failed()
    for part in ("MODELMINT_BACKUP is not set", "modelmint serve", "`active: false`"):
        assert part in state.message
        assert part in shown(api, "backup")
    monkeypatch.setenv("MODELMINT_BACKUP", str(folder.parent / "kept"))
    assert back_up(return_state=True).is_completed()
    register(folder, "two")
    state = back_up(return_state=True)
    assert state.message == f"2 versions and 4 files are in {folder.parent / 'kept'}"
    table = shown(api, "backup")
    assert "| new files | 1 |" in table
    assert "| newest hash of digits | `" in table


def test_verify_remembers_what_was_verified_and_fails_until_the_damage_is_repaired(
    folder, api, monkeypatch
):
    from flows.maintenance import back_up, verify

    register(folder, "one")
    assert verify(return_state=True).message.startswith("no problem in everything: 1 versions")
    assert "no problem in what came after event 1: 0 versions" in verify(return_state=True).message
    register(folder, "two")
    with registry_of(folder) as registry:
        damaged = registry.open(registry.resolve("digits:2").version)["model.onnx"]
    damaged.chmod(0o644)
    before = damaged.read_bytes()
    damaged.write_bytes(b"xxx")
    for _ in range(2):  # the event is not taken for verified
        state = verify(return_state=True)
        assert state.is_failed()
        assert "digits:2" in state.message
        assert "digits:2" in shown(api, "verify")
    damaged.write_bytes(before)
    assert "after event 1: 1 versions" in verify(return_state=True).message
    assert "after event 2: 0 versions" in verify(return_state=True).message

    # Everything again after so many days, with the backup.
    monkeypatch.setenv("MODELMINT_BACKUP", str(folder.parent / "kept"))
    back_up(return_state=True)
    forget_days(folder, 31)
    assert "no problem in everything" in verify(return_state=True).message
    assert "| backup | 4 files" in shown(api, "verify")
    copied = next((folder.parent / "kept/sha256").rglob(damaged.name))
    copied.chmod(0o644)
    copied.write_bytes(b"yyy")
    forget_days(folder, 31)
    state = verify(return_state=True)
    assert state.is_failed()
    assert damaged.name in state.message


def test_verify_checks_everything_if_the_registry_is_older_than_what_was_verified(folder, api):
    from flows.maintenance import verify

    register(folder, "one")
    shutil.copy(folder / "modelmint.db", folder.parent / "older.db")
    register(folder, "two")
    assert verify(return_state=True).is_completed()
    shutil.copy(folder.parent / "older.db", folder / "modelmint.db")
    (folder / "artifacts/sha256").rename(folder / "artifacts/lost")  # the files of version 1 too
    state = verify(return_state=True)
    assert state.is_failed()
    assert "| checked | everything |" in shown(api, "verify")


def forget_days(root: Path, days: int) -> None:
    """As if the last verification of everything had been so many days earlier."""
    from flows.maintenance import Verified

    with registry_of(root) as registry:
        last = Verified.load(registry)
        replace(last, everything=last.everything - timedelta(days=days)).save(registry)


def test_gc_and_worktrees_say_what_they_removed(folder, api):
    from flows.maintenance import clean_worktrees, collect

    assert collect(return_state=True).name == "Idle"
    register(folder, "one")
    state = collect(return_state=True)
    assert state.message == "removed 0 files (0 bytes)"
    assert "| kept, younger than a day | 0 |" in shown(api, "gc")
    for name, days in (("old", 31), ("new", 29)):
        record = folder / "runs/records" / name
        record.mkdir(parents=True)
        started = datetime.now(UTC) - timedelta(days=days)
        (record / "run.json").write_text(f'{{"started": "{started.isoformat()}"}}')
    state = clean_worktrees(return_state=True)
    assert "removed 1 runs" in state.message
    assert [p.name for p in (folder / "runs/records").iterdir()] == ["new"]


def test_old_flow_runs_of_this_project_go_in_batches_and_active_and_foreign_ones_stay(
    folder, api, monkeypatch
):
    from prefect.states import Completed, Running

    from flows import prefect_history
    from flows.deploy import project_tag, read_deployments
    from flows.maintenance import clean_prefect
    from flows.training import training

    monkeypatch.setattr(prefect_history, "BATCH", 2)
    monkeypatch.setattr(prefect_history, "COMPACT_SHARE", 0.0)
    deployments = read_deployments(folder / "prefect.yaml")
    ours = next(d for d in deployments if d.name.startswith("gc-")).apply()
    foreign = training.to_deployment("weekly-other-0000").apply()

    def ended(deployment: Any, state: Any) -> Any:
        return api.create_flow_run_from_deployment(deployment, state=state).id

    old = [ended(ours, Completed()) for _ in range(5)]
    tags = ["training", project_tag(folder)]
    old.append(api.create_flow_run(training, tags=tags, state=Completed()).id)
    kept = [ended(ours, Running()), ended(foreign, Completed())]
    tags = ["training", project_tag(folder.with_name("other"))]
    kept.append(api.create_flow_run(training, tags=tags, state=Completed()).id)
    now = datetime.now(UTC)
    kept.append(ended(ours, Completed()))
    assert prefect_history.remove_old_runs(folder, now).runs == len(old)
    assert not [number for number in old if exists(api, number)]
    assert [number for number in kept if exists(api, number)] == kept

    state = clean_prefect(return_state=True)
    assert state.message.startswith("removed 0 flow runs; compacted from ")
    table = shown(api, "prefect")
    assert "| their artifacts | removed by Prefect's service within a day |" in table
    assert "| events | removed by Prefect's service after 7 days |" in table
    for number in (ours, foreign):
        api.delete_deployment(number)


def exists(api, number: Any) -> bool:
    from prefect.exceptions import ObjectNotFound

    try:
        return bool(api.read_flow_run(number))
    except ObjectNotFound:
        return False


def test_a_database_that_is_not_that_of_the_server_is_left_alone(tmp_path, monkeypatch):
    from flows import prefect_history

    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as database:
        database.execute("CREATE TABLE flow_run (id TEXT)")
    monkeypatch.setattr(prefect_history, "_database_file", lambda: other)
    before = other.read_bytes()
    said = prefect_history.compact_database("c0ffee00-0000-0000-0000-000000000000")
    assert said.startswith("not compacted")
    assert other.read_bytes() == before


def test_each_maintenance_deployment_has_a_switch(tmp_path):
    from flows.deploy import read_deployments

    yaml = YAML(typ="safe")
    document = yaml.load((ROOT / "prefect.yaml").read_text())
    chores = [d for d in document["deployments"] if "maintenance" in d["tags"]]
    assert [d["name"] for d in chores] == ["backup", "verify", "gc", "worktrees", "prefect"]
    assert all(s["active"] is True for d in chores for s in d["schedules"])
    text = (ROOT / "prefect.yaml").read_text().replace("active: true", "active: false")
    (tmp_path / "prefect.yaml").write_text(text)
    made = [d for d in read_deployments(tmp_path / "prefect.yaml") if "maintenance" in d.tags]
    assert len(made) == 5
    assert not [s for d in made for s in d.schedules if s.active]
