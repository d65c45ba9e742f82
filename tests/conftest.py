"""Shared fixtures, and the choice of tests that `make check` leaves out."""

import gc
import json
import os
import shutil
import socket
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from amounts import EVERYTHING
from exporter import read_operators_once
from projects import DEBUG, Family, Project, copy_project, made_once, make_project
from registry_helpers import Place, quick_folder
from servers import create_database, drop_database

from tasks.config import (
    Cnn,
    Evaluate,
    Export,
    ImageSource,
    Logistic,
    Mlp,
    Optimizer,
    Prepare,
    Train,
)

pytest_plugins = ["databases", "stores", "objects"]

# Each collection would visit all that was imported; `pytest_collection_finish` starts it again.
gc.disable()

# Before Prefect is imported: a new home for it, and no variables of the user.
os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="modelmint-prefect-")
for _name in ("PREFECT_API_URL", "PREFECT_PROFILE", "MODELMINT_DATABASE_URL"):
    os.environ.pop(_name, None)


# Whole flows and many processes, the longest first. They start first, or the last one would run
# alone for minutes.
LONG = (
    "flows/test_training_flow.py",
    "flows/test_serve.py",
    "flows/test_tuning.py",
    "flows/test_lineage.py",
    "test_examples.py",
    "flows/test_main_job.py",
    "flows/test_kinds.py",
    "test_readme.py",
    "flows/test_whole_path.py",
    "flows/test_warm.py",
    "flows/test_workers.py",
    "flows/test_approval_flow.py",
    "flows/test_notify_serve.py",
    "registry/test_processes.py",
    "registry/test_upgrade.py",
    "registry/test_kills.py",
    "registry/test_web.py",
    "cli/test_models_cli.py",
)

# `make check` leaves out these files: they train, make many registries, start processes, or import
# torch, Prefect or hypothesis, which takes seconds in each worker.
WHOLE_FILES = {
    *(set(LONG) - {"test_examples.py", "test_readme.py"}),
    "tasks/test_architectures.py",
    "tasks/test_augmentation.py",
    "tasks/test_auto_architecture.py",
    "tasks/test_bag.py",
    "tasks/test_gates.py",
    "tasks/test_resnet_d.py",
    "tasks/test_tabular.py",
    "cli/test_backup_cli.py",
    "cli/test_status.py",
    "cli/test_training_summary.py",
    "tasks/test_devices.py",
    "tasks/test_losses.py",
    "tasks/test_series.py",
    "tasks/test_target_transforms.py",
    "tasks/test_thresholds.py",
    "tasks/test_export.py",
    "tasks/test_windows.py",
    "flows/test_cluster.py",
    "flows/test_formats.py",
    "flows/test_git.py",
    "flows/test_heartbeat.py",
    "flows/test_inbox_faults.py",
    "tasks/test_init_from.py",
    "tasks/test_init_from_file.py",
    "tasks/test_label_noise.py",
    "flows/test_loop.py",
    "flows/test_loop_rows.py",
    "flows/test_maintenance.py",
    "flows/test_studies.py",
    "cli/test_models_evaluate.py",
    "flows/test_notify_channels.py",
    "flows/test_notify_models.py",
    "flows/test_notify_runs.py",
    "flows/test_metrics.py",
    "tasks/test_optimisation.py",
    "tasks/test_precision.py",
    "flows/test_prefect_ui.py",
    "flows/test_progress.py",
    "flows/test_promotion.py",
    "flows/test_raw.py",
    "flows/test_reconcile.py",
    "registry/test_any_input.py",
    "registry/test_backup.py",
    "registry/test_backup_again.py",
    "registry/test_belonging.py",
    "registry/test_bucket.py",
    "registry/test_database.py",
    "registry/test_integrity.py",
    "registry/test_kept_registry.py",
    "registry/test_mlflow.py",
    "registry/test_model.py",
    "registry/test_oci.py",
    "registry/test_shell.py",
    "registry/test_signing.py",
    "registry/test_upkeep.py",
    "tasks/test_predict_any_input.py",
    "tasks/test_predict_kills.py",
    "tasks/test_repeats.py",
    "tasks/test_resume.py",
    "flows/test_runs.py",
    "flows/test_versioning.py",
    "flows/test_same_files.py",
    "tasks/test_train.py",
    "test_extending_columns.py",
    "test_extending_problems.py",
}
PLACES = (("sqlite", "postgresql"), ("folder", "bucket"))
# Where each test runs with both databases and both stores, because they differ in concurrent
# transactions, triggers, migrations and after kills.
EVERY_PLACE = {
    "registry/test_artifacts.py",
    "registry/test_bucket.py",
    "registry/test_collection.py",
    "registry/test_database.py",
    "registry/test_extras.py",
    "registry/test_kills.py",
    "registry/test_processes.py",
    "registry/test_protected.py",
    "registry/test_upgrade.py",
}
# In other files it leaves out tests with one of these fixtures, which do the same,
WHOLE_FIXTURES = {
    "browser",
    "exported",
    "full_url",
    "houses",
    "installation",
    "kinds",
    "lawless",
    "main_job",
    "pets",
    "postgres",
    "prefect_server",
    "project",
    "repository",
    "s3",
    "workspace",
}
# and tests with one of these parameters, which need a server.
WHOLE_PARAMETERS = {"bucket", "postgresql"}


