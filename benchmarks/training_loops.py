"""The sides of `training.py`: `python benchmarks/training_loops.py stage|plain|lightning FOLDER`.

FOLDER has `params.yaml` and `data/prepared`. Each side builds the same network from the same seed,
takes the same rows in the same order, and prints the losses of each epoch as the stage does. The
device and the precision are those that the stage chooses.
"""

import contextlib
import math
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from tasks import architectures, formats, params
from tasks.bundle.files import Bundle
from tasks.config import Params, Train
from tasks.dataset import read_split
from tasks.device import Device, choose_device
from tasks.encoding import Encoder
from tasks.training.augmentation import augment
from tasks.workspace import Workspace

VALIDATION_BATCH = 1024
LOWER = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}


def stage(chosen: Params, workspace: Workspace) -> None:
    """The stage's own function."""
    from tasks.pipeline import STEPS

    STEPS["train"].run(chosen, workspace)


class Rows:
    """A split on the device, as a script would hold it: tensors, and batches by index."""

    def __init__(self, prepared: Path, name: str, encoder: Encoder, device: str) -> None:
        split = read_split(prepared, name, encoder)
        self.inputs = {
            key: torch.tensor(array, device=device) for key, array in split.inputs.items()
        }
        self.targets = torch.tensor(split.targets, device=device)
        self.padded = "length" in self.inputs

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, rows: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """One batch; tokens are padded to its longest text."""
        rows = rows.to(self.targets.device)
        batch = {key: tensor[rows] for key, tensor in self.inputs.items()}
        if self.padded:
            batch["tokens"] = batch["tokens"][:, : max(1, int(batch["length"].max()))]
        return batch, self.targets[rows]


def order_of(rows: int, seed: int, epoch: int) -> Tensor:
    """A random order for each epoch, the same as the stage's."""
    return torch.randperm(rows, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))


def begin(
    chosen: Params, workspace: Workspace
) -> tuple[Device, nn.Module, Rows, Rows, Tensor | None, torch.optim.Optimizer, Any]:
    """Device, network, data, class weights, optimizer and schedule."""
    train = chosen.train
    device = choose_device(train)
    torch.manual_seed(train.seed)
    dataset = Encoder.read(workspace.prepared)
    signature = architectures.signature_for(train.architecture, dataset.signature)
    encoder = Encoder(signature, dataset.tokenizer)
    training, validation = (
        Rows(workspace.prepared, name, encoder, device.accelerator)
        for name in ("train", "validation")
    )
    network = architectures.build(train.architecture, signature)
    network.normalise_by(formats.read(Bundle.at(workspace.prepared).profile, formats.PROFILE))
    network.fit(lambda: training.inputs)
    network.to(device.accelerator)
    weights = None
    if train.imbalance == "weights":
        counts = torch.bincount(training.targets, minlength=len(signature.classes)).float()
        weights = len(training) / (len(counts) * counts)
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=train.optimizer.learning_rate,
        weight_decay=train.optimizer.weight_decay,
    )
    steps = len(list(batches(torch.arange(len(training)), train.batch_size)))
    schedule = cosine(optimizer, train, steps)
    return device, network, training, validation, weights, optimizer, schedule


def batches(order: Tensor, size: int) -> Iterator[Tensor]:
    """Batches of row numbers; a last batch of one row is left out."""
    return (batch for batch in torch.split(order, size) if len(batch) > 1)


def cosine(optimizer: torch.optim.Optimizer, train: Train, steps: int) -> Any:
    """Warm-up and cosine decay, by step."""
    warmup = round(train.schedule.warmup * steps)
    after = max(1, train.epochs * steps - warmup)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / after)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def validate(
    network: nn.Module, validation: Rows, weights: Tensor | None, autocast: torch.autocast
) -> float:
    """The mean loss of the validation split."""
    network.eval()
    total = divisor = 0.0
    with torch.no_grad():
        for rows in torch.split(torch.arange(len(validation)), VALIDATION_BATCH):
            inputs, targets = validation.take(rows)
            with autocast:
                scores = network(inputs)
            total += F.cross_entropy(scores.float(), targets, weights, reduction="sum").item()
            divisor += len(targets) if weights is None else weights[targets].sum().item()
    return total / divisor


