"""Language model: predicts the next token of a text. Needs no target."""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.measures import Measure
from tasks.problems.bootstrap import resampled_sums
from tasks.problems.problem import Metric, Output, Problem

if TYPE_CHECKING:
    from tasks.baselines import Examples
    from tasks.bundle.signature import Signature
    from tasks.columns import Arrays, Column
    from tasks.encoding import Encoder
    from tasks.problems.problem import Predict


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


@dataclass(frozen=True)
class _Bigrams:
    """How often a token followed another one, smoothed by how frequent it is at all, in the way of
    Witten and Bell 1991 (IEEE Transactions on Information Theory 37), which has no parameter."""

    unigram: NDArray[np.float64]
    """(V,): probabilities, none of them 0."""
    pairs: NDArray[np.int64]
    """(P,): the pairs that occurred, ascending, as before * V + token."""
    counts: NDArray[np.int64]
    """(P,)"""
    total: NDArray[np.int64]
    """(V,): how often each token was followed by another one."""
    distinct: NDArray[np.int64]
    """(V,): by how many different ones."""

    @classmethod
    def of(
        cls,
        before: NDArray[np.int64],
        token: NDArray[np.int64],
        unigram: NDArray[np.float64],
    ) -> "_Bigrams":
        size = len(unigram)
        pairs, counts = np.unique(before * size + token, return_counts=True)
        distinct = np.bincount(pairs // size, minlength=size)
        return cls(unigram, pairs, counts, np.bincount(before, minlength=size), distinct)

    def probabilities(
        self, before: NDArray[np.int64], token: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """(N,): the probability of each `token` (N,) after the one before it."""
        wanted = before * len(self.unigram) + token
        place = np.searchsorted(self.pairs, wanted)
        place = np.minimum(place, max(0, len(self.pairs) - 1))
        seen = np.zeros(len(wanted))
        if len(self.pairs):
            seen = np.where(self.pairs[place] == wanted, self.counts[place], 0)
        # A token that was never followed by another one says nothing about the next.
        weight = np.maximum(1, self.distinct[before])
        found: NDArray[np.float64] = (seen + weight * self.unigram[token]) / (
            self.total[before] + weight
        )
        return found


def _pairs(inputs: "Arrays") -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The tokens that are predicted, row by row, each with the one before it."""
    tokens, length = inputs["tokens"], inputs["length"]
    predicted = np.arange(1, tokens.shape[1]) < length[:, np.newaxis]
    return tokens[:, :-1][predicted], tokens[:, 1:][predicted]


def _likelihoods(probabilities: Callable[..., NDArray[np.float64]], rows: "Examples") -> "Arrays":
    """Outputs for rows, from the `probabilities` (M,) of each token (M,) after the one before."""
    length = rows.inputs["length"]
    scored = np.maximum(0, length - 1)
    row = np.repeat(np.arange(len(length)), scored)
    logs = np.log(probabilities(*_pairs(rows.inputs)))
    return {"log_likelihood": np.bincount(row, logs, minlength=len(length)), "scored": scored}


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

    def redrawn(
        self, models: Sequence[Scored], names: Collection[str], seed: int
    ) -> list[dict[str, NDArray[np.float64]]]:
        # Models that are comparable have the same tokenizer, so the same number of tokens.
        likelihoods = np.stack([scored.log_likelihood for scored in models], axis=1)
        values = np.column_stack([models[0].tokens, likelihoods]).astype(np.float64)
        tokens, *totals = resampled_sums(values, seed).T
        each = [np.exp(np.minimum(700.0, -total / np.maximum(1, tokens))) for total in totals]
        return [{"perplexity": perplexity} for perplexity in each]

    def baselines(
        self, signature: "Signature", train: "Examples"
    ) -> Iterator[tuple[str, bool, "Predict"]]:
        """How frequent each token is, and how frequent after the token before it. Both know the
        tokens of the model's tokenizer, so their perplexities are comparable."""
        before, token = _pairs(train.inputs)
        size = signature.outputs[0].shape[0]
        assert size is not None
        unigram = (np.bincount(token, minlength=size) + 1) / (len(token) + size)
        known = _Bigrams.of(before, token, unigram)
        of_token = partial(_likelihoods, lambda before, token: unigram[token])
        yield "frequency of tokens", False, of_token
        yield "frequency of pairs of tokens", True, partial(_likelihoods, known.probabilities)

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
