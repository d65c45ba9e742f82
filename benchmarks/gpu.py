"""Measures and checks training and prediction on an NVIDIA GPU; prints one Markdown table.

    make bench-gpu                             # on a bare machine: environment, GPU tests, this
    python benchmarks/gpu.py [--only NAME...]  # where there is an environment
    python benchmarks/gpu.py --device cpu      # the same code with the sizes of a test

The exit status is 1 if a check failed, 2 if there is no GPU. The README beside this file says what
is compared.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Before this file's folder, where `registry` would be benchmarks/registry.py.
sys.path.insert(0, str(ROOT))

from benchmarks.gpu_cases import Case, cases  # noqa: E402
from benchmarks.gpu_processes import Failed, Processes, Row  # noqa: E402
from benchmarks.gpu_sessions import exported, machine, refused  # noqa: E402
from benchmarks.gpu_trainings import (  # noqa: E402
    Timed,
    compared,
    prepare,
    resume,
    train_all,
    two_processes,
    warm_process,
)
from tasks.session import cuda_devices  # noqa: E402

CHECKS = ("training", "prediction", "resume", "processes", "warm")
PRECISIONS = {"cuda": ["32-true", "16-mixed", "bf16-mixed"], "cpu": ["32-true", "bf16-mixed"]}
NO_GPU = (
    "error: the NVIDIA driver finds no GPU here, so nothing was measured. Run this on a machine "
    "with one, or with --device cpu to try the script itself"
)
LOUD = "*** --device cpu: this tries the script. NOTHING ABOUT A GPU IS MEASURED HERE. ***"


def measure(device: str, only: list[str], root: Path) -> Iterator[Row]:
    """The rows of the table, as they are found."""
    processes = Processes(device, root)
    chosen = list(cases(small=device == "cpu").values())
    first = chosen[0]
    yield from guarded("card", lambda: processes.run(machine, device))
    yield from guarded("data", lambda: processes.run(prepare, chosen, root))
    if {"training", "prediction"} & {*only}:
        yield from trainings(processes, chosen, root, device)
    if "prediction" in only:
        yield from guarded("prediction", lambda: processes.run(exported, chosen, root, device))
        bundle = root / "stage" / first.name / "32-true/outputs/bundle"
        yield from guarded("no device", lambda: processes.run(refused, bundle / "model.onnx"))
    if "resume" in only:
        for precision in PRECISIONS[device]:
            yield from guarded(
                f"resume, {precision}",
                lambda p=precision: iter([resume(processes, first, root, device, p)]),
            )
    if "processes" in only:
        if device == "cuda" and cuda_devices() < 2:
            yield Row("two processes", first.name, "skipped: there is one GPU")
        else:
            yield from guarded(
                "two processes", lambda: iter([two_processes(processes, first, root, device)])
            )
    if "warm" in only:
        precision = "bf16-mixed" if device == "cuda" else "32-true"
        yield from guarded(
            "warm process", lambda: processes.run(warm_process, first, root, device, precision)
        )


def guarded(what: str, rows: Callable[[], Iterator[Row]]) -> Iterator[Row]:
    """The rows, and one more if the process that finds them fails; the next check still runs."""
    try:
        yield from rows()
    except Failed as error:
        yield Row(what, "", str(error), passed=False)


def trainings(processes: Processes, chosen: list[Case], root: Path, device: str) -> Iterator[Row]:
    """The stage beside the plain loop, in every case and precision."""
    found: dict[str, dict[tuple[str, str], Timed | str]] = {"stage": {}, "plain": {}}
    for side, results in found.items():
        try:
            run = processes.run(train_all, side, chosen, root, device, PRECISIONS[device])
            for case, precision, timed in run:
                results[case, precision] = timed
                say(f"{side}, {case}, {precision}: {timed}")
        except Failed as error:
            yield Row("training step", f"all of the {side}", str(error), passed=False)
    for case in chosen:
        for precision in PRECISIONS[device]:
            stage, plain = (
                results.get((case.name, precision), "not reached") for results in found.values()
            )
            yield compared(case.name, precision, device, stage, plain)


def line(row: Row) -> str:
    passed = {None: "", True: "passed", False: "**FAILED**"}[row.passed]
    cells = [row.what, row.case, row.measured, row.beside, passed]
    return f"| {' | '.join(cell.replace('|', '/').replace(chr(10), ' ') for cell in cells)} |"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Measure, and print the table. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=PRECISIONS, default="cuda")
    parser.add_argument("--only", nargs="+", choices=CHECKS, default=list(CHECKS), metavar="NAME")
    given = parser.parse_args()
    if given.device == "cuda" and not cuda_devices():
        say(NO_GPU)
        return 2
    os.environ["PYTHONPATH"] = str(ROOT)  # of the further processes
    rows, started = [], time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for row in measure(given.device, given.only, Path(folder)):
            say(f"{time.monotonic() - started:.0f} s: {line(row)}")
            rows.append(row)
    if given.device == "cpu":
        print(f"\n{LOUD}\n")
    print("| what | case | measured | beside it | check |\n|---|---|---|---|---|")
    print("\n".join(line(row) for row in rows))
    failed = sum(row.passed is False for row in rows)
    print(f"\n{time.monotonic() - started:.0f} s; {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
