"""ExportWrapper: the form of a network that the ONNX exporter traces."""

import torch
from torch import Tensor, nn

from tasks.architectures.network import Network
from tasks.bundle.signature import Signature


class ExportWrapper(nn.Module):
    """Takes the inputs of the signature and returns its outputs, both by position."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        names = [tensor.name for tensor in self.network.signature.inputs]
        inputs = dict(zip(names, tensors, strict=True))
        return tuple(self.network.outputs(inputs, self.network(inputs)).values())


def example_inputs(signature: Signature) -> tuple[Tensor, ...]:
    """Zeros for tracing: three rows of up to eleven timesteps.

    The sizes differ from each other and from 1, because the exporter treats equal sizes as one
    dimension, and 1 as a constant.
    """
    longest = min([11, *(c.max_length for c in signature.columns if hasattr(c, "max_length"))])
    return tuple(
        torch.zeros((3, *(longest if n is None else n for n in t.shape)), dtype=_dtype(t.dtype))
        for t in signature.inputs
    )


def dynamic_shapes(signature: Signature) -> tuple[tuple[dict[int, str], ...]]:
    """Which dimensions of `ExportWrapper`'s inputs vary, by name; for `torch.onnx.export`.

    Names, not `torch.export.Dim`: then the exporter raises if the network fixes a dimension, in
    place of making it a constant.
    """
    return (
        tuple(
            {0: "batch"} | {axis: "time" for axis, n in enumerate(t.shape, 1) if n is None}
            for t in signature.inputs
        ),
    )


def _dtype(name: str) -> torch.dtype:
    dtype: torch.dtype = getattr(torch, name)
    return dtype
