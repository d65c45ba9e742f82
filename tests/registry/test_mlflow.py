"""Import from real MLflow registries, with files that MLflow logged."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from databases import execute, fetch, raw

from registry import InvalidReference, NotFound, Registry, RegistryError, Unreachable
from registry.integrity import verify
from registry.transfer.mlflow_import import MlflowAlias, MlflowVersion, import_from_mlflow

# MLflow itself is imported where it is used: every worker imports this file, one runs it.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

COMMIT = "c" * 40

SERVER = """
import sys
from werkzeug.serving import make_server
from mlflow.server import app
make_server("127.0.0.1", int(sys.argv[1]), app, threaded=True).serve_forever()
"""


@dataclass
class Mlflow:
    """An MLflow registry in a SQLite file, and what to fill it with."""

    folder: Path
    uri: str
    client: Any
    """An MlflowClient."""
    experiment: str
    server: str
    """The URL of a server on it, once the server answers."""
    numbers: count = field(default_factory=count)

    def log(self, name: str, model: str = "weights", **changes: Any) -> Any:
        """A run with a model of two files, registered as the next version of a name."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        run = self.client.create_run(
            self.experiment, tags={"mlflow.source.git.commit": COMMIT, "team": "risk"}
        ).info.run_id
        self.client.log_param(run, "rate", "0.1")
        for key, value in {"accuracy": 0.9, **changes.get("metrics", {})}.items():
            self.client.log_metric(run, key, value)
        for digest, context in changes.get("datasets", [("abc123", "training")]):
            tags = [InputTag("mlflow.data.context", context)]
            dataset = DatasetInput(Dataset("houses", digest, "local", "{}"), tags)
            self.client.log_inputs(run, [dataset])
        self.client.log_artifacts(run, str(self.model(model)), "model")
        return self.register(name, f"runs:/{run}/model", run)

    def register(self, name: str, source: str, run: str | None = None) -> Any:
        if name not in [m.name for m in self.client.search_registered_models()]:
            self.client.create_registered_model(name)
        tags = {"origin": "old", "team": "fraud"}
        return self.client.create_model_version(name, source, run, tags=tags)

    def model(self, text: str) -> Path:
        folder = self.folder / f"model-{next(self.numbers)}"
        (folder / "data").mkdir(parents=True)
        (folder / "MLmodel").write_text("flavors: {}\n")
        (folder / "data" / "weights.bin").write_text(text)
        return folder


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory):
    """One for the module: creating its tables takes seconds. Each test uses its own model name."""
    import mlflow as package
    from mlflow import MlflowClient

    folder = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{folder}/mlflow.db"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "_MLFLOW_SERVER_FILE_STORE": uri,
        "_MLFLOW_SERVER_REGISTRY_STORE": uri,
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(folder / "served"),
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
    }
    # It opens its database when it is first asked; so its seconds of imports begin now.
    command = [sys.executable, "-c", SERVER, str(port)]
    server = subprocess.Popen(command, env=environment, cwd=folder)
    package.set_tracking_uri(uri)
    try:
        client = MlflowClient(uri, registry_uri=uri)
        place = (folder / "artifacts").as_uri()
        experiment = client.create_experiment("e", artifact_location=place)
        yield Mlflow(folder, uri, client, experiment, f"http://127.0.0.1:{port}")
    finally:
        package.set_tracking_uri(None)
        server.terminate()
        server.wait()


@pytest.fixture
def registry(sqlite_template, tmp_path):
    shutil.copy(sqlite_template, tmp_path)
    with Registry(f"sqlite:///{tmp_path}/registry.db", tmp_path / "artifacts") as opened:
        yield opened


def take(registry, mlflow, name, **changes):
    return import_from_mlflow(registry, mlflow.uri, name, actor="eve", **changes)