def say(train: Train, epoch: int, loss: float, validation: float) -> None:
    print(
        f"epoch {epoch}/{train.epochs}: loss {loss:.4f}, validation loss {validation:.4f}",
        flush=True,
    )


def plain(chosen: Params, workspace: Workspace) -> None:
    """What one would write by hand: no Fabric, no resume, no records."""
    train = chosen.train
    device, network, training, validation, weights, optimizer, schedule = begin(chosen, workspace)
    lower = LOWER.get(device.precision)
    autocast = torch.autocast(device.accelerator, lower, enabled=lower is not None)
    scaler = torch.amp.GradScaler(device.accelerator, enabled=device.precision == "16-mixed")
    best, best_weights = math.inf, {}
    for epoch in range(1, train.epochs + 1):
        network.train()
        total, seen = torch.zeros((), device=device.accelerator), 0
        for rows in batches(order_of(len(training), train.seed, epoch), train.batch_size):
            inputs, targets = training.take(rows)
            with autocast:
                scores = network(augment(inputs, train)).float()
            # Each member of an ensemble gives scores for each row.
            each = targets.repeat_interleave(network.members, 0) if network.members > 1 else targets
            loss = F.cross_entropy(scores, each, weights, label_smoothing=train.label_smoothing)
            scaler.scale(loss).backward()
            if train.clip is not None:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(network.parameters(), train.clip)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            schedule.step()
            total += loss.detach() * len(targets)
            seen += len(targets)
        found = validate(network, validation, weights, autocast)
        if found < best:
            best = found
            best_weights = {key: value.clone() for key, value in network.state_dict().items()}
        say(train, epoch, total.item() / seen, found)
    save_file(best_weights, workspace.root / "plain.safetensors")


def lightning(chosen: Params, workspace: Workspace) -> None:
    """Lightning's Trainer with a DataLoader, as its documentation shows it."""
    import pytorch_lightning as pl  # type: ignore[import-not-found]

    train = chosen.train
    device, network, training, validation, weights, optimizer, schedule = begin(chosen, workspace)

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.losses = network, [0.0, 0.0]

        def training_step(self, rows: Tensor, _: int) -> Tensor:
            inputs, targets = training.take(rows)
            scores = self.network(augment(inputs, train))
            loss = F.cross_entropy(scores, targets, weights, label_smoothing=train.label_smoothing)
            self.log("loss", loss, on_step=False, on_epoch=True, batch_size=len(rows))
            return loss

        def validation_step(self, rows: Tensor, _: int) -> None:
            inputs, targets = validation.take(rows)
            loss = F.cross_entropy(self.network(inputs), targets, weights)
            self.log("validation_loss", loss, on_epoch=True, batch_size=len(rows))

        def on_train_epoch_end(self) -> None:
            metrics = self.trainer.callback_metrics
            say(train, self.current_epoch + 1, metrics["loss"], metrics["validation_loss"])

        def configure_optimizers(self) -> Any:
            return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def loader(rows: Rows, size: int, shuffle: bool) -> Any:
        numbers = torch.arange(len(rows))
        return torch.utils.data.DataLoader(
            numbers, size, shuffle=shuffle, drop_last=shuffle, collate_fn=torch.stack
        )

    trainer = pl.Trainer(
        max_epochs=train.epochs,
        accelerator=device.accelerator,
        precision=device.precision,
        gradient_clip_val=train.clip,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=workspace.root / "lightning",
    )
    with contextlib.redirect_stderr(sys.stdout), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(
            Module(),
            loader(training, train.batch_size, True),
            loader(validation, VALIDATION_BATCH, False),
        )


if __name__ == "__main__":
    side, root = sys.argv[1], Workspace(Path(sys.argv[2]))
    {"stage": stage, "plain": plain, "lightning": lightning}[side](params.load(root.params), root)
