"""A study that several processes share: kills, four workers at once, both kinds of databases."""

import random
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from amounts import usual
from sqlalchemy import create_engine, text
from study_helpers import loss_of, open_study, start_worker, work

from flows.tuning.studies import Study
from registry import Registry
from registry.databases import studies as places
from registry.databases.roles import create_roles
from registry.integrity import verify
from registry.transfer.backup import backup

TRIALS = 16


def outcome(study: Study) -> list[tuple[int, str, float | None]]:
    """What must not depend on kills: the trials in their order, with values and result."""
    return [(one.ordinal, one.state, one.loss) for one in study.trials()]


def registry_at(url: str, folder: Path) -> str:
    """A new registry in an empty database; its URL."""
    with Registry(url, str(folder)) as registry:
        registry.create()
    return url


def test_a_worker_that_is_killed_again_and_again_ends_with_the_same_trials(tmp_path: Path):
    calm = registry_at(f"sqlite:///{tmp_path}/calm.db", tmp_path / "a")
    work(calm, TRIALS, 0.0)
    expected = outcome(open_study(calm, TRIALS))
    assert len(expected) == TRIALS
    assert {state for _, state, _ in expected} == {"complete", "pruned"}

    stormy = registry_at(f"sqlite:///{tmp_path}/stormy.db", tmp_path / "b")
    drawn, kills = random.Random(1), 0
    while kills < usual(2, 5):
        worker = start_worker(stormy, TRIALS, pause=0.02)
        assert worker.stdout is not None
        worker.stdout.readline()  # it has opened the study
        time.sleep(drawn.uniform(0.02, 0.6))
        kills += worker.poll() is None
        worker.kill()
        worker.wait()
    _, errors = (last := start_worker(stormy, TRIALS)).communicate(timeout=300)
    assert last.returncode == 0, errors
    study = open_study(stormy, TRIALS)
    assert outcome(study) == expected
    assert sum(one.attempts - 1 for one in study.trials()) >= 1


def test_workers_on_one_sqlite_file_share_a_study_without_losing_or_doubling_a_trial(
    tmp_path: Path,
):
    url = registry_at(f"sqlite:///{tmp_path}/shared.db", tmp_path / "a")
    workers = [start_worker(url, TRIALS) for _ in range(usual(3, 4))]
    printed = [worker.communicate(timeout=300)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * len(workers), "\n".join(printed)
    assert not any("locked" in text for text in printed)
    trials = open_study(url, TRIALS).trials()
    assert [trial.ordinal for trial in trials] == list(range(TRIALS))
    assert {trial.state for trial in trials} <= {"complete", "pruned"}
    assert all(trial.attempts == 1 for trial in trials)
    for trial in trials:
        if trial.loss is not None:
            assert trial.loss == loss_of(trial.values["x"], trial.values["y"], 8)


def test_a_trial_that_failed_for_a_reason_counts_and_is_not_repeated(tmp_path: Path):
    url = registry_at(f"sqlite:///{tmp_path}/r.db", tmp_path / "a")
    study = open_study(url, 2)
    for why in ("diverged", "diverged again"):
        claimed = study.ask(lambda trial: {"x": trial.suggest_float("x", 0, 1)})
        assert claimed is not None
        study.failed(claimed, why)
    assert study.ask(lambda trial: {}) is None
    assert [(one.state, one.why) for one in study.trials()] == [
        ("failed", "diverged"),
        ("failed", "diverged again"),
    ]


def test_the_time_of_a_study_counts_while_trials_run_and_not_in_between(tmp_path: Path):
    url = registry_at(f"sqlite:///{tmp_path}/r.db", tmp_path / "a")
    study = Study(url, "m-1", identity={}, minutes=0.5 / 60)
    assert study.seconds() == 0
    claimed = study.ask(lambda trial: {"x": trial.suggest_float("x", 0, 1)})
    assert claimed is not None
    time.sleep(0.6)
    study.complete(claimed, 1.0)
    used = study.seconds()
    assert used >= 0.5
    time.sleep(0.3)
    assert study.seconds() == used
    assert study.ask(lambda trial: {}) is None


def test_a_registry_with_a_study_is_verified_and_backed_up_like_any_other(tmp_path: Path):
    url = registry_at(f"sqlite:///{tmp_path}/r.db", tmp_path / "files")
    work(url, 3, 0.0)
    with Registry(url, str(tmp_path / "files")) as registry:
        assert verify(registry).problems == []
        backup(registry, tmp_path / "backup")
    # Nothing is pickled: SQLite has texts and numbers only.
    with sqlite3.connect(tmp_path / "r.db") as database:
        names = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        assert ("trial_params",) in names
        for (name,) in names:
            if name.startswith(("trial", "study", "studies")):
                for row in database.execute(f"SELECT * FROM {name}"):
                    assert not any(isinstance(value, bytes) for value in row)


def test_on_postgresql_two_workers_share_a_study_in_a_schema_of_its_own(
    postgres: str, tmp_path: Path, make_postgres: Callable[[], str]
):
    url = registry_at(make_postgres(), tmp_path / "files")
    workers = [start_worker(url, TRIALS) for _ in range(2)]
    printed = [worker.communicate(timeout=300)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 2, "\n".join(printed)
    trials = open_study(url, TRIALS).trials()
    assert [trial.ordinal for trial in trials] == list(range(TRIALS))
    create_roles(url)
    engine = create_engine(places.options(url)[0])
    with engine.connect() as connection:
        query = "SELECT DISTINCT table_schema FROM information_schema.tables WHERE table_name = :n"
        assert connection.execute(text(query), {"n": "studies"}).scalars().all() == ["optuna"]
        may = "SELECT has_table_privilege('modelmint_writer', 'optuna.trials', 'INSERT')"
        assert connection.execute(text(may)).scalar_one()
    engine.dispose()
    with Registry(url, str(tmp_path / "files")) as registry:
        assert verify(registry).problems == []


@pytest.fixture
def make_postgres(request: pytest.FixtureRequest):
    from databases import new_databases

    with new_databases("postgresql", request) as make:
        yield make
