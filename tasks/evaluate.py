"""evaluate: the PyTorch network on the test split. ONNX Runtime's figures come with `export`."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tasks.architectures import Network
from tasks.checkpoint import load
from tasks.config import Evaluate
from tasks.dataset import read_split
from tasks.metrics import score
from tasks.signature import Signature


@dataclass(frozen=True)
class EvaluateReport:
    """The metrics of PyTorch on the test split."""

    rows: int
    summary: dict[str, float]

    def __str__(self) -> str:
        shown = ", ".join(f"{n} {self.summary[n]:.4f}" for n in ("accuracy", "macro_f1"))
        return f"evaluated {self.rows} test rows in PyTorch: {shown}"


def evaluate(
    params: Evaluate, *, prepared: Path, checkpoint: Path, metrics: Path, plots: Path
) -> EvaluateReport:
    """Write `metrics` (JSON, for `dvc metrics`) and `plots` (CSV, for `dvc plots`)."""
    signature = Signature.read(prepared / "signature.json")
    test = read_split(prepared, "test", signature)
    network, _ = load(checkpoint)
    logits = infer(network, test.inputs["image"], params.batch_size)
    probabilities = torch.softmax(torch.from_numpy(logits), dim=1).numpy()
    result = score(test.labels, probabilities, signature.classes, params.calibration_bins)
    metrics.parent.mkdir(parents=True, exist_ok=True)
    metrics.write_text(
        json.dumps({"rows": result.rows, **result.summary, "per_class": result.per_class}, indent=2)
        + "\n",
        encoding="utf-8",
    )
    plots.mkdir(parents=True, exist_ok=True)
    named = np.array(signature.classes)
    pairs = zip(named[test.labels], named[probabilities.argmax(axis=1)], strict=True)
    _write_csv(plots / "confusion.csv", [{"actual": a, "predicted": p} for a, p in pairs])
    _write_csv(plots / "calibration.csv", result.calibration)
    return EvaluateReport(result.rows, result.summary)


@torch.inference_mode()
def infer(network: Network, images: NDArray[np.generic], batch_size: int) -> NDArray[np.float32]:
    """Logits (N, classes) of raw images (N, H, W, C), in batches."""
    parts = [
        network(torch.tensor(images[start : start + batch_size]))
        for start in range(0, len(images), batch_size)
    ]
    logits: NDArray[np.float32] = torch.cat(parts).numpy()
    return logits


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
