"""Small raw data of every kind, and the files that `prepare` writes for it."""

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
    """Valid columns of a table; `others` replace or extend them."""
    rng = np.random.default_rng(3)
    found = {
        "a": rng.normal(0, 1, rows),
        "n": rng.integers(0, 1000, rows),
        "c": np.array(["red", "green", "blue"])[rng.integers(0, 3, rows)],
        "y": np.array(["no", "yes"])[np.arange(rows) % 2],
    }
    return found | others


def put(folder, found=None, **others):
    """Write `table.parquet` with valid columns, or with those given."""
    pq.write_table(
        pa.table(columns(**others) if found is None else found), folder / "table.parquet"
    )


def put_images(folder, images=None, labels=None):
    """Write `images.npz` with valid arrays, or with those given."""
    images = some_images() if images is None else images
    labels = np.arange(len(images)) % 2 if labels is None else labels
    np.savez(folder / "images.npz", images=images, labels=labels)


def some_images(rows=60, dtype="uint8"):
    return np.random.default_rng(3).integers(0, 255, (rows, 4, 4)).astype(dtype)


def without(values, *rows):
    """The same values, missing in `rows`."""
    found = list(values)
    for row in rows:
        found[row] = None
    return pa.array(found, from_pandas=True)


def run(folder, params=TABLE, **changes):
    changed = Prepare(**{**dict(params), **changes})
    return prepare(changed, root=folder, prepared=folder / "prepared")


def refusal(folder, params=TABLE, **changes):
    """The error message; asserts that nothing was written."""
    before = sorted(folder.rglob("*"))
    with pytest.raises(InputError) as caught:
        run(folder, params, **changes)
    assert sorted(folder.rglob("*")) == before
    return str(caught.value)


def splits(folder):
    """The splits by name, as training reads them."""
    encoder = Encoder.read(folder / "prepared")
    return {name: read_split(folder / "prepared", name, encoder) for name in SPLITS}


def written(folder, name="train"):
    """The file of a split, as a table."""
    with pa.memory_map(str(folder / f"prepared/{name}.arrow")) as source:
        return pa.ipc.open_file(source).read_all()


def keys(folder):
    """The numbers of the raw rows of each split."""
    return {name: written(folder, name)["key"].to_pylist() for name in SPLITS}


def kept(folder):
    """The numbers of the raw rows in all splits."""
    return sorted(key for found in keys(folder).values() for key in found)


def signature(folder):
    return Signature.read(folder / "prepared/signature.json")


def report(folder):
    return json.loads((folder / "prepared/report.json").read_bytes())


def profile(folder):
    return json.loads((folder / "prepared/profile.json").read_bytes())
