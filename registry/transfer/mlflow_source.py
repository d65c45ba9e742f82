"""Reading models, versions and files from an MLflow registry. Nothing is written there."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from registry import extras
from registry.databases.database import hide_password
from registry.errors import NotFound, choices
from registry.records import Candidate, Json, Lineage
from registry.transfer.mlflow_database import safe_uri, translate_mlflow_errors, without_password
from registry.validation.candidates import UNKNOWN
from registry.values import moment

_GIT_COMMIT = "mlflow.source.git.commit"
_CONTEXT = "mlflow.data.context"
_SYSTEM = "mlflow."  # prefix of MLflow's own tags
_PAGE = 1000  # records per request


class Skipped(Exception):
    """A version cannot be imported; the message says why."""


@contextmanager
def connect_mlflow(uri: str, name: str) -> Iterator["MlflowModel"]:
    """A registered model of the MLflow registry at a URI, which is MLflow's global one meanwhile.

    Raises:
        Unreachable: there is no MLflow registry, or the installed client would change it.
        RegistryError: the extra `mlflow` is not installed.
    """
    mlflow = _package()
    with TemporaryDirectory(prefix="modelmint-mlflow-") as folder:
        used = safe_uri(mlflow, uri, Path(folder))
        # Parts of the client use the global URI; without one, they create an mlflow.db here.
        before = mlflow.get_tracking_uri() if mlflow.tracking.is_tracking_uri_set() else None
        mlflow.set_tracking_uri(used)
        try:
            with translate_mlflow_errors(mlflow, uri):
                client = mlflow.MlflowClient(used, registry_uri=used)
            yield MlflowModel(mlflow, client, uri, used, name)
        finally:
            mlflow.set_tracking_uri(before)


class MlflowModel:
    """A registered model of MLflow. Its methods raise NotFound and Unreachable."""

    def __init__(self, mlflow: Any, client: Any, given: str, uri: str, name: str) -> None:
        self._mlflow, self._client = mlflow, client
        self._given, self._uri, self._name = given, uri, name

    def versions(self) -> list[Any]:
        """MLflow's records of the versions, oldest first."""
        quote = '"' if "'" in self._name else "'"
        found: list[Any] = []
        token = None
        with self._translating_errors():
            self._client.get_registered_model(self._name)
            while True:
                page = self._client.search_model_versions(
                    f"name={quote}{self._name}{quote}", max_results=_PAGE, page_token=token
                )
                found += page
                token = page.token
                if not token:
                    return sorted(found, key=lambda entry: int(entry.version))

    def aliases(self) -> dict[str, int]:
        """The number of the version that each alias points to."""
        with self._translating_errors():
            found = self._client.get_registered_model(self._name).aliases
        return {alias: int(number) for alias, number in sorted(found.items())}

    def ref(self, entry: Any) -> str:
        """The full name of a version in MLflow."""
        return f"{hide_password(self._given)}/{self._name}/{entry.version}"

    def request_id(self, entry: Any) -> str:
        """A permanent id of a version. With its time: MLflow reuses the number of a deleted one."""
        return f"{self.ref(entry)} of {_time(entry)}"

    def origin(self, entry: Any) -> Json:
        """The origin of a version, for the event of its import."""
        found = {
            "run_id": entry.run_id,
            "source": entry.source,
            "created_by": entry.user_id,
            "description": entry.description,
            "stage": None if entry.current_stage == "None" else entry.current_stage,
        }
        kept = {key: value for key, value in found.items() if value}
        return {"imported_from": self.ref(entry), "created_at": _time(entry), **kept}

    def download(self, entry: Any, folder: Path) -> dict[str, Path]:
        """Copy a version's files into a folder; returns them by logical path. Raises Skipped."""
        try:
            got = self._mlflow.artifacts.download_artifacts(
                artifact_uri=self._files_uri(entry),
                dst_path=str(folder),
                tracking_uri=self._uri,
                registry_uri=self._uri,
            )
        except Skipped:
            raise
        except Exception as error:  # each kind of store raises other errors
            why = without_password(self._given, error)
            raise Skipped(f"its source {entry.source} cannot be read ({why})") from error
        root = Path(got)
        if root.is_file():
            return {root.name: root}
        files = {p.relative_to(root).as_posix(): p for p in root.rglob("*") if p.is_file()}
        if not files:
            raise Skipped(f"its source {entry.source} has no files")
        return files

    def candidate(self, entry: Any, files: dict[str, Path]) -> tuple[Candidate, list[str]]:
        """The candidate to register, and the metrics left out since they are not finite."""
        run = self._run(entry)
        tags = run.data.tags if run else {}
        metrics = run.data.metrics if run else {}
        storable = {key: value for key, value in metrics.items() if math.isfinite(value)}
        own = {"mlflow.version": self.ref(entry), "mlflow.run_id": entry.run_id}
        given = {k: v for k, v in {**tags, **entry.tags}.items() if not k.startswith(_SYSTEM)}
        candidate = Candidate(
            files=files,
            identity=frozenset(files),
            signature={},
            metrics=storable,
            params={**self._own_params(entry), **(run.data.params if run else {})},
            evaluation={},
            lineage=_lineage(run, tags.get(_GIT_COMMIT)),
            tags={**given, **{key: value for key, value in own.items() if value}},
        )
        return candidate, sorted(metrics.keys() - storable.keys())

    def _files_uri(self, entry: Any) -> str:
        """The URI of a version's files. Raises Skipped."""
        uri: str = self._client.get_model_version_download_uri(self._name, entry.version)
        if not urlsplit(self._uri).scheme.startswith("http"):
            return uri
        # Resolved here, so that the URI that is checked is the one that is read.
        if uri.startswith("runs:/"):
            run, _, path = uri.removeprefix("runs:/").partition("/")
            uri = f"{self._client.get_run(run).info.artifact_uri}/{path}"
        if urlsplit(uri).scheme in ("", "file"):
            raise Skipped(
                f"its source {uri} is a local path, and a server must not make this machine read "
                "its own files; import on the server's machine by the URI of MLflow's database"
            )
        return uri

    def _run(self, entry: Any) -> Any:
        """The run that logged a version; None if it has none, or the run was deleted."""
        if not entry.run_id:
            return None
        try:
            with self._translating_errors():
                return self._client.get_run(entry.run_id)
        except NotFound:
            return None

    def _own_params(self, entry: Any) -> dict[str, str]:
        """The parameters of a logged model, which MLflow 3 stores separately from its run."""
        scheme, _, model = (entry.source or "").partition(":/")
        if scheme != "models" or not model.startswith("m-"):
            return {}
        try:
            with self._translating_errors():
                return dict(self._client.get_logged_model(model).params)
        except NotFound:
            return {}

    @contextmanager
    def _translating_errors(self) -> Iterator[None]:
        try:
            with translate_mlflow_errors(self._mlflow, self._given):
                yield
        except NotFound as error:
            raise NotFound(f"{error}. {self._existing_models()}") from error

    def _existing_models(self) -> str:
        known = self._client.search_registered_models(max_results=100)
        return choices(self._name, [model.name for model in known])


def _lineage(run: Any, commit: str | None) -> Lineage:
    """The training dataset, or else the first one, becomes the version's dataset."""
    inputs = run.inputs.dataset_inputs if run else []
    data, chosen = {}, UNKNOWN
    for one in inputs:
        context = next((tag.value for tag in one.tags if tag.key == _CONTEXT), None)
        named = f"{one.dataset.name} ({context})" if context else one.dataset.name
        data[named] = f"mlflow:{one.dataset.digest}"
        if chosen == UNKNOWN or context == "training":
            chosen = data[named]
    return Lineage(
        dataset=chosen,
        test_split=UNKNOWN,
        git_commit=commit,
        # MLflow records the commit without checking for uncommitted changes.
        git_dirty=commit is not None,
        flow_run_id=None,
        libraries={},
        data=data,
    )


def _time(entry: Any) -> str:
    return moment(int(entry.creation_timestamp) * 1000).isoformat()


def _package() -> Any:
    # By default MLflow sends telemetry and prints progress bars.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    return extras.load("mlflow", "mlflow", "An import from MLflow")
