"""Measure: one number of each row that is counted to detect drift, such as the length of a text.

Column types and problems name their measures; `tasks.drift` counts and compares them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True)
class Measure:
    """What is counted of a column or of predictions, in bins of numbers or by label."""

    name: str
    of: Callable[[Mapping[str, NDArray[Any]]], NDArray[Any]]
    """From the encoded arrays of a column, or a model's outputs, (N, ...): (N,) numbers. With
    `labels`, the place of each row's label, from 1; 0 for none of them.

    The number of a row must not depend on the rows beside it: the same job may be read in other
    chunks."""
    labels: tuple[str, ...] = ()
    held_out: bool = False
    """Whether training rows differ from others, because the column was fitted on them. Then the
    reference is counted on the rows of validation and test."""
    computed: bool = False
    """Whether a model computed the numbers: equal rows may differ in the last bits, with the batch
    size or the device."""
    offset: float = 0.0
    """Added to the numbers where a person sees them."""
