"""One block of scaled dot-product self-attention, after Vaswani et al. 2017.

https://arxiv.org/abs/1706.03762
"""

from torch import Tensor, nn

from tasks.architectures import fronts
from tasks.architectures.network import Parts
from tasks.architectures.timesteps import Positions, pool, valid_timesteps
from tasks.bundle.signature import Signature
from tasks.config import Attention


def parts(params: Attention, signature: Signature) -> Parts:
    """(batch, time, width) and length (batch,) -> (batch, width)."""
    timesteps = fronts.timesteps(signature, params.width)
    positions = Positions(params.positions, timesteps.count, params.width)
    front = fronts.SequenceFront(timesteps, params.dropout, positions)
    return Parts(front, SelfAttention(params), params.width)


class SelfAttention(nn.Module):
    """Every timestep attends to all valid timesteps; then pooling."""

    def __init__(self, params: Attention) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(params.width, params.heads, batch_first=True)
        self.norm = nn.LayerNorm(params.width)
        self.pooling = params.pooling
        self.dropout = nn.Dropout(params.dropout)

    def forward(self, steps: Tensor, length: Tensor) -> Tensor:
        """`steps` (batch, time, width) and `length` (batch,) of at least 1."""
        valid = valid_timesteps(steps, length)
        seen, _ = self.attention(steps, steps, steps, key_padding_mask=~valid, need_weights=False)
        pooled: Tensor = self.dropout(pool(self.norm(steps + seen), valid, self.pooling))
        return pooled
