"""Batch normalisation over the rows of all processes of a training.

torch's `SyncBatchNorm` does the same, but only on a GPU.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tasks.training.processes import Processes


def share_statistics(network: nn.Module, processes: Processes) -> None:
    """In training, normalise by the mean and variance of the whole batch, not of a part of it."""
    if processes.size > 1:
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                # That of sequences leaves padding out before it normalises.
                name = "normalised" if hasattr(module, "normalised") else "forward"
                setattr(module, name, partial(_normalised, module, processes))


def _normalised(module: Any, processes: Processes, values: Tensor) -> Tensor:
    """(rows, channels, ...) of any float type -> the same."""
    if not module.training or not processes.divided:
        return _BatchNorm.forward(module, values)
    x = values.float()
    axes = [axis for axis in range(x.dim()) if axis != 1]
    shape = [-1 if axis == 1 else 1 for axis in range(x.dim())]
    rows = processes.total(torch.tensor(float(x.numel() // x.shape[1]), device=x.device))
    mean = _total(x.sum(axes), processes) / rows
    centred = x - mean.view(shape)
    variance = _total(centred.square().sum(axes), processes) / rows
    with torch.no_grad():
        module.num_batches_tracked += 1
        module.running_mean.lerp_(mean, module.momentum)
        module.running_var.lerp_(variance * rows / (rows - 1), module.momentum)
    scaled = centred * torch.rsqrt(variance + module.eps).view(shape)
    result: Tensor = scaled * module.weight.view(shape) + module.bias.view(shape)
    return result.to(values.dtype)


def _total(values: Tensor, processes: Processes) -> Tensor:
    summed: Tensor = _Total.apply(values, processes)  # type: ignore[no-untyped-call]
    return summed


class _Total(torch.autograd.Function):
    """The sum over all processes. The loss is one, too, so the gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, processes: Processes) -> Tensor:
        ctx.processes = processes
        return processes.total(values.clone())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        summed: Tensor = ctx.processes.total(gradients[0].clone())
        return summed, None
