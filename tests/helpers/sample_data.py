"""Tiny learnable raw data of every kind and task, in files as users have them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

ROWS = 180
CLASSES = {"binary": ["no", "yes"], "multiclass": ["cat", "dog", "owl"]}
# Words of each class that the other classes do not use.
WORDS = [["sun", "warm", "bright"], ["rain", "cold", "grey"], ["wind", "loud", "wild"]]
COMMON = ["the", "day", "was", "and", "very"]


def make(kind: str, task: str, root: Path) -> dict:
    """Write raw data to `root`. Returns the section `prepare` that reads it."""
    rng = np.random.default_rng(3)
    level = rng.integers(0, len(CLASSES.get(task, "123")), ROWS)
    values = np.array(CLASSES.get(task, []))
    if task == "regression":
        label = pa.array(level * 10.0 + rng.normal(0, 1, ROWS))
    elif task == "language_model":
        label = None
    else:
        label = pa.array(values[level])
    source = globals()[f"_{kind}"](rng, level, label, root)
    section = {"source": {"kind": kind, **source}, "validation": 0.2}
    if task in ("regression", "language_model"):
        section["task"] = task
    return section


def _tabular(rng, level, label, root) -> dict:
    table = {
        "height": level + rng.normal(0, 0.4, ROWS),
        "count": rng.integers(0, 1000, ROWS),
        "open": level > 0,
        "seen": pa.array(level * 30 + rng.integers(0, 9, ROWS), pa.int32()).cast(pa.date32()),
        "colour": np.array(["red", "green", "blue"])[(level + (rng.random(ROWS) < 0.1)) % 3],
        "outcome": label,
    }
    pa.csv.write_csv(pa.table(table), root / "table.csv")
    return {"path": "table.csv", "target": "outcome"}


def _image(rng, level, label, root) -> dict:
    means = rng.uniform(60, 190, (3, 8, 8, 3))
    images = np.clip(means[level] + rng.normal(0, 40, (ROWS, 8, 8, 3)), 0, 255)
    np.savez(
        root / "images.npz", images=images.astype(np.uint8), labels=np.array(label.to_pylist())
    )
    return {"path": "images.npz"}


def _text(rng, level, label, root) -> dict:
    texts = []
    for number in level:
        words = rng.choice(WORDS[number] * 2 + COMMON, rng.integers(3, 13))
        texts.append(" ".join(words))
    columns = {"text": texts} | ({} if label is None else {"mood": label})
    pa.csv.write_csv(pa.table(columns), root / "texts.csv")
    tokenizer = {"vocabulary": 40, "min_frequency": 1}
    source = {"path": "texts.csv", "max_length": 10, "tokenizer": tokenizer}
    return source | ({} if label is None else {"target": "mood"})


def _sequence(rng, level, label, root) -> dict:
    sequences = [
        (np.outer(np.linspace(0, 1, steps), [number, -number]) + rng.normal(0, 0.3, (steps, 2)))
        for number, steps in zip(level, rng.integers(4, 12, ROWS), strict=True)
    ]
    kind = pa.list_(pa.list_(pa.float32(), 2))
    column = pa.array([s.astype(np.float32).tolist() for s in sequences], kind)
    pq.write_table(pa.table({"sequence": column, "label": label}), root / "walks.parquet")
    return {"path": "walks.parquet", "max_length": 10}


def houses() -> str:
    """A CSV file of 120 houses with id, area, region, rooms (some missing) and price."""
    lines = ["id,area,region,rooms,price"]
    for n in range(120):
        area, rooms = n * 7 % 40 + 20, "" if n % 9 == 0 else n % 5
        lines.append(f"{n},{area},{'abc'[n % 3]},{rooms},{(area - 20) * 3 + n % 3}")
    return "\n".join(lines) + "\n"
