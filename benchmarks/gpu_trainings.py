"""The trainings of `gpu.py`: their speed, a kill, several processes, the warm process."""

import io
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.gpu_cases import Case, place
from benchmarks.gpu_processes import Failed, Processes, Row, failure
from tasks.config import Params
from tasks.workspace import Workspace

EPOCH = re.compile(r"epoch \d+/\d+: loss ([\d.]+), validation loss")
# Training losses of each epoch. On a GPU the stage takes deterministic kernels and the plain loop
# the fastest, and both round factors of convolutions to 10 bits (TF32, torch's default).
SAME = {"cpu": {"rtol": 0.0, "atol": 2e-4}, "cuda": {"rtol": 0.1, "atol": 0.02}}
# Saved within epochs alone, as often as a twentieth of the time allows.
IN_EPOCH = {"epochs": 100_000, "minutes": 1e-6}
FORK = ("-c", "from tasks.warm import in_warm_process; print(in_warm_process(['train']))")


class Timed(NamedTuple):
    """A finished training."""

    step: float
    """Seconds: of the median epoch, with its validation and saves, divided by its steps."""
    losses: list[float]
    """The training loss of each epoch."""


class Clock(io.StringIO):
    """A standard output that notes when each epoch ended."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[float] = []

    def write(self, text: str) -> int:
        if EPOCH.match(text):
            self.ends.append(time.perf_counter())
        return super().write(text)


def prepare(cases: list[Case], root: Path) -> Iterator[Row]:
    for case in cases:
        case.prepare(root)
        yield Row("data", case.name, f"{case.rows:,} rows, batches of {case.batch_size:,}")


def train_all(
    side: str, cases: list[Case], root: Path, device: str, precisions: list[str]
) -> Iterator[tuple[str, str, Timed | str]]:
    """Each case with each precision, or why it failed; `side` is one of `training_loops`."""
    from benchmarks import training_loops

    for case in cases:
        for precision in precisions:
            params = case.params(device, precision)
            folder = root / side / case.name / precision
            workspace = place(params, root / case.name / "data/prepared", folder)
            clock = Clock()
            try:
                with redirect_stdout(clock):
                    getattr(training_loops, side)(params, workspace)
                yield case.name, precision, _timed(clock, workspace, case)
            except Exception as error:
                yield case.name, precision, failure(error)


def _timed(clock: Clock, workspace: Workspace, case: Case) -> Timed:
    from tasks.dataset import read_table
    from tasks.training.batches import epoch_of

    steps, _ = epoch_of(read_table(workspace.prepared, "train").num_rows, case.batch_size)
    took = [b - a for a, b in zip(clock.ends, clock.ends[1:], strict=False)]
    return Timed(median(took) / steps, [float(loss) for loss in EPOCH.findall(clock.getvalue())])


def compared(case: str, precision: str, device: str, stage: Timed | str, plain: Timed | str) -> Row:
    """The stage beside the plain loop."""
    import numpy as np

    what, name = "training step", f"{case}, {precision}"
    if isinstance(stage, str) or isinstance(plain, str):
        return Row(what, name, f"stage: {stage}", f"plain loop: {plain}", False)
    equal = np.shape(stage.losses) == np.shape(plain.losses) and np.allclose(
        stage.losses, plain.losses, **SAME[device]
    )
    ended = f"last loss {stage.losses[-1]:.4f}, {plain.losses[-1]:.4f}"
    return Row(
        what,
        name,
        f"{1000 * stage.step:.2f} ms",
        f"plain loop {1000 * plain.step:.2f} ms: {stage.step / plain.step:.2f} times; {ended}",
        bool(equal),
    )


def train_once(params: Params, prepared: Path, folder: Path) -> Iterator[str]:
    """Train into a folder; yields what was printed."""
    from tasks.train import train

    folder.mkdir(parents=True, exist_ok=True)
    printed = io.StringIO()
    with redirect_stdout(printed):
        train(
            params.train,
            prepared=prepared,
            base=folder / "base",
            checkpoint=folder / "checkpoint",
            history=folder / "history.csv",
            resume=folder / "resume",
        )
    yield printed.getvalue()


def resume(processes: Processes, case: Case, root: Path, device: str, precision: str) -> Row:
    """A training that is killed in an epoch and started again, beside one that is not."""
    params = case.params(device, precision, checkpoint=IN_EPOCH, epochs=3 * case.epochs)
    prepared, folder = root / case.name / "data/prepared", root / "resume" / precision
    whole, killed = folder / "whole", folder / "killed"
    list(processes.run(train_once, params, prepared, whole))
    running = processes.start(train_once, params, prepared, killed)
    while (state := _saved(killed)) is None or state[0] < 2:
        if not running.process.is_alive():
            list(running.found())
            raise Failed("the training ended before it could be killed")
        time.sleep(0.005)
    running.kill()
    (printed,) = processes.run(train_once, params, prepared, killed)
    said = re.search(r"^resuming after .* batches of epoch \d+$", printed, re.MULTILINE)
    same = _written(whole) == _written(killed)
    return Row(
        "resume",
        f"{case.name}, {precision}",
        "the same bytes" if same else "OTHER BYTES",
        said[0] if said else "IT DID NOT RESUME IN AN EPOCH",
        same and said is not None,
    )


def _saved(folder: Path) -> tuple[int, int] | None:
    """Epoch and batch of the saved state of a training; None if there is none."""
    try:
        with (folder / "resume/state.safetensors").open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    except OSError:
        return None
    state = json.loads(header["__metadata__"]["state"])
    return int(state["epoch"]), int(state["batch"])


def _written(folder: Path) -> dict[str, bytes]:
    there = [folder / "history.csv", *sorted((folder / "checkpoint").rglob("*"))]
    return {path.name: path.read_bytes() for path in there}


def two_processes(processes: Processes, case: Case, root: Path, device: str) -> Row:
    """The losses of two devices (NCCL; gloo on a CPU) beside those of one."""
    import numpy as np

    # Each process draws dropout of its own.
    architecture = {**case.architecture, "dropout": 0.0}
    losses = []
    for devices in (1, 2):
        params = case.params(device, "32-true", architecture=architecture, devices=devices)
        folder = root / "devices" / str(devices)
        (printed,) = processes.run(train_once, params, root / case.name / "data/prepared", folder)
        losses.append([float(loss) for loss in EPOCH.findall(printed)])
    one, two = losses
    return Row(
        "two processes",
        case.name,
        f"last loss {two[-1]:.4f}",
        f"one process {one[-1]:.4f}",
        bool(np.allclose(one, two, **SAME[device])),
    )


def warm_process(case: Case, root: Path, device: str, precision: str) -> Iterator[Row]:
    """The stage in a fork of the warm process, and in a process of its own."""
    from flows import warm

    warm.start()
    seconds, printed = {}, {}
    # The first fork waits for the imports, as no stage after the first one does.
    for where in ("first fork", "fork", "own process"):
        params = case.params(device, precision)
        workspace = place(params, root / case.name / "data/prepared", root / "warm" / where)
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-P", *(("-m", "tasks", "train") if where == "own process" else FORK)],
            cwd=workspace.root,
            env=warm.stage_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        seconds[where], printed[where] = time.perf_counter() - started, done.stdout
        print(done.stdout, flush=True)
        if where == "fork":
            warm.stop()
    # The exit status; None if the command had to run the step itself.
    status = printed["fork"].splitlines()[-1:]
    passed = status == ["0"] and f"device: {device} (requested)" in printed["fork"]
    yield Row(
        "warm process",
        f"{case.name}, {precision}",
        f"the stage in a fork {seconds['fork']:.1f} s" if passed else f"NO FORK: {status}",
        f"in a process of its own {seconds['own process']:.1f} s",
        passed,
    )
