"""train: train the chosen architecture on the prepared dataset, and keep the best weights."""

import csv
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor

from tasks import architectures, formats
from tasks.architectures import Network
from tasks.architectures.target_transforms import TargetScale
from tasks.bundle.files import Bundle
from tasks.checkpoint import save
from tasks.config import Train
from tasks.config.start import is_weights_file
from tasks.device import Device, choose_device
from tasks.encoding import Encoder
from tasks.errors import InputError
from tasks.training.augmentation import augment, check_augmentation
from tasks.training.batches import epoch_of
from tasks.training.choice import with_network
from tasks.training.from_file import start_from_file
from tasks.training.norms import share_statistics
from tasks.training.objective import Objective
from tasks.training.optimisation import Schedule, begin_epoch, freeze, make_optimizer
from tasks.training.pretrained import start_from
from tasks.training.processes import Processes, joined
from tasks.training.resume import TrainingCheckpointer, fingerprint, remove_state
from tasks.training.rows import Reader, Whole, Windows, rows_in_memory
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
    the result must be discarded. `base` has the weights that `params.init_from` names.

    Trains in several processes if `params.devices` or torchrun says so. Only the first one writes.

    Raises:
        InputError: the device is not available, the architecture does not fit the inputs, a
            parameter does not apply to these data, or the training diverged.
        ProcessLost: another process of the training has ended.
    """
    # cuBLAS is deterministic only with a fixed workspace; it reads this variable when it starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    # It would fill each new tensor with NaN, which shows where a program reads memory that it did
    # not write: 8 % of a step of an mlp. https://docs.pytorch.org/docs/stable/deterministic.html
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    params = with_network(params, prepared)
    device = choose_device(params)
    paths = {"prepared": prepared, "base": base, "checkpoint": checkpoint}
    with joined(params, device, paths | {"history": history, "resume": resume}) as processes:
        several = f", {processes.size} processes" if processes.size > 1 else ""
        print(f"device: {device.reason}{several}", flush=True)
        # Computed before the data is read: a state must not get the fingerprint of later data.
        identity = fingerprint(params, device, prepared, base, processes.size)
        processes.refuse_different(identity)
        trained = _train(params, device, processes, identity, prepared, base, resume)
        report = _report(params, trained)
    if processes.rank == 0:
        _write(params, trained, prepared, checkpoint, history)
        confirm()
        remove_state(resume)
    return report


class _Trained(NamedTuple):
    state: State
    metric: str
    window: int | None
    """About how many rows were in memory at a time; None for all."""


def _train(
    params: Train,
    device: Device,
    processes: Processes,
    identity: str,
    prepared: Path,
    base: Path,
    resume: Path,
) -> _Trained:
    """Read the data, build the network and run the epochs."""
    fabric = Fabric(
        accelerator=device.accelerator,
        devices=[processes.device.index or 0] if device.accelerator == "cuda" else 1,
        precision=device.precision,
    )
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
    read_train = Reader(prepared, "train", encoder, fabric.device, scale)
    read_validation = Reader(prepared, "validation", encoder, fabric.device, scale)
    if read_train.count < 2 or read_validation.count < 1:
        raise InputError(
            f"{prepared}: {read_train.count} training rows and {read_validation.count} validation "
            "rows; at least 2 and 1 are needed"
        )
    window = rows_in_memory(params, read_train, read_validation, processes)
    training, validation = (
        Whole(reader) if window is None else Windows(reader, window, params.batch_size)
        for reader in (read_train, read_validation)
    )
    batches, _ = epoch_of(len(training), params.batch_size)

    network = architectures.build(params.architecture, signature)
    network.normalise_by(profile)
    if scale is not None:
        network.scale_target(scale)
    network.fit(training.sample)
    if params.init_from is not None:
        print(_start(network, params.init_from, params.init_keys, base, prepared), flush=True)
    freeze(network, params.freeze)
    share_statistics(network, processes)
    objective = Objective.of(params, signature, training.targets())
    optimizer = make_optimizer(network, params)
    schedule = Schedule(optimizer, params, steps=math.ceil(batches / params.accumulate))
    _, stepper = fabric.setup(network, optimizer)  # moves the network to the device
    state = State(fabric, processes, network, stepper, schedule)

    checkpointer = TrainingCheckpointer(resume, f"{identity} {window}", params.checkpoint)
    checkpointer.resume(state)
    _learn(params, state, objective, training, validation, checkpointer)
    return _Trained(state, objective.loss.metric, window)


def _start(
    network: Network, init_from: str, keys: Mapping[str, str], base: Path, prepared: Path
) -> str:
    """Load the weights to start from; returns a line for the log."""
    if is_weights_file(init_from):
        return start_from_file(network, init_from, keys, base)
    return start_from(network, init_from, base, prepared)


def _learn(
    params: Train,
    state: State,
    objective: Objective,
    training: Whole | Windows,
    validation: Whole | Windows,
    checkpointer: TrainingCheckpointer,
) -> None:
    """Run the epochs, with a validation after each."""
    weights = None
    if params.imbalance == "sampler":
        weights = torch.cat([objective.row_weights(part) for part in training.targets()])
    _, rows = epoch_of(len(training), params.batch_size)
    while state.epoch <= params.epochs:
        _epoch(params, state, objective, training, weights, checkpointer)
        train_loss = state.loss.item() / rows
        state.network.eval()
        loss, metric = objective.validate(
            state.scores, validation, params.batch_size, state.processes
        )
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
    training: Whole | Windows,
    weights: Tensor | None,
    checkpointer: TrainingCheckpointer,
) -> None:
    """Run the rest of an epoch, of which `state.batch` batches are done."""
    fabric, network, optimizer = state.fabric, state.network, state.optimizer
    processes = state.processes
    printed = time.monotonic()
    begin_epoch(network)
    batches, _ = epoch_of(len(training), params.batch_size)
    for inputs, targets, rows in training.epoch(
        params, state.epoch, state.batch, weights, processes
    ):
        processes.seed(params.seed, state.epoch, state.batch)
        scores = state.scores(augment(inputs, params))
        # An ensemble gives the scores of each of its members for each row.
        each = targets.repeat_interleave(network.members, 0) if network.members > 1 else targets
        loss, mean = objective.batch_loss(scores, each, processes)
        first = state.batch // params.accumulate * params.accumulate
        fabric.backward(loss / min(params.accumulate, batches - first))
        state.loss += mean * rows
        state.batch += 1
        if state.batch % params.accumulate and state.batch < batches:
            continue
        processes.add_gradients(network)
        if params.clip is not None:
            # No error: the scaler skips an infinite gradient, or the training diverges.
            fabric.clip_gradients(
                network, optimizer, max_norm=params.clip, error_if_nonfinite=False
            )
        optimizer.step()
        optimizer.zero_grad()
        state.schedule.step()
        if state.batch == batches:
            return
        checkpointer.after_step(state)
        if time.monotonic() - printed >= PROGRESS_S:
            printed = time.monotonic()
            so_far = state.loss.item() / (state.batch * params.batch_size)
            print(
                f"epoch {state.epoch}/{params.epochs}: batch {state.batch}/{batches}, "
                f"loss {so_far:.4f}",
                flush=True,
            )


def _report(params: Train, trained: _Trained) -> TrainReport:
    """The report on the best weights, which the network then has."""
    state = trained.state
    network, best = state.network, state.best
    if not state.best_weights:
        raise InputError(
            "training diverged: the validation loss was never a finite number. Lower "
            "train.optimizer.learning_rate, or increase train.schedule.warmup."
        )
    network.load_state_dict(state.best_weights)
    return TrainReport(
        architecture=params.architecture.name,
        parameters=sum(p.numel() for p in network.parameters()),
        epochs=len(state.rows),
        best_epoch=best["epoch"],
        validation_loss=best["validation_loss"],
        metric=trained.metric,
        validation_metric=best["validation_metric"],
    )


def _write(
    params: Train, trained: _Trained, prepared: Path, checkpoint: Path, history: Path
) -> None:
    """Write the checkpoint with the best weights, and the history."""
    state = trained.state
    results = {"best": state.best, "metric": trained.metric, "epochs": len(state.rows)}
    if trained.window is not None:
        results["window"] = trained.window
    save(checkpoint, state.network.cpu(), params, results, prepared)
    history.parent.mkdir(parents=True, exist_ok=True)
    with history.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(state.rows)
