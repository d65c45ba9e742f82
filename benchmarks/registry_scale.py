"""Measures a large registry: `python benchmarks/registry_scale.py`.

Seeds a registry of 200,000 versions, 500 models and 20,000 jobs on SQLite and on PostgreSQL, and
times what users wait for. README.md in this folder says how to read the table.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Before this file's folder, where `registry` means `registry.py`.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import httpx

from benchmarks.scale_seed import DATA, LARGE, RARE, Sizes, seed
from registry import Registry
from registry.web import make_app
from registry.web.serving import listen, server

VISITORS = 200
SPAWN = multiprocessing.get_context("spawn")
SMALL = "model-0000"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--versions", type=int, default=200_000)
    parser.add_argument("--models", type=int, default=500)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--databases", nargs="+", default=["SQLite", "PostgreSQL"])
    parser.add_argument("--calls", type=int, default=20, help="calls of each operation")
    parser.add_argument("--upkeep", action="store_true", help="also verify and backup: minutes")
    asked = parser.parse_args()
    sizes = Sizes(asked.versions, asked.models, asked.jobs)
    quick = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        prefix="modelmint-scale-", dir=quick if os.access(quick, os.W_OK) else None
    ) as scratch:
        for database in asked.databases:
            folder = Path(scratch, database)
            folder.mkdir()
            url = _new_database(database, folder)
            began = time.perf_counter()
            seed(url, folder / "artifacts", sizes)
            print(f"\n## {database}: {sizes.versions:,} versions, {sizes.models} models, ", end="")
            print(f"{sizes.jobs:,} jobs, seeded in {time.perf_counter() - began:.0f} s\n")
            _measure(url, folder, sizes, asked.calls, upkeep=asked.upkeep)


def _new_database(database: str, folder: Path) -> str:
    if database == "SQLite":
        return f"sqlite:///{folder}/registry.db"
    # Imported here, because SQLite needs no server.
    from tests.helpers.servers import create_database, start_postgres

    # PostgreSQL's default memory; the tests use less for their many servers.
    return create_database(start_postgres(shared_buffers="128MB"))


def _measure(url: str, folder: Path, sizes: Sizes, calls: int, *, upkeep: bool) -> None:
    print(f"load {os.getloadavg()[0]:.1f}\n\n| what | p50 ms | p95 ms |\n|---|---:|---:|")
    with Registry(url, folder / "artifacts") as registry:
        for name, call in _methods(registry, sizes).items():
            _row(name, call, calls)
    process = SPAWN.Process(target=_serve, args=(url, folder, pipe := SPAWN.Queue()))
    process.start()
    try:
        site = pipe.get(timeout=60)
        with httpx.Client(base_url=site, timeout=120) as client:
            for name, path in _pages(sizes).items():
                _row(
                    f"page: {name}", lambda i, path=path: client.get(path).raise_for_status(), calls
                )
        took, failed = asyncio.run(_crowd(f"{site}/models/{LARGE}/versions/{sizes.champion}"))
        print(f"\n{VISITORS} concurrent visitors of the champion's page: {took:.1f} s, ", end="")
        print(f"{failed} without status 200\n")
    finally:
        process.terminate()
        process.join()
    print("| command | s | MB |\n|---|---:|---:|")
    for words in _commands(sizes):
        _command(url, folder, words)
    if upkeep:
        _upkeep(url, folder)
    print(f"\nload {os.getloadavg()[0]:.1f}", flush=True)


def _methods(registry: Registry, sizes: Sizes) -> dict[str, Callable[[int], object]]:
    champion = f"{LARGE}:{sizes.champion}"

    def promote(i: int) -> None:
        for model, version in ((SMALL, 1 + i % 2), (LARGE, sizes.champion + i % 2)):
            registry.promote(
                model, version, "candidate", expect_revision=None, actor="a", reason="measured"
            )

    found: dict[str, Callable[[int], object]] = {
        "resolve": lambda i: registry.resolve(f"{LARGE}@champion"),
        "promote, twice": promote,
        "models": lambda i: registry.models(),
        "model": lambda i: registry.model(LARGE),
        "list, newest 50 of all": lambda i: registry.search(),
        "list, newest 50 of a model": lambda i: registry.search(LARGE),
        "show": lambda i: registry.resolve(champion),
        "trace of the champion": lambda i: registry.trace(champion),
        "trace of data": lambda i: registry.trace_data(DATA),
        "jobs": lambda i: registry.jobs(limit=50),
        "jobs of a model": lambda i: registry.jobs(LARGE, limit=50),
        "jobs of a model with few": lambda i: registry.jobs(SMALL, limit=50),
        "history": lambda i: registry.history(LARGE, limit=50),
        "history of a version": lambda i: registry.history(LARGE, version=7, limit=50),
        "history of an alias": lambda i: registry.history(LARGE, alias="champion", limit=50),
    }
    conditions = {
        "tag": ["tag.bucket=7"],
        "common tag": ["tag.team=risk"],
        "two tags": ["tag.team=fraud", "tag.bucket=5"],
        "param": ["param.train.seed=7"],
        "common param": ["param.train.architecture.name=mlp"],
        "metric": ["metric.accuracy>=0.9999"],
        "common metric": ["metric.accuracy>=0.6"],
        "by, rare": [f"by={RARE}"],
        "by, common": ["by=user-3"],
        "by, nobody": ["by=nobody"],
        "status=approved": ["status=approved"],
        "status=candidate": ["status=candidate"],
        "status=rejected": ["status=rejected"],
        "alias": ["alias=champion"],
        "dataset": [f"dataset={DATA}"],
        "created": ["created>=2024-01-01"],
    }
    for name, where in conditions.items():
        for of in (None, LARGE, SMALL):
            found[f"search {name}, {of or 'all'}"] = lambda i, of=of, where=where: registry.search(
                of, where
            )
    for order in ("metric.accuracy", "metric.log_loss:asc"):
        for of in (None, LARGE, SMALL):
            found[f"order by {order}, {of or 'all'}"] = lambda i, of=of, order=order: (
                registry.search(of, order=order)
            )
        found[f"order by {order}, second page, {LARGE}"] = _second_page(registry, order)
    return found


def _second_page(registry: Registry, order: str) -> Callable[[int], object]:
    after = registry.search(LARGE, order=order).after
    return lambda i: registry.search(LARGE, order=order, after=after)


def _pages(sizes: Sizes) -> dict[str, str]:
    return {
        "models": "/",
        "large model": f"/models/{LARGE}",
        "small model": f"/models/{SMALL}",
        "large model by accuracy": f"/models/{LARGE}?order=metric.accuracy",
        "small model by accuracy": f"/models/{SMALL}?order=metric.accuracy",
        "history": f"/models/{LARGE}/history",
        "jobs of the large model": f"/models/{LARGE}/jobs",
        "jobs": "/jobs",
        "champion": f"/models/{LARGE}/versions/{sizes.champion}",
        "a version": f"/models/{LARGE}/versions/7",
        "compare": f"/compare?left={LARGE}:7&right={LARGE}:8",
        "trace": f"/trace?hash={DATA}",
        "health": "/healthz",
    }


def _commands(sizes: Sizes) -> Iterator[list[str]]:
    yield ["list"]
    yield ["show", LARGE]
    yield ["search", LARGE, "--order", "metric.accuracy"]
    yield ["history", LARGE]
    yield ["jobs", LARGE]
    yield ["trace", LARGE]
    yield ["trace", f"dvc:{DATA}"]


def _row(name: str, call: Callable[[int], object], calls: int) -> None:
    times = []
    for i in range(calls + 1):
        began = time.perf_counter()
        call(i)
        times.append((time.perf_counter() - began) * 1e3)
        if sum(times) > 10_000 and i > 3:
            break
    found = sorted(times[1:])
    p95 = found[min(len(found) - 1, int(0.95 * len(found)))]
    print(f"| {name} | {statistics.median(found):.1f} | {p95:.1f} |", flush=True)


def _serve(url: str, folder: Path, pipe: Any) -> None:
    """Serve the web page in a separate process until it is stopped."""
    with Registry(url, folder / "artifacts") as registry, listen("127.0.0.1", 0) as listening:
        running = server(make_app(registry, prefect_ui=None, token=None))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
        thread.start()
        pipe.put(f"http://127.0.0.1:{listening.getsockname()[1]}")
        thread.join()


async def _crowd(address: str) -> tuple[float, int]:
    """Seconds until all visitors have the page, and the number of failures."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=300, limits=limits) as client:

        async def visit() -> bool:
            try:
                return (await client.get(address)).status_code == 200
            except httpx.HTTPError:
                return False

        began = time.perf_counter()
        answered = await asyncio.gather(*(visit() for _ in range(VISITORS)))
        return time.perf_counter() - began, VISITORS - sum(answered)