def place_of(path: Path) -> str:
    """The path of a file in tests/, as `flows/test_serve.py`."""
    return path.relative_to(Path(__file__).parent).as_posix() if path.suffix else path.name


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not import the files that `make check` leaves out: MLflow alone takes seconds."""
    quick = "not whole" in config.option.markexpr
    return True if quick and place_of(collection_path) in WHOLE_FILES else None


def pytest_collection_finish() -> None:
    """Leave what was imported, torch and Prefect among it, out of garbage collection."""
    gc.freeze()
    gc.enable()


def pytest_runtest_setup() -> None:
    """Now, because a test may have been the first to import the exporter."""
    read_operators_once()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the files of `LONG` first, in its order; mark tests that take long or need a server."""
    if not EVERYTHING:
        config.hook.pytest_deselected(items=[item for item in items if is_for_a_release(item)])
        items[:] = [item for item in items if not is_for_a_release(item)]
    places = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(place_of(item.path), len(LONG)))
    for item in items:
        if is_whole(item):
            item.add_marker("whole")


def parameters_of(item: pytest.Item) -> set[str]:
    """The parameters of a test that are texts."""
    given = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return {value for value in given if isinstance(value, str)}


def is_for_a_release(item: pytest.Item) -> bool:
    """Whether another test shows the same fault for less, so that this one runs before a release.

    Databases and stores do not know each other, so a test for each of both runs for two of the
    four pairs. Outside of `EVERY_PLACE`, half of the tests run with the first of `PLACES` only, and
    the others with the second; their names decide.
    """
    if item.get_closest_marker("release"):
        return True
    named = [{place for place in pair if place in parameters_of(item)} for pair in PLACES]
    chosen = [
        pair.index(*found) for pair, found in zip(PLACES, named, strict=True) if len(found) == 1
    ]
    if len(chosen) == 2 and chosen[0] != chosen[1]:
        return True
    half = crc32(item.originalname.encode()) % 2
    return place_of(item.path) not in EVERY_PLACE and bool(chosen) and half not in chosen


def is_whole(item: pytest.Item) -> bool:
    """Whether `make check` leaves a test out."""
    return (
        place_of(item.path) in WHOLE_FILES
        or not WHOLE_FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))
        or not WHOLE_PARAMETERS.isdisjoint(parameters_of(item))
    )


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The API of a Prefect server with its UI, for the whole session.

    Each worker has its own database, but only the first one makes the tables: a hundred migrations
    take most of a server's start.
    """
    from flows.deploy import LASTING
    from flows.server import QUIET, start_server

    os.environ.update(QUIET)
    database = Path(os.environ["PREFECT_HOME"]) / "prefect.db"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with made_once(tmp_path_factory, "prefect.db") as tables:
        if tables.exists() and not database.exists():
            shutil.copy(tables, database)
        api = start_server(port, LASTING)()
        if not tables.exists():
            with (
                closing(sqlite3.connect(database)) as new,
                closing(sqlite3.connect(tables)) as kept,
            ):
                new.backup(kept)
    return api


@pytest.fixture
def prefect_home(
    prefect_server: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A new home for a server of the test's own, whose database has its tables already."""
    home = tmp_path / "prefect"
    home.mkdir()
    with made_once(tmp_path_factory, "prefect.db") as tables:
        shutil.copy(tables, home)
    return home


@pytest.fixture
def api(prefect_server: str) -> Iterator[Any]:
    """A client of the session's Prefect server."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with (
        temporary_settings({PREFECT_API_URL: prefect_server}),
        get_client(sync_client=True) as client,
    ):
        yield client


@pytest.fixture
def project(tmp_path: Path, prefect_server: str) -> Project:
    """A project with debug parameters that reports to the session's server."""
    made = make_project(tmp_path / "project", DEBUG)
    made.environment["PREFECT_API_URL"] = prefect_server
    return made


@pytest.fixture(scope="session")
def first_training(tmp_path_factory: pytest.TempPathFactory, prefect_server: str) -> Project:
    """A project after one successful debug training, for all workers; copy it to change it."""
    with made_once(tmp_path_factory, "first-training") as place:
        outcome = place / "outcome.json"  # written last
        made = outcome.exists()
        project = Project(place / "project") if made else make_project(place / "project", DEBUG)
        project.environment["PREFECT_API_URL"] = prefect_server
        if not made:
            outcome.write_text(json.dumps(project.train()))
        project.outcome = json.loads(outcome.read_bytes())
        return project


