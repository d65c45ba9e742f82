"""The trainings of `gpu.py`: raw data from a fixed seed, and parameters."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks import params as parameters
from tasks.config import DigitsSource, Params
from tasks.pipeline import STEPS
from tasks.sources import place_embedded
from tasks.workspace import Workspace

PIXELS, NUMBERS, COLOURS, WORDS = 64, 20, 12, 2000


@dataclass(frozen=True)
class Case:
    """A network and its data."""

    name: str
    source: dict[str, Any]
    architecture: dict[str, Any]
    batch_size: int
    epochs: int
    rows: int
    """Rows of the raw data; what is predicted has `predicted` rows."""
    predicted: int
    write: Callable[[Path, int], None]
    """Writes so many rows to a path."""

    def params(self, device: str, precision: str, **train: Any) -> Params:
        """The parameters of a training that ends after all its epochs."""
        given = {
            "architecture": self.architecture,
            "batch_size": self.batch_size,
            "epochs": self.epochs,
            "device": device,
            "devices": 1,
            "precision": precision,
            **train,
        }
        return Params.model_validate(
            {
                "prepare": {"source": self.source, "task": "classification"},
                "train": {**given, "patience": given["epochs"]},
                "evaluate": {"gates": {"accuracy": 0.0}, "baseline": False},
                "registration": {"name": self.name},
            }
        )

    def prepare(self, root: Path) -> None:
        """Write raw data and prepared dataset into the folder of the case."""
        folder = root / self.name
        raw = folder / self.source["path"]
        raw.parent.mkdir(parents=True)
        self.write(raw, self.rows)
        STEPS["prepare"].run(self.params("cpu", "32-true"), Workspace(folder))


def place(params: Params, prepared: Path, folder: Path) -> Workspace:
    """A new folder with parameters, and a link to the data of a case."""
    folder.mkdir(parents=True)
    (folder / "data").symlink_to(prepared.parent)
    parameters.write(params.model_dump(mode="json"), folder / "params.yaml")
    return Workspace(folder)


def _digits(path: Path, rows: int) -> None:
    place_embedded(DigitsSource(kind="digits", path=path.name), path.parent)


def _images(path: Path, rows: int) -> None:
    """Coloured noise around the picture of a class."""
    chance = np.random.default_rng(1)
    pictures = chance.integers(60, 180, (10, PIXELS, PIXELS, 3))
    labels = np.arange(rows) % 10
    noisy = pictures[labels] + chance.integers(-60, 60, (rows, PIXELS, PIXELS, 3))
    np.savez(path, images=noisy.astype(np.uint8), labels=labels.astype(str))


def _table(path: Path, rows: int) -> None:
    chance = np.random.default_rng(2)
    values = chance.standard_normal((NUMBERS, rows), np.float32)
    colours = chance.integers(0, COLOURS, rows)
    decides = np.sin(values[0]) + values[1] * values[2] + 0.3 * (colours % 3 - 1)
    columns: dict[str, Any] = {f"x{number:02}": column for number, column in enumerate(values)}
    columns["colour"] = [f"colour {number}" for number in colours]
    pq.write_table(pa.table({**columns, "label": np.where(decides > 0, "yes", "no")}), path)


def _texts(path: Path, rows: int) -> None:
    """Texts of 5 to 40 words; a tenth of the words belong to the class."""
    chance = np.random.default_rng(3)
    labels = np.arange(rows) % 3
    texts = []
    for label in labels:
        words = chance.integers(0, WORDS, chance.integers(5, 41))
        marked = chance.random(len(words)) < 0.1
        words[marked] = 100 * label + words[marked] % 100
        texts.append(" ".join(f"word{number}" for number in words))
    labelled = {"text": texts, "label": [f"class {label}" for label in labels]}
    pq.write_table(pa.table(labelled), path)


def cases(small: bool) -> dict[str, Case]:
    """The cases by name; `small` ones are for a test on a CPU."""
    digits = {"kind": "digits", "path": "digits.csv.gz"}
    images = {"kind": "image", "path": "images.npz"}
    table = {"kind": "tabular", "path": "table.parquet", "target": "label"}
    texts = {"kind": "text", "path": "texts.parquet", "column": "text", "target": "label"}
    cnn = {"name": "cnn", "channels": [4, 8] if small else [32, 64]}
    deeper = {"name": "cnn", "channels": [4, 8, 8] if small else [32, 64, 128]}
    tabular = {"name": "tabular", "widths": [8] if small else [128, 128]}
    gru = {"name": "gru", "width": 8 if small else 96, "hidden": 8 if small else 64}

    def some(large: int, few: int) -> int:
        return few if small else large

    every = (
        Case("cnn-8x8", digits, cnn, 64, some(60, 3), 1797, some(100_000, 400), _digits),
        Case(
            "cnn-64x64", images, deeper, 128, some(8, 2), some(4000, 300), some(8000, 64), _images
        ),
        Case(
            "tabular",
            table,
            tabular,
            some(1024, 64),
            some(8, 3),
            some(200_000, 400),
            some(400_000, 400),
            _table,
        ),
        Case("gru", texts, gru, 128, some(8, 3), some(8000, 400), some(20_000, 300), _texts),
    )
    return {case.name: case for case in every}
