"""Compares `modelmint run` with a bare script: `python benchmarks/overhead.py [--rounds 5]`.

Measures the wall time of whole processes, in turns: `bare.py`, and `modelmint run` in a fresh clone
of HEAD in three situations. README.md in this folder says what is prepared and checked, and how to
read the tables.
"""

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow.parquet as pq

BARE = Path(__file__).resolve().with_name("bare.py")
ROOT = BARE.parent.parent
MODELMINT = Path(sysconfig.get_path("scripts")) / "modelmint"
TARGETS = {
    "bare": "A   bare script",
    "served": "B1  modelmint run, Prefect server running",
    "temporary": "B2  modelmint run, temporary server",
    "fresh": "B3  modelmint run again, nothing to do",
}
COMPUTATION = "the computation"
STAGES = ("prepare", "train", "evaluate", "export")
IMPORTS = {
    "bare": "import bare",
    "the flows": "import cli.main, flows.inference, flows.training",
    **{stage: f"import tasks.__main__, tasks.{stage}" for stage in STAGES},
    "the command line": "import cli.main",
    "Prefect": "from prefect import flow, task",
    "scikit-learn's metrics": "import sklearn.metrics",
    "torch": "import torch",
    "torch and Fabric": "import torch, lightning_fabric",
    "the DVC command": "import dvc.commands.repro, dvc.repo, dvc.repo.reproduce",
}
LOG = re.compile(r"^(\d\d):(\d\d):(\d\d\.\d+) \| \w+ +\| (?:Flow|Task) run '(.+?)' - (.*)", re.M)


class Failed(RuntimeError):
    """A command failed, or two results that must be equal differ."""


@dataclass(frozen=True)
class Run:
    """A finished process; `began` is its start in seconds of the day, as in Prefect's log."""

    seconds: float
    began: float
    stdout: str
    stderr: str


def execute(command: list[Any], folder: Path, environment: dict[str, str]) -> Run:
    """Run a command to its end. Raises `Failed` with its last lines of output."""
    now = datetime.now()
    began = (now - now.replace(hour=0, minute=0, second=0, microsecond=0)).total_seconds()
    started = time.perf_counter()
    process = start(command, folder, environment, subprocess.PIPE)
    try:
        stdout, stderr = process.communicate(timeout=900)
    finally:
        stop(process)
    seconds = time.perf_counter() - started
    if process.returncode:
        tail = "\n".join((stdout + stderr).splitlines()[-20:])
        shown = " ".join(Path(str(part)).name for part in command)
        raise Failed(f"`{shown}` ended with status {process.returncode}:\n{tail}")
    return Run(seconds, began, stdout, stderr)


def start(
    command: list[Any], folder: Path, environment: dict[str, str], to: Any
) -> "subprocess.Popen[str]":
    """Start a command in a new process group."""
    options: Any = {"stdin": subprocess.DEVNULL, "text": True, "start_new_session": True}
    parts = [str(part) for part in command]
    return subprocess.Popen(parts, cwd=folder, env=environment, stdout=to, stderr=to, **options)


def stop(process: "subprocess.Popen[str]") -> None:
    """End a process group of `start` if it still runs: SIGTERM first, then SIGKILL."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            if process.poll() is None:
                os.killpg(process.pid, number)
                process.wait(10)


def environment(scratch: Path, code: Path, home: str, api: str | None = None) -> dict[str, str]:
    """Variables without the user's settings, with `code` first on Python's path."""
    theirs = ("PREFECT", "MODELMINT", "DVC", "PYTHON")
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(theirs)},
        "PYTHONPATH": str(code),
        "TMPDIR": str(scratch),
        "PREFECT_HOME": str(scratch / home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "DVC_NO_ANALYTICS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",  # as modelmint's stages set it; the bare script must too
        "DVC_SITE_CACHE_DIR": str(scratch / "dvc-site"),
        "DVC_GLOBAL_CONFIG_DIR": str(scratch / "dvc-config"),
        **({"PREFECT_API_URL": api} if api else {}),
    }


@contextmanager
def prefect_server(scratch: Path, home: str) -> Iterator[str]:
    """The API of a Prefect server with its own database on a free port, inside the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    api, log = f"http://127.0.0.1:{port}/api", scratch / f"{home}.log"
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", port]
    with log.open("w") as output:
        process = start(command, scratch, environment(scratch, scratch, home), output)
    try:
        deadline = time.monotonic() + 180
        while not answers(api):
            if process.poll() is not None or time.monotonic() > deadline:
                raise Failed("the Prefect server did not start:\n" + log.read_text()[-2000:])
            time.sleep(0.2)
        yield api
    finally:
        stop(process)


