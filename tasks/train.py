"""train: train the chosen architecture on the prepared dataset, and keep the best weights."""

import csv
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor

from tasks import architectures, formats
from tasks.architectures.target_transforms import TargetScale
from tasks.bundle.files import Bundle
from tasks.checkpoint import save
from tasks.config import Train
from tasks.device import choose_device
from tasks.encoding import Encoder
from tasks.errors import InputError
from tasks.training.augmentation import augment, check_augmentation
from tasks.training.batches import DeviceRows, in_batches, order_of
from tasks.training.objective import Objective
from tasks.training.optimisation import Schedule, begin_epoch, freeze, make_optimizer
from tasks.training.pretrained import start_from
from tasks.training.resume import TrainingCheckpointer, fingerprint
from tasks.training.state import State

COLUMNS = ["epoch", "train_loss", "validation_loss", "validation_metric", "learning_rate"]
PROGRESS_S = 10.0


@dataclass(frozen=True)
class TrainReport:
    """The epoch whose weights were kept, and its results on the validation split."""

    architecture: str
    parameters: int
    epochs: int
    best_epoch: int
    validation_loss: float
    metric: str
    validation_metric: float

    def __str__(self) -> str:
        return (
            f"trained {self.architecture} ({self.parameters:,} weights) for {self.epochs} epochs; "
            f"best is epoch {self.best_epoch}: validation loss {self.validation_loss:.4f}, "
            f"{self.metric} {self.validation_metric:.4f}"
        )


def train(
    params: Train,
    *,
    prepared: Path,
    base: Path,
    checkpoint: Path,
    history: Path,
    resume: Path,
    confirm: Callable[[], None] = lambda: None,
) -> TrainReport:
    """Train for `epochs`, or stop after `patience` epochs without a lower validation loss.

    Writes `checkpoint` and `history`. The same data, parameters, seed, device and number of threads
    give the same bytes, even if the training was killed and resumed. The folder `resume` holds the
    state of the training and is removed at the end. `confirm` is called before that; it raises if
    the result must be discarded. `base` has the weights of the version in `params.init_from`.

    Raises:
        InputError: the device is not available, the architecture does not fit the inputs, a
            parameter does not apply to these data, or the training diverged.
    """
    # cuBLAS is deterministic only with a fixed workspace; it reads this variable when it starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    # It would fill each new tensor with NaN, which shows where a program reads memory that it did
    # not write: 8 % of a step of an mlp. https://docs.pytorch.org/docs/stable/deterministic.html
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    device = choose_device(params)
    print(f"device: {device.reason}", flush=True)
    # Computed before the data is read: a state must not get the fingerprint of later data.
    identity = fingerprint(params, device, prepared, base)
    fabric = Fabric(accelerator=device.accelerator, devices=1, precision=device.precision)
    torch.manual_seed(params.seed)

    dataset = Encoder.read(prepared)
    signature = architectures.signature_for(params.architecture, dataset.signature)
    if params.quantile is not None:
        signature = signature.predicting(quantile=params.quantile)
    check_augmentation(params, signature)
    encoder = Encoder(signature, dataset.tokenizer)
    profile = formats.read(Bundle.at(prepared).profile, formats.PROFILE)
    scale = None
    if signature.problem.standardised:
        scale = TargetScale.of(params.target_transform, profile, prepared)
    training = DeviceRows.read(prepared, "train", encoder, fabric.device, scale)
    validation = DeviceRows.read(prepared, "validation", encoder, fabric.device, scale)
    batches = len(in_batches(torch.arange(len(training)), params.batch_size))
    if not batches or not len(validation):
        raise InputError(
            f"{prepared}: {len(training)} training rows and {len(validation)} validation rows; at "
            "least 2 and 1 are needed"
        )

    network = architectures.build(params.architecture, signature)
    network.normalise_by(profile)
    if scale is not None:
        network.scale_target(scale)
    network.fit(training.inputs)
    if params.init_from is not None:
        print(start_from(network, params.init_from, base, prepared), flush=True)
    freeze(network, params.freeze)
    objective = Objective.of(params, signature, training.targets)
    optimizer = make_optimizer(network, params)
    schedule = Schedule(optimizer, params, steps=math.ceil(batches / params.accumulate))
    _, stepper = fabric.setup(network, optimizer)  # moves the network to the device
    state = State(fabric, network, stepper, schedule)

    checkpointer = TrainingCheckpointer(resume, identity, params.checkpoint)
    checkpointer.resume(state)
    _learn(params, state, objective, training, validation, checkpointer)
    report = _finish(params, state, objective.loss.metric, prepared, checkpoint, history)
    confirm()
    checkpointer.remove()
    return report


