"""The digits pipeline as one plain script: `python benchmarks/bare.py PARAMS RAW OUTPUT`.

The baseline of `overhead.py`: it computes what `modelmint run` does from `params.yaml`, with
PyTorch, scikit-learn, ONNX Runtime and pyarrow, but without Prefect, DVC, Fabric, SQL and
modelmint, and records no lineage. Seeds and order of operations equal modelmint's, so that
`overhead.py` can check that both predict the same.

PARAMS is `params.yaml` with a `cnn`, `adamw` and `cosine`; RAW is scikit-learn's `digits.csv.gz`;
OUTPUT, a folder, gets `model.onnx`, `weights.safetensors`, `history.csv`, `evaluation.json`,
`confusion.csv` and `predictions.parquet`.
"""

import csv
import json
import logging
import math
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from ruamel.yaml import YAML
from safetensors.torch import save_file
from sklearn import metrics
from sklearn.model_selection import train_test_split
from torch import nn

Params = dict[str, Any]
Rows = tuple[np.ndarray, np.ndarray]
PREDICT_BATCH = 256


class Cnn(nn.Module):
    """Normalisation, then blocks of two convolutions; takes raw (N, H, W, C)."""

    def __init__(self, p: Params, side: int, channels: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in p["channels"]:
            for before in (channels, width):
                layers += [nn.Conv2d(before, width, 3, padding=1, bias=False)]
                layers += [nn.BatchNorm2d(width), nn.ReLU()]
            layers.append(nn.MaxPool2d(2))
            channels, side = width, side // 2
        (dense,) = p["dense"]
        layers += [nn.Flatten(), nn.Linear(channels * side * side, dense), nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.Dropout(p["dropout"]), nn.Linear(dense, classes))
        self.register_buffer("mean", torch.zeros(1))
        self.register_buffer("std", torch.ones(1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.body(((image.to(torch.float32) - self.mean) / self.std).permute(0, 3, 1, 2))


class ExportWrapper(nn.Module):
    """The network with logits and probabilities as outputs."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = self.network(image)
        return logits, torch.softmax(logits, dim=1)


def read(raw: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row numbers, uint8 images (N, 8, 8, 1) and labels, without duplicates."""
    table = np.loadtxt(raw, delimiter=",", dtype=np.float32)
    if not np.isfinite(table).all():
        raise SystemExit(f"{raw} has missing values")
    kept = np.sort(np.unique(table, axis=0, return_index=True)[1])
    images = table[kept, :64].astype(np.uint8).reshape(-1, 8, 8, 1)
    return kept, images, table[kept, 64].astype(np.int64)


def split(labels: np.ndarray, p: Params) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sorted row numbers of the training, validation and test split."""
    every, seed = np.arange(len(labels)), p["seed"]
    rest, test = train_test_split(every, test_size=p["test"], stratify=labels, random_state=seed)
    size = p["validation"] / (1 - p["test"])
    train, val = train_test_split(rest, test_size=size, stratify=labels[rest], random_state=seed)
    return np.sort(train), np.sort(val), np.sort(test)


def fit(train: Rows, val: Rows, p: Params) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train with early stopping. Returns the best network and a row for each epoch."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # as in the stage
    torch.manual_seed(p["seed"])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    half = device.type == "cuda" and torch.cuda.is_bf16_supported()
    x, y = torch.tensor(train[0]).to(device), torch.from_numpy(train[1]).to(device)
    val_x, val_y = torch.tensor(val[0]).to(device), torch.from_numpy(val[1]).to(device)
    network = Cnn(p["architecture"], train[0].shape[1], train[0].shape[3], int(y.max()) + 1)
    network.mean.fill_(float(train[0].astype(np.float64).mean()))
    network.std.fill_(float(train[0].astype(np.float64).std()))
    network.to(device)
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=p["optimizer"]["learning_rate"],
        weight_decay=p["optimizer"]["weight_decay"],
    )
    factor = cosine(p["schedule"]["warmup"], p["epochs"], math.ceil(len(y) / p["batch_size"]))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)

    def forward(batch: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            return network(batch).float()

    history: list[dict[str, float]] = []
    lowest, best_epoch, best = math.inf, 0, {}
    for epoch in range(1, p["epochs"] + 1):
        network.train()
        total = torch.zeros((), device=device)
        generator = torch.Generator().manual_seed(p["seed"] * 1_000_003 + epoch)
        order = torch.randperm(len(y), generator=generator).to(device)
        for batch in torch.split(order, p["batch_size"]):
            if len(batch) < 2:  # batch normalisation needs at least two rows
                continue
            loss = nn.functional.cross_entropy(
                forward(x[batch]), y[batch], label_smoothing=p["label_smoothing"]
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.detach() * len(batch)
        network.eval()
        with torch.no_grad():
            logits = torch.cat([forward(part) for part in torch.split(val_x, 1024)])
            loss = nn.functional.cross_entropy(logits, val_y).item()
            accuracy = (logits.argmax(1) == val_y).float().mean().item()
        mean = total.item() / len(y)
        history.append({"epoch": epoch, "loss": mean, "held_loss": loss, "accuracy": accuracy})
        print(f"epoch {epoch}: loss {mean:.4f}, validation loss {loss:.4f}", flush=True)
        if loss < lowest:
            lowest, best_epoch = loss, epoch
            best = {name: value.detach().clone() for name, value in network.state_dict().items()}
        if epoch - best_epoch >= p["patience"]:
            break
    network.load_state_dict(best)
    return network.cpu().eval(), history


def cosine(warmup_epochs: int, epochs: int, steps: int) -> Callable[[int], float]:
    """The factor of the learning rate at each step: linear warm-up, then cosine decay to zero."""
    warmup = warmup_epochs * steps
    after = max(1, epochs * steps - warmup)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / after)))

    return factor


def export(network: nn.Module, shape: tuple[int, ...], opset: int, path: Path) -> None:
    """Export the network to ONNX with a dynamic batch size, and check the file."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", (DeprecationWarning, FutureWarning))
        program = torch.onnx.export(
            ExportWrapper(network).eval(),
            (torch.zeros((2, *shape), dtype=torch.uint8),),
            input_names=["image"],
            output_names=["logits", "probabilities"],
            dynamic_shapes=({0: "batch"},),
            opset_version=opset,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    onnx.checker.check_model(program.model_proto, full_check=True)
    path.write_bytes(program.model_proto.SerializeToString())


def infer(session: ort.InferenceSession, images: np.ndarray, output: str, size: int) -> np.ndarray:
    """One output of the model for all rows, computed in batches."""
    starts = range(0, len(images), size)
    return np.concatenate(
        [session.run([output], {"image": images[s : s + size]})[0] for s in starts]
    )


def parity(
    session: ort.InferenceSession, images: np.ndarray, expected: np.ndarray, tolerance: float
) -> float:
    """The largest logit error at three batch sizes. Exits if it is too large or a label flips."""
    error, scale = 0.0, np.maximum(1, np.abs(expected))
    for size in (1, 7, len(images)):
        logits = infer(session, images, "logits", size)
        error = max(error, float((np.abs(logits - expected) / scale).max()))
        if error > tolerance or (logits.argmax(1) != expected.argmax(1)).any():
            raise SystemExit(f"ONNX Runtime disagrees with PyTorch: {error:.1e}")
    return error


def score(labels: np.ndarray, probabilities: np.ndarray, bins: int) -> dict[str, float]:
    """Metrics of a split; the calibration error uses the predicted class."""
    predicted, sure = probabilities.argmax(1), probabilities.max(1).astype(np.float64)
    result = {
        "accuracy": metrics.accuracy_score(labels, predicted),
        "balanced_accuracy": metrics.balanced_accuracy_score(labels, predicted),
    }
    for average in ("macro", "weighted"):
        values = metrics.precision_recall_fscore_support(labels, predicted, average=average)
        for name, value in zip(("precision", "recall", "f1"), values[:3], strict=True):
            result[f"{average}_{name}"] = value
    rows = probabilities.astype(np.float64)
    result["log_loss"] = metrics.log_loss(labels, rows / rows.sum(1, keepdims=True))
    bin_of, right = np.minimum((sure * bins).astype(int), bins - 1), predicted == labels
    gaps = [
        abs(right[bin_of == b].mean() - sure[bin_of == b].mean()) * (bin_of == b).sum()
        for b in np.unique(bin_of)
    ]
    result["calibration_error"] = sum(gaps) / len(labels)
    return {name: float(value) for name, value in result.items()}


def predict(session: ort.InferenceSession, keys: np.ndarray, images: np.ndarray, to: Path) -> None:
    """Write key, predicted class and score of every row to Parquet."""
    probabilities = infer(session, images, "probabilities", PREDICT_BATCH)
    best = probabilities.argmax(1)
    classes = pa.array([str(number) for number in range(probabilities.shape[1])])
    top = probabilities[np.arange(len(best)), best]
    table = pa.table({"key": keys, "prediction": classes.take(pa.array(best)), "score": top})
    pq.write_table(table, to, compression="zstd")


def main(params: Path, raw: Path, output: Path) -> None:
    p = YAML(typ="safe").load(params.read_text(encoding="utf-8"))
    names = [p["train"][key]["name"] for key in ("architecture", "optimizer", "schedule")]
    if names != ["cnn", "adamw", "cosine"] or p["train"]["precision"] != "auto":
        raise SystemExit(f"{params} asks for what this script does not do: {names}")
    output.mkdir(parents=True, exist_ok=True)
    keys, images, labels = read(raw)
    train, validation, test = split(labels, p["prepare"])
    rows = [(images[part], labels[part]) for part in (train, validation)]
    network, history = fit(*rows, p["train"])
    save_file(network.state_dict(), output / "weights.safetensors")
    with (output / "history.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(history[0]))
        writer.writeheader()
        writer.writerows(history)
    evaluation, session = evaluate(network, images[test], labels[test], p, output)
    evaluation["epochs"] = len(history)
    (output / "evaluation.json").write_text(json.dumps(evaluation, indent=2) + "\n")
    predict(session, keys[test], images[test], output / "predictions.parquet")


def evaluate(
    network: nn.Module, images: np.ndarray, labels: np.ndarray, p: Params, output: Path
) -> tuple[dict[str, Any], ort.InferenceSession]:
    """Evaluate the network in PyTorch, export it, compare both, and evaluate the ONNX file."""
    bins = p["evaluate"]["calibration_bins"]
    with torch.inference_mode():
        logits = network(torch.tensor(images))
    in_torch = score(labels, torch.softmax(logits, dim=1).numpy(), bins)
    export(network, images.shape[1:], p["export"]["opset"], output / "model.onnx")
    options = ort.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(
        output / "model.onnx", options, providers=["CPUExecutionProvider"]
    )
    error = parity(session, images, logits.numpy(), p["export"]["tolerance"])
    probabilities = infer(session, images, "probabilities", p["evaluate"]["batch_size"])
    in_onnx = score(labels, probabilities, bins)
    for gate, least in p["evaluate"]["gates"].items():
        if not in_onnx[gate] >= least:
            raise SystemExit(f"refused: {gate} is {in_onnx[gate]:.4f}, not {least}")
    confusion = metrics.confusion_matrix(labels, probabilities.argmax(1))
    np.savetxt(output / "confusion.csv", confusion, fmt="%d", delimiter=",")
    return {"onnx": in_onnx, "torch": in_torch, "parity": error}, session


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
