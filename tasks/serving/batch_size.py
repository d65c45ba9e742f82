"""How many rows the model gets at a time: measured once for each model and machine, and kept.

The best is where the activations of a batch fit into a core's cache: 16 to 256 images for a small
CNN, 1,024 to 4,096 rows of a table for an MLP, which is eight times as fast as with 16.
"""

import hashlib
import json
import platform
import time
from contextlib import suppress
from pathlib import Path

import onnxruntime

from tasks.columns import Arrays
from tasks.serving.model import ReadyModel
from tasks.serving.writing import write_whole

SIZES = (16, 64, 256, 1_024, 4_096)
DEFAULT = 256
WORTH_IT = 20_000
"""Jobs of fewer rows take the default: the measurement would take longer than it saves."""
_SECONDS = 0.03
"""Of the measurement of one size."""
_ABOUT_AS_FAST = 0.97
"""A smaller size that is as fast as this is taken: it needs less memory."""


def batch_size(model: ReadyModel, digest: str, sample: Arrays | None, cache: Path | None) -> int:
    """The best size for a model on this machine: the kept one, or measured with `sample`.

    `sample` are encoded rows, (N, ...), as many as there are up to the largest size; without them
    nothing is measured. `cache` is the folder where it is kept; None: it is not.
    """
    kept = None if cache is None else cache / "batch-sizes" / f"{_key(model, digest)}.json"
    if kept is not None:
        with suppress(OSError, ValueError, KeyError, TypeError):
            found = json.loads(kept.read_bytes())["batch_size"]
            if found in SIZES:
                return int(found)
    if sample is None:
        return DEFAULT
    speeds = _measure(model, sample)
    best = max(speeds.values())
    size = min(size for size, speed in speeds.items() if speed >= _ABOUT_AS_FAST * best)
    if kept is not None:
        with suppress(OSError):  # a cache that cannot be written is no reason to fail
            kept.parent.mkdir(parents=True, exist_ok=True)
            document = {"batch_size": size, "rows_per_second": speeds, "digest": digest}
            write_whole(kept, json.dumps(document, indent=2) + "\n")
    return size


def _measure(model: ReadyModel, sample: Arrays) -> dict[int, float]:
    """Rows per second of one thread, by size."""
    signature, rows = model.signature, len(next(iter(sample.values())))
    speeds: dict[int, float] = {}
    for size in SIZES:
        if size > rows and speeds:
            break
        part = signature.trim_padding({name: array[:size] for name, array in sample.items()})
        names = signature.problem.predicted
        model.session.run(part, names)  # the first run of a shape allocates memory
        done, began = 0, time.perf_counter()
        while (took := time.perf_counter() - began) < _SECONDS or not done:
            model.session.run(part, names)
            done += min(size, rows)
        took = time.perf_counter() - began
        speeds[size] = done / took
    return speeds


def _key(model: ReadyModel, digest: str) -> str:
    """What decides the speed of a model, as a file name."""
    parts = (digest, model.session.provider, onnxruntime.__version__, _processor())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