def test_import_takes_files_parameters_metrics_and_tags(database_url, tmp_path, mlflow):
    name = f"whole-{next(mlflow.numbers)}"  # once for each database, and MLflow's is the same
    for model in ("first", "second"):
        entry = mlflow.log(name, model)
    seen = []
    with Registry(database_url, tmp_path / "artifacts") as registry:
        report = take(registry, mlflow, name, progress=seen.append)
        assert [(v.version, v.ref, v.created, v.note) for v in report.versions] == [
            (1, f"{name}:1", True, ""),
            (2, f"{name}:2", True, ""),
        ]
        assert seen == list(report.versions)
        version = registry.resolve(f"{name}:2").version
        files = registry.open(version)
        assert {path: file.read_text() for path, file in files.items()} == {
            "MLmodel": "flavors: {}\n",
            "data/weights.bin": "second",
        }
        assert all(artifact.identity for artifact in version.artifacts)
        assert (version.params, version.metrics) == ({"rate": "0.1"}, {"accuracy": 0.9})
        assert (version.status, version.evaluation) == ("candidate", {})
        assert version.lineage.dataset == "mlflow:abc123"
        assert version.lineage.data == {"houses (training)": "mlflow:abc123"}
        assert version.lineage.git_commit == COMMIT
        assert version.tags == {
            "team": "fraud",
            "origin": "old",
            "mlflow.run_id": entry.run_id,
            "mlflow.version": f"{mlflow.uri}/{name}/2",
        }
        event = registry.history(name)[0]
        assert (event.kind, event.actor) == ("imported", "eve")
        assert event.payload["imported_from"] == f"{mlflow.uri}/{name}/2"
        assert event.payload["run_id"] == entry.run_id
        assert verify(registry).problems == []


def test_import_again_adds_only_new_versions(registry, mlflow):
    mlflow.log("again", "first")
    first = take(registry, mlflow, "again")
    mlflow.log("again", "second")
    second = take(registry, mlflow, "again")
    assert [v.created for v in first.versions] == [True]
    assert [(v.ref, v.created) for v in second.versions] == [("again:1", False), ("again:2", True)]
    assert [e.kind for e in registry.history("again")] == ["imported", "imported"]


def test_interrupted_import_resumes(registry, mlflow):
    for model in ("first", "second", "third"):
        mlflow.log("cut", model)

    def interrupt(done):
        if done.version == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        take(registry, mlflow, "cut", progress=interrupt)
    report = take(registry, mlflow, "cut")
    assert [(v.ref, v.created) for v in report.versions] == [
        ("cut:1", False),
        ("cut:2", False),
        ("cut:3", True),
    ]


def test_import_skips_and_reports_versions_without_files(registry, mlflow):
    gone, kept = mlflow.log("gone", "first"), mlflow.log("gone", "second")
    run = mlflow.client.get_run(gone.run_id)
    shutil.rmtree(Path(run.info.artifact_uri.removeprefix("file://")) / "model")
    empty = mlflow.folder / "empty"
    empty.mkdir()
    mlflow.register("gone", empty.as_uri())
    report = take(registry, mlflow, "gone")
    assert [(v.version, v.ref) for v in report.versions] == [(1, None), (2, "gone:1"), (3, None)]
    assert "cannot be read" in report.versions[0].note
    assert "has no files" in report.versions[2].note
    assert registry.model("gone").last_version == 1
    assert registry.resolve("gone:1").version.tags["mlflow.run_id"] == kept.run_id


def test_import_leaves_out_and_names_metrics_that_are_not_finite(registry, mlflow):
    mlflow.log("odd", metrics={"loss": float("nan"), "auc": 0.5})
    (done,) = take(registry, mlflow, "odd").versions
    assert done == MlflowVersion(1, "odd:1", True, "left out, not a finite number: loss")
    assert registry.resolve("odd:1").version.metrics == {"accuracy": 0.9, "auc": 0.5}


def test_import_uses_the_training_dataset_or_unknown(registry, mlflow):
    mlflow.log("data", "first", datasets=[("eval1", "evaluation"), ("train1", "training")])
    mlflow.log("data", "second", datasets=[])
    take(registry, mlflow, "data")
    first, second = (registry.resolve(f"data:{number}").version.lineage for number in (1, 2))
    assert first.dataset == "mlflow:train1"
    assert first.data == {
        "houses (evaluation)": "mlflow:eval1",
        "houses (training)": "mlflow:train1",
    }
    assert (second.dataset, second.data) == ("unknown", {})
    assert [v.ref for v in registry.trace_data("mlflow:eval1").versions] == ["data:1"]


def test_import_accepts_a_version_without_a_run(registry, mlflow):
    mlflow.register("bare", mlflow.model("bare").as_uri())
    (done,) = take(registry, mlflow, "bare").versions
    version = registry.resolve(done.ref).version
    assert (version.params, version.metrics, version.lineage.git_commit) == ({}, {}, None)
    assert version.lineage.git_dirty is False