@pytest.fixture(scope="session")
def trained(first_training: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy of that project, for tests that only add to it."""
    made = copy_project(first_training.root, tmp_path_factory.mktemp("trained") / "project")
    return replace(
        made, environment=dict(first_training.environment), outcome=first_training.outcome
    )


@pytest.fixture
def own_trained(first_training: Project, tmp_path: Path) -> Project:
    """A copy of that project for one test, which may change everything."""
    made = copy_project(first_training.root, tmp_path / "project")
    return replace(made, environment=dict(first_training.environment))


@dataclass(frozen=True)
class MainJob:
    """The first `modelmint run` with the default parameters."""

    project: Project
    document: dict[str, Any]
    summary: str
    """What it printed for people."""


@pytest.fixture(scope="session")
def main_job(tmp_path_factory: pytest.TempPathFactory, prefect_server: str) -> MainJob:
    """The main job, run by the first worker that needs it, in a project that all workers share."""
    with made_once(tmp_path_factory, "main-job") as place:
        document, summary = place / "document.json", place / "summary.txt"
        made = document.exists()
        project = Project(place / "project") if made else make_project(place / "project")
        project.environment["PREFECT_API_URL"] = prefect_server
        if not made:
            done = project.modelmint("run", "--json")
            summary.write_text(done.stderr)
            document.write_text(done.stdout)  # written last
        return MainJob(project, json.loads(document.read_bytes()), summary.read_text())


@pytest.fixture
def family() -> Family:
    return Family()


# For the tests of `registry`: copies of an empty registry, because making one takes a second.


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an empty registry."""
    place = Place(tmp_path_factory.mktemp("template"))
    place.make()
    return place.folder / "registry.db"


@pytest.fixture(scope="session")
def postgres_template(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The database name of an empty registry."""
    place = Place(tmp_path_factory.mktemp("template"), create_database(postgres))
    place.make()
    return place.url.rpartition("/")[2]


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """An empty registry; the test runs once for each kind of database."""
    with quick_folder() as folder:
        if request.param == "sqlite":
            shutil.copy(request.getfixturevalue("sqlite_template"), folder)
            yield Place(folder)
            return
        server, template = map(request.getfixturevalue, ("postgres", "postgres_template"))
        url = create_database(server, template)
        yield Place(folder, url)
        drop_database(url)


# For the tests of `tasks`: tiny data and tiny trained networks.
ARCHITECTURES = {
    "logistic": Logistic(name="logistic"),
    "mlp": Mlp(name="mlp", widths=[16]),
    "cnn": Cnn(name="cnn", channels=[4, 8], dense=[8]),
}


@pytest.fixture(scope="session")
def prepared_images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Prepared datasets of 150 learnable images, by dtype: grey uint8 and coloured float32."""
    from tasks.prepare import prepare

    folders = {}
    for dtype, channels in (("uint8", 1), ("float32", 3)):
        root = tmp_path_factory.mktemp(f"images-{dtype}")
        rng = np.random.default_rng(7)
        labels = np.arange(150) % 3
        means = rng.uniform(60, 190, (3, 8, 8, channels))
        images = np.clip(means[labels] + rng.normal(0, 60, (150, 8, 8, channels)), 0, 255)
        named = np.array(["cat", "dog", "owl"])[labels]
        np.savez(root / "images.npz", images=images.astype(dtype), labels=named)
        folders[dtype] = root / "prepared"
        source = ImageSource(kind="image", path="images.npz")
        prepare(Prepare(source=source, validation=0.2), root=root, prepared=folders[dtype])
    return folders


@pytest.fixture(scope="session")
def tiny_train() -> Callable[..., Train]:
    """Parameters to train a tiny network by name for two epochs on the CPU."""

    def make(architecture: str = "mlp", **changes: object) -> Train:
        params = {
            "architecture": ARCHITECTURES[architecture],
            "epochs": 2,
            "batch_size": 16,
            "optimizer": Optimizer(learning_rate=0.01),
            "device": "cpu",
            **changes,
        }
        return Train(**params)

    return make


@pytest.fixture(scope="session")
def exported(
    tmp_path_factory: pytest.TempPathFactory,
    prepared_images: dict[str, Path],
    tiny_train: Callable[..., Train],
) -> Callable[[str, str], Path]:
    """Train and export a tiny network on `prepared_images`: a folder of checkpoint and bundle.

    All workers share the folders; copy one to change it.
    """
    from tasks.export import export
    from tasks.train import train

    @cache
    def make(architecture: str, dtype: str) -> Path:
        with made_once(tmp_path_factory, f"exported-{architecture}-{dtype}") as folder:
            if not (folder / "done").exists():
                fill(folder, architecture, dtype)
                (folder / "done").touch()
        return folder

    def fill(folder: Path, architecture: str, dtype: str) -> None:
        folder.mkdir(exist_ok=True)
        given = {"prepared": prepared_images[dtype], "checkpoint": folder / "checkpoint"}
        given["base"] = folder / "base"
        own = {"resume": folder / "resume", "history": folder / "history.csv"}
        train(tiny_train(architecture, epochs=5), **given, **own)
        evaluation = Evaluate(gates={"accuracy": 0.34, "log_loss": 5.0})
        own = {"repeats": folder / "repeats", "bundle": folder / "bundle"}
        export(Export(), evaluation, **given, **own)

    return make


@pytest.fixture(scope="session")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project folder of `pets.make`, made once for all workers; copy it to change it."""
    from pets import make

    with made_once(tmp_path_factory, "pets") as root:
        if not (root / "modelmint.db").exists():
            make(root)
    return root
