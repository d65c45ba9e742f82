"""What a model answers: the columns of predictions, from the outputs of its graph.

The same for a batch job over files and for rows in memory. Needs no torch.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.bundle.signature import Signature
from tasks.columns import Arrays
from tasks.columns import SourceLocation as Place
from tasks.encoding import Encoder
from tasks.errors import InputError
from tasks.session import Session, refuse_not_finite

# The outputs of the graph that make up an answer.
WANTED = {
    "binary": ("probabilities",),
    "multiclass": ("probabilities",),
    "regression": ("prediction",),
    "language_model": ("logits", "log_likelihood", "scored"),
}


def refuse_without_classes(signature: Signature, probabilities: bool, option: str) -> None:
    """See that there are classes where `probabilities` are asked for, by the `option` named so.

    Raises:
        InputError: the model has none.
    """
    if probabilities and not signature.classifies:
        raise InputError(
            f"the model's task is {signature.task.replace('_', ' ')}, so there are no classes to "
            f"give probabilities of; leave out {option}"
        )


def answer(
    session: Session, encoder: Encoder, arrays: Arrays, place: Place, probabilities: bool
) -> dict[str, pa.Array]:
    """The columns `prediction` and `score` for one batch of inputs, and those of the classes.

    Raises:
        InputError: an output is NaN or infinite; says in which row.
    """
    outputs = session.run(arrays, WANTED[encoder.signature.task])
    refuse_not_finite(outputs, place.describe)
    found = columns(encoder, outputs, probabilities)
    if "score" in found:  # the perplexity of a text may not fit
        refuse_not_finite({"score": found["score"].to_numpy()}, place.describe)
    return found


def none(encoder: Encoder, probabilities: bool) -> dict[str, pa.Array]:
    """The columns that `answer` gives, without a row."""
    outputs = {
        tensor.name: np.empty((0, *(size or 1 for size in tensor.shape)), tensor.dtype)
        for tensor in encoder.signature.outputs
    }
    return columns(encoder, outputs, probabilities)


def columns(encoder: Encoder, outputs: Arrays, probabilities: bool) -> dict[str, pa.Array]:
    """The columns of a person's answer from the outputs of the graph."""
    found = _answers(encoder, outputs)
    if probabilities:
        found |= _by_class(encoder, outputs["probabilities"])
    return found


def _answers(encoder: Encoder, outputs: Arrays) -> dict[str, pa.Array]:
    """The columns of a person's answer from the outputs of the graph."""
    if encoder.signature.task == "regression":
        return {"prediction": pa.array(outputs["prediction"])}
    if encoder.signature.task == "language_model":
        assert encoder.tokenizer is not None
        best = outputs["logits"].argmax(axis=1).tolist()
        mean = outputs["log_likelihood"] / np.maximum(1, outputs["scored"])
        with np.errstate(over="ignore"):  # to infinity, which is refused
            perplexity = np.exp(-mean).astype(np.float32)
        return {
            "prediction": pa.array([encoder.tokenizer.id_to_token(i) for i in best], pa.string()),
            "score": pa.array(perplexity),
        }
    probabilities = outputs["probabilities"]
    best = probabilities.argmax(axis=1)
    classes = pa.array(encoder.signature.classes, pa.string())
    return {
        "prediction": classes.take(pa.array(best)),
        "score": pa.array(probabilities[np.arange(len(best)), best]),
    }


def _by_class(encoder: Encoder, probabilities: NDArray[np.float32]) -> dict[str, pa.Array]:
    """A column for each class; `probabilities` are (N, classes)."""
    return {
        f"probability_{name}": pa.array(np.ascontiguousarray(probabilities[:, number]))
        for number, name in enumerate(encoder.signature.classes)
    }
