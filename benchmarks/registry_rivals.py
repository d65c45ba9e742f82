"""The two registries that `registry.py` compares, with the same methods; MLflow by its client."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from ruamel.yaml import YAML

from registry import Candidate, Lineage, Registry

ROOT = Path(__file__).resolve().parent.parent
LARGE, SMALL = "large", "small"
HITS = 100  # versions that carry one tag

FILES = {
    "model.onnx": 520_000,
    "weights.safetensors": 520_000,
    "evaluation.json": 5_000,
    "card.md": 2_000,
    "profile.json": 1_000,
    "signature.json": 600,
    "lineage.json": 400,
    "architecture.json": 150,
}
"""Bytes of each file of a bundle as modelmint writes it, 1 MB in total."""

LASTING = ("profile.json", "signature.json", "architecture.json")
"""Files that are equal in every bundle, as if only the weights change."""


@dataclass(frozen=True)
class Target:
    """A registry with its own database and folder."""

    registry: str
    database: str
    url: str
    folder: Path

    def open(self) -> Any:
        """An `Ours` or an `Mlflow`."""
        return RIVALS[self.registry](self)


class Ours:
    """modelmint's registry; versions have metrics, parameters, evaluation and lineage."""

    def __init__(self, target: Target) -> None:
        self.registry = Registry(target.url, target.folder / "artifacts")
        params = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        scores = {f"metric_{number}": 0.9 + number / 1000 for number in range(10)}
        self.known: dict[str, Any] = {
            "signature": {"inputs": [{"name": "image", "dtype": "uint8", "shape": [8, 8, 1]}]},
            "metrics": scores,
            "params": params,
            "evaluation": {
                "passed": True,
                "gates": [{"gate": "accuracy", "value": 0.99, "passed": True}],
                "metrics": {"summary": scores, "confusion": [[36] * 10] * 10},
            },
            "lineage": Lineage(
                dataset="d" * 32 + ".dir",
                test_split="e" * 64,
                git_commit="c" * 40,
                git_dirty=False,
                flow_run_id="f" * 36,
                libraries={"torch": "2.13.0", "onnxruntime": "1.31.1"},
                data={"data/raw/digits.csv.gz": "a" * 32},
            ),
        }

    def create(self, name: str) -> None:
        """Nothing to do: the first version creates the model."""

    def register(self, name: str, bundle: Path, tags: dict[str, str]) -> int:
        files = {path.name: path for path in bundle.iterdir()}
        identity = frozenset({"model.onnx", "signature.json"} & files.keys())
        candidate = Candidate(files=files, identity=identity, tags=tags, **self.known)
        return self.registry.register(name, candidate, actor="benchmark").version.version

    def seed(self, name: str, count: int, folder: Path) -> None:
        model = folder / "model.onnx"
        for number in range(1, count + 1):
            model.write_text(f"{name} {number}")
            self.register(name, folder, tags_of(number, count))

    def promote(self, name: str, version: int) -> None:
        self.registry.promote(name, version, expect_revision=None, actor="me", reason="better")

    def resolve(self, name: str) -> int:
        return self.registry.resolve(f"{name}@champion").version.version

    def model(self, name: str) -> object:
        return self.registry.model(name)

    def newest(self, name: str) -> int:
        return len(self.registry.search(name, limit=100).versions)

    def tagged(self, name: str, value: str) -> int:
        return len(self.registry.search(name, [f"tag.bucket={value}"], limit=100).versions)

    def numbers(self, name: str) -> list[int]:
        return [version.version for version in self.registry.search(name, limit=100_000).versions]


class Mlflow:
    """MLflow's registry; versions have a source, a run and two tags."""

    def __init__(self, target: Target) -> None:
        os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
        os.environ["MLFLOW_LOGGING_LEVEL"] = "ERROR"
        import mlflow

        self.client = mlflow.MlflowClient(tracking_uri=target.url, registry_uri=target.url)
        self.client.search_registered_models(max_results=1)  # makes the tables
        place = (target.folder / "artifacts").as_uri()
        experiment = self.client.create_experiment(uuid4().hex, artifact_location=place)
        self.run = self.client.create_run(experiment).info

    def create(self, name: str) -> None:
        self.client.create_registered_model(name)

    def register(self, name: str, bundle: Path, tags: dict[str, str]) -> int:
        files = list(bundle.iterdir())
        place = f"{name}/{bundle.name}"
        if len(files) == 1:
            self.client.log_artifact(self.run.run_id, str(files[0]), place)
        else:
            self.client.log_artifacts(self.run.run_id, str(bundle), place)
        return self._add(name, place, tags)

    def seed(self, name: str, count: int, folder: Path) -> None:
        self.create(name)
        for number in range(1, count + 1):
            self._add(name, f"{name}/{folder.name}-{number}", tags_of(number, count))

    def _add(self, name: str, place: str, tags: dict[str, str]) -> int:
        source = f"{self.run.artifact_uri}/{place}"
        version = self.client.create_model_version(name, source, self.run.run_id, tags=tags)
        return int(version.version)

    def promote(self, name: str, version: int) -> None:
        self.client.set_registered_model_alias(name, "champion", str(version))

    def resolve(self, name: str) -> int:
        return int(self.client.get_model_version_by_alias(name, "champion").version)

    def model(self, name: str) -> object:
        return self.client.get_registered_model(name)

    def newest(self, name: str) -> int:
        return len(self._search(f"name = '{name}'", 100))

    def tagged(self, name: str, value: str) -> int:
        return len(self._search(f"name = '{name}' AND tags.`bucket` = '{value}'", 100))

    def numbers(self, name: str) -> list[int]:
        return [int(version.version) for version in self._search(f"name = '{name}'", 10_000)]

    def _search(self, where: str, limit: int) -> list[Any]:
        return list(self.client.search_model_versions(where, max_results=limit))


RIVALS: dict[str, Callable[[Target], Any]] = {"modelmint": Ours, "MLflow": Mlflow}


def tags_of(number: int, count: int) -> dict[str, str]:
    """Two tags of a version; each bucket has `HITS` versions."""
    return {"bucket": str(number % max(1, count // HITS)), "git": "0" * 40}


def write_bundle(folder: Path, sizes: dict[str, int] = FILES) -> Path:
    """Write a bundle with files of these sizes; random bytes except for the unchanged files."""
    folder.mkdir(parents=True)
    for name, size in sizes.items():
        (folder / name).write_bytes(b"0" * size if name in LASTING else os.urandom(size))
    return folder
