"""evaluate: metrics of the PyTorch network on the test split. `export` does it in ONNX Runtime."""

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tasks.architectures import Network
from tasks.bundle.signature import Signature
from tasks.checkpoint import load
from tasks.columns import Arrays
from tasks.config import Evaluate
from tasks.dataset import read_split
from tasks.encoding import Encoder
from tasks.problems import Metrics
from tasks.problems.thresholds import decided
from tasks.session import split_into

# The plot files with their columns. dvc.yaml names each, and DVC warns if one is missing.
PLOTS = {
    "confusion.csv": ("actual", "predicted"),
    "calibration.csv": ("confidence", "accuracy", "rows"),
    "per_class.csv": ("class", "precision", "recall", "f1", "support"),
    "predictions.csv": ("actual", "predicted"),
}


@dataclass(frozen=True)
class EvaluateReport:
    """The metrics of PyTorch on the test split."""

    metrics: Metrics

    def __str__(self) -> str:
        return f"evaluated {self.metrics.rows} test rows in PyTorch: {self.metrics}"


def evaluate(
    params: Evaluate, *, prepared: Path, checkpoint: Path, metrics: Path, plots: Path
) -> EvaluateReport:
    """Write `metrics` (JSON, for `dvc metrics`) and the folder `plots` (CSV, for `dvc plots`).

    `metrics` begins with the headline metrics; metrics of each class are in `plots`. Every file of
    `PLOTS` is written: a file that does not apply to the problem has only a header.
    """
    encoder = Encoder.read(checkpoint)
    test = read_split(prepared, "test", encoder)
    network, _ = load(checkpoint)
    signature = with_threshold(params, network, encoder, prepared)
    problem = signature.problem
    outputs = run_network(network, signature, test.inputs, params.batch_size)
    result = problem.compute_metrics(signature, test.targets, outputs, params.calibration_bins)
    metrics.parent.mkdir(parents=True, exist_ok=True)
    first = {name: result.summary[name] for name in result.headline}
    document = {**first, **result.summary, "rows": result.rows}
    metrics.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    plots.mkdir(parents=True, exist_ok=True)
    drawn = problem.plots(signature, result, test.targets, outputs)
    for name, columns in PLOTS.items():
        _write_csv(plots / name, columns, drawn.get(name, []))
    return EvaluateReport(result)


def with_threshold(
    params: Evaluate, network: Network, encoder: Encoder, prepared: Path
) -> Signature:
    """The signature of the network with the threshold of `evaluate.threshold`.

    Chosen in PyTorch also for the ONNX file, so that `evaluate` and `export` choose the same.

    Raises:
        InputError: as `decided`.
    """

    def validation() -> tuple[Any, Arrays]:
        split = read_split(prepared, "validation", encoder)
        outputs = run_network(network, encoder.signature, split.inputs, params.batch_size)
        return split.targets, outputs

    return decided(params, encoder.signature, validation)


def run_network(network: Network, signature: Signature, inputs: Arrays, batch_size: int) -> Arrays:
    """The outputs from which metrics are computed, of all rows of encoded `inputs`."""
    infer = inference(network, signature.problem.evaluated)
    parts = [infer(part) for part in split_into(signature, inputs, batch_size)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def inference(network: Network, names: Sequence[str]) -> Callable[[Arrays], Arrays]:
    """A function from a batch of encoded inputs to the outputs `names` of the network."""

    @torch.inference_mode()
    def infer(batch: Arrays) -> Arrays:
        # A copy, because torch needs writable memory and the split is memory-mapped read-only.
        inputs = {name: torch.tensor(array) for name, array in batch.items()}
        outputs = network.outputs(inputs, network(inputs))
        return {name: outputs[name].numpy() for name in names}

    return infer


def _write_csv(path: Path, columns: Sequence[str], rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
