"""Compares drift detection with Evidently's: `python benchmarks/drift.py [--rivals PYTHON]`.

Tables of normal numbers in which one column is shifted by 0.3 standard deviations. The two sides
run in turns, each in a process of its own, and find the shifted column or the run ends with 1.
Modelmint counts chunk by chunk, as a batch job does, and compares with counts that a training would
have made of the reference: what that costs once is measured, too. Evidently (`DataDriftPreset` with
its defaults) gets both tables as DataFrames. The clock runs while rows are encoded, counted or
compared, not while they are made.

`--rivals` is the Python of an environment of its own with evidently and pandas. It is in no extra
of modelmint: it brings 79 packages. `python -m venv E && E/bin/pip install evidently`.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tasks.bundle.signature import Signature
    from tasks.drift.reference import Reference

CHUNK_BYTES, SHIFTED = 8 << 20, 0.3
Figures = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """Rows and columns of a job, and rows of its reference."""

    rows: int
    columns: int
    reference: int
    rival: bool = True

    @property
    def arguments(self) -> list[str]:
        return [str(self.rows), str(self.columns), str(self.reference)]


CASES = [
    Case(100_000, 100, 100_000),
    # Evidently was reported to need six hours for three times as many rows (its issue 1526).
    Case(1_000_000, 1_000, 10_000, rival=False),
]


def chunks(rows: int, columns: int) -> Iterator[NDArray[np.float32]]:
    """The rows of the job, (n, columns) at a time; the first column is shifted."""
    rng, size = np.random.default_rng(1), max(1, CHUNK_BYTES // (4 * columns))
    for start in range(0, rows, size):
        part = rng.standard_normal((min(size, rows - start), columns), np.float32)
        part[:, 0] += SHIFTED
        yield part


def known_rows(case: Case) -> NDArray[np.float32]:
    """The rows of the reference, (n, columns)."""
    return np.random.default_rng(0).standard_normal((case.reference, case.columns), np.float32)


def names(columns: int) -> list[str]:
    return [f"x{number}" for number in range(columns)]


def trained(known: NDArray[np.float32]) -> "tuple[Signature, Reference]":
    """What a training on rows (n, columns) would know of them."""
    from tasks.bundle.signature import Signature
    from tasks.columns import NumberColumn
    from tasks.drift.reference import Reference, Values
    from tasks.files.reading import PLAIN

    columns = tuple(
        NumberColumn(name=name, low=float(known[:, n].min()), high=float(known[:, n].max()))
        for n, name in enumerate(names(known.shape[1]))
    )
    signature = Signature.of("binary", columns, ("no", "yes"), PLAIN)
    parts = {}
    for number, column in enumerate(columns):
        values = Values(column.measures())
        values.add({"numbers": known[:, number : number + 1]}, held_out=False)
        parts[column.name] = values.document()
    return signature, Reference.of({"drift": {"columns": parts}}, signature)


def modelmint(case: Case) -> Figures:
    """Encode, count and compare; then encode alone, which a job does without drift, too."""
    import pyarrow as pa

    from tasks.columns import SourceLocation
    from tasks.counts import Counts
    from tasks.drift.comparing import compare
    from tasks.drift.counting import Tally
    from tasks.encoding import Encoder

    known = known_rows(case)
    start = time.perf_counter()
    signature, reference = trained(known)
    once = time.perf_counter() - start
    tally, counts, location = Tally(reference), Counts(), SourceLocation("benchmark")
    counting = Encoder(signature, None, counts, tally.add_column)
    both = alone = 0.0
    for part in chunks(case.rows, case.columns):
        columns = {n: np.ascontiguousarray(part[:, i]) for i, n in enumerate(names(case.columns))}
        batch = pa.record_batch(columns)
        start = time.perf_counter()
        counting.encode(batch, location)
        both += time.perf_counter() - start
        start = time.perf_counter()
        Encoder(signature).encode(batch, location)
        alone += time.perf_counter() - start
    start = time.perf_counter()
    provenance = {"model": "m:1", "digest": ""}
    report = compare(reference, tally.counts, counts.columns, rows=case.rows, provenance=provenance)
    comparing = time.perf_counter() - start
    return {
        "seconds": both + comparing,
        "without encoding": both + comparing - alone,
        "reference, once": once,
        "found": [part.name for part in report.moved] == ["x0"],
    }


def evidently(case: Case) -> Figures:
    import pandas as pd
    from evidently import Report
    from evidently.presets import DataDriftPreset

    before = pd.DataFrame(known_rows(case), columns=names(case.columns))
    rows = np.concatenate(list(chunks(case.rows, case.columns)))
    now = pd.DataFrame(rows, columns=names(case.columns))
    start = time.perf_counter()
    result = Report([DataDriftPreset()]).run(now, before)
    seconds = time.perf_counter() - start
    drifted = next(m for m in json.loads(result.json())["metrics"] if "DriftedColumns" in str(m))
    return {"seconds": seconds, "found": drifted["value"]["count"] == 1}


SIDES: dict[str, Callable[[Case], Figures]] = {"modelmint": modelmint, "evidently": evidently}


def measured(python: str, side: str, case: Case) -> Figures:
    """What one side says of itself, from a process of its own."""
    command = [python, __file__, "--side", side, *case.arguments]
    quiet = os.environ | {"DO_NOT_TRACK": "1"}  # Evidently reports its use over the network
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=quiet)
    if done.returncode:
        raise SystemExit(f"{side}: {done.stderr[-2000:]}")
    found: Figures = json.loads(done.stdout.splitlines()[-1])
    if not found["found"]:
        raise SystemExit(f"{side} named other columns than the one that was shifted")
    return found


def spread(values: list[float], digits: int = 2) -> str:
    """The median, and from where to where."""
    low, high = min(values), max(values)
    return f"{statistics.median(values):,.{digits}f} [{low:,.{digits}f}-{high:,.{digits}f}]"


def run(case: Case, rounds: int, rivals: str | None) -> None:
    of = f"{case.rows:,} rows x {case.columns:,} columns, reference of {case.reference:,} rows"
    print(f"{of}; {rounds} rounds")
    ours: list[Figures] = []
    theirs: list[Figures] = []
    for _ in range(rounds):
        ours.append(measured(sys.executable, "modelmint", case))
        if rivals and case.rival:
            theirs.append(measured(rivals, "evidently", case))
    for side, rows in (("modelmint", ours), ("evidently", theirs)):
        for name in rows[0] if rows else []:
            if name != "found":
                digits = 0 if name == "peak MB" else 2
                print(f"  {side} {name}: {spread([one[name] for one in rows], digits)}", flush=True)
    if theirs:
        pairs = zip(theirs, ours, strict=True)
        ratios = [one["seconds"] / other["seconds"] for one, other in pairs]
        print(f"  times as fast: {spread(ratios, 0)}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rivals", help="Python of an environment with evidently")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=SIDES, help="run one side, and print its figures")
    parser.add_argument(
        "case", type=int, nargs="*", help="rows, columns, rows of the reference; usually: both"
    )
    given = parser.parse_args()
    cases = [Case(*given.case)] if given.case else CASES
    if given.side:
        found = SIDES[given.side](cases[0])
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({**found, "peak MB": round(peak)}))
        return
    for case in cases:
        run(case, given.rounds, given.rivals)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main()
