"""The columns of predictions, computed from the outputs of the model's graph.

The same code for a batch job over files and for rows in memory. Needs no torch.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.columns import Arrays, SourceLocation
from tasks.encoding import Encoder
from tasks.problems import refuse_not_finite
from tasks.serving.options import Options


def columns_of(
    encoder: Encoder, outputs: Arrays, options: Options, location: SourceLocation
) -> dict[str, pa.Array]:
    """The columns `prediction`, `score` and those that `options` add, (N,) each.

    Raises:
        BadRows: an output is NaN or infinite; gives the location of the first such row.
    """
    refuse_not_finite(outputs, location.describe)
    found = _columns(encoder, outputs, options)
    if "score" in found:  # the perplexity of a text may overflow
        refuse_not_finite({"score": found["score"].to_numpy()}, location.describe)
    return found


def no_answers(encoder: Encoder, options: Options) -> dict[str, pa.Array]:
    """The columns of `columns_of` without rows."""
    outputs = {
        tensor.name: np.empty((0, *(size or 1 for size in tensor.shape)), tensor.dtype)
        for tensor in encoder.signature.outputs
    }
    return _columns(encoder, outputs, options)


def _columns(encoder: Encoder, outputs: Arrays, options: Options) -> dict[str, pa.Array]:
    signature = encoder.signature
    found = signature.problem.columns(encoder, outputs)
    if options.threshold is not None:
        found |= _by_threshold(signature.classes, outputs["probabilities"], *options.threshold)
    if options.probabilities:
        each = outputs["probabilities"]  # (N, classes)
        found |= {
            f"probability_{name}": pa.array(np.ascontiguousarray(each[:, number]))
            for number, name in enumerate(signature.classes)
        }
    return found


def _by_threshold(
    classes: tuple[str, ...], probabilities: NDArray[np.float32], name: str, least: float
) -> dict[str, pa.Array]:
    """One of two classes where its probability is `least` or more, else the other one."""
    number = classes.index(name)
    chosen = np.where(probabilities[:, number] >= np.float32(least), number, 1 - number)
    return {
        "prediction": pa.array(classes, pa.string()).take(pa.array(chosen)),
        "score": pa.array(probabilities[np.arange(len(chosen)), chosen]),
    }
