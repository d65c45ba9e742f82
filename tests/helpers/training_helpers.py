"""Small prepared datasets of every kind, written without `prepare`, and trainings on them."""

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from hand_made import word_tokenizer as _tokenizer

from tasks.bundle.signature import Signature
from tasks.columns import (
    CategoryColumn,
    DateColumn,
    ImageColumn,
    NumberColumn,
    SequenceColumn,
    TextColumn,
)
from tasks.config import Optimizer, Train
from tasks.dataset import read_split, write_split
from tasks.encoding import Encoder

if TYPE_CHECKING:
    from tasks.train import TrainReport

ROWS = {"train": 120, "validation": 40, "test": 10}
CLASSES = ("cat", "dog", "owl")
WORDS = (
    "the", "a", "and", "purr", "meow", "cream", "bark", "bone", "leash", "hoot", "night", "wing",
)  # fmt: skip


def make_prepared(
    folder: Path,
    kind: str = "image",
    task: str = "multiclass",
    rows: dict[str, int] = ROWS,
    dtype: str = "uint8",
    words: tuple[str, ...] = WORDS,
    rare: bool = False,
) -> Path:
    """A learnable prepared dataset; with `rare`, nine of ten rows are cats."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(7)
    classes = CLASSES[: {"binary": 2, "multiclass": 3}.get(task, 0)]
    columns, draw = _KINDS[kind](rng, dtype, words)
    Signature.of(task, columns, classes).write(folder / "signature.json")
    if kind == "text":
        _tokenizer(words).save(str(folder / "tokenizer.json"))
    for name, count in rows.items():
        codes = np.arange(count) % (len(classes) or 3)
        if rare:
            codes = np.where(np.arange(count) % 10 > 0, 0, 1 + codes % (len(classes) - 1))
        table = {"key": pa.array(np.arange(count)), **draw(codes)}
        if classes:
            numbers = pa.array(codes, pa.int32())
            table["target"] = pa.DictionaryArray.from_arrays(numbers, list(classes))
        if task == "regression":
            table["target"] = pa.array(1000 + 50.0 * codes + rng.normal(0, 5, count))
        write_split(pa.table(table), folder / f"{name}.arrow")
    _write_profile(folder)
    return folder


def _images(rng, dtype, words):
    channels = 1 if dtype == "uint8" else 3
    column = ImageColumn(name="image", dtype=dtype, shape=(8, 8, channels))
    means = rng.uniform(60, 190, (3, 8, 8, channels))

    def draw(codes):
        noisy = means[codes] + rng.normal(0, 40, (len(codes), 8, 8, channels))
        images = np.clip(noisy, 0, 255).astype(dtype)
        return {"image": pa.FixedShapeTensorArray.from_numpy_ndarray(images)}

    return (column,), draw


def _table(rng, dtype, words):
    columns = (
        NumberColumn(name="size"),
        CategoryColumn(name="colour", values=("black", "white")),
        DateColumn(name="born"),
    )

    def draw(codes):
        days = 19_000 + 10 * codes + rng.integers(0, 5, len(codes))
        return {
            "size": pa.array(codes + rng.normal(0, 0.3, len(codes))),
            "colour": pa.array(np.where(codes > 0, "black", "white")),
            "born": pa.array(days.astype(np.int32), pa.date32()),
        }

    return columns, draw


def _texts(rng, dtype, words):
    column = TextColumn(name="text", vocabulary=len(words) + 3, max_length=9)

    def draw(codes):
        # Three words for each class, and three that all classes share.
        own = [words[3 + 3 * code : 6 + 3 * code] for code in codes]
        texts = [" ".join(rng.choice([*words[:3], *w, *w], rng.integers(1, 11))) for w in own]
        return {"text": pa.array(texts)}

    return (column,), draw


def _sequences(rng, dtype, words):
    column = SequenceColumn(name="steps", features=2, max_length=7)

    def draw(codes):
        lengths = rng.integers(1, 8, len(codes))
        steps = [
            (code + rng.normal(0, 0.5, (n, 2))).tolist()
            for code, n in zip(codes, lengths, strict=True)
        ]
        return {"steps": pa.array(steps, pa.list_(pa.list_(pa.float32())))}

    return (column,), draw


_KINDS = {"image": _images, "tabular": _table, "text": _texts, "sequence": _sequences}


def _write_profile(folder):
    encoder = Encoder.read(folder)
    split = read_split(folder, "train", encoder)
    profile = {"rows": len(split), "inputs": {}}
    for name, array in split.inputs.items():
        if name == "sequence":
            array = array[np.arange(array.shape[1]) < split.inputs["length"][:, None]]
        if name not in ("tokens", "categories", "length"):
            flat = array.reshape(-1, array.shape[-1]).astype(np.float64)
            profile["inputs"][name] = {"mean": flat.mean(0).tolist(), "std": flat.std(0).tolist()}
    if encoder.signature.task == "regression":
        targets = split.targets.astype(np.float64)
        profile["target"] = {"mean": targets.mean(), "std": targets.std()}
    (folder / "profile.json").write_text(json.dumps(profile))


def tiny(architecture: str = "mlp", **changes: object) -> Train:
    """Parameters to train a debug-size network for two epochs on the CPU."""
    from tasks.architectures import ARCHITECTURES  # torch: most tests of `make check` need none

    given = {
        "architecture": ARCHITECTURES[architecture].debug,
        "epochs": 2,
        "batch_size": 16,
        "optimizer": Optimizer(learning_rate=0.01),
        "device": "cpu",
    }
    return Train(**given | changes)


def run(
    params: Train, folder: Path, prepared: Path
) -> "tuple[TrainReport, list[dict[str, float]]]":
    """Train into `folder`. Returns the report and the rows of the history."""
    from tasks.train import train

    report = train(
        params,
        prepared=prepared,
        base=folder / "base",
        checkpoint=folder / "checkpoint",
        history=folder / "history.csv",
        resume=folder / "resume",
    )
    with (folder / "history.csv").open(newline="") as file:
        return report, [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def written(folder: Path) -> dict[str, bytes]:
    """The files that a training wrote."""
    there = [folder / "history.csv", *sorted((folder / "checkpoint").rglob("*"))]
    return {path.name: path.read_bytes() for path in there}
