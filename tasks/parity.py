"""Does ONNX Runtime say what PyTorch says?"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.session import Session

BATCH_SIZES = (1, 7)


@dataclass(frozen=True)
class Parity:
    """How far the two are apart on the whole test split.

    `max_error` is the largest |onnx - torch| / max(1, |torch|) over all logits and batch sizes.
    `flipped` counts rows whose predicted class differs although PyTorch's two best logits are
    further apart than the tolerance allows: a flip within it is a tie.
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
    inputs: dict[str, NDArray[np.generic]],
    expected: NDArray[np.float32],
    tolerance: float,
) -> Parity:
    """Compare the session's logits with PyTorch's `expected` (N, classes) for the same rows."""
    rows = len(expected)
    sizes = (*BATCH_SIZES, rows)
    scale = np.maximum(1, np.abs(expected))
    best = np.sort(expected, axis=1)
    margin = best[:, -1] - best[:, -2]
    tied = margin <= 2 * tolerance * scale.max(axis=1)
    error, flipped = 0.0, np.zeros(rows, bool)
    for size in sizes:
        logits = session.run_all(inputs, "logits", size)
        error = float(np.maximum(error, (np.abs(logits - expected) / scale).max()))
        flipped |= (logits.argmax(axis=1) != expected.argmax(axis=1)) & ~tied
    return Parity(rows, sizes, tolerance, error, int(flipped.sum()))
