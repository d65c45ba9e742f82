"""Small raw data of every kind, prepared, and what came of it."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.bundle.signature import Signature
from tasks.config import (
    ImageSource,
    Prepare,
    SequenceSource,
    TabularSource,
    TextSource,
    Tokenizer,
)
from tasks.dataset import SPLITS, read_split
from tasks.encoding import Encoder
from tasks.errors import InputError
from tasks.prepare import prepare

FILES = [
    "profile.json",
    "report.json",
    "signature.json",
    "test.arrow",
    "train.arrow",
    "validation.arrow",
]
TABLE = Prepare(source=TabularSource(kind="tabular", path="table.parquet", target="y"))
NUMBERS = Prepare(source=TABLE.source, task="regression")
IMAGES = Prepare(source=ImageSource(kind="image", path="images.npz"))
SEQUENCES = Prepare(
    source=SequenceSource(kind="sequence", path="table.parquet", target="y", max_length=6)
)
STEPS = pa.list_(pa.list_(pa.float32(), 2))


def texts(tokenizer=None, **changes):
    """Parameters for `table.parquet` with a column `text`."""
    source = {"kind": "text", "path": "table.parquet", "target": "y"} | changes
    return Prepare(source=TextSource(**source, tokenizer=tokenizer or Tokenizer(min_frequency=1)))


def columns(rows=60, **others):
    """Good columns of a table, those given in place of them."""
    chance = np.random.default_rng(3)
    found = {
        "a": chance.normal(0, 1, rows),
        "n": chance.integers(0, 1000, rows),
        "c": np.array(["red", "green", "blue"])[chance.integers(0, 3, rows)],
        "y": np.array(["no", "yes"])[np.arange(rows) % 2],
    }
    return found | others


def put(folder, found=None, **others):
    """Write `table.parquet` of good columns, or of those given."""
    pq.write_table(
        pa.table(columns(**others) if found is None else found), folder / "table.parquet"
    )


def put_images(folder, images=None, labels=None):
    """Write `images.npz` of good arrays, or of those given."""
    images = some_images() if images is None else images
    labels = np.arange(len(images)) % 2 if labels is None else labels
    np.savez(folder / "images.npz", images=images, labels=labels)


def some_images(rows=60, dtype="uint8"):
    return np.random.default_rng(3).integers(0, 255, (rows, 4, 4)).astype(dtype)


def without(values, *rows):
    """The same with nothing in `rows`."""
    found = list(values)
    for row in rows:
        found[row] = None
    return pa.array(found, from_pandas=True)


def run(folder, params=TABLE, **changes):
    changed = Prepare(**{**dict(params), **changes})
    return prepare(changed, root=folder, prepared=folder / "prepared")


def refusal(folder, params=TABLE, **changes):
    """The message, after seeing that nothing was written."""
    before = sorted(folder.rglob("*"))
    with pytest.raises(InputError) as caught:
        run(folder, params, **changes)
    assert sorted(folder.rglob("*")) == before
    return str(caught.value)


def splits(folder):
    """By name, what training will read."""
    encoder = Encoder.read(folder / "prepared")
    return {name: read_split(folder / "prepared", name, encoder) for name in SPLITS}


def written(folder, name="train"):
    """The file of a split, as a table."""
    with pa.memory_map(str(folder / f"prepared/{name}.arrow")) as source:
        return pa.ipc.open_file(source).read_all()


def keys(folder):
    """By name, the numbers of the raw rows of a split."""
    return {name: written(folder, name)["key"].to_pylist() for name in SPLITS}


def kept(folder):
    """The numbers of all raw rows that are in some split."""
    return sorted(key for found in keys(folder).values() for key in found)


def signature(folder):
    return Signature.read(folder / "prepared/signature.json")


def report(folder):
    return json.loads((folder / "prepared/report.json").read_bytes())


def profile(folder):
    return json.loads((folder / "prepared/profile.json").read_bytes())
