"""Compares the registry with MLflow's: `python benchmarks/registry.py [--versions N] [--rounds N]`.

Both run on SQLite and on PostgreSQL, in turns; ratios are medians over the rounds. README.md in
this folder says what is compared and how to read the tables.
"""

import argparse
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

# Before this file's folder, where `registry` means this file.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import registry_work as work
from benchmarks.registry_rivals import FILES, LARGE, SMALL, Target

DATABASES = ("SQLite", "PostgreSQL")
WORKERS, EACH, STORMS = 8, 25, 3
RACERS = 64
PROMOTIONS = 10  # for each visit, each of a new version; the small model has 100
AT_LEAST: dict[str, tuple[float, float]] = {
    "promote": (40, 25),
    "resolve": (2, 1.2),
    "get model": (50, 40),
    "newest 100": (4, 3),
    "by tag": (4, 3),
    "register, 1 file": (0.5, 0.5),
    "register, 8 files": (0.5, 0.5),
}
"""Required speed relative to MLflow, on SQLite and on PostgreSQL."""

SPAWN = multiprocessing.get_context("spawn")
Times = dict[tuple[str, str], list[dict[str, float]]]
"""By registry and database, for each round: the median milliseconds of each operation."""


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a new process, so that visits do not affect each other."""
    with ProcessPoolExecutor(1, SPAWN) as pool:
        return pool.submit(function, *arguments).result()


def together(calls: list[tuple[Any, ...]]) -> list[Any]:
    """Call functions, each in a new process; `work.share` gives all the same barrier."""
    barrier = SPAWN.Barrier(len(calls))
    with ProcessPoolExecutor(len(calls), SPAWN, work.share, (barrier,)) as pool:
        return [future.result() for future in [pool.submit(*call) for call in calls]]


def targets(scratch: Path, databases: list[str]) -> list[Target]:
    """MLflow and modelmint, each with an empty database of each kind."""
    found, server = [], None
    for database in databases:
        for registry in ("MLflow", "modelmint"):
            folder = scratch / f"{registry}-{database}"
            folder.mkdir()
            url = f"sqlite:///{folder}/registry.db"
            if database == "PostgreSQL":
                # Imported here, because SQLite needs no server.
                from tests.helpers.servers import create_database, start_postgres

                # PostgreSQL's default memory; the tests use less for their many servers.
                server = server or start_postgres(shared_buffers="128MB")
                url = create_database(server)
            found.append(Target(registry, database, url, folder))
    return found


def fill(plan: list[Target], versions: int) -> None:
    """Seed every registry, in parallel on all CPUs, then sync the disk."""
    with ProcessPoolExecutor(os.cpu_count(), SPAWN, max_tasks_per_child=1) as pool:
        sizes = {LARGE: versions, SMALL: 100}
        futures = [pool.submit(work.seed, target, sizes) for target in plan]
        for target, future in zip(plan, futures, strict=True):
            say(f"seeded {target.registry}, {target.database} in {future.result():.0f} s")
    os.sync()


def run_rounds(plan: list[Target], rounds: int) -> Times:
    """Visit every target once in each round, in rotated order; a first round is not counted."""
    found: Times = defaultdict(list)
    for turn in range(rounds + 1):
        shift = turn % len(plan)
        for target in plan[shift:] + plan[:shift]:
            calls = alone(work.visit, target, turn, PROMOTIONS)
            if turn:
                medians = {name: median(ms) for name, ms in calls.items()}
                found[target.registry, target.database].append(medians)
        say(f"round {turn}/{rounds}{'' if turn else ' (not counted)'}")
    return found


def run_storms(plan: list[Target]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Storms of concurrent registrations, each of a new model, in turns; checked afterwards."""
    found = defaultdict(list)
    for turn in range(STORMS):
        for target in plan if turn % 2 == 0 else plan[::-1]:
            model = f"storm-{turn}"
            if target.registry == "MLflow":
                alone(work.create, target, model)
            calls = [(work.storm, target, model, worker, EACH) for worker in range(WORKERS)]
            workers = together(calls)
            stored = alone(work.stored, target, model)
            found[target.registry, target.database].append(summarize(workers, stored))
        say(f"storm {turn + 1}/{STORMS}")
    return found


def summarize(workers: list[dict[str, Any]], stored: list[int]) -> dict[str, Any]:
    """Registrations per second, p99 and faults of a storm."""
    given = [number for worker in workers for number in worker["numbers"]]
    errors = [error for worker in workers for error in worker["errors"]]
    seconds = max(w["ended"] for w in workers) - min(w["began"] for w in workers)
    waits = sorted(ms for worker in workers for ms in worker["ms"])
    return {
        "per second": len(given) / seconds,
        "p99": waits[int(len(waits) * 0.99)],
        "errors": len(errors),
        "duplicates": len(given) - len(set(given)),
        "lost": len(set(given) ^ set(stored)),
        "gaps": max(stored, default=0) - len(set(stored)),
        "first error": errors[:1],
    }


