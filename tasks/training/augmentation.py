"""Random changes to a training batch, drawn from torch's seeded generator."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from tasks.bundle.signature import Signature
from tasks.columns import Column, ImageColumn, TextColumn
from tasks.columns.tokenizing import PADDING, UNKNOWN
from tasks.config import Augmentation, Train
from tasks.errors import InputError

# Share of the image's area, and height / width, as in the paper on random erasing.
ERASED_AREA = (0.02, 0.4)
ERASED_ASPECT = (0.3, 1 / 0.3)
# Parameters of `train`, and the column type that each applies to.
CHANGES: dict[str, type[Column]] = {"augmentation": ImageColumn, "token_dropout": TextColumn}


def check_augmentation(params: Train, signature: Signature) -> None:
    """Raises `InputError` if `params` augment a kind of data that the dataset does not have."""
    enabled = {
        "augmentation": params.augmentation != Augmentation(),
        "token_dropout": params.token_dropout > 0,
    }
    for name, column in CHANGES.items():
        if enabled[name] and not any(type(c) is column for c in signature.columns):
            raise InputError(
                f"train.{name} applies to {column.data} data, but this dataset is "
                f"{signature.data}. Remove train.{name}."
            )


def augment(inputs: dict[str, Tensor], params: Train) -> dict[str, Tensor]:
    """The inputs of one batch, randomly changed by the rules in `params`."""
    if params.token_dropout > 0:
        inputs = {**inputs, "tokens": drop_tokens(inputs["tokens"], params.token_dropout)}
    if params.augmentation != Augmentation():
        inputs = {name: change_images(i, params.augmentation) for name, i in inputs.items()}
    return inputs


def drop_tokens(tokens: Tensor, share: float) -> Tensor:
    """Make a `share` of the tokens (B, T) int64 unknown, except padding and the start token."""
    dropped = torch.rand(tokens.shape, device=tokens.device) < share
    dropped &= tokens != PADDING
    dropped[:, 0] = False
    return tokens.masked_fill(dropped, UNKNOWN)


def change_images(images: Tensor, params: Augmentation) -> Tensor:
    """Crop, flip, shift and erase images (B, H, W, C) of uint8 or float32."""
    changed = images.permute(0, 3, 1, 2).float()
    if params.crop < 1 or params.flip or params.shift:
        grid = F.affine_grid(_transforms(images, params), list(changed.shape), align_corners=False)
        changed = F.grid_sample(changed, grid, padding_mode="zeros", align_corners=False)
    if params.erase:
        changed = changed.masked_fill(_rectangles(images, params.erase), 0)
    if not images.is_floating_point():
        changed = changed.round()
    return changed.permute(0, 2, 3, 1).to(images.dtype)


def _transforms(images: Tensor, params: Augmentation) -> Tensor:
    """Transforms for `affine_grid`, (B, 2, 3) float32: x first; the edges are at -1 and 1."""
    rows, height, width, _ = images.shape

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(rows, 2, device=images.device).uniform_(low, high)

    scale = uniform(params.crop, 1)
    moved = uniform(-1, 1) * (1 - scale)
    pixels = torch.randint(-params.shift, params.shift + 1, (rows, 2), device=images.device)
    moved += pixels * torch.tensor([2 / width, 2 / height], device=images.device)
    if params.flip:
        scale[:, 0] *= torch.where(torch.rand(rows, device=images.device) < 0.5, -1.0, 1.0)
    return torch.cat([torch.diag_embed(scale), moved[:, :, None]], dim=2)


def _rectangles(images: Tensor, share: float) -> Tensor:
    """(B, 1, H, W) bool: True inside a random rectangle, in a `share` of the images.

    Random erasing, Zhong et al. 2017, https://arxiv.org/abs/1708.04896.
    """
    rows, height, width, _ = images.shape
    uniform = torch.rand(5, rows, 1, 1, 1, device=images.device)
    low, high = ERASED_AREA
    area = (low + (high - low) * uniform[0]) * height * width
    low, high = map(math.log, ERASED_ASPECT)
    aspect = torch.exp(low + (high - low) * uniform[1])
    tall = (area * aspect).sqrt().round().clamp(1, height)
    wide = (area / aspect).sqrt().round().clamp(1, width)
    top = (uniform[2] * (height - tall + 1)).floor()
    left = (uniform[3] * (width - wide + 1)).floor()
    y = torch.arange(height, device=images.device)[:, None]
    x = torch.arange(width, device=images.device)
    inside = (y >= top) & (y < top + tall) & (x >= left) & (x < left + wide)
    return inside & (uniform[4] < share)
