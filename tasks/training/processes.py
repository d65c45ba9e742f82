"""The processes of a training on several devices: each computes with a part of every batch.

Every process has the whole network and the same numbers in it. After the backward pass the
gradients of all are added up, so each makes the same step. The parts of a batch are weighted by
what their rows count in its mean loss. So the result is that of one process, up to the order in
which floats are added. Only what is drawn at random within a batch (dropout, augmentation) differs.

This is the data parallel training of torch's `DistributedDataParallel` (Li et al. 2020,
https://arxiv.org/abs/2006.15704) with one message for each step. That class averages over
processes, not rows, and wants the same number of rows from each.

`train` starts the further processes of one machine, `python -P -m tasks.training`. On several
machines torchrun starts all of them, and says in the environment which one each is:
https://docs.pytorch.org/docs/stable/elastic/run.html#environment-variables
"""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, distributed, nn

from tasks.config import Train
from tasks.device import Device, devices_here
from tasks.errors import InputError, ProcessLost
from tasks.training.launch import MEETING, started

CPU = torch.device("cpu")
# Of torchrun, and of `tasks.training.launch`.
NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


@dataclass
class Processes:
    """This process among those of a training; by default, the only one."""

    rank: int = 0
    """Its number, from 0. Only process 0 writes and prints."""
    size: int = 1
    device: torch.device = CPU
    here: int = 1
    """How many of them are on this machine."""
    divided: bool = True
    """False while all compute the same rows: those of a batch with fewer rows than processes."""

    def part(self, batch: Tensor) -> Tensor:
        """The rows of a batch that this process computes, at least one."""
        self.divided = len(batch) >= self.size
        return torch.tensor_split(batch, self.size)[self.rank] if self.divided else batch

    def seed(self, seed: int, epoch: int, batch: int) -> None:
        """Before each batch: what is drawn depends on these three, so a saved state need not have
        the random states of all processes. One process keeps the random state that it has."""
        if self.size > 1:
            number = (seed * 1_000_003 + epoch) * 1_000_003 + batch
            torch.manual_seed((number * self.size + self.rank) % 2**63)

    def total(self, values: Tensor) -> Tensor:
        """The sum over all processes; the same bits in each. Changes `values`.

        Raises:
            ProcessLost: another process has ended.
        """
        if self.size > 1:
            try:
                distributed.all_reduce(values)
            except RuntimeError as error:
                raise ProcessLost(f"another one has ended ({_first_sentence(error)})") from error
        return values

    def add_gradients(self, network: nn.Module) -> None:
        """Call before a step of the optimizer: add up the gradients of all processes."""
        if self.size == 1:
            return
        gradients = [w.grad for w in network.parameters() if w.grad is not None]
        summed = self.total(torch.cat([gradient.reshape(-1) for gradient in gradients]))
        parts = torch.split(summed, [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def of_first(self, content: bytes) -> bytes:
        """What process 0 gives."""
        if self.size == 1:
            return content
        size = self.total(torch.tensor([len(content) if self.rank == 0 else 0], device=self.device))
        found = torch.zeros(int(size), dtype=torch.uint8, device=self.device)
        if self.rank == 0 and content:
            found.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
        distributed.broadcast(found, 0)
        return found.cpu().numpy().tobytes()

    def refuse_different(self, fingerprint: str) -> None:
        """Raises `InputError` in every process if they were not given the same.

        `fingerprint` is hexadecimal, of data, parameters, code and device.
        """
        if self.size == 1:
            return
        own = torch.frombuffer(bytearray.fromhex(fingerprint), dtype=torch.uint8).to(self.device)
        found = [torch.zeros_like(own) for _ in range(self.size)]
        distributed.all_gather(found, own)
        if other := [rank for rank, there in enumerate(found) if not torch.equal(there, found[0])]:
            raise InputError(
                f"the processes of this training differ: process {other[0]} has other data in "
                "data/prepared or data/base, other parameters, other code, another release of "
                "torch or another kind of device than process 0. Copy the project from the "
                "machine of process 0 to the others."
            )


@contextmanager
def joined(params: Train, device: Device, paths: Mapping[str, Path]) -> Iterator[Processes]:
    """Inside the block, the processes of a training are connected.

    Starts those of this machine, with `params` and `paths` for `train`, unless torchrun did. They
    end with this process, and this process ends with a message if one of them fails.

    Raises:
        InputError: `train.devices` does not fit the machine, or what torchrun started.
        ProcessLost: another process has ended.
    """
    if os.environ.get("WORLD_SIZE", "1") != "1":
        rank, size, local, here = _numbers()
        _refuse_other_number(params, here)
        ours = MEETING in os.environ  # torchrun sets the number of threads itself
        meeting = os.environ.get(MEETING, "env://")
        with (
            _threads_for(here if ours else 1),
            _connected(rank, size, local, here, device, meeting) as processes,
        ):
            yield processes
    elif (number := devices_here(params, device)) == 1:
        yield Processes(device=torch.device(device.accelerator))
    else:
        with tempfile.TemporaryDirectory(prefix="modelmint-") as folder:
            meeting = f"file://{folder}/processes"
            with (
                started(number, meeting, params, paths),
                _threads_for(number),
                _connected(0, number, 0, number, device, meeting) as processes,
            ):
                yield processes


def _numbers() -> list[int]:
    try:
        return [int(os.environ[name]) for name in NAMES]
    except (KeyError, ValueError) as error:
        raise InputError(
            f"WORLD_SIZE is set, so this is one of several processes, but {error} is missing or no "
            f"number. Start the training with torchrun, which sets {', '.join(NAMES)}, or unset "
            "WORLD_SIZE."
        ) from error


def _refuse_other_number(params: Train, here: int) -> None:
    if params.devices not in ("auto", here):
        raise InputError(
            f"train.devices is {params.devices}, but torchrun started {here} of the processes on "
            "this machine. Set train.devices to auto, or give torchrun the same number as "
            "--nproc-per-node."
        )


@contextmanager
def _connected(
    rank: int, size: int, local: int, here: int, device: Device, meeting: str
) -> Iterator[Processes]:
    backend, place = "gloo", torch.device(device.accelerator)
    if device.accelerator == "cuda":
        backend, place = "nccl", torch.device("cuda", local)
        torch.cuda.set_device(place)
    try:
        distributed.init_process_group(backend, meeting, rank=rank, world_size=size)
    except RuntimeError as error:
        raise ProcessLost(f"another one did not come ({_first_sentence(error)})") from error
    try:
        yield Processes(rank, size, place, here)
    finally:
        distributed.destroy_process_group()


def _first_sentence(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0].partition(". ")[0]


@contextmanager
def _threads_for(processes: int) -> Iterator[None]:
    """The processes of one machine share its cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before // processes))
    try:
        yield
    finally:
        torch.set_num_threads(before)
