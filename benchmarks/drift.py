"""Compares drift detection with Evidently's: `python benchmarks/drift.py [--rivals PYTHON]`.

Tables of normal numbers in which one column is shifted by 0.3 standard deviations. Each side runs
in a process of its own. Modelmint counts chunk by chunk, as a batch job does, and compares with a
reference of 10,000 rows, which a training would have counted. Evidently (`DataDriftPreset` with its
defaults) gets both tables as DataFrames. The clock runs while rows are counted or compared, not
while they are made. `--rivals` is the Python of an environment with evidently and pandas.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

REFERENCE, CHUNK_BYTES, SHIFTED = 10_000, 8 << 20, 0.3
CASES = {"100,000 rows x 100 columns": (100_000, 100), "1,000,000 x 1,000": (1_000_000, 1_000)}


def chunks(rows: int, columns: int) -> Iterator[NDArray[np.float32]]:
    """The rows of the job, (n, columns) at a time; the first column is shifted."""
    rng, size = np.random.default_rng(1), max(1, CHUNK_BYTES // (4 * columns))
    for start in range(0, rows, size):
        part = rng.standard_normal((min(size, rows - start), columns), np.float32)
        part[:, 0] += SHIFTED
        yield part


def reference(columns: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((REFERENCE, columns), np.float32)


def names(columns: int) -> list[str]:
    return [f"x{number}" for number in range(columns)]


def modelmint(rows: int, columns: int) -> dict[str, object]:
    import pyarrow as pa

    from tasks.bundle.signature import Signature
    from tasks.columns import NumberColumn, SourceLocation
    from tasks.counts import Counts
    from tasks.drift.comparing import compare
    from tasks.drift.counting import Tally
    from tasks.drift.reference import Reference, Values
    from tasks.encoding import Encoder
    from tasks.files.reading import PLAIN

    known = reference(columns)
    found = tuple(
        NumberColumn(name=name, low=float(known[:, n].min()), high=float(known[:, n].max()))
        for n, name in enumerate(names(columns))
    )
    signature = Signature.of("binary", found, ("no", "yes"), PLAIN)
    parts, start = {}, time.perf_counter()
    for number, column in enumerate(found):
        values = Values(column.measures())
        values.add({"numbers": known[:, number : number + 1]}, held_out=False)
        parts[column.name] = values.document()
    trained = Reference.of({"drift": {"columns": parts}}, signature)
    once = time.perf_counter() - start
    tally, counts, seconds = Tally(trained), Counts(), 0.0
    encoder = Encoder(signature, None, counts, tally.add_column)
    encoded = 0.0
    for part in chunks(rows, columns):
        batch = pa.record_batch(
            {n: np.ascontiguousarray(part[:, i]) for i, n in enumerate(names(columns))}
        )
        location = SourceLocation("benchmark")
        start = time.perf_counter()
        encoder.encode(batch, location)
        seconds += time.perf_counter() - start
        start = time.perf_counter()
        Encoder(signature).encode(batch, location)  # what a job does anyway
        encoded += time.perf_counter() - start
    start = time.perf_counter()
    provenance = {"model": "m:1", "digest": ""}
    report = compare(trained, tally.counts, counts.columns, rows=rows, provenance=provenance)
    comparing = time.perf_counter() - start
    return {
        "seconds": seconds + comparing,
        "of which encoding": encoded,
        "of which comparing": comparing,
        "reference, once": once,
        "named": [part.name for part in report.moved],
    }


def evidently(rows: int, columns: int) -> dict[str, object]:
    import pandas as pd
    from evidently import Report
    from evidently.presets import DataDriftPreset

    before = pd.DataFrame(reference(columns), columns=names(columns))
    now = pd.DataFrame(np.concatenate(list(chunks(rows, columns))), columns=names(columns))
    start = time.perf_counter()
    result = Report([DataDriftPreset()]).run(now, before)
    seconds = time.perf_counter() - start
    drifted = next(m for m in json.loads(result.json())["metrics"] if "DriftedColumns" in str(m))
    return {"seconds": seconds, "named": drifted["value"]}


SIDES: dict[str, Callable[[int, int], dict[str, object]]] = {
    "modelmint": modelmint,
    "evidently": evidently,
}


def measured(python: str, side: str, rows: int, columns: int) -> dict[str, object]:
    """What one side says of itself, from a process of its own."""
    command = [python, __file__, "--side", side, "--rows", str(rows), "--columns", str(columns)]
    quiet = os.environ | {"DO_NOT_TRACK": "1"}  # Evidently reports its use over the network
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=quiet)
    if done.returncode:
        raise SystemExit(f"{side}: {done.stderr[-2000:]}")
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rivals", help="Python of an environment with evidently")
    parser.add_argument("--side", choices=SIDES, help="run one side, and print its figures")
    parser.add_argument("--rows", type=int, help="instead of the usual sizes")
    parser.add_argument("--columns", type=int, default=100)
    given = parser.parse_args()
    if given.side:
        found = SIDES[given.side](given.rows, given.columns)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({**found, "peak MB": round(peak)}))
        return
    sizes = {"as given": (given.rows, given.columns)} if given.rows else CASES
    for name, (rows, columns) in sizes.items():
        print(name)
        ours = measured(sys.executable, "modelmint", rows, columns)
        print("  modelmint", ours)
        if given.rivals and rows <= 100_000:  # the larger one takes Evidently hours
            theirs = measured(given.rivals, "evidently", rows, columns)
            print("  evidently", theirs)
            print(
                f"  {float(str(theirs['seconds'])) / float(str(ours['seconds'])):.0f} times as fast"
            )


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main()
