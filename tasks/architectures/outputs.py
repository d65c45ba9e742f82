"""Functions from scores to the outputs of the graph, by name: one explicit dict.

`Problem.scores` is the name, and `Problem.outputs` has the names and shapes of the outputs.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from tasks.architectures.fronts import Inputs
    from tasks.architectures.network import Network


def class_probabilities(network: "Network", inputs: "Inputs", scores: Tensor) -> dict[str, Tensor]:
    """Scores are logits (batch, classes)."""
    return {"logits": scores, "probabilities": torch.softmax(scores, dim=1)}


def scaled_number(network: "Network", inputs: "Inputs", scores: Tensor) -> dict[str, Tensor]:
    """Scores are standardised values (batch,)."""
    # float32 has 7 digits: a price of a billion would be rounded to the nearest 64.
    prediction = scores.to(torch.float64) * network.target_std + network.target_mean
    if network.target_transform is not None:
        prediction = network.target_transform.inverse(prediction)
    # Signatures of older releases have float32.
    return {"prediction": prediction.to(getattr(torch, network.signature.outputs[0].dtype))}


def token_likelihood(network: "Network", inputs: "Inputs", scores: Tensor) -> dict[str, Tensor]:
    """Scores are logits (batch, time, vocabulary) of the next token.

    Each token but the first is predicted from the tokens before it.
    """
    tokens, length = inputs["tokens"], lengths(inputs)
    # Not take_along_dim: the exporter would turn its dimensions into constants.
    log_probabilities = torch.log_softmax(scores[:, :-1], dim=2)
    given = log_probabilities.gather(2, tokens[:, 1:, None]).squeeze(2)
    scored = torch.arange(1, tokens.shape[1], device=tokens.device) < length[:, None]
    index = (length - 1)[:, None, None].expand(-1, 1, scores.shape[2])
    last = scores.gather(1, index).squeeze(1)
    return {
        "logits": last,
        "log_likelihood": torch.where(scored, given, 0.0).sum(1),
        "scored": length - 1,
    }


def mean_probabilities(scores: Tensor) -> Tensor:
    """Logits (batch, members, classes) -> (batch, classes), whose softmax is the mean of theirs."""
    # Logarithms of probabilities are logits, too.
    return torch.log_softmax(scores, dim=2).logsumexp(1) - math.log(scores.shape[1])


def mean_number(scores: Tensor) -> Tensor:
    """(batch, members, 1) -> (batch, 1)."""
    return scores.mean(1)


def lengths(inputs: "Inputs") -> Tensor:
    """The number of timesteps of each row, at least 1, (batch,) int64."""
    # At least 1, because a mean over no timesteps, or attention to none, would be NaN.
    return inputs["length"].clamp(min=1)


OUTPUTS: dict[str, Callable[["Network", "Inputs", Tensor], dict[str, Tensor]]] = {
    "class_probabilities": class_probabilities,
    "scaled_number": scaled_number,
    "token_likelihood": token_likelihood,
}

MEANS: dict[str, Callable[[Tensor], Tensor]] = {
    "class_probabilities": mean_probabilities,
    "scaled_number": mean_number,
}
"""By the same names, functions from the scores of an ensemble's members to its scores."""
