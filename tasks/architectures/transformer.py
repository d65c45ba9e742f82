"""Transformers: an encoder, which attends to all timesteps, and a decoder, only to earlier ones.

Vaswani et al. 2017, https://arxiv.org/abs/1706.03762. Normalisation comes first in each block, as
in Xiong et al. 2020, https://arxiv.org/abs/2002.04745, which trains without a long warm-up.
Dosovitskiy et al. 2021, https://arxiv.org/abs/2010.11929 (patches of images). Radford et al. 2018,
"Improving language understanding by generative pre-training": a classifier can start from the
language model, because front and body have the same weights in both. Press and Wolf 2017,
https://arxiv.org/abs/1608.05859: the head shares the token embedding.
"""

from typing import cast

import torch
from torch import Tensor, nn

from tasks.architectures import fronts
from tasks.architectures.network import Parts
from tasks.architectures.timesteps import Positions, pool, valid_timesteps
from tasks.bundle.signature import Signature
from tasks.config import Transformer, TransformerLm


def parts(params: Transformer | TransformerLm, signature: Signature) -> Parts:
    """(batch, time, width) -> (batch, width), or (batch, time, width) of a language model.

    Raises:
        InputError: the size of the image is not a multiple of the patch size.
    """
    patch = params.patch if isinstance(params, Transformer) else 1
    timesteps = fronts.timesteps(signature, params.width, patch)
    positions = Positions(params.positions, timesteps.count, params.width)
    front = fronts.SequenceFront(timesteps, params.dropout, positions)
    if isinstance(params, Transformer):
        return Parts(front, Encoder(params), params.width)
    return Parts(
        front, Decoder(params), params.width, tied=cast(nn.Parameter, timesteps.embedding.weight)
    )


class _Blocks(nn.Module):
    def __init__(self, params: Transformer | TransformerLm) -> None:
        super().__init__()
        # Not nn.TransformerEncoder: it copies one layer, so all layers start with equal weights.
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                params.width,
                params.heads,
                params.feedforward,
                params.dropout,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(params.layers)
        )
        self.norm = nn.LayerNorm(params.width)


class Encoder(_Blocks):
    """Every timestep attends to all valid timesteps; then pooling."""

    def __init__(self, params: Transformer) -> None:
        super().__init__(params)
        self.pooling = params.pooling
        self.dropout = nn.Dropout(params.dropout)

    def forward(self, steps: Tensor, length: Tensor | None = None) -> Tensor:
        """(batch, time, width) -> (batch, width); without `length`, all timesteps are valid."""
        valid = None if length is None else valid_timesteps(steps, length)
        for layer in self.layers:
            steps = layer(steps, src_key_padding_mask=None if valid is None else ~valid)
        pooled: Tensor = self.dropout(pool(self.norm(steps), valid, self.pooling))
        return pooled


class Decoder(_Blocks):
    """Every timestep attends to itself and earlier ones, so padding at the end is never seen."""

    def forward(self, steps: Tensor, length: Tensor) -> Tensor:
        """(batch, time, width) -> the same shape."""
        time = steps.shape[1]
        later = torch.ones((time, time), dtype=torch.bool, device=steps.device).triu(1)
        for layer in self.layers:
            steps = layer(steps, src_mask=later, is_causal=True)
        normed: Tensor = self.norm(steps)
        return normed