def answers(api: str) -> bool:
    try:
        return bool(urllib.request.urlopen(f"{api}/health", timeout=2).status == 200)
    except (OSError, ValueError):
        return False


def fresh_clone(scratch: Path, name: str) -> Path:
    """A clone of HEAD, with its raw data and compiled modules."""
    folder = scratch / name
    settings = environment(scratch, folder, "unused")
    execute(["git", "clone", "-q", ROOT, folder], scratch, settings)
    execute([sys.executable, "-m", "tasks.sources"], folder, settings)
    packages = ["cli", "flows", "registry", "tasks"]
    execute([sys.executable, "-m", "compileall", "-q", *packages], folder, settings)
    return folder


def run_round(title: str, scratch: Path, api: str) -> tuple[dict[str, Run], dict[str, float]]:
    """One round: run and check every target in turn, then measure each import."""
    folder = Path(tempfile.mkdtemp(dir=scratch))
    served, temporary = (fresh_clone(scratch, f"{folder.name}/{n}") for n in ("b1", "b2"))
    inputs = [served / "params.yaml", served / "data/raw/digits.csv.gz"]
    flow = [MODELMINT, "run", "--json"]
    plan: dict[str, tuple[list[Any], Path, str, str | None]] = {
        "bare": ([sys.executable, BARE, *inputs, folder / "a"], folder, "unused", None),
        "served": (flow, served, "served", api),
        "temporary": (flow, temporary, "temporary", None),
        "fresh": (flow, served, "served", api),
    }
    runs: dict[str, Run] = {}
    for target, (command, where, home, url) in plan.items():
        runs[target] = execute(command, where, environment(scratch, where, home, url))
        print(f"{title}  {TARGETS[target]:<42}{runs[target].seconds:8.2f} s", file=sys.stderr)
        if target != "bare":
            check(target, json.loads(runs[target].stdout), folder / "a")
    settings = environment(scratch, served, "unused")
    settings["PYTHONPATH"] += os.pathsep + str(BARE.parent)
    lines = {name: [sys.executable, "-c", code] for name, code in IMPORTS.items()}
    return runs, {name: execute(c, served, settings).seconds for name, c in lines.items()}


def check(target: str, document: dict[str, Any], bare: Path) -> None:
    """Raise `Failed` unless modelmint ran its stages and computed the same as the bare script."""
    training, job = document["training"], document["job"]
    fresh = [s["how"] == "Fresh" for s in training["steps"] if s["name"] in STAGES]
    if [*fresh, job["fresh"]] != [target == "fresh"] * 5:
        raise Failed(f"{TARGETS[target]}: the stages were {training['steps']}")
    told = json.loads((bare / "evaluation.json").read_text())
    epochs = len(Path(training["folder"], "outputs/history.csv").read_text().splitlines()) - 1
    ours, theirs = pq.read_table(job["output"]), pq.read_table(bare / "predictions.parquet")
    shift = max(abs(training["metrics"][name] - value) for name, value in told["onnx"].items())
    differs = {
        f"trained epochs ({epochs}, {told['epochs']})": epochs != told["epochs"],
        f"metrics (by up to {shift:.1e})": not shift <= 1e-5,
        "accuracy": training["metrics"]["accuracy"] != told["onnx"]["accuracy"],
        "rows predicted": ours["key"] != theirs["key"],
        "predicted labels": ours["prediction"] != theirs["prediction"],
    }
    if any(differs.values()):
        what = ", ".join(name for name, yes in differs.items() if yes)
        raise Failed(f"NOT THE SAME COMPUTATION: {TARGETS[target]} and bare.py differ in {what}")


