"""Compares the outputs of ONNX Runtime with those of PyTorch."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tasks.bundle.evaluation import Parity
from tasks.bundle.signature import Signature
from tasks.columns import Arrays
from tasks.session import Session

BATCH_SIZES = (1, 7)
SAMPLE = 256


def compare_outputs(
    session: Session,
    signature: Signature,
    inputs: Arrays,
    expected: Callable[[Arrays], Arrays],
    batch_size: int,
    tolerance: float,
    unit: float = 1.0,
    centre: float = 0.0,
) -> Parity:
    """Compare the session's outputs with those of `expected` (PyTorch) for the same rows.

    Compares all rows at the largest batch size and the first 256 at sizes 1 and 7. Variable-length
    inputs are also run fully padded in ONNX Runtime and compared with unpadded PyTorch output.

    Args:
        inputs: All rows, encoded, by name.
        tolerance: The largest allowed error of an output of size `unit` or less; larger outputs may
            differ in proportion.
        unit, centre: 1 and 0 for logits. For a regression, the standard deviation and mean of the
            target: its values may all be tiny, or large with small differences.
    """
    rows = len(next(iter(inputs.values())))
    largest = min(rows, batch_size)
    names = [t.name for t in signature.outputs if t.dtype != "int64" and t.name != "probabilities"]
    passes = [(largest, rows, False), *((size, SAMPLE, False) for size in BATCH_SIZES)]
    if signature.has_variable_length:
        passes.append((BATCH_SIZES[-1], SAMPLE, True))
    error, flipped, shift = 0.0, np.zeros(rows, bool), _shift(signature)
    for size, limit, padded in passes:
        for start in range(0, min(rows, limit), size):
            batch = {name: array[start : start + size] for name, array in inputs.items()}
            trimmed = signature.trim_padding(batch)
            actual = session.run(batch if padded else trimmed, names)
            wanted = expected(trimmed)
            found, flips = _compare_batch(actual, wanted, tolerance, unit, centre, shift)
            error = float(np.maximum(error, found))  # unlike max(), keeps a NaN, which fails
            flipped[start : start + size] |= flips
    number = int(flipped.sum()) if "logits" in names else None
    return Parity(rows, (*BATCH_SIZES, largest), tolerance, error, number)


def _shift(signature: Signature) -> NDArray[np.float64]:
    """What is added to logits, so that the predicted class has the highest one."""
    threshold = signature.threshold
    return np.array([0.0, 0.0 if threshold is None else math.log(1 / threshold - 1)])


def _compare_batch(
    actual: Arrays,
    expected: Arrays,
    tolerance: float,
    unit: float,
    centre: float,
    shift: NDArray[np.float64],
) -> tuple[float, NDArray[np.bool_]]:
    """The largest error, and which rows (N,) have another best logit, with the `shift` of two
    classes, that is not a tie."""
    errors, flips = [0.0], np.zeros(len(next(iter(actual.values()))), bool)
    for name, array in actual.items():
        scale = np.maximum(unit, np.abs(expected[name] - centre))
        errors.append(float((np.abs(array - expected[name]) / scale).max()))
        if name == "logits":
            found, wanted = (
                logits + shift if shift.any() else logits for logits in (array, expected[name])
            )
            best = np.sort(wanted, axis=1)
            tied = best[:, -1] - best[:, -2] <= 2 * tolerance * scale.max(axis=1)
            flips = (found.argmax(1) != wanted.argmax(1)) & ~tied
    return float(np.max(errors)), flips