def test_import_reads_parameters_of_mlflow_3_logged_models(registry, mlflow):
    client = mlflow.client
    model = client.create_logged_model(mlflow.experiment, name="m", params={"depth": "4"}).model_id
    client.log_model_artifacts(model, str(mlflow.model("logged")))
    client.finalize_logged_model(model, "READY")
    mlflow.register("logged", f"models:/{model}")
    (done,) = take(registry, mlflow, "logged").versions
    version = registry.resolve(done.ref).version
    assert version.params == {"depth": "4"}
    assert registry.open(version)["data/weights.bin"].read_text() == "logged"


def test_import_distinguishes_versions_with_a_reused_number(registry, mlflow):
    mlflow.log("reused", "first")
    take(registry, mlflow, "reused")
    mlflow.client.delete_registered_model("reused")
    assert int(mlflow.log("reused", "other bytes").version) == 1
    report = take(registry, mlflow, "reused")
    assert [(v.version, v.ref, v.created) for v in report.versions] == [(1, "reused:2", True)]


def test_import_sets_aliases_except_champion_and_existing_ones(registry, mlflow):
    for model in ("first", "second"):
        mlflow.log("aliased", model)
    for alias, number in {"champion": 2, "canary": 2, "shadow": 1, "Prod": 1}.items():
        mlflow.client.set_registered_model_alias("aliased", alias, str(number))
    first = take(registry, mlflow, "aliased")
    assert {a.alias: bool(a.note) for a in first.aliases} == {
        "Prod": True,
        "canary": False,
        "champion": True,
        "shadow": False,
    }
    notes = {a.alias: a.note for a in first.aliases}
    assert "has no model.onnx and no signature.json" in notes["champion"]
    assert "record_evaluation('aliased:2', report)" in notes["champion"]
    assert "then `modelmint models promote aliased:2`" in notes["champion"]
    assert "cannot be an alias" in notes["Prod"]
    assert registry.alias("aliased") is None
    assert registry.alias("aliased", "canary").version == 2
    moved = {"expect_revision": None, "actor": "ann", "reason": "mine"}
    registry.promote("aliased", 1, "canary", **moved)
    registry.unset("aliased", "shadow", actor="ann", reason="mine")
    second = {a.alias: a for a in take(registry, mlflow, "aliased").aliases}
    assert second["canary"] == MlflowAlias("canary", 2, "it already points to aliased:1 here")
    assert registry.alias("aliased", "canary").version == 1


def test_import_of_an_invalid_model_name_needs_another_name(registry, mlflow):
    mlflow.log("Churn Model's")
    with pytest.raises(InvalidReference, match="cannot be a model name"):
        take(registry, mlflow, "Churn Model's")
    (done,) = take(registry, mlflow, "Churn Model's", to="churn").versions
    assert done.ref == "churn:1"


def test_import_of_an_unknown_model_lists_the_existing_ones(registry, mlflow):
    mlflow.log("houses")
    with pytest.raises(NotFound, match="Did you mean 'houses'"):
        take(registry, mlflow, "hauses")
    assert registry.models() == []


# MLflow's registry stays as it is


def test_import_writes_neither_to_mlflow_nor_to_the_working_directory(
    registry, mlflow, tmp_path, monkeypatch
):
    mlflow.log("still")
    file = Path(mlflow.uri.removeprefix("sqlite:///"))
    before = fetch(mlflow.uri, "SELECT * FROM model_versions"), file.stat().st_mtime_ns
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    take(registry, mlflow, "still")
    assert (fetch(mlflow.uri, "SELECT * FROM model_versions"), file.stat().st_mtime_ns) == before
    assert list(Path().iterdir()) == []


def test_import_reads_an_older_mlflow_database_without_upgrading_it(registry, mlflow, tmp_path):
    mlflow.log("older")
    old = tmp_path / "old.db"
    shutil.copy(mlflow.uri.removeprefix("sqlite:///"), old)
    undo_newest_migration(f"sqlite:///{old}")
    content = old.read_bytes()
    (done,) = import_from_mlflow(registry, f"sqlite:///{old}", "older", actor="eve").versions
    assert done.ref == "older:1"
    assert old.read_bytes() == content


