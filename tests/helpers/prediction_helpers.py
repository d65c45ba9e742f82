"""Input files as a batch job encodes them, and batch jobs without a registry."""

import pyarrow.parquet as pq

from tasks import input_rows, inputs
from tasks.bundle.signature import Signature
from tasks.columns import SourceLocation
from tasks.dataset import KEY
from tasks.predict import How, predict

PROVENANCE = {"model": "digits:3", "digest": "d" * 64, "job": 17}
_NAMES = ("model.onnx", "signature.json", "tokenizer.json", "profile.json")


def encoded_batches(file, encoder, size):
    """The keys (None where a file has none) and tensors of up to `size` rows at a time."""
    first = inputs.first_row(file)
    for rows in input_rows.rows(file, encoder.signature, size):
        arrays = encoder.encode(rows, SourceLocation(str(file.path), first))
        first += rows.num_rows
        yield rows[KEY] if KEY in rows.schema.names else None, arrays


def files_of(bundle):
    """The files of a bundle that decide predictions, and its reference for drift, by name."""
    return {name: bundle / name for name in _NAMES if (bundle / name).exists()}


def predict_paths(bundle, paths, output, *, device="cpu", provenance=PROVENANCE, **options):
    """Run a job on files and folders. Returns its report and the table of predictions.

    `how` and `options` are those of `tasks.predict.predict`.
    """
    files = inputs.find(paths, Signature.read(bundle / "signature.json"))
    how = options.pop("how", None) or How(device=device)
    given = {"output": output, "provenance": provenance, "how": how, **options}
    return predict(files_of(bundle), files, **given), pq.read_table(output / "predictions")
