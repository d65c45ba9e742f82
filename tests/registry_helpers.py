"""What the registry's tests share: a small candidate, and functions run by real processes."""

import json
import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from registry import Candidate, Lineage, Registry
from tasks.signature import IDENTITY
from tasks.workspace import Workspace

LINEAGE = Lineage(
    dataset="d" * 32 + ".dir",
    test_split="e" * 64,
    git_commit="c" * 40,
    git_dirty=False,
    flow_run_id=None,
    libraries={"onnxruntime": "1.31.0"},
)


def database_url(folder: Path) -> str:
    return f"sqlite:///{folder / 'registry.db'}"


def open_registry(folder: Path) -> Registry:
    return Registry(database_url(folder), folder / "artifacts")


def make_candidate(folder: Path, model: str = "model bytes", **changes: Any) -> Candidate:
    """A candidate of three files, one of them beside the identity; `model` decides the digest."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, text in {"model.onnx": model, "signature.json": "{}", "card.md": "# card"}.items():
        files[name] = folder / name
        files[name].write_text(text)
    candidate = Candidate(
        files=files,
        identity=frozenset({"model.onnx", "signature.json"}),
        signature={"inputs": [{"name": "x", "shape": [None, 64]}]},
        metrics={"accuracy": 0.975, "f1": 1 / 3},
        params={"train": {"epochs": 3, "optimizer": {"name": "adam"}}},
        evaluation={
            "passed": True,
            "gates": [{"metric": "accuracy", "minimum": 0.9, "passed": True}],
        },
        lineage=LINEAGE,
    )
    return replace(candidate, **changes)


def bundle_candidate(workspace: Workspace, **metrics: float) -> Candidate:
    """What the steps left in a workspace, offered as the flow offers it; `metrics` are changed."""
    files = {path.name: path for path in workspace.bundle.iterdir()}
    evaluation = json.loads(files["evaluation.json"].read_bytes())
    return Candidate(
        files=files,
        identity=IDENTITY & files.keys(),
        signature=json.loads(files["signature.json"].read_bytes()),
        metrics={**evaluation["metrics"]["summary"], **metrics},
        params={},
        evaluation=evaluation,
        lineage=replace(LINEAGE, test_split=evaluation["test_split"]["sha256"]),
    )


def register_versions(folder: Path, count: int, name: str = "digits") -> None:
    with open_registry(folder) as registry:
        for number in range(1, count + 1):
            candidate = make_candidate(folder / "bundle", f"model {number}")
            registry.register(name, candidate, actor="ada")


def in_processes(count: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Call function(index, *arguments) in so many processes that begin together.

    An exception comes back as `(class name, message)`.
    """
    # Forked from a clean server that has the imports done: 8 interpreters would take seconds.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["registry", "alembic.command", "registry_helpers"])
    barrier, results = context.Barrier(count), context.Queue()
    processes = [
        context.Process(target=_child, args=(barrier, results, function, index, *arguments))
        for index in range(count)
    ]
    for process in processes:
        process.start()
    collected = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    return collected


def _child(barrier: Any, results: Any, function: Callable[..., Any], *arguments: Any) -> None:
    barrier.wait(timeout=60)
    try:
        results.put(function(*arguments))
    except Exception as error:
        results.put((type(error).__name__, str(error)))