def _learn(
    params: Train,
    state: State,
    objective: Objective,
    training: DeviceRows,
    validation: DeviceRows,
    checkpointer: TrainingCheckpointer,
) -> None:
    """Run the epochs, with a validation after each."""
    row_weights = objective.row_weights(training.targets) if params.imbalance == "sampler" else None
    while state.epoch <= params.epochs:
        order = order_of(len(training), params.seed, state.epoch, row_weights)
        batches = in_batches(order, params.batch_size)
        _epoch(params, state, objective, training, batches, checkpointer)
        train_loss = state.loss.item() / sum(map(len, batches))
        state.network.eval()
        loss, metric = objective.validate(state.scores, validation, params.batch_size)
        state.schedule.end_epoch(loss)
        rate = state.optimizer.param_groups[0]["lr"]
        numbers = (state.epoch, train_loss, loss, metric, rate)
        state.end_epoch(dict(zip(COLUMNS, numbers, strict=True)))
        done, best = len(state.rows), state.best["epoch"]
        # The flow parses the beginning of this line for its progress artifact.
        print(
            f"epoch {done}/{params.epochs}: loss {train_loss:.4f}, validation loss {loss:.4f}, "
            f"{objective.loss.metric} {metric:.4f} (best: epoch {best})",
            flush=True,
        )
        if math.isnan(loss):
            break  # NaN weights stay NaN
        if done - best >= params.patience:
            print(f"stopping early: no lower validation loss for {params.patience} epochs")
            break
        if done < params.epochs:
            checkpointer.after_epoch(state)


def _epoch(
    params: Train,
    state: State,
    objective: Objective,
    training: DeviceRows,
    batches: list[Tensor],
    checkpointer: TrainingCheckpointer,
) -> None:
    """Run the rest of an epoch, of which `state.batch` batches are done."""
    fabric, network, optimizer = state.fabric, state.network, state.optimizer
    printed = time.monotonic()
    begin_epoch(network)
    while state.batch < len(batches):
        inputs, targets = training.take(batches[state.batch])
        scores = state.scores(augment(inputs, params))
        # An ensemble gives the scores of each of its members for each row.
        each = targets.repeat_interleave(network.members, 0) if network.members > 1 else targets
        loss = objective.loss(scores, each)
        first = state.batch // params.accumulate * params.accumulate
        fabric.backward(loss / min(params.accumulate, len(batches) - first))
        state.loss += loss.detach() * len(targets)
        state.batch += 1
        if state.batch % params.accumulate and state.batch < len(batches):
            continue
        if params.clip is not None:
            # No error: the scaler skips an infinite gradient, or the training diverges.
            fabric.clip_gradients(
                network, optimizer, max_norm=params.clip, error_if_nonfinite=False
            )
        optimizer.step()
        optimizer.zero_grad()
        state.schedule.step()
        if state.batch == len(batches):
            return
        checkpointer.after_step(state)
        if time.monotonic() - printed >= PROGRESS_S:
            printed = time.monotonic()
            mean = state.loss.item() / (state.batch * params.batch_size)
            print(
                f"epoch {state.epoch}/{params.epochs}: batch {state.batch}/{len(batches)}, "
                f"loss {mean:.4f}",
                flush=True,
            )


def _finish(
    params: Train,
    state: State,
    metric: str,
    prepared: Path,
    checkpoint: Path,
    history: Path,
) -> TrainReport:
    """Write the checkpoint with the best weights, and the history."""
    network, best, rows = state.network, state.best, state.rows
    if not state.best_weights:
        raise InputError(
            "training diverged: the validation loss was never a finite number. Lower "
            "train.optimizer.learning_rate, or increase train.schedule.warmup."
        )
    network.load_state_dict(state.best_weights)
    results = {"best": best, "metric": metric, "epochs": len(rows)}
    save(checkpoint, network.cpu(), params, results, prepared)
    history.parent.mkdir(parents=True, exist_ok=True)
    with history.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return TrainReport(
        architecture=params.architecture.name,
        parameters=sum(p.numel() for p in network.parameters()),
        epochs=len(rows),
        best_epoch=best["epoch"],
        validation_loss=best["validation_loss"],
        metric=metric,
        validation_metric=best["validation_metric"],
    )
