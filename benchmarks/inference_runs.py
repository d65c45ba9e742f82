"""How `inference.py` starts a target and measures it: a whole process, and what it started."""

import json
import multiprocessing
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import inference_data as data

ROOT = Path(__file__).resolve().parent.parent
RIVALS = ROOT / "benchmarks/inference_rivals.py"
SCRIPT, MLFLOW, OURS = "A", "B", "C"
COMMAND = "import sys; from cli.start import main; sys.exit(main())"  # as the console script
THEIRS = ("MODELMINT", "MLFLOW", "PYTHON", "PREFECT", "OMP", "ORT", "ARROW", "RAYON", "TOKENIZERS")
"""Settings of the user's, which hold for no target: `OMP_NUM_THREADS` is also pyarrow's."""


class Failed(RuntimeError):
    """A command failed, or two targets that must agree do not."""


@dataclass(frozen=True)
class Run:
    """A finished process, from its start to its end."""

    seconds: float
    cpu: float
    """Seconds of all threads, and of the processes that it waited for."""
    peak: int
    """Most bytes of memory, as seen ten times a second."""
    stdout: str


@dataclass
class Setting:
    """One case, with its model and its inputs."""

    case: data.Case
    root: Path
    """The folder of database, artifacts, and all cases."""
    rows: int
    inputs: dict[int, Path] = field(default_factory=dict)
    """By their number of rows: one, a tenth, all."""
    sizes: dict[str, int] = field(default_factory=dict)
    """The batch sizes of A and B."""

    @property
    def tenth(self) -> int:
        return max(1, self.rows // 10)

    @property
    def out(self) -> Path:
        return self.root / "out"

    def prepare(self) -> None:
        """Train the model and write the inputs, as far as they are not there."""
        in_process(data.make_model, self.case, self.root)
        for rows in {1, self.tenth, self.rows}:
            self.inputs[rows] = in_process(data.make_input, self.case, self.root, rows)

    def play(self, target: str, rows: int, size: int | None = None) -> Run:
        """Run a target on so many rows; what it writes is in `out` until its next run."""
        output = self.out / target
        shutil.rmtree(output, ignore_errors=True)
        output.parent.mkdir(exist_ok=True)
        if target == OURS:
            return execute([sys.executable, "-c", COMMAND, *self.predict(rows)], self.root)
        output.mkdir()
        what = {SCRIPT: "script", MLFLOW: "mlflow"}[target]
        bundle = self.root / self.case.name / "outputs/bundle"
        places = [bundle, self.inputs[rows], output / "predictions.parquet"]
        batch = size or self.sizes[target]
        return execute([sys.executable, "-P", RIVALS, what, *places, batch], self.root)

    def predict(self, rows: int) -> list[Any]:
        """The arguments of `modelmint`."""
        places = [self.inputs[rows], "--output", self.out / OURS]
        return ["predict", self.case.name, *places, "--device", "cpu"]

    def trusting(self) -> Run:
        """C without what makes a job safe."""
        shutil.rmtree(self.out / OURS, ignore_errors=True)
        command = [sys.executable, "-P", RIVALS, "trusting", *self.predict(self.rows)]
        return execute(command, self.root)

    def sample(self) -> dict[str, int]:
        """How often the threads of C were in which function."""
        shutil.rmtree(self.out / OURS, ignore_errors=True)
        report = self.out / "sampled.json"
        command = [sys.executable, "-P", RIVALS, "sampled", report]
        execute([*command, *self.predict(self.rows)], self.root)
        found: dict[str, int] = json.loads(report.read_text())
        return found


def in_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call it in a process of its own: torch and its threads stay out of this one."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def execute(command: list[Any], root: Path) -> Run:
    """Run a command to its end, after the disk has caught up. Raises `Failed` with its last lines.

    The registry is that of `root`; the user's settings do not hold.
    """
    parts = [str(part) for part in command]
    os.sync()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.perf_counter()
        process = subprocess.Popen(
            parts, cwd=root, env=variables(root), stdin=subprocess.DEVNULL, stdout=out, stderr=err
        )
        try:
            peak = watch(process.pid)
            seconds = time.perf_counter() - started
        except BaseException:
            process.kill()
            process.wait()
            raise
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        texts = [read(stream) for stream in (out, err)]
    if process.returncode:
        tail = "\n".join("".join(texts).splitlines()[-20:])
        shown = " ".join(Path(part).name for part in parts)
        raise Failed(f"`{shown}` ended with status {process.returncode}:\n{tail}")
    return Run(seconds, usage.ru_utime + usage.ru_stime, peak, texts[0])


def variables(root: Path) -> dict[str, str]:
    url, artifacts = data.registry_at(root)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(THEIRS)}
    return kept | {
        "PYTHONPATH": str(ROOT),
        "MODELMINT_DATABASE_URL": url,
        "MODELMINT_ARTIFACTS": str(artifacts),
        "MODELMINT_CACHE": str(root / "cache"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }


def watch(pid: int) -> int:
    """Wait until a process ends, without reaping it; the most memory that it was seen to use."""
    ended, peak = os.pidfd_open(pid), 0
    try:
        while not select.select([ended], [], [], 0.1)[0]:
            peak = max(peak, resident(pid))
        return peak
    finally:
        os.close(ended)


def resident(pid: int) -> int:
    """The most bytes that a process and its descendants had; what they share counts for each.

    Not `ru_maxrss`: there a process begins with the size of the one that started it.
    """
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        threads = Path(f"/proc/{pid}/task").glob("*/children")
        children = " ".join(path.read_text() for path in threads).split()
    except OSError:  # it has ended
        return 0
    own = int(found[1]) * 1024 if found else 0  # a process that ends has none
    return own + sum(resident(int(child)) for child in children)


def read(stream: Any) -> str:
    stream.seek(0)
    return str(stream.read().decode(errors="replace"))
