"""The work that `registry.py` does in separate processes, and its results."""

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.registry_rivals import FILES, LARGE, SMALL, Ours, Target, write_bundle
from registry import Conflict
from registry.integrity import verify

_shared: list[Any] = []


def seed(target: Target, sizes: dict[str, int]) -> float:
    """Fill a new registry by its own methods with so many versions of each model. Returns seconds.

    Without fsync, which changes only the duration.
    """
    os.environ["PGOPTIONS"] = "-c synchronous_commit=off"
    os.fsync = lambda fd: None
    bundle = write_bundle(target.folder / "seed", dict.fromkeys(FILES, 100))
    began, rival = time.perf_counter(), target.open()
    for name, count in sizes.items():
        rival.seed(name, count, bundle)
    return time.perf_counter() - began


def visit(target: Target, turn: int, promotions: int) -> dict[str, list[float]]:
    """Milliseconds of each call by operation, with a single client; `turn` counts the visits."""
    rival, calls = target.open(), 2 * promotions
    folder = target.folder / f"visit-{turn}"
    one = [write_bundle(folder / f"one-{i}", {"model.onnx": 1_040_000}) for i in range(calls)]
    all_ = [write_bundle(folder / f"all-{i}") for i in range(calls)]
    os.sync()  # or the first calls would wait for earlier writes
    numbers = range(turn * promotions + 1, (turn + 1) * promotions + 1)  # never promoted before
    tags = {"bucket": "new", "git": "0" * 40}
    found: dict[str, list[float]] = {"promote": [], "promote, 100 versions": []}
    rival.promote(LARGE, numbers[0])
    rival.promote(SMALL, numbers[0])
    for number in numbers[1:]:
        found["promote"].append(timed(rival.promote, LARGE, number))
        found["promote, 100 versions"].append(timed(rival.promote, SMALL, number))
    plans: dict[str, Callable[[int], object]] = {
        "resolve": lambda i: rival.resolve(LARGE),
        "get model": lambda i: rival.model(LARGE),
        "newest 100": lambda i: rival.newest(LARGE),
        "by tag": lambda i: rival.tagged(LARGE, "0"),
        "register, 1 file": lambda i: rival.register(LARGE, one[i], tags),
        "register, 8 files": lambda i: rival.register(LARGE, all_[i], tags),
    }
    for name, call in plans.items():
        found[name] = [timed(call, i) for i in range(calls)][1:]
    return found


def timed(call: Callable[..., object], *arguments: Any) -> float:
    """Milliseconds of a call."""
    began = time.perf_counter()
    call(*arguments)
    return (time.perf_counter() - began) * 1e3


def share(barrier: Any) -> None:
    """Store the shared barrier in a new process; it cannot be an argument of a call."""
    _shared.append(barrier)


def together() -> None:
    """Wait until every process is here."""
    _shared[0].wait(600)


def storm(target: Target, model: str, worker: int, count: int) -> dict[str, Any]:
    """Register versions of one model, in one of many concurrent processes."""
    rival = target.open()
    folder = target.folder / model / f"worker-{worker}"
    bundles = [write_bundle(folder / str(number)) for number in range(count)]
    rival.model(LARGE)  # connects
    found: dict[str, Any] = {"numbers": [], "errors": [], "ms": []}
    together()
    found["began"] = time.time()
    for bundle in bundles:
        began = time.perf_counter()
        try:
            found["numbers"].append(rival.register(model, bundle, {"bucket": "storm"}))
        except Exception as error:
            found["errors"].append(f"{type(error).__name__}: {error}"[:200])
        found["ms"].append((time.perf_counter() - began) * 1e3)
    found["ended"] = time.time()
    return found


def create(target: Target, model: str) -> None:
    """Make an empty model."""
    target.open().create(model)


def stored(target: Target, model: str) -> list[int]:
    """The stored version numbers of a model."""
    found: list[int] = target.open().numbers(model)
    return found


def race(target: Target, worker: int, threads: int, expected: int) -> list[str]:
    """Promote versions in threads of one of many concurrent processes. Returns each result.

    Each thread promotes another version; all expect the same revision of the alias.
    """
    registry = Ours(target).registry
    registry.model(LARGE)
    ready = threading.Barrier(threads, action=together)

    def promote(thread: int) -> str:
        ready.wait(600)
        version = worker * threads + thread + 1
        try:
            registry.promote(
                LARGE, version, "raced", expect_revision=expected, actor="me", reason="race"
            )
        except Conflict:
            return "refused"
        except Exception as error:
            return f"{type(error).__name__}: {error}"[:200]
        return "won"

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(promote, range(threads)))


def verified(target: Target) -> tuple[int, int, int, list[str]]:
    """Numbers of checked versions, events and files, and the problems."""
    found = verify(Ours(target).registry)
    problems = [f"{problem.ref} {problem.path}: {problem.what}" for problem in found.problems]
    return found.versions, found.events, found.files, problems
