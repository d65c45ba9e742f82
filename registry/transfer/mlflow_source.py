"""What is read out of an MLflow registry: models, versions, files. Nothing is written there."""

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
from registry.transfer.mlflow_database import harmless, translate_mlflow_errors, without_password
from registry.validation.candidates import UNKNOWN
from registry.values import moment

_GIT_COMMIT = "mlflow.source.git.commit"
_CONTEXT = "mlflow.data.context"
_SYSTEM = "mlflow."  # how the names of MLflow's own tags begin
_PAGE = 1000  # records a request


class Skipped(Exception):
    """A version cannot be taken in; the message says why."""


@contextmanager
def connect_mlflow(uri: str, name: str) -> Iterator["Source"]:
    """A registered model of the MLflow registry at a URI. MLflow's global one is it meanwhile.

    Raises:
        Unreachable: there is no MLflow registry, or one that the client here would change.
        RegistryError: the extra `mlflow` is not installed.
    """
    mlflow = _package()
    with TemporaryDirectory(prefix="modelmint-mlflow-") as folder:
        used = harmless(mlflow, uri, Path(folder))
        # Parts of its client ask for the global one, and make an mlflow.db here if there is none.
        before = mlflow.get_tracking_uri() if mlflow.tracking.is_tracking_uri_set() else None
        mlflow.set_tracking_uri(used)
        try:
            with translate_mlflow_errors(mlflow, uri):
                client = mlflow.MlflowClient(used, registry_uri=used)
            yield Source(mlflow, client, uri, used, name)
        finally:
            mlflow.set_tracking_uri(before)


class Source:
    """A registered model of MLflow. Its methods raise NotFound and Unreachable."""

    def __init__(self, mlflow: Any, client: Any, given: str, uri: str, name: str) -> None:
        self._mlflow, self._client = mlflow, client
        self._given, self._uri, self._name = given, uri, name

    def versions(self) -> list[Any]:
        """MLflow's records of the versions, oldest first."""
        quote = '"' if "'" in self._name else "'"
        found: list[Any] = []
        token = None
        with self._answering():
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
        with self._answering():
            held = self._client.get_registered_model(self._name).aliases
        return {alias: int(number) for alias, number in sorted(held.items())}

    def ref(self, entry: Any) -> str:
        """What a version is called there, in full."""
        return f"{hide_password(self._given)}/{self._name}/{entry.version}"

    def request_id(self, entry: Any) -> str:
        """What names a version for ever: MLflow gives a deleted number to the next version."""
        return f"{self.ref(entry)} of {_time(entry)}"

    def origin(self, entry: Any) -> Json:
        """What the event of an import keeps of where the version came from."""
        said = {
            "run_id": entry.run_id,
            "source": entry.source,
            "created_by": entry.user_id,
            "description": entry.description,
            "stage": None if entry.current_stage == "None" else entry.current_stage,
        }
        kept = {key: value for key, value in said.items() if value}
        return {"imported_from": self.ref(entry), "created_at": _time(entry), **kept}

    def download(self, entry: Any, folder: Path) -> dict[str, Path]:
        """Copies of a version's files by logical path. Raises Skipped."""
        try:
            place = self._place(entry)
            got = self._mlflow.artifacts.download_artifacts(
                artifact_uri=place,
                dst_path=str(folder),
                tracking_uri=self._uri,
                registry_uri=self._uri,
            )
        except Skipped:
            raise
        # Every kind of store raises errors of its own.
        except Exception as error:
            why = without_password(self._given, error)
            raise Skipped(f"its source {entry.source} cannot be read ({why})") from error
        root = Path(got)
        if root.is_file():
            return {root.name: root}
        files = {p.relative_to(root).as_posix(): p for p in root.rglob("*") if p.is_file()}
        if not files:
            raise Skipped(f"its source {entry.source} holds no files")
        return files

    def candidate(self, entry: Any, files: dict[str, Path]) -> tuple[Candidate, list[str]]:
        """What can be offered for registration, and the metrics that cannot: no finite numbers."""
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

    def _place(self, entry: Any) -> str:
        """Where a version's files lie."""
        uri: str = self._client.get_model_version_download_uri(self._name, entry.version)
        if not urlsplit(self._uri).scheme.startswith("http"):
            return uri
        # Resolved here, so that what is looked at is what is read.
        if uri.startswith("runs:/"):
            run, _, path = uri.removeprefix("runs:/").partition("/")
            uri = f"{self._client.get_run(run).info.artifact_uri}/{path}"
        if urlsplit(uri).scheme in ("", "file"):
            raise Skipped(
                f"its source {uri} is a path, and a server's word is not enough to read files of "
                "this machine; import by the URI of MLflow's database, where the files are"
            )
        return uri

    def _run(self, entry: Any) -> Any:
        """The run that logged a version; None where it names none, or one that is gone."""
        if not entry.run_id:
            return None
        try:
            with self._answering():
                return self._client.get_run(entry.run_id)
        except NotFound:
            return None

    def _own_params(self, entry: Any) -> dict[str, str]:
        """The parameters of a logged model, which MLflow 3 keeps apart from its run."""
        scheme, _, model = (entry.source or "").partition(":/")
        if scheme != "models" or not model.startswith("m-"):
            return {}
        try:
            with self._answering():
                return dict(self._client.get_logged_model(model).params)
        except NotFound:
            return {}

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            with translate_mlflow_errors(self._mlflow, self._given):
                yield
        except NotFound as error:
            raise NotFound(f"{error}. {self._there_is()}") from error

    def _there_is(self) -> str:
        known = self._client.search_registered_models(max_results=100)
        return choices(self._name, [model.name for model in known])


def _lineage(run: Any, commit: str | None) -> Lineage:
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
        # MLflow notes the commit without a look at what was changed since.
        git_dirty=commit is not None,
        flow_run_id=None,
        libraries={},
        data=data,
    )


def _time(entry: Any) -> str:
    return moment(int(entry.creation_timestamp) * 1000).isoformat()


def _package() -> Any:
    # It reports its use to its makers, and draws progress bars, unless told otherwise.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    return extras.load("mlflow", "mlflow", "An import from MLflow")