def breakdown(run: Run, imports: dict[str, float]) -> dict[str, float]:
    """The parts of one B1 run in seconds, without gaps, from its JSON, log and import times.

    Of stages that run side by side, the one that ends last counts.
    """
    steps = {s["name"]: s["seconds"] for s in json.loads(run.stdout)["training"]["steps"]}
    log = [
        ((int(h) * 3600 + int(m) * 60 + float(s) - run.began) % 86400, name, text)
        for h, m, s, name, text in LOG.findall(run.stderr)
    ]
    flows = [(at, name) for at, name, text in log if text.startswith("Beginning flow run")]
    ended = {name: at for at, name, text in log if text.startswith("Finished in state")}
    spans = {s: (ended[s] - steps[s], ended[s]) for s in STAGES}
    chain = [s for s, (_, e) in spans.items() if not any(b < e < f for b, f in spans.values())]
    begun = {name: at for at, name, text in log if text.startswith("> ")}
    said = {n: at for at, n, text in log if not text.startswith(("Updat", "Generat", "Finished"))}
    (first, training), (_, inference) = flows
    tasks = max(at for at in ended.values() if at < ended[training])
    rows = {
        "Python, and importing the flows (A: its imports)": imports["the flows"],
        "Prefect: until the training flow begins": first - imports["the flows"],
        "raw data under DVC": steps["raw data"],
        f"DVC around {', '.join(chain)}": sum(steps[s] - said[s] + begun[s] for s in chain),
        f"imports again: {', '.join(chain)}": sum(imports[s] for s in chain),
        COMPUTATION: sum(said[s] - begun[s] - imports[s] for s in chain),
        "registry: register, challenge": steps["register"] + steps["challenge"],
        "Prefect: ending the training flow": ended[training] - tasks,
        "the inference flow": ended[inference] - ended[training],
        "until the process has ended": run.seconds - ended[inference],
    }
    return {**rows, "Prefect: before and between the tasks": run.seconds - sum(rows.values())}


def report(rounds: list[tuple[dict[str, Run], dict[str, float]]]) -> None:
    """Print the three tables."""
    print(f"\n{'seconds, median [min-max]':<66}   times A, per round")
    for target, title in TARGETS.items():
        walls = [runs[target].seconds for runs, _ in rounds]
        ratios = [runs[target].seconds / runs["bare"].seconds for runs, _ in rounds]
        print(f"{title:<44}{spread(walls):>22}   {spread(ratios)}")
    in_order = sorted(rounds, key=lambda one: one[0]["served"].seconds)
    runs, imports = in_order[(len(in_order) - 1) // 2]
    try:
        rows = breakdown(runs["served"], imports)
    except (KeyError, ValueError) as error:
        raise Failed(f"breakdown() cannot read the log of `modelmint run`: {error}") from error
    a, b1 = runs["bare"].seconds, sum(rows.values())
    bare = {next(iter(rows)): imports["bare"], COMPUTATION: a - imports["bare"], "in all": a}
    print(f"\n{'where B1 goes, in its median round':<52}     B1      A   more")
    for name, seconds in {**rows, "in all": b1}.items():
        other = bare.get(name, 0.0)
        print(f"{name:<52}{seconds:7.2f}{other:7.2f}{seconds - other:7.2f}")
    print("\nseconds of a Python process that only imports, median")
    for name in IMPORTS:
        found = median(one[name] for _, one in rounds)
        print(f"{'stage ' * (name in STAGES) + name:<52}{found:7.2f}")


def spread(values: list[float]) -> str:
    return f"{median(values):.2f} [{min(values):.2f}-{max(values):.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = max(1, parser.parse_args().rounds)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if answers("http://127.0.0.1:4200/api"):
        raise Failed("a Prefect server answers on port 4200, and B2 would use it; stop it first")
    names = ("prefect", "dvc", "torch", "onnxruntime-gpu", "scikit-learn")
    print(", ".join(f"{name} {version(name)}" for name in names))
    print(
        f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, rounds: {rounds}, of HEAD", end=""
    )
    changed = execute(["git", "status", "--porcelain"], ROOT, dict(os.environ)).stdout
    print(", without the uncommitted changes" if changed else "", flush=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        scratch = Path(folder)
        with prefect_server(scratch, "temporary"):
            print("migrated the database of the temporary servers", file=sys.stderr)
        with prefect_server(scratch, "served") as api:
            run_round("warm-up  ", scratch, api)
            report([run_round(f"round {n + 1}/{rounds}", scratch, api) for n in range(rounds)])


if __name__ == "__main__":
    try:
        main()
    except (Failed, OSError, subprocess.TimeoutExpired) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
