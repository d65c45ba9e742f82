"""Trains the same network with other seeds: how much of its metrics is luck."""

import io
import json
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import TextIO

from tasks import formats
from tasks.bundle.evaluation import Repeat
from tasks.checkpoint import load
from tasks.config import Evaluate, Train
from tasks.dataset import Split
from tasks.device import choose_device, devices_here
from tasks.encoding import Encoder
from tasks.evaluate import run_network, with_threshold
from tasks.problems.thresholds import MOST_PROBABLE, metric_of
from tasks.train import train
from tasks.training.resume import fingerprint

FORMAT = 1


def train_repeats(
    evaluation: Evaluate, params: Train, test: Split, prepared: Path, base: Path, repeats: Path
) -> Iterator[Repeat]:
    """Train with the `evaluation.repeat - 1` seeds after `params.seed`, and evaluate each network
    in PyTorch on the test split.

    A training that was killed resumes, and one that has ended is not repeated: the folder
    `repeats` has what is done. The caller removes it at the end.

    Raises:
        InputError: as `train`.
    """
    for number in range(1, evaluation.repeat):
        seed = (params.seed + number) % 2**32
        changed = params.model_copy(update={"seed": seed})
        folder = repeats / f"seed-{seed}"
        device = choose_device(changed)
        number = devices_here(changed, device)
        identity = fingerprint(changed, device, prepared, base, number)
        if evaluation.threshold != MOST_PROBABLE:
            identity += f" {evaluation.threshold} {metric_of(evaluation.gates)}"
        metrics = _measured(folder / "metrics.json", identity)
        if metrics is None:
            print(f"seed {seed}, training {number + 1} of {evaluation.repeat}", flush=True)
            with redirect_stdout(_Indented(sys.stdout)):
                report = train(
                    changed,
                    prepared=prepared,
                    base=base,
                    checkpoint=folder / "checkpoint",
                    history=folder / "history.csv",
                    resume=folder / "resume",
                )
                print(report, flush=True)
            metrics = _metrics(evaluation, folder / "checkpoint", test, prepared)
            _keep(folder / "metrics.json", identity, metrics)
        yield Repeat(seed, metrics)


def _metrics(
    evaluation: Evaluate, checkpoint: Path, test: Split, prepared: Path
) -> dict[str, float]:
    """The headline metrics on the test split, with a threshold of the network's own."""
    network, _ = load(checkpoint)
    signature = with_threshold(evaluation, network, Encoder.read(checkpoint), prepared)
    outputs = run_network(network, signature, test.inputs, evaluation.batch_size)
    found = signature.problem.compute_metrics(
        signature, test.targets, outputs, evaluation.calibration_bins
    )
    return {name: found.summary[name] for name in found.headline}


def _measured(path: Path, identity: str) -> dict[str, float] | None:
    """The metrics of a training that has ended; None if it was another one, or has not."""
    if not path.exists():
        return None
    found = formats.read(path, FORMAT)
    return dict(found["metrics"]) if found["fingerprint"] == identity else None


def _keep(path: Path, identity: str, metrics: dict[str, float]) -> None:
    document = {"format": FORMAT, "fingerprint": identity, "metrics": metrics}
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(document) + "\n", encoding="utf-8")
    partial.replace(path)


class _Indented(io.TextIOBase):
    """Two spaces before each line: the flow takes `epoch 1/40` at the beginning of a line for the
    progress of the stage `train`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._begins = True

    def write(self, text: str) -> int:
        for line in text.splitlines(keepends=True):
            self._stream.write(f"  {line}" if self._begins else line)
            self._begins = line.endswith("\n")
        return len(text)

    def flush(self) -> None:
        self._stream.flush()