def undo_newest_migration(uri):
    import mlflow as package

    config = Config()
    folder = Path(package.__file__).parent / "store" / "db_migrations"
    config.set_main_option("script_location", str(folder))
    with raw(uri) as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "-1")


def test_import_of_a_newer_mlflow_database_is_a_readable_error(registry, mlflow, tmp_path):
    newer = tmp_path / "newer.db"
    shutil.copy(mlflow.uri.removeprefix("sqlite:///"), newer)
    execute(f"sqlite:///{newer}", "UPDATE alembic_version SET version_num = 'tomorrow'")
    with pytest.raises(Unreachable, match="tomorrow"):
        import_from_mlflow(registry, f"sqlite:///{newer}", "any", actor="eve")


@pytest.mark.parametrize("text", [None, b"", b"no database"])
def test_import_does_not_change_a_file_that_is_not_an_mlflow_registry(registry, tmp_path, text):
    file = tmp_path / "mlflow.db"
    if text is not None:
        file.write_bytes(text)
    with pytest.raises(Unreachable, match="cannot be read"):
        import_from_mlflow(registry, f"sqlite:///{file}", "any", actor="eve")
    assert (file.read_bytes() if file.exists() else None) == text


def test_import_creates_no_mlflow_tables_in_postgresql(registry, postgres):
    uri = postgres
    before = fetch(uri, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    with pytest.raises(Unreachable, match="not an MLflow registry"):
        import_from_mlflow(registry, uri, "any", actor="eve")
    assert fetch(uri, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == before


def test_import_refuses_a_postgresql_database_of_another_mlflow_release(registry, postgres):
    execute(
        postgres,
        "CREATE TABLE registered_models (name TEXT)",
        "CREATE TABLE alembic_version (version_num TEXT)",
        "INSERT INTO alembic_version VALUES ('older')",
    )
    try:
        with pytest.raises(Unreachable, match=r"has schema older, and MLflow .* would upgrade it"):
            import_from_mlflow(registry, postgres, "any", actor="eve")
    finally:
        execute(postgres, "DROP TABLE registered_models", "DROP TABLE alembic_version")


# Over HTTP


@pytest.fixture(scope="module")
def server(mlflow):
    """The URL of MLflow's server on the same registry."""
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"{mlflow.server}/health", timeout=5).close()
            return mlflow.server
        except OSError:
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.1)


def test_import_reads_an_mlflow_server_over_http(registry, mlflow, server):
    from mlflow import MlflowClient

    client = MlflowClient(server, registry_uri=server)
    experiment = client.create_experiment("served", artifact_location="mlflow-artifacts:/served")
    run = client.create_run(experiment).info.run_id
    artifacts = mlflow.client.get_run(run).info.artifact_uri
    assert artifacts.startswith("mlflow-artifacts:/")
    here = mlflow.folder / "served" / artifacts.removeprefix("mlflow-artifacts:/") / "model"
    shutil.copytree(mlflow.model("served"), here)
    client.create_registered_model("served")
    client.create_model_version("served", f"runs:/{run}/model", run)
    report = import_from_mlflow(registry, server, "served", actor="eve")
    assert [(v.ref, v.note) for v in report.versions] == [("served:1", "")]
    files = registry.open(registry.resolve("served:1").version)
    assert files["data/weights.bin"].read_text() == "served"


def test_import_refuses_local_paths_from_an_mlflow_server(registry, mlflow, server, tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "id_rsa").write_text("private")
    mlflow.register("lured", secret.as_uri())
    mlflow.register("lured", str(secret))
    mlflow.log("lured")  # its run's artifacts lie in a folder of this machine, too
    report = import_from_mlflow(registry, server, "lured", actor="eve")
    assert [v.ref for v in report.versions] == [None] * 3
    assert all("a server must not make this machine read" in v.note for v in report.versions)
    assert registry.models() == []


def test_import_from_an_unreachable_server_is_a_readable_error(registry, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://ada:secret@127.0.0.1:{probe.getsockname()[1]}"
        with pytest.raises(Unreachable, match="cannot be read") as caught:
            import_from_mlflow(registry, url, "any", actor="eve")
    assert "secret" not in str(caught.value)


def test_a_missing_package_is_a_readable_error(registry, mlflow, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(RegistryError, match=r"pip install 'modelmint\[mlflow\]'"):
        take(registry, mlflow, "any")
