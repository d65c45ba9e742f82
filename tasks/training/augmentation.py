"""Random changes to a batch of the training split, drawn from torch's seeded generator."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from tasks.bundle.signature import Signature
from tasks.columns import Column, ImageColumn, TextColumn
from tasks.columns.tokenizing import PADDING, UNKNOWN
from tasks.config import Augmentation, Train
from tasks.errors import InputError

# Of the image's area and of height to width, as in the paper.
ERASED_AREA = (0.02, 0.4)
ERASED_ASPECT = (0.3, 1 / 0.3)
# Parameters of `train`, and the column type that each changes.
CHANGES: dict[str, type[Column]] = {"augmentation": ImageColumn, "token_dropout": TextColumn}


def check_augmentation(params: Train, signature: Signature) -> None:
    """Raises `InputError` if `params` change what these data do not have."""
    asked = {
        "augmentation": params.augmentation != Augmentation(),
        "token_dropout": params.token_dropout > 0,
    }
    for name, column in CHANGES.items():
        if asked[name] and not any(type(c) is column for c in signature.columns):
            raise InputError(
                f"train.{name} changes {column.data} data; this dataset is {signature.data}. "
                f"Remove train.{name}."
            )


def augment(inputs: dict[str, Tensor], params: Train) -> dict[str, Tensor]:
    """The inputs of one batch, changed as `params` say."""
    if params.token_dropout > 0:
        inputs = {**inputs, "tokens": drop_tokens(inputs["tokens"], params.token_dropout)}
    if params.augmentation != Augmentation():
        inputs = {name: change_images(i, params.augmentation) for name, i in inputs.items()}
    return inputs


def drop_tokens(tokens: Tensor, share: float) -> Tensor:
    """Tokens (B, T) int64, `share` of them unknown; padding and the beginning stay."""
    dropped = torch.rand(tokens.shape, device=tokens.device) < share
    dropped &= tokens != PADDING
    dropped[:, 0] = False
    return tokens.masked_fill(dropped, UNKNOWN)


def change_images(images: Tensor, params: Augmentation) -> Tensor:
    """Images (B, H, W, C) of uint8 or float32, cut out, flipped, shifted and erased."""
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
    """Where each image is looked at, (B, 2, 3) float32: x first, from -1 to 1 edge to edge."""
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
    """True inside a rectangle of `share` of the images, (B, 1, H, W) bool.

    Random erasing, Zhong et al. 2017, https://arxiv.org/abs/1708.04896.
    """
    rows, height, width, _ = images.shape
    chance = torch.rand(5, rows, 1, 1, 1, device=images.device)
    low, high = ERASED_AREA
    area = (low + (high - low) * chance[0]) * height * width
    low, high = map(math.log, ERASED_ASPECT)
    aspect = torch.exp(low + (high - low) * chance[1])
    tall = (area * aspect).sqrt().round().clamp(1, height)
    wide = (area / aspect).sqrt().round().clamp(1, width)
    top = (chance[2] * (height - tall + 1)).floor()
    left = (chance[3] * (width - wide + 1)).floor()
    y = torch.arange(height, device=images.device)[:, None]
    x = torch.arange(width, device=images.device)
    inside = (y >= top) & (y < top + tall) & (x >= left) & (x < left + wide)
    return inside & (chance[4] < share)
