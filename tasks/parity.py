"""Does ONNX Runtime say what PyTorch says?"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.bundle.signature import Signature
from tasks.columns import Arrays
from tasks.session import Session

BATCH_SIZES = (1, 7)
SAMPLE = 256


@dataclass(frozen=True)
class Parity:
    """How far the two are apart on the whole test split.

    `max_error` is the largest |onnx - torch| / max(unit, |torch - centre|) over all outputs and
    batch sizes.
    `flipped` counts rows whose best class, or next token, differs although PyTorch's two best
    logits are further apart than the tolerance allows: a flip within it is a tie.
    """

    rows: int
    batch_sizes: tuple[int, ...]
    tolerance: float
    max_error: float
    flipped: int

    @property
    def passed(self) -> bool:
        return self.max_error <= self.tolerance and self.flipped == 0  # False with a NaN

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "passed": self.passed}

    def __str__(self) -> str:
        return (
            f"parity {'passed' if self.passed else 'REFUSED'}: max error {self.max_error:.1e} "
            f"(<= {self.tolerance:g}), {self.flipped} labels flipped, {self.rows} rows at batch "
            f"sizes {', '.join(map(str, self.batch_sizes))}"
        )


def compare(
    session: Session,
    signature: Signature,
    inputs: Arrays,
    expected: Callable[[Arrays], Arrays],
    batch_size: int,
    tolerance: float,
    unit: float = 1.0,
    centre: float = 0.0,
) -> Parity:
    """Compare the session's outputs with what `expected` (PyTorch) says for the same rows.

    `unit` is the size below which an error does not count for more, and `centre` where that size
    is measured from: 1 and 0 for logits, the target's standard deviation and mean for a
    regression, whose numbers may all be tiny, or huge and close to each other.

    All rows at the largest batch size, the first of them at the small ones. Sequences come once
    more with all their padding, to which PyTorch's have none.
    """
    rows = len(next(iter(inputs.values())))
    largest = min(rows, batch_size)
    names = [t.name for t in signature.outputs if t.dtype != "int64" and t.name != "probabilities"]
    passes = [(largest, rows, False), *((size, SAMPLE, False) for size in BATCH_SIZES)]
    if signature.has_variable_length:
        passes.append((BATCH_SIZES[-1], SAMPLE, True))
    error, flipped = 0.0, np.zeros(rows, bool)
    for size, some, padded in passes:
        for start in range(0, min(rows, some), size):
            batch = {name: array[start : start + size] for name, array in inputs.items()}
            cut = signature.trim_padding(batch)
            told = session.run(batch if padded else cut, names)
            found, flips = _differ(told, expected(cut), tolerance, unit, centre)
            error = float(np.maximum(error, found))  # which keeps a NaN, so that it fails
            flipped[start : start + size] |= flips
    return Parity(rows, (*BATCH_SIZES, largest), tolerance, error, int(flipped.sum()))


def _differ(
    told: Arrays, wanted: Arrays, tolerance: float, unit: float, centre: float
) -> tuple[float, NDArray[np.bool_]]:
    """The largest error, and which rows have another best logit, ties aside."""
    errors, flips = [0.0], np.zeros(len(next(iter(told.values()))), bool)
    for name, array in told.items():
        scale = np.maximum(unit, np.abs(wanted[name] - centre))
        errors.append(float((np.abs(array - wanted[name]) / scale).max()))
        if name == "logits":
            best = np.sort(wanted[name], axis=1)
            tied = best[:, -1] - best[:, -2] <= 2 * tolerance * scale.max(axis=1)
            flips = (array.argmax(1) != wanted[name].argmax(1)) & ~tied
    return float(np.max(errors)), flips
