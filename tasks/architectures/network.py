"""Network: raw inputs in, scores out; a front, a body and one last linear layer."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tasks.architectures.fronts import Inputs, Standardize
from tasks.architectures.outputs import MEANS, OUTPUTS, lengths
from tasks.architectures.target_transforms import TargetScale, TargetTransform, target_scale
from tasks.bundle.signature import Signature


class Parts(NamedTuple):
    """The parts of a network before its last layer."""

    front: nn.Module
    """Takes the inputs by name, and returns floats; see `fronts`."""
    body: nn.Module
    """Takes the front's output, and `length` (batch,) for variable length; returns vectors."""
    width: int
    """The size of these vectors."""
    tied: nn.Parameter | None = None
    """Weights that the last layer uses in place of its own."""
    members: int = 1
    """Of an ensemble with more than one, the body returns (batch, members, width)."""


class Network(nn.Module):
    """A front, a body and a head. Weights are named `front.*`, `body.*` and `head.*`.

    For regression, the buffers `target_mean` and `target_std` (1,) scale scores to predictions, or
    to values that `target_transform` turns into predictions. They are float64, like predictions,
    and stay on the CPU: not every device supports float64.
    """

    target_mean: Tensor
    target_std: Tensor

    def __init__(self, signature: Signature, parts: Parts) -> None:
        super().__init__()
        self.signature = signature
        self.front, self.body, self.members = parts.front, parts.body, parts.members
        # The number of classes, the size of the vocabulary, or 1 for a regression.
        first = signature.outputs[0].shape
        self.head = nn.Linear(parts.width, int(first[0] or 1) if first else 1)
        if parts.tied is not None:
            self.head.weight = parts.tied
        self.target_transform: TargetTransform | None = None
        if signature.problem.standardised:
            self.register_buffer("target_mean", torch.zeros(1, dtype=torch.float64))
            self.register_buffer("target_std", torch.ones(1, dtype=torch.float64))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Network":
        # `to`, `cpu`, `half` etc. must not move or convert the float64 scale of the target.
        kept: dict[str, Tensor | None] = {}
        for name in ("target_mean", "target_std"):
            if name in self._buffers:
                kept[name] = self._buffers.pop(name)
        try:
            super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        finally:
            self._buffers.update(kept)
        return self

    def normalise_by(self, profile: Mapping[str, Any]) -> None:
        """Set the means and standard deviations of inputs and target from a `profile.json`."""
        scaled = [t for t in self.signature.inputs if t.dtype != "int64"]
        scales = [m for m in self.front.modules() if isinstance(m, Standardize)]
        for tensor, scale in zip(scaled, scales, strict=True):
            given = profile["inputs"][tensor.name]
            scale.set(given["mean"], given["std"])
        if self.signature.problem.standardised:
            mean, std = target_scale(profile)
            self.target_mean.fill_(mean)
            self.target_std.fill_(std)

    def scale_target(self, scale: TargetScale) -> None:
        """Set how scores become predictions."""
        self.target_mean.fill_(scale.mean)
        self.target_std.fill_(scale.std)
        self.target_transform = scale.transform

    def fit(self, sample: Callable[[], Inputs]) -> None:
        """Set what the front knows of the training rows beside their means, such as medians."""
        fit = getattr(self.front, "fit", None)
        if fit is not None:
            fit(sample())

    def forward(self, inputs: Inputs) -> Tensor:
        """Scores, float32, from which the loss is computed.

        Returns:
            (batch, classes) logits; for regression, (batch,) standardised values; for a language
            model, (batch, time, vocabulary) logits of the next token. In training, an ensemble
            gives the scores of each of its members, batch * members rows: each learns from a loss
            of its own.
        """
        features = self.front(inputs)
        if self.signature.has_variable_length:
            vectors = self.body(features, lengths(inputs))
        else:
            vectors = self.body(features)
        scores: Tensor = self.head(vectors)
        if self.members > 1:
            mean = MEANS[self.signature.problem.scores]
            scores = scores.flatten(0, 1) if self.training else mean(scores)
        return scores if self.signature.outputs[0].shape else scores.squeeze(1)

    def outputs(self, inputs: Inputs, scores: Tensor) -> dict[str, Tensor]:
        """The outputs of the signature, in its order, from the scores of `inputs`."""
        return OUTPUTS[self.signature.problem.scores](self, inputs, scores)
