"""Shared by the registry's tests: places for a registry, small candidates, and functions that run
in threads or processes.
"""

import atexit
import json
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fork_context import fork_context
from servers import create_database, drop_database, memory_folder

from registry import Alias, Candidate, Lineage, Page, Registry, RegistryError
from tasks.bundle.files import IDENTITY
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


@dataclass(frozen=True)
class Place:
    """Where a registry is: in a SQLite file of the folder, or at a URL."""

    folder: Path
    url: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", self.url or database_url(self.folder))

    def open(self) -> Registry:
        return Registry(self.url, self.folder / "artifacts")

    def make(self) -> None:
        """An empty registry."""
        with self.open() as registry:
            registry.create()


_filled: dict[tuple[Callable[[Place], None], str], Place] = {}


def fill_place(place: Place, make: Callable[[Place], None]) -> Place:
    """Fill an empty place as `make` does. Only the first call for a kind of database makes it.

    The others copy it: making it takes as long as the rest of a test that edits one row.
    """
    server, _, name = place.url.rpartition("/")
    key = (make, server.partition(":")[0])
    if key not in _filled:
        make(place)
        folder = Path(tempfile.mkdtemp(prefix="modelmint-filled-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        shutil.copytree(place.folder, folder, dirs_exist_ok=True)
        url = "" if key[1] == "sqlite" else create_database(f"{server}/postgres", name)
        _filled[key] = Place(folder, url)
        return place
    shutil.copytree(_filled[key].folder, place.folder, dirs_exist_ok=True)
    if key[1] != "sqlite":
        drop_database(place.url)
        create_database(f"{server}/postgres", _filled[key].url.rpartition("/")[2], name)
    return place


@contextmanager
def quick_folder() -> Iterator[Path]:
    """A new folder for databases and files with many fsyncs; in memory if there is room.

    As on a disk, files survive a killed process.
    """
    with tempfile.TemporaryDirectory(prefix="modelmint-", dir=memory_folder()) as made:
        yield Path(made)


def open_registry(folder: Path) -> Registry:
    return Place(folder).open()


def make_candidate(folder: Path, model: str = "model bytes", **changes: Any) -> Candidate:
    """A candidate of three files, one outside the identity; `model` determines the digest."""
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


def drift_document(verdict: str | None = "drifted", name: str = "age") -> dict[str, Any]:
    """What a job records of its drift: one column moved, beside one earlier job as well."""
    moved = int(verdict in ("watch", "drifted"))
    said = {"verdict": verdict, "reason": None, "moved": moved, "not_compared": 0}
    said["columns"] = [f"{name} PSI 0.31"] * moved
    counts = {"now": [10, 20, 170], "then": [400, 400, 200]}
    measure = {"name": "value", "verdict": verdict, "edges": [1.5, 40.0], "psi": 0.31, "p": 1e-9}
    labels = {"now": [150, 50, 0], "then": [700, 290, 10], "labels": ["red", "blue"]}
    town = {"name": "value", "verdict": "none", "psi": 0.001, "p": 1.0, **labels}
    return {
        "format": 1,
        **said,
        "rows": 200,
        "compared": 2,
        "most": [
            {"name": name, "verdict": verdict, "measures": [measure | counts]},
            {"name": "town", "verdict": "none", "measures": [town]},
        ],
        "earlier": {"jobs": 3, "rows": 600, **said, "verdict": "none", "moved": 0, "columns": []},
        "layout": "1" * 64,
        "counts": {"columns": {name: {"value": counts["now"]}}, "predictions": None},
    }


def bundle_candidate(workspace: Workspace, **metrics: float) -> Candidate:
    """The bundle of a workspace as a candidate, as the flow makes it; `metrics` replace its own."""
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


def register_versions(where: Place | Path, count: int, name: str = "digits") -> None:
    """Versions 1 to `count`, by ada, in a place or in the SQLite file of a folder."""
    place = where if isinstance(where, Place) else Place(where)
    with place.open() as registry:
        for number in range(1, count + 1):
            candidate = make_candidate(place.folder / "bundle", f"model {number}")
            registry.register(name, candidate, actor="ada")


def promote(registry: Registry, version: int, alias: str = "champion", **changes: Any) -> Alias:
    given = {"expect_revision": None, "actor": "ada", "reason": "better", **changes}
    return registry.promote("digits", version, alias, **given)


def numbers(page: Page) -> list[int]:
    return [summary.version for summary in page.versions]


class ErrorName(str):
    """The class name of an error, whose `repr` has the message: a failed assertion shows it."""

    message: str

    def __new__(cls, name: str, message: str) -> "ErrorName":
        made = super().__new__(cls, name)
        made.message = message
        return made

    def __reduce__(self) -> tuple[type["ErrorName"], tuple[str, str]]:
        return ErrorName, (str(self), self.message)

    def __repr__(self) -> str:
        return f"<{self}: {self.message}>"


def with_champion(registry: Registry, folder: Path) -> Registry:
    """The registry, with the champion digits:1."""
    registry.register("digits", make_candidate(folder), actor="ada")
    promote(registry, 1)
    return registry


def outcome(call: Callable[[], Any]) -> Any:
    """The result of a call, or the class name of its RegistryError."""
    try:
        return call()
    except RegistryError as error:
        return ErrorName(type(error).__name__, str(error))


def together(*calls: Callable[[], Any]) -> list[Any]:
    """The results of calls in threads that start at the same time, as `outcome` gives them."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        barrier.wait(timeout=60)
        return outcome(call)

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def in_processes(count: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Call function(index, *arguments) in `count` processes that start at the same time.

    An exception is returned as `(class name, message)`.
    """
    context = fork_context()
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
