"""Peak memory of the stage `train` on N and on 10 N rows: `python benchmarks/memory.py`.

Memory is what only the process has (`RssAnon`); the file, which the kernel reads ahead and drops at
any time, is not in it. https://man7.org/linux/man-pages/man5/proc_pid_status.5.html
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from tasks.bundle.signature import Signature
from tasks.columns import NumberColumn
from tasks.config import Train
from tasks.dataset import SPLITS, write_split

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = 20
EVERY_S = 0.01
TRAIN = """
import sys, time
from pathlib import Path
from tasks.config import Train
from tasks.train import train
folder = Path(sys.argv[1])
names = ("prepared", "base", "checkpoint", "history", "resume")
train(Train.model_validate_json(sys.argv[2]), **{name: folder / name for name in names})
"""


def prepare(folder: Path, rows: int) -> None:
    """A table of numbers, of which a tenth is for validation."""
    prepared = folder / "prepared"
    prepared.mkdir(parents=True)
    chance = np.random.default_rng(3)
    names = [f"x{number:02}" for number in range(COLUMNS)]
    for split, count in zip(SPLITS, (rows, rows // 10, 10), strict=True):
        values = chance.standard_normal((COLUMNS, count))
        decides = np.sin(values[0]) + values[1] * values[2] + 0.3 * values[3] > 0
        classes = pa.DictionaryArray.from_arrays(pa.array(decides, pa.int32()), ["no", "yes"])
        columns = dict(zip(names, values, strict=True))
        write_split(
            pa.table({"key": np.arange(count), **columns, "target": classes}),
            prepared / f"{split}.arrow",
        )
    signature = Signature.of("binary", tuple(NumberColumn(name=n) for n in names), ("no", "yes"))
    signature.write(prepared / "signature.json")
    scale = {"mean": [0.0] * COLUMNS, "std": [1.0] * COLUMNS}
    profile = {"format": 2, "rows": rows, "inputs": {"numbers": scale}}
    (prepared / "profile.json").write_text(json.dumps(profile))


def measure(folder: Path, window: int | str, epochs: int) -> tuple[float, float]:
    """MiB at the peak of a training, and seconds of its last epoch."""
    params = Train.model_validate(
        {
            "architecture": {"name": "mlp", "widths": [16], "normalization": "none"},
            "epochs": epochs,
            "batch_size": 4096,
            "window": window,
            "device": "cpu",
            "devices": 1,
        }
    )
    log = folder / "log"
    with log.open("w") as written:
        process = subprocess.Popen(
            [sys.executable, "-c", TRAIN, str(folder), params.model_dump_json()],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            stdout=written,
            stderr=subprocess.STDOUT,
        )
    peak, ends = 0, list[float]()
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        peak = max([peak, *(int(kib) for kib in re.findall(r"RssAnon:\s+(\d+)", status))])
        ends += [time.monotonic()] * (log.read_text().count("(best: ") - len(ends))
        time.sleep(EVERY_S)
    if process.returncode:
        raise SystemExit(f"the training ended with {process.returncode}\n{log.read_text()}")
    return peak / 1024, ends[-1] - ends[-2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--window", type=int, default=131_072)
    parser.add_argument("--epochs", type=int, default=2)
    given = parser.parse_args()
    print("| rows | file, MiB | all in memory: MiB | s per epoch | windows: MiB | s per epoch |")
    print("|---|---|---|---|---|---|")
    for rows in (given.rows, 10 * given.rows):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            prepare(folder, rows)
            size = (folder / "prepared/train.arrow").stat().st_size / 2**20
            whole = measure(folder, rows, given.epochs)
            windows = measure(folder, given.window, given.epochs)
            figures = " | ".join(f"{number:,.0f}" for number in (*whole, *windows))
            print(f"| {rows:,} | {size:,.0f} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