def report_times(times: Times, databases: list[str], versions: int) -> None:
    """Print a table for each database, then the effect of a model's size."""
    for database in databases:
        print(f"\n{database}, {versions} versions; milliseconds, median of the rounds [range]")
        print(f"{'':<20}{'modelmint':>24}{'MLflow':>26}  {'times as fast, per round':<27}at least")
        ours, theirs = times["modelmint", database], times["MLflow", database]
        for name, least in AT_LEAST.items():
            ratios = [b[name] / a[name] for a, b in zip(ours, theirs, strict=True)]
            required = least[DATABASES.index(database)]
            print(
                f"{name:<20}{spread([r[name] for r in ours]):>24}"
                f"{spread([r[name] for r in theirs]):>26}  {spread(ratios):<27}"
                f"{required:<6g}{verdict(median(ratios) >= required)}"
            )
    print(f"\npromote: milliseconds with {versions} versions divided by those with 100, per round")
    for (registry, database), rounds in times.items():
        ratios = [found["promote"] / found["promote, 100 versions"] for found in rounds]
        line = f"{registry + ', ' + database:<24}{spread(ratios):<24}"
        print(line + f"at most 2  {verdict(median(ratios) <= 2)}" * (registry == "modelmint"))


def report_storms(storms: dict[tuple[str, str], list[dict[str, Any]]]) -> None:
    bad = ("errors", "duplicates", "lost", "gaps")
    print(f"\n{WORKERS} processes x {EACH} registrations of one model, {STORMS} storms")
    for (registry, database), found in storms.items():
        speed = [storm["per second"] for storm in found]
        sums = {name: sum(storm[name] for storm in found) for name in bad}
        line = (
            f"{registry + ', ' + database:<24}{spread(speed):>20}/s"
            f"{max(storm['p99'] for storm in found):8.0f} ms p99   "
            + ", ".join(f"{count} {name}" for name, count in sums.items())
        )
        if registry == "modelmint":
            theirs = [storm["per second"] for storm in storms["MLflow", database]]
            fine = median(speed) >= 0.7 * median(theirs) and not any(sums.values())
            line += f"   {verdict(fine)}"
        print(line)
        for error in [error for storm in found for error in storm["first error"]][:1]:
            print(f"    {error}")


def report_races(plan: list[Target]) -> None:
    """Print the results of concurrent promotions with one expected revision, and of `verify`."""
    print(f"\n{RACERS} concurrent promotions, {WORKERS} processes, one expected revision")
    for target in plan:
        threads = RACERS // WORKERS
        calls = [(work.race, target, worker, threads, 0) for worker in range(WORKERS)]
        came = [one for worker in together(calls) for one in worker]
        counts = {what: came.count(what) for what in sorted(set(came))}
        fine = counts == {"refused": RACERS - 1, "won": 1}
        print(f"{target.database:<24}{counts}   {verdict(fine)}")
    print("\nverify everything that the benchmark wrote")
    for target in plan:
        versions, events, files, problems = alone(work.verified, target)
        what = f"{versions} versions, {events} events, {files} files: {len(problems)} problems"
        print(f"{target.database:<24}{what}   {verdict(not problems)}", *problems[:3], sep="\n    ")


def verdict(good: bool) -> str:
    return "reached" if good else "MISSED"


def spread(values: list[float]) -> str:
    return f"{figure(median(values))} [{figure(min(values))}-{figure(max(values))}]"


def figure(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)


def sync_ms(folder: Path) -> float:
    """Milliseconds for an fsync of 4 KiB; the median of 20."""
    found = []
    for number in range(20):
        with (folder / f"sync-{number}").open("wb") as file:
            file.write(os.urandom(4096))
            file.flush()
            found.append(work.timed(os.fsync, file.fileno()))
    return median(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--versions", type=int, default=10_000, help="of one model; at least 100")
    most = 100 // PROMOTIONS - 1
    parser.add_argument("--rounds", type=int, default=5, choices=range(1, most + 1))
    parser.add_argument("--databases", nargs="+", default=DATABASES, choices=DATABASES)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    names = ("mlflow-skinny", "sqlalchemy", "psycopg")
    print(", ".join(f"{name} {version(name)}" for name in names))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        load = ", ".join(f"{number:.1f}" for number in os.getloadavg())
        print(
            f"{os.cpu_count()} CPUs, load {load}, fsync {sync_ms(Path(folder)):.1f} ms, rounds: "
            f"{given.rounds}, bundle: {sum(FILES.values()) / 1e6:.2f} MB",
            flush=True,
        )
        plan = targets(Path(folder), given.databases)
        fill(plan, given.versions)
        report_times(run_rounds(plan, given.rounds), given.databases, given.versions)
        report_storms(run_storms(plan))
        report_races([target for target in plan if target.registry == "modelmint"])
        print(f"load at the end: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
