"""Language model: predicts the next token of a text. Needs no target."""

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.measures import Measure
from tasks.problems.problem import Metric, Output, Problem

if TYPE_CHECKING:
    from tasks.bundle.signature import Signature
    from tasks.columns import Arrays, Column
    from tasks.encoding import Encoder


class Scored(NamedTuple):
    """For each text, (N,): the natural logarithm of its likelihood, and the number of tokens that
    are predicted."""

    log_likelihood: NDArray[np.float32]
    tokens: NDArray[np.int64]


def _perplexity(scored: Scored) -> float:
    """exp of the mean negative log-likelihood of a token (Jelinek et al. 1977).

    Comparable only between models with the same tokenizer.
    """
    tokens = max(1, int(scored.tokens.sum()))
    total = float(scored.log_likelihood.astype(np.float64).sum())
    return math.exp(min(700.0, -total / tokens))  # math.exp overflows beyond


class LanguageModel(Problem):
    """Predicts each token of a text, except the first, from the tokens before it."""

    name = "language_model"
    tasks = ("language_model",)
    headline = ("perplexity",)
    evaluated = ("log_likelihood", "scored")
    predicted = ("logits", "log_likelihood", "scored")
    loss = "next_token"
    scores = "token_likelihood"
    token_bound = True
    metrics = (
        Metric(
            "perplexity",
            "perplexity",
            _perplexity,
            lower_is_better=True,
            low=1.0,
            high=math.inf,
            example=100.0,
        ),
    )

    def outputs(
        self, columns: "tuple[Column, ...]", classes: tuple[str, ...]
    ) -> tuple[Output, ...]:
        text = next(column for column in columns if column.tokenized)
        return (
            # Logits of the token that follows the text.
            Output("logits", "float32", (text.vocabulary,)),  # type: ignore[attr-defined]
            # Natural logarithm of the text's likelihood, summed over its `scored` tokens.
            Output("log_likelihood", "float32", ()),
            Output("scored", "int64", ()),
        )

    def scored(
        self, signature: "Signature", targets: NDArray[Any], outputs: "Arrays", bins: int
    ) -> Scored:
        return Scored(outputs["log_likelihood"], outputs["scored"])

    def columns(self, encoder: "Encoder", outputs: "Arrays") -> dict[str, pa.Array]:
        """The most probable next token, and the perplexity of the text (float32)."""
        assert encoder.tokenizer is not None
        best = outputs["logits"].argmax(axis=1).tolist()
        mean = outputs["log_likelihood"] / np.maximum(1, outputs["scored"])
        with np.errstate(over="ignore"):  # an infinite score is refused later
            perplexity = np.exp(-mean).astype(np.float32)
        return {
            "prediction": pa.array([encoder.tokenizer.id_to_token(i) for i in best], pa.string()),
            "score": pa.array(perplexity),
        }

    def measures(self, signature: "Signature") -> tuple[Measure, ...]:
        """The negative log-likelihood of a token of each text, in nats: the log of its perplexity.
        The next token is not counted."""
        found = Measure(
            "surprise",
            lambda outputs: -outputs["log_likelihood"] / np.maximum(1, outputs["scored"]),
            held_out=True,
            computed=True,
        )
        return (found,)
