"""The columns of predictions, from the outputs of a model's graph.

The same for a batch job over files and for rows in memory. Needs no torch.
"""

import numpy as np
import pyarrow as pa

from tasks.bundle.signature import Signature
from tasks.columns import Arrays, SourceLocation
from tasks.encoding import Encoder
from tasks.errors import InputError
from tasks.problems import refuse_not_finite
from tasks.session import Session


def refuse_without_classes(signature: Signature, probabilities: bool, option: str) -> None:
    """Check that a model of which `probabilities` are asked has classes.

    Raises:
        InputError: it has none; names the `option` that asked.
    """
    if probabilities and not signature.classifies:
        raise InputError(
            f"the model's task is {signature.task.replace('_', ' ')}, so there are no classes to "
            f"give probabilities of; leave out {option}"
        )


def answer(
    session: Session, encoder: Encoder, arrays: Arrays, place: SourceLocation, probabilities: bool
) -> dict[str, pa.Array]:
    """The columns of predictions for one batch of inputs.

    Raises:
        InputError: an output is NaN or infinite; says in which row.
    """
    outputs = session.run(arrays, encoder.signature.problem.predicted)
    refuse_not_finite(outputs, place.describe)
    found = columns(encoder, outputs, probabilities)
    if "score" in found:  # the perplexity of a text may not fit
        refuse_not_finite({"score": found["score"].to_numpy()}, place.describe)
    return found


def no_answers(encoder: Encoder, probabilities: bool) -> dict[str, pa.Array]:
    """The columns that `answer` gives, without rows."""
    outputs = {
        tensor.name: np.empty((0, *(size or 1 for size in tensor.shape)), tensor.dtype)
        for tensor in encoder.signature.outputs
    }
    return columns(encoder, outputs, probabilities)


def columns(encoder: Encoder, outputs: Arrays, probabilities: bool) -> dict[str, pa.Array]:
    """The columns of predictions from the outputs of the graph.

    With `probabilities` also `probability_CLASS` (float32) for each class.
    """
    found = encoder.signature.problem.columns(encoder, outputs)
    if probabilities:
        each = outputs["probabilities"]  # (N, classes)
        found |= {
            f"probability_{name}": pa.array(np.ascontiguousarray(each[:, number]))
            for number, name in enumerate(encoder.signature.classes)
        }
    return found
