"""train: the chosen architecture on the prepared dataset; the best weights are kept."""

import csv
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from tasks import architectures
from tasks.checkpoint import save
from tasks.config import Train
from tasks.dataset import read_split
from tasks.device import choose_device
from tasks.errors import InputError
from tasks.signature import Signature

COLUMNS = ["epoch", "train_loss", "validation_loss", "validation_accuracy", "learning_rate"]
EVALUATION_BATCH = 1024


@dataclass(frozen=True)
class TrainReport:
    """The epoch whose weights were kept, and how it did on the validation split."""

    architecture: str
    parameters: int
    epochs: int
    best_epoch: int
    validation_loss: float
    validation_accuracy: float

    def __str__(self) -> str:
        return (
            f"trained {self.architecture} ({self.parameters:,} weights) for {self.epochs} epochs; "
            f"best is epoch {self.best_epoch}: validation loss {self.validation_loss:.4f}, "
            f"accuracy {self.validation_accuracy:.4f}"
        )


def train(params: Train, *, prepared: Path, checkpoint: Path, history: Path) -> TrainReport:
    """Train until the epochs are over or patience is; write `checkpoint` and `history`.

    The same data, parameters, seed, device and number of threads give the same bytes.

    Raises:
        InputError: the device is not there, the architecture cannot take these inputs, or the
            training diverged.
    """
    # cuBLAS is deterministic only with a fixed workspace, and reads this once, at its start.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    device = choose_device(params)
    print(f"device: {device.reason}", flush=True)
    fabric = Fabric(accelerator=device.accelerator, devices=1, precision=device.precision)
    torch.manual_seed(params.seed)

    signature = Signature.read(prepared / "signature.json")
    images, labels = _tensors(prepared, "train", signature, fabric)
    held_images, held_labels = _tensors(prepared, "validation", signature, fabric)
    network = architectures.build(params.architecture, signature)
    profile = json.loads((prepared / "profile.json").read_bytes())["inputs"]["image"]
    network.normalise_by(profile["mean"], profile["std"])
    steps = math.ceil(len(labels) / params.batch_size)
    optimizer = _optimizer(network, params)
    schedule = _schedule(optimizer, params, steps)
    model, optimizer = fabric.setup(network, optimizer)

    rows: list[dict[str, Any]] = []
    best: dict[str, Any] = {"validation_loss": math.inf, "epoch": 0}
    best_weights: dict[str, Tensor] = {}
    for epoch in range(1, params.epochs + 1):
        model.train()
        total = torch.zeros((), device=fabric.device)
        for batch in _batches(len(labels), params, epoch, fabric.device):
            loss = nn.functional.cross_entropy(
                model(images[batch]), labels[batch], label_smoothing=params.label_smoothing
            )
            optimizer.zero_grad()
            fabric.backward(loss)
            optimizer.step()
            schedule.step()
            total += loss.detach() * len(batch)
        held_loss, held_accuracy = _validate(model, held_images, held_labels)
        rate = optimizer.param_groups[0]["lr"]
        numbers = (epoch, total.item() / len(labels), held_loss, held_accuracy, rate)
        rows.append(row := dict(zip(COLUMNS, numbers, strict=True)))
        if held_loss < best["validation_loss"]:
            best = row
            best_weights = {k: v.detach().clone() for k, v in network.state_dict().items()}
        # The line's beginning is what the flow's progress artifact reads.
        print(
            f"epoch {epoch}/{params.epochs}: loss {row['train_loss']:.4f}, validation loss "
            f"{held_loss:.4f}, accuracy {held_accuracy:.4f} (best: epoch {best['epoch']})",
            flush=True,
        )
        if epoch - best["epoch"] >= params.patience:
            print(f"stopping early: no lower validation loss for {params.patience} epochs")
            break
    return _finish(params, network, best_weights, best, rows, signature, checkpoint, history)


def _tensors(prepared: Path, name: str, signature: Signature, fabric: Fabric) -> tuple[Tensor, ...]:
    """Images (N, H, W, C) and labels (N,) of a split, whole, on the device."""
    split = read_split(prepared, name, signature)
    # A copy: torch wants memory that it may write to, and a mapped file is not.
    images = torch.tensor(split.inputs["image"])
    return images.to(fabric.device), torch.from_numpy(split.labels).to(fabric.device)


def _batches(rows: int, params: Train, epoch: int, device: torch.device) -> Iterator[Tensor]:
    """Row numbers of each batch, in an order that only the seed and the epoch decide.

    A last batch of one row is left out: batch normalisation cannot learn from it.
    """
    generator = torch.Generator().manual_seed(params.seed * 1_000_003 + epoch)
    order = torch.randperm(rows, generator=generator).to(device)
    return (batch for batch in torch.split(order, params.batch_size) if len(batch) > 1)


def _optimizer(network: nn.Module, params: Train) -> Optimizer:
    p = params.optimizer
    if p.name == "sgd":
        return SGD(
            network.parameters(),
            lr=p.learning_rate,
            momentum=0.9,
            nesterov=True,
            weight_decay=p.weight_decay,
        )
    return AdamW(network.parameters(), lr=p.learning_rate, weight_decay=p.weight_decay)


def _schedule(optimizer: Optimizer, params: Train, steps: int) -> LambdaLR:
    """The learning rate's factor at each step: a linear warm-up, then constant or cosine."""
    warmup = params.schedule.warmup * steps
    after = max(1, params.epochs * steps - warmup)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        if params.schedule.name == "constant":
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / after)))

    return LambdaLR(optimizer, factor)


@torch.no_grad()
def _validate(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """Mean cross-entropy and accuracy."""
    model.eval()
    logits = torch.cat([model(part).float() for part in torch.split(images, EVALUATION_BATCH)])
    loss = nn.functional.cross_entropy(logits, labels).item()
    return loss, (logits.argmax(1) == labels).float().mean().item()


def _finish(
    params: Train,
    network: architectures.Network,
    weights: dict[str, Tensor],
    best: dict[str, Any],
    rows: list[dict[str, Any]],
    signature: Signature,
    folder: Path,
    history: Path,
) -> TrainReport:
    if not weights:
        raise InputError(
            "training diverged: the validation loss was never a finite number. Lower "
            "train.optimizer.learning_rate, or give train.schedule.warmup more epochs."
        )
    network.load_state_dict(weights)
    save(folder, network.cpu(), signature, params, {"best": best, "epochs": len(rows)})
    history.parent.mkdir(parents=True, exist_ok=True)
    with history.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return TrainReport(
        params.architecture.name,
        sum(p.numel() for p in network.parameters()),
        len(rows),
        best["epoch"],
        best["validation_loss"],
        best["validation_accuracy"],
    )
