"""Bundles of earlier releases can be read, and files are encoded for them as they were then.

The signatures and the expected tensors were written by those releases.
"""

import csv
import hashlib
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prediction_helpers import encoded_batches
from training_helpers import WORDS, _tokenizer

from tasks.encoding import Encoder
from tasks.errors import InputError
from tasks.inputs import find
from tasks.serving.manifest import completed

CLASSES = ["no", "yes"]
LENGTH = {"name": "length", "dtype": "int64", "shape": []}
TABLE = {
    "columns": [
        {"name": "a", "kind": "number", "fill": None},
        {"name": "when", "kind": "date", "fill": 18439.483043981483},
        {"name": "flag", "kind": "boolean", "fill": 1.0},
        {"name": "c", "kind": "category", "values": [" green", "007", "1", "true"], "fill": "007"},
    ],
    "inputs": [
        {"name": "numbers", "dtype": "float32", "shape": [3]},
        {"name": "categories", "dtype": "int64", "shape": [1]},
    ],
}
ROWS = {
    "a": [16777217.0, -0.1, 1e300 / 1e290],
    "when": ["2020-01-02T12:00:00", None, "1969-12-31"],
    "flag": [True, None, False],
    "c": [" green", "green", None],
}
TABLE_TENSORS = {
    "numbers": [
        [16777216.0, 18263.5, 1.0],
        [np.float32(-0.1), np.float32(18439.483043981483), 1.0],
        [1e10, -1.0, 0.0],
    ],
    "categories": [[1], [0], [2]],
}
TEXT = {
    "columns": [{"name": "text", "kind": "text", "vocabulary": 3 + len(WORDS), "max_length": 4}],
    "inputs": [{"name": "tokens", "dtype": "int64", "shape": [None]}, LENGTH],
}
SEQUENCE = {
    "columns": [{"name": "steps", "kind": "sequence", "features": 2, "max_length": 2}],
    "inputs": [{"name": "sequence", "dtype": "float32", "shape": [None, 2]}, LENGTH],
}
IMAGE = {
    "columns": [{"name": "image", "kind": "image", "dtype": "uint8", "shape": [1, 2, 1]}],
    "inputs": [{"name": "image", "dtype": "uint8", "shape": [1, 2, 1]}],
}


def encoded(document, path, folder):
    """The encoded inputs of a file for a bundle with this signature, and the counts."""
    outputs = [
        {"name": name, "dtype": "float32", "shape": [2]} for name in ("logits", "probabilities")
    ]
    whole = {"schema_version": 1, "task": "binary", **document, "outputs": outputs}
    (folder / "signature.json").write_text(json.dumps(whole | {"classes": CLASSES}))
    _tokenizer(WORDS).save(str(folder / "tokenizer.json"))
    encoder = Encoder.read(folder)
    (file,) = find([path], encoder.signature)
    ((_, arrays),) = encoded_batches(file, encoder, 9)
    return {name: array.tolist() for name, array in arrays.items()}, encoder.counts.columns


def write(rows, path):
    if path.suffix == ".parquet":
        pq.write_table(pa.table(rows), path)
    elif path.suffix == ".jsonl":
        lines = [
            dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True)
        ]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    else:
        with path.open("w", newline="") as file:
            writer = csv.writer(file, delimiter=";" if path.stem == "semicolon" else ",")
            writer.writerows([list(rows), *zip(*rows.values(), strict=True)])
    return path


@pytest.mark.parametrize("name", ["in.parquet", "in.jsonl", "in.csv", "semicolon.csv"])
def test_tables_are_encoded_as_in_earlier_releases(name, tmp_path):
    found, counted = encoded(TABLE, write(ROWS, tmp_path / name), tmp_path)
    assert found == TABLE_TENSORS
    assert counted == {
        "a": {"rows": 3, "filled": 0, "outside": None},
        "when": {"rows": 3, "filled": 1, "outside": None},
        "flag": {"rows": 3, "filled": 1, "outside": 0},
        "c": {"rows": 3, "unknown": 1, "filled": 1},
    }


@pytest.mark.parametrize("name", ["in.parquet", "in.jsonl", "in.csv"])
def test_texts_are_encoded_as_in_earlier_releases(name, tmp_path):
    rows = {"text": ["the purr", "zebra  the a and"]}
    found, _ = encoded(TEXT, write(rows, tmp_path / name), tmp_path)
    assert found == {"tokens": [[2, 3, 6, 0], [2, 1, 3, 4]], "length": [3, 4]}


@pytest.mark.parametrize("name", ["in.parquet", "in.jsonl"])
def test_sequences_are_encoded_as_in_earlier_releases(name, tmp_path):
    rows = {"steps": [[[1.0, 2.0]], [[1.0, 2.0], [3.0, 4.0], [5.0, 1e30]]]}
    found, _ = encoded(SEQUENCE, write(rows, tmp_path / name), tmp_path)
    assert found == {
        "sequence": [[[1.0, 2.0], [0.0, 0.0]], [[1.0, 2.0], [3.0, 4.0]]],
        "length": [1, 2],
    }


def test_images_are_encoded_as_in_earlier_releases(tmp_path):
    np.savez(tmp_path / "in.npz", images=np.array([[[0, 255]], [[7, 8]]], np.uint8))
    found, _ = encoded(IMAGE, tmp_path / "in.npz", tmp_path)
    assert found == {"image": [[[[0], [255]]], [[[7], [8]]]]}


MANIFEST = {
    "rows": 2,
    "provider": "CPUExecutionProvider",
    "nodes": {"CPUExecutionProvider": 3},
    "onnxruntime": "1.31.1",
    "input_sha256": "a" * 64,
    "inputs": [{"path": "in.csv", "rows": 2, "sha256": "b" * 64}],
    "provenance": {"model": "digits:1"},
}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, 1),  # the first release: no number, no counts
        ({"format": 2, "substituted": {"columns": {}, "rows": 2}}, 2),
        ({"format": 2, "substituted": None, "seconds": 0.5}, 2),  # a later one
    ],
    ids=["first", "present", "later"],
)
def test_finished_predictions_of_all_releases_are_recognised(fields, expected, tmp_path):
    predictions = b"as they were written"
    (tmp_path / "predictions.parquet").write_bytes(predictions)
    output = {
        "path": "predictions.parquet",
        "sha256": hashlib.sha256(predictions).hexdigest(),
        "bytes": len(predictions),
    }
    (tmp_path / "manifest.json").write_text(json.dumps({**MANIFEST, "output": output, **fields}))
    report = completed(tmp_path)
    assert (report.rows, report.format) == (2, expected)
    (tmp_path / "predictions.parquet").write_bytes(predictions[::-1])
    with pytest.raises(InputError, match="is not what its manifest describes"):
        completed(tmp_path)
