"""Compares the stage `train` with a plain PyTorch loop: `python benchmarks/training.py`.

Both are whole processes, run in turns. README.md in this folder says what is prepared and checked,
and how to read the tables.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks import params as parameters
from tasks.config import DigitsSource, Params
from tasks.pipeline import STEPS
from tasks.sources import place_embedded
from tasks.sources.examples import EXAMPLES
from tasks.workspace import Workspace

ROOT = Path(__file__).resolve().parents[1]
LOOPS = ROOT / "benchmarks/training_loops.py"
EPOCH = re.compile(r"epoch (\d+)/\d+: loss ([\d.]+), validation loss ([\d.]+)")
TABLE_ROWS, TABLE_COLUMNS = 1_000_000, 20
TARGETS = {"stage": "stage `train`", "plain": "plain loop", "lightning": "Lightning's Trainer"}
WANTED = 1.03


class Failed(RuntimeError):
    """A process failed, or the two computed something else."""


@dataclass(frozen=True)
class Case:
    """A training: its parameters, and where its raw data comes from."""

    name: str
    epochs: int
    make: Callable[[Path, int], Params]
    """Writes the raw data into a folder; the parameters for so many epochs."""


@dataclass(frozen=True)
class Run:
    """A finished process: seconds from its start to the end of each epoch, and to its exit."""

    ends: list[float]
    seconds: float
    losses: list[tuple[float, float]]
    """Training and validation loss of each epoch."""

    @property
    def epoch(self) -> float:
        """Median seconds of an epoch; the first one begins before the clock can tell."""
        return median(
            after - before for before, after in zip(self.ends, self.ends[1:], strict=False)
        )

    @property
    def fixed(self) -> float:
        """Seconds outside of the epochs."""
        return self.seconds - self.epoch * len(self.ends)


def _digits(folder: Path, epochs: int) -> Params:
    place_embedded(DigitsSource(kind="digits"), folder)
    source = f"prepare.source.path={folder / DigitsSource(kind='digits').path}"
    return parameters.load(ROOT / "params.yaml", [source, f"train.epochs={epochs}"])


def _tweets(folder: Path, epochs: int) -> Params:
    EXAMPLES["tweets"](folder / "tweets.csv")
    source = f"prepare.source.path={folder / 'tweets.csv'}"
    return parameters.load(ROOT / "examples/tweets-gru.yaml", [source, f"train.epochs={epochs}"])


def _table(folder: Path, epochs: int) -> Params:
    chance = np.random.default_rng(3)
    values = chance.standard_normal((TABLE_COLUMNS, TABLE_ROWS), np.float32)
    decides = np.sin(values[0]) + values[1] * values[2] + 0.3 * values[3]
    names = [f"x{number:02}" for number in range(TABLE_COLUMNS)]
    columns = dict(zip(names, values, strict=True))
    table = pa.table({**columns, "label": np.where(decides > 0, "yes", "no")})
    pq.write_table(table, folder / "table.parquet")
    return Params.model_validate(
        {
            "prepare": {
                "source": {
                    "kind": "tabular",
                    "path": str(folder / "table.parquet"),
                    "target": "label",
                    "columns": dict.fromkeys(names, "number"),
                },
                "task": "classification",
            },
            "train": {
                "architecture": {"name": "mlp", "widths": [128, 128]},
                "epochs": epochs,
                "batch_size": 1024,
                "patience": epochs,
            },
            "evaluate": {"gates": {"accuracy": 0.5}},
            "registration": {"name": "table"},
        }
    )


CASES = {
    case.name: case
    for case in (Case("digits", 12, _digits), Case("tweets", 4, _tweets), Case("table", 4, _table))
}


def prepare(case: Case, folder: Path) -> None:
    """Write the raw data, `params.yaml` and the prepared dataset."""
    folder.mkdir(parents=True)
    params = case.make(folder, case.epochs)
    parameters.write(params.model_dump(mode="json"), folder / "params.yaml")
    STEPS["prepare"].run(params, Workspace(folder))


def play(target: str, folder: Path, lightning: Path | None) -> Run:
    """Train once in a process of its own. Raises `Failed`.

    Only Lightning's process sees the folder `lightning`: with torchmetrics on the path, Fabric
    imports it and scipy.signal, which adds a second to the stage.
    """
    command = [sys.executable, str(LOOPS), target, str(folder)]
    path = [str(ROOT), *([str(lightning)] if target == "lightning" else [])]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path),
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    started = time.perf_counter()
    ends, losses, lines = [], [], []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if found := EPOCH.search(line):
                ends.append(time.perf_counter() - started)
                losses.append((float(found[2]), float(found[3])))
    seconds = time.perf_counter() - started
    if process.returncode or len(ends) < 2:
        raise Failed(f"{' '.join(command)}: status {process.returncode}\n{''.join(lines[-20:])}")
    return Run(ends, seconds, losses)


def check(case: Case, runs: dict[str, Run]) -> None:
    """Check that the loop computes what the stage computes. Raises `Failed`."""
    expected, found = runs["stage"].losses, runs["plain"].losses
    if len(expected) != len(found) or not np.allclose(expected, found, atol=2e-4):
        raise Failed(f"{case.name}: the stage has the losses {expected}, the plain loop {found}")


def measure(case: Case, rounds: int, lightning: Path | None) -> list[dict[str, Run]]:
    """Rounds with one run of each target, in rotated order; a first round is not counted."""
    targets = ["stage", "plain", *(["lightning"] if lightning else [])]
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / case.name
        prepare(case, folder)
        played = []
        for number in range(rounds + 1):
            order = targets[number % len(targets) :] + targets[: number % len(targets)]
            runs = {target: play(target, folder, lightning) for target in order}
            check(case, runs)
            print(f"{case.name}: round {number} of {rounds}", file=sys.stderr, flush=True)
            played.append(runs)
    return played[1:]


def spread(values: list[float], digits: int = 2) -> str:
    """Median, lowest and highest, as text."""
    low, high = min(values), max(values)
    return f"{median(values):.{digits}f} [{low:.{digits}f}-{high:.{digits}f}]"


def report(case: Case, rounds: list[dict[str, Run]]) -> list[str]:
    """Rows of the table."""
    lines = []
    for target in rounds[0]:
        ratios = [runs[target].epoch / runs["plain"].epoch for runs in rounds]
        cells = [
            case.name,
            TARGETS[target],
            spread([runs[target].epoch for runs in rounds]),
            spread(ratios, 3) if target != "plain" else "1",
            spread([runs[target].fixed for runs in rounds]),
            spread([runs[target].seconds for runs in rounds], 1),
        ]
        if target == "stage":
            cells[3] += " met" if median(ratios) <= WANTED else " MISSED"
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main(arguments: Any = None) -> int:
    """Measure and print the table. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="NAME")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--lightning",
        type=Path,
        metavar="DIR",
        help="a folder into which `pip install --target` put pytorch-lightning; README.md says how",
    )
    chosen = parser.parse_args(arguments)
    if chosen.lightning and not (chosen.lightning / "pytorch_lightning").is_dir():
        parser.error(f"--lightning: {chosen.lightning} has no folder pytorch_lightning")
    print(
        "| case | target | seconds of an epoch | times the plain loop | fixed cost, s | whole, s |"
    )
    print("|---|---|---|---|---|---|")
    try:
        for name in chosen.cases:
            rows = report(CASES[name], measure(CASES[name], chosen.rounds, chosen.lightning))
            print("\n".join(rows), flush=True)
    except Failed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
