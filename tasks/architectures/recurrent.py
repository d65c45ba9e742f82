"""Recurrent networks over the timesteps of a text or a sequence.

Elman 1990, "Finding structure in time"; Hochreiter and Schmidhuber 1997, "Long short-term memory";
Cho et al. 2014, https://arxiv.org/abs/1406.1078 (gated recurrent units); Schuster and Paliwal 1997
(both directions).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tasks.architectures import fronts
from tasks.architectures.network import Parts
from tasks.architectures.timesteps import pool, valid_timesteps
from tasks.bundle.signature import Signature
from tasks.config import Gru, Lstm, Rnn

CELLS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
# The order of ONNX's gates as indices of torch's: i f g o -> i o f c, and r z n -> z r h.
GATES = {"RNN": [0], "LSTM": [0, 3, 1, 2], "GRU": [1, 0, 2]}


def parts(params: Rnn | Lstm | Gru, signature: Signature) -> Parts:
    """(batch, time, width) and length (batch,) -> (batch, hidden in each direction)."""
    front = fronts.SequenceFront(fronts.timesteps(signature, params.width), params.dropout)
    directions = 2 if params.bidirectional else 1
    return Parts(front, Recurrent(params), directions * params.hidden)


class Recurrent(nn.Module):
    """Layers of one kind of cell, then pooling. Padding does not change the result."""

    def __init__(self, params: Rnn | Lstm | Gru) -> None:
        super().__init__()
        self.rnn = CELLS[params.name](
            params.width,
            params.hidden,
            params.layers,
            batch_first=True,
            bidirectional=params.bidirectional,
            dropout=params.dropout if params.layers > 1 else 0.0,  # torch warns otherwise
        )
        self.pooling = params.pooling
        self.dropout = nn.Dropout(params.dropout)

    def forward(self, steps: Tensor, length: Tensor) -> Tensor:
        """`steps` (batch, time, width) and `length` (batch,) of at least 1."""
        encode = _onnx_operators if torch.onnx.is_in_onnx_export() else _packed
        states, last = encode(self.rnn, steps, length)
        if self.pooling != "last":
            last = pool(states, valid_timesteps(steps, length), self.pooling)
        pooled: Tensor = self.dropout(last)
        return pooled


def _packed(rnn: nn.RNNBase, steps: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    """States (batch, time, units) of the top layer, and its last valid one (batch, units)."""
    packed = pack_padded_sequence(steps, length.cpu(), batch_first=True, enforce_sorted=False)
    states, last = rnn(packed)
    states, _ = pad_packed_sequence(states, batch_first=True, total_length=steps.shape[1])
    if isinstance(last, tuple):  # LSTM: (hidden state, cell state)
        last = last[0]
    directions = 2 if rnn.bidirectional else 1
    return states, last[-directions:].transpose(0, 1).flatten(1)


def _onnx_operators(rnn: nn.RNNBase, steps: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    """The same as `_packed`, with one ONNX operator per layer; `sequence_lens` replaces packing.

    torch's exporter would unroll the loop over the traced number of timesteps.
    """
    directions = 2 if rnn.bidirectional else 1
    attributes: dict[str, Any] = {
        "hidden_size": rnn.hidden_size,
        "direction": "bidirectional" if rnn.bidirectional else "forward",
    }
    if rnn.mode == "GRU":
        attributes["linear_before_reset"] = 1  # torch applies the reset gate after the product
    kind = "RNN" if rnn.mode.startswith("RNN") else rnn.mode
    batch, time, _ = steps.shape
    state = (directions, batch, rnn.hidden_size)
    shapes = [(time, *state), *[state] * (2 if kind == "LSTM" else 1)]
    layer, last = steps.transpose(0, 1), steps
    for number in range(rnn.num_layers):
        states, last, *_ = torch.onnx.ops.symbolic_multi_out(
            kind,
            (layer, *_onnx_weights(rnn, kind, number), length.to(torch.int32)),
            attributes,
            dtypes=[torch.float32] * len(shapes),
            shapes=shapes,
            version=14,
        )
        layer = states.transpose(1, 2).flatten(2)  # (time, batch, directions * hidden)
    return layer.transpose(0, 1), last.transpose(0, 1).flatten(1)


def _onnx_weights(rnn: nn.RNNBase, kind: str, layer: int) -> tuple[Tensor, Tensor, Tensor]:
    """Weights of one layer, directions first: input weights, state weights, and biases."""

    def ordered(name: str, suffix: str) -> Tensor:
        weights, size = getattr(rnn, f"{name}_l{layer}{suffix}"), rnn.hidden_size
        return torch.cat([weights[gate * size : (gate + 1) * size] for gate in GATES[kind]])

    suffixes = ["", "_reverse"] if rnn.bidirectional else [""]
    both = [torch.cat([ordered("bias_ih", s), ordered("bias_hh", s)]) for s in suffixes]
    return (
        torch.stack([ordered("weight_ih", s) for s in suffixes]),
        torch.stack([ordered("weight_hh", s) for s in suffixes]),
        torch.stack(both),
    )
