"""Raw: what every reader returns."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Raw:
    """Rows as they were found, before any was judged.

    `inputs` are (N, *shape) arrays of uint8 or float32 by name. `labels` is an object array (N,)
    of strings, None where the label is missing. `describe(row)` names a row as its file does.
    """

    inputs: dict[str, NDArray[np.generic]]
    labels: NDArray[np.object_]
    where: str
    first_row: int = 0
    """The number its file gives to the first row."""

    def __len__(self) -> int:
        return len(self.labels)

    def describe(self, row: int) -> str:
        return f"{self.where}, row {row + self.first_row}"
