"""Jobs with and without drift, always the same: a kept registry has what was recorded of them."""

from pathlib import Path

import numpy as np
from drift_helpers import Trained

from tasks.drift.report import DriftReport


def drift_reports(folder: Path) -> list[DriftReport]:
    """The reports of two jobs of one model: rows like those of the training, and larger areas."""
    trained = Trained(folder, _rows(1, 2000) | {"y": [row % 2 for row in range(2000)]})
    usual, larger = _rows(2, 400), _rows(3, 400)
    larger["area"] = larger["area"] * 3
    return [trained.job(usual), trained.job(larger)]


def _rows(seed: int, count: int) -> dict[str, np.ndarray]:
    made = np.random.default_rng(seed)
    return {
        "area": made.uniform(30, 90, count).round(1),
        "town": made.choice(["Bern", "Graz", "Ulm"], count),
    }
