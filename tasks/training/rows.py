"""The rows of a split: all in memory or, if they do not fit, a window of them at a time.

A window is `BLOCKS` blocks of neighbouring rows, drawn from the whole split, and its rows are
shuffled. So rows that are neighbours in the file, as those of one day, are in the same batch more
often than by chance, but not much. Only blocks that are needed are read from the file, which is
memory-mapped, and the rows are encoded anew in every epoch.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from tasks.architectures.fronts import Inputs
from tasks.architectures.target_transforms import TargetScale
from tasks.config import Train
from tasks.dataset import KEY, TARGET, read_table, targets_of
from tasks.encoding import Encoder
from tasks.errors import InputError
from tasks.training.batches import DeviceRows, generator_of, in_batches, order_of, target_tensor
from tasks.training.processes import Processes

BLOCKS = 32
SAMPLE = 100_000  # rows by which a front is fitted
SHARE = 0.8  # of the memory, for rows
WINDOW_BYTES = 256 * 2**20  # the same on every machine, so that only two orders are possible
PART = 1_000_000  # rows whose targets are read at a time
Batch = tuple[dict[str, Tensor], Tensor, int]
"""Inputs and targets of this process's part, and the number of rows of the whole batch."""


@dataclass(frozen=True)
class Reader:
    """Reads rows of a split; `scale` is for `DeviceRows.read`."""

    prepared: Path
    name: str
    encoder: Encoder
    device: torch.device
    scale: TargetScale | None

    @cached_property
    def count(self) -> int:
        """The rows of the split."""
        return int(read_table(self.prepared, self.name).num_rows)

    def read(self, rows: Tensor | None = None) -> DeviceRows:
        """The rows with these numbers, (N,) int64, rising; by default, all."""
        return DeviceRows.read(
            self.prepared, self.name, self.encoder, self.device, self.scale, rows
        )

    def targets(self, rows: Tensor) -> Tensor:
        """The targets of the rows with these numbers; zeros if they have none."""
        table = read_table(self.prepared, self.name)
        table = table.select([TARGET if TARGET in table.schema.names else KEY])
        targets = targets_of(table.take(rows.numpy()), self.encoder.signature)
        return target_tensor(targets, self.scale, f"the {self.name} split").to(self.device)

    @cached_property
    def row_bytes(self) -> int:
        """About how much memory a row takes, from 256 rows."""
        rows = self.read(torch.arange(0, self.count, max(1, self.count // 256)))
        tensors = [*rows.inputs.values(), rows.targets]
        return sum(t.numel() * t.element_size() for t in tensors) // max(1, len(rows)) + 1


class Whole:
    """A split in memory."""

    def __init__(self, reader: Reader) -> None:
        self._rows = reader.read()

    def __len__(self) -> int:
        return len(self._rows)

    def sample(self) -> Inputs:
        """The rows by which a front is fitted: all."""
        return self._rows.inputs

    def targets(self) -> Iterator[Tensor]:
        """All targets, in parts."""
        yield self._rows.targets

    @property
    def all_targets(self) -> Tensor:
        """All targets, (N,); for a language model of any content."""
        return self._rows.targets

    def epoch(
        self, params: Train, epoch: int, first: int, weights: Tensor | None, processes: Processes
    ) -> Iterator[Batch]:
        """The batches of an epoch from number `first` on; `weights` as for `order_of`."""
        order = order_of(len(self), params.seed, epoch, weights)
        for batch in in_batches(order, params.batch_size)[first:]:
            yield *self._rows.take(processes.part(batch)), len(batch)

    def in_order(self, rows: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Inputs and targets of rows by their numbers, (B,) int64, rising."""
        return self._rows.take(rows)


class Windows:
    """A split of which about `window` rows are in memory."""

    def __init__(self, reader: Reader, window: int, batch_size: int) -> None:
        self._reader = reader
        # A multiple of the batch size, so that only one window has a batch that is not full.
        self._block = max(1, window // BLOCKS // batch_size) * batch_size
        self._blocks = max(1, window // self._block)

    def __len__(self) -> int:
        return self._reader.count

    def sample(self) -> Inputs:
        """Every n-th row, `SAMPLE` to twice as many."""
        return self._reader.read(torch.arange(0, len(self), max(1, len(self) // SAMPLE))).inputs

    def targets(self) -> Iterator[Tensor]:
        for rows in torch.split(torch.arange(len(self)), PART):
            yield self._reader.targets(rows)

    @cached_property
    def all_targets(self) -> Tensor:
        """Kept, since the metric of a regression needs them: 4 or 8 bytes for each row."""
        return torch.cat(list(self.targets()))

    def epoch(
        self, params: Train, epoch: int, first: int, weights: Tensor | None, processes: Processes
    ) -> Iterator[Batch]:
        """As of `Whole`, without `weights`. The order depends only on rows, seed and epoch."""
        assert weights is None
        number = 0
        generator = generator_of(params.seed, epoch)
        blocks = torch.randperm(-(-len(self) // self._block), generator=generator)
        for window in torch.split(blocks, self._blocks):
            numbers = self._numbers(window)
            order = torch.randperm(len(numbers), generator=generator)
            batches = in_batches(order, params.batch_size)
            left = batches[max(0, first - number) :]
            number += len(batches)
            if left:
                yield from self._batches(numbers, left, processes)

    def in_order(self, rows: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        read = self._reader.read(rows)
        return read.take(torch.arange(len(rows)))

    def _numbers(self, blocks: Tensor) -> Tensor:
        """The row numbers of blocks, rising."""
        numbers = blocks.sort().values[:, None] * self._block + torch.arange(self._block)
        numbers = numbers.flatten()
        return numbers[numbers < len(self)]

    def _batches(
        self, numbers: Tensor, batches: list[Tensor], processes: Processes
    ) -> Iterator[Batch]:
        """Reads only the rows of this process."""
        needed = torch.cat([processes.part(batch) for batch in batches]).sort().values
        rows = self._reader.read(numbers[needed])
        for batch in batches:
            place = torch.searchsorted(needed, processes.part(batch))
            yield *rows.take(place), len(batch)


def rows_in_memory(
    params: Train, training: Reader, validation: Reader, processes: Processes
) -> int | None:
    """How many training rows are read at a time; None if all fit. Prints a line if not.

    Raises:
        InputError: `train.window` does not fit the other parameters.
    """
    size = training.row_bytes * (training.count + validation.count)
    if params.window == "auto":
        # While they are read, rows are in memory twice.
        most = SHARE * memory_bytes() / 2 / processes.here
        if training.device.type == "cuda":
            most = min(most, SHARE * torch.cuda.get_device_properties(training.device).total_memory)
        window = WINDOW_BYTES // training.row_bytes
        why = f"all take {size / 2**30:.1f} GiB, and there are {most / 2**30:.1f} GiB for them"
        # Of several machines, the smallest decides.
        fits = not processes.total(torch.tensor(float(size > most), device=processes.device))
    else:
        window, why = params.window, "train.window"
        fits = window >= training.count
    if fits:
        return None
    if window < params.batch_size:
        raise InputError(
            f"train.window is {window:,}, fewer rows than a batch; train.batch_size is "
            f"{params.batch_size:,}. Set train.window to at least {BLOCKS} batches, or to auto."
        )
    if params.imbalance == "sampler":
        raise InputError(
            f"train.imbalance is sampler, which draws from all rows, but the training reads "
            f"{window:,} rows at a time ({why}). Set train.imbalance to weights, or train.window "
            f"to at least {training.count:,}."
        )
    print(f"reading about {window:,} of {training.count:,} rows at a time: {why}", flush=True)
    return window


def memory_bytes() -> int:
    """The memory of this machine, or the limit of its container."""
    found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError):  # no container, or without a limit
        found = min(found, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return found
