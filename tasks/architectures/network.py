"""Network: raw inputs in, scores out; a front, a body and one last linear layer."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tasks.architectures.fronts import Inputs, Standardize
from tasks.bundle.signature import Signature


class Parts(NamedTuple):
    """What an architecture is made of before its last layer."""

    front: nn.Module
    """From the inputs by name to floats; see `fronts`."""
    body: nn.Module
    """From what the front gives, and for texts and sequences `length` (batch,), to vectors."""
    width: int
    """Numbers in each of those vectors."""
    tied: nn.Parameter | None = None
    """Weights that the last layer shares, instead of its own."""


class Network(nn.Module):
    """Weights are named `front.*`, `body.*` and `head.*`.

    For regression the buffers `target_mean` and `target_std` (1,) turn scores into predictions.
    They are float64, as predictions are, and stay on the CPU: not every device has float64.
    """

    target_mean: Tensor
    target_std: Tensor

    def __init__(self, signature: Signature, parts: Parts) -> None:
        super().__init__()
        self.signature = signature
        self.front, self.body = parts.front, parts.body
        # Classes, or the vocabulary, or the one number of a regression.
        first = signature.outputs[0].shape
        self.head = nn.Linear(parts.width, int(first[0] or 1) if first else 1)
        if parts.tied is not None:
            self.head.weight = parts.tied
        if signature.task == "regression":
            self.register_buffer("target_mean", torch.zeros(1, dtype=torch.float64))
            self.register_buffer("target_std", torch.ones(1, dtype=torch.float64))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Network":
        # What `to` and `cpu` do to every tensor, they do not do to the scale of the target.
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
        """Take means and standard deviations of inputs and target from a `profile.json`."""
        scaled = [t for t in self.signature.inputs if t.dtype != "int64"]
        scales = [m for m in self.front.modules() if isinstance(m, Standardize)]
        for tensor, scale in zip(scaled, scales, strict=True):
            given = profile["inputs"][tensor.name]
            scale.set(given["mean"], given["std"])
        if self.signature.task == "regression":
            mean, std = target_scale(profile)
            self.target_mean.fill_(mean)
            self.target_std.fill_(std)

    def forward(self, inputs: Inputs) -> Tensor:
        """Scores, float32: what the loss is computed from.

        Returns:
            (batch, classes) logits; for regression (batch,) standardised values; for a language
            model (batch, time, vocabulary) logits of the token after each.
        """
        features = self.front(inputs)
        if self.signature.has_variable_length:
            vectors = self.body(features, _length(inputs))
        else:
            vectors = self.body(features)
        scores: Tensor = self.head(vectors)
        return scores.squeeze(1) if self.signature.task == "regression" else scores

    def outputs(self, inputs: Inputs, scores: Tensor) -> dict[str, Tensor]:
        """What the signature's outputs name, in its order, of the scores of `inputs`."""
        if self.signature.task == "regression":
            # float32 has 7 digits: a price of a billion would be rounded to the nearest 64.
            prediction = scores.to(torch.float64) * self.target_std + self.target_mean
            # A checkpoint of an older release promises float32.
            return {"prediction": prediction.to(getattr(torch, self.signature.outputs[0].dtype))}
        if self.signature.task == "language_model":
            return _likelihood(inputs["tokens"], _length(inputs), scores)
        return {"logits": scores, "probabilities": torch.softmax(scores, dim=1)}


def target_scale(profile: Mapping[str, Any]) -> tuple[float, float]:
    """Mean and standard deviation by which a regression's target is standardised, float64."""
    return profile["target"]["mean"], profile["target"]["std"] or 1.0


def _length(inputs: Inputs) -> Tensor:
    # A row that is all padding counts as one step: no mean over nothing, nothing to attend to.
    return inputs["length"].clamp(min=1)


def _likelihood(tokens: Tensor, length: Tensor, scores: Tensor) -> dict[str, Tensor]:
    """Each token but the first is predicted from those before it."""
    # torch.gather, for the exporter makes constants of the dimensions in take_along_dim.
    log_probabilities = torch.log_softmax(scores[:, :-1], dim=2)
    given = log_probabilities.gather(2, tokens[:, 1:, None]).squeeze(2)
    scored = torch.arange(1, tokens.shape[1], device=tokens.device) < length[:, None]
    place = (length - 1)[:, None, None].expand(-1, 1, scores.shape[2])
    last = scores.gather(1, place).squeeze(1)
    return {
        "logits": last,
        "log_likelihood": torch.where(scored, given, 0.0).sum(1),
        "scored": length - 1,
    }
