"""Saves the state of a training to a file, to resume from after a kill at any moment."""

import hashlib
import json
import os
import shutil
import time
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file

from tasks.config import CheckpointEvery, Train
from tasks.device import Device
from tasks.training.state import State, join, split

STATE = "state.safetensors"
# Writing may take at most this share of the time: if epochs are short, some saves are skipped.
LARGEST_SHARE = 0.05


class TrainingCheckpointer:
    """Writes a `State` to `folder` as often as `every` says, and restores it.

    Saving depends on the clock, but does not change the result of the training. Of several
    processes, all have the same state; the first one writes it, and reads it for all.
    """

    def __init__(self, folder: Path, fingerprint: str, every: CheckpointEvery) -> None:
        self._file = folder / STATE
        self._fingerprint = fingerprint
        self._every = every
        self._written = time.monotonic()
        self._cost = 0.0

    def resume(self, state: State) -> None:
        """Restore the state of the same training, if there is a file of it; prints a line."""
        there = state.processes.rank == 0 and self._file.exists()
        content = state.processes.of_first(self._file.read_bytes() if there else b"")
        if not content:
            return
        try:
            tensors = load(content)
            header = _metadata(content)
        except SafetensorError as error:
            print(f"starting from scratch: {self._file} cannot be read ({error})", flush=True)
            return
        if header["fingerprint"] != self._fingerprint:
            print(
                f"starting from scratch: {self._file} belongs to other data, parameters, code or "
                "device",
                flush=True,
            )
            return
        state.restore(join(json.loads(header["state"]), tensors))
        within = f" and {state.batch} batches of epoch {state.epoch}" if state.batch else ""
        print(f"resuming after epoch {state.epoch - 1}{within}", flush=True)

    def after_epoch(self, state: State) -> None:
        """Call after each epoch but the last."""
        if (state.epoch - 1) % self._every.epochs == 0:
            self._write(state)

    def after_step(self, state: State) -> None:
        """Call after each optimizer step but the last of an epoch."""
        minutes = self._every.minutes
        if minutes is not None and time.monotonic() - self._written >= 60 * minutes:
            self._write(state)

    def _write(self, state: State) -> None:
        started = time.monotonic()
        if state.processes.rank or (started - self._written) * LARGEST_SHARE < self._cost:
            return
        tensors: dict[str, torch.Tensor] = {}
        tree = split(state.tree(), tensors)
        header = {"fingerprint": self._fingerprint, "state": json.dumps(tree)}
        partial = self._file.with_suffix(".partial")
        partial.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, partial, header)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(self._file)
        self._written = time.monotonic()
        self._cost = self._written - started


def remove_state(folder: Path) -> None:
    """Remove the state of a training that is over."""
    shutil.rmtree(folder, ignore_errors=True)


def _metadata(content: bytes) -> dict[str, str]:
    """https://huggingface.co/docs/safetensors/index#format"""
    size = int.from_bytes(content[:8], "little")
    found: dict[str, str] = json.loads(content[8 : 8 + size])["__metadata__"]
    return found


def fingerprint(
    params: Train, device: Device, prepared: Path, base: Path, processes: int = 1
) -> str:
    """SHA-256 of everything that influences the result of a training.

    `checkpoint` is left out: how often the state is written does not change the result. So is
    `devices`, of which `processes` is the sum over all machines.
    """
    package = Path(__file__).parents[1]
    folders = [prepared, base] if params.init_from else [prepared]
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    given = {
        "parameters": params.model_dump(mode="json", exclude={"checkpoint", "devices"}),
        "torch": torch.__version__,
        "device": [device.hardware, device.precision, processes],
        "files": [_digest(path) for path in files],
        "code": [
            [path.relative_to(package).as_posix(), _digest(path)]
            for path in sorted(package.rglob("*.py"))
        ],
    }
    return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