def _command(url: str, folder: Path, words: list[str]) -> None:
    """One line of the table: a whole `modelmint models` command, from start to exit."""
    settings = {"MODELMINT_DATABASE_URL": url, "MODELMINT_ARTIFACTS": str(folder / "artifacts")}
    command = [sys.executable, "-c", "import sys; from cli.main import main; sys.exit(main())"]
    # Through a small process: a forked child starts with the memory of its parent.
    found = subprocess.run(
        [sys.executable, "-c", _TIMED, *command, "models", *words],
        env=os.environ | settings | {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    took, memory, status = json.loads(found.stdout)
    said = f" (status {status})" if status else ""
    print(f"| models {' '.join(words)}{said} | {took:.2f} | {memory:.0f} |", flush=True)


_TIMED = """
import json, resource, subprocess, sys, time
began = time.perf_counter()
status = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
took = time.perf_counter() - began
memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
print(json.dumps([took, memory, status]))
"""


def _upkeep(url: str, folder: Path) -> None:
    """Time `verify` and a backup without changes."""
    from registry.integrity import verify
    from registry.transfer.backup import backup

    with Registry(url, folder / "artifacts") as registry:
        for name, call in {
            "verify": lambda: verify(registry),
            "backup, the first": lambda: backup(registry, folder / "backup"),
            "backup, nothing new": lambda: backup(registry, folder / "backup"),
        }.items():
            began = time.perf_counter()
            problems = getattr(call(), "problems", [])
            print(f"| {name}: {len(problems)} problems | {time.perf_counter() - began:.1f} | |")


if __name__ == "__main__":
    main()
