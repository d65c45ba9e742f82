"""The model `tiny`, whose loop several files test."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from drift_helpers import Trained
from loops import Tiny, table
from projects import enter

from flows.project import new_project
from registry import Registry


@pytest.fixture(scope="session")
def tiny_project(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Path]]:
    """A project with a folder of tables, and the files of a model of them, by name."""
    place = tmp_path_factory.mktemp("loop")
    (place / "rows").mkdir()
    rows = table(0, 2_000).drop_columns(["key"])
    pq.write_table(rows, place / "rows/past.parquet")
    root = new_project(place / "tiny", place / "rows").root
    made = Trained(place / "model", {name: rows[name] for name in rows.column_names})
    bundle = made.bundle(place / "made")
    profile = json.loads((bundle / "profile.json").read_bytes())
    del profile["drift"]["predictions"]  # `bundle` makes them up
    (bundle / "profile.json").write_text(json.dumps(profile))
    return root, {path.name: path for path in bundle.iterdir()}


@pytest.fixture
def tiny(
    tiny_project: tuple[Path, dict[str, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Tiny]:
    """A copy of it, with a registry of its own in which the model is champion."""
    root = Path(shutil.copytree(tiny_project[0], tmp_path / "tiny", symlinks=True))
    enter(root, tmp_path, monkeypatch)
    with Registry(f"sqlite:///{tmp_path}/registry.db", tmp_path / "artifacts") as registry:
        registry.create()
        yield Tiny(registry, root, tiny_project[1])
