"""Batch jobs compared with their model's training, with and without a graph."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hand_made import classifier
from registry_helpers import make_candidate

from tasks import inputs
from tasks.bundle.files import IDENTITY
from tasks.bundle.signature import Signature
from tasks.columns import SourceLocation
from tasks.config import Prepare
from tasks.counts import Counts
from tasks.drift.comparing import compare
from tasks.drift.counting import Tally
from tasks.drift.reference import Reference, with_predictions
from tasks.drift.report import DriftReport
from tasks.encoding import Encoder
from tasks.predict import How, predict
from tasks.prepare import prepare

PROVENANCE = {"model": "m:1", "digest": "d" * 64, "job": 1}


class Trained:
    """A prepared dataset, as the model of a job would have it."""

    def __init__(self, folder, table, source=None, **parameters):
        folder.mkdir(parents=True, exist_ok=True)
        if table is not None:
            pq.write_table(pa.table(table), folder / "table.parquet")
        given = {"kind": "tabular", "path": "table.parquet", "target": "y", **(source or {})}
        self.folder = folder / "prepared"
        prepare(Prepare(source=given, **parameters), root=folder, prepared=self.folder)
        self.encoder = Encoder.read(self.folder)
        self.signature = self.encoder.signature
        self.profile = json.loads((self.folder / "profile.json").read_bytes())
        self.reference = Reference.of(self.profile, self.signature)

    def job(self, table, chunk=1_000, outputs=None):
        """The report of a job with these rows, without predictions unless `outputs` has them."""
        rows = pa.table(table).combine_chunks()
        tally, counts = Tally(self.reference), Counts()
        encoder = Encoder(self.signature, self.encoder.tokenizer, counts, tally.add_column)
        for batch in rows.to_batches(max_chunksize=chunk):
            encoder.encode(batch, SourceLocation("new.parquet"))
        if outputs is not None:
            tally.add_predictions(outputs)
        return compare(
            self.reference,
            tally.counts,
            counts.columns,
            rows=rows.num_rows,
            provenance=PROVENANCE,
        )

    def bundle(self, folder, right=400):
        """A bundle with a graph written by hand, whose profile knows its predictions of 500 rows
        of the training, of which so many are right."""
        made = classifier(folder, self.signature.columns, self.encoder.tokenizer)
        outputs = {"probabilities": np.tile(np.array([[0.4, 0.6]], np.float32), (500, 1))}
        targets = np.arange(500) < right
        signature = Signature.read(made / "signature.json")
        document = with_predictions(self.profile, signature, outputs, targets.astype(np.int64))
        (made / "profile.json").write_text(json.dumps(document))
        return made


def register(registry, bundle, folder, **given):
    """Register the files of a bundle, by name, as the next version of `tiny`."""
    signature = json.loads(bundle["signature.json"].read_bytes())
    given |= {"files": bundle, "identity": IDENTITY & bundle.keys(), "signature": signature}
    registry.register("tiny", make_candidate(folder, **given), actor="ada")


def predicted(bundle, source, output, **options):
    """A job over a file, with everything that a registered version has. Returns its manifest's
    content and the report of drift."""
    names = ("model.onnx", "signature.json", "tokenizer.json", "profile.json")
    files = {name: bundle / name for name in names if (bundle / name).exists()}
    found = inputs.find([source], Signature.read(files["signature.json"]))
    given = {"how": How(device="cpu"), **options}
    report = predict(files, found, output=output, provenance=PROVENANCE, **given)
    return report, DriftReport.read(output / "drift.json")


def moved(report):
    """What moved, by name: the measures that are not as they were."""
    return {
        part.name: {m.name for m in part.measures if m.verdict in ("watch", "drifted")}
        for part in report.moved
    }
