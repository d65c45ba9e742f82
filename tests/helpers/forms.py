"""Prepares, trains, exports and predicts the same rows from every file format.

`python tests/helpers/forms.py FILE.parquet TARGET [JSON of prepare]` does so with your own
table and prints the differences between splits, metrics and predictions.
"""

import csv
import datetime
import gzip
import json
import math
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from prediction_helpers import predict_paths

from tasks import params
from tasks.config import Prepare
from tasks.pipeline import STEPS
from tasks.prepare import prepare
from tasks.workspace import Workspace

FORMS = ("in.csv", "semicolon.csv", "in.jsonl", "in.parquet", "in.arrow", "in.csv.gz")
SPLITS = ("train.arrow", "validation.arrow", "test.arrow")


def write(table, folder):
    """`table` in all of `FORMS`, as other programs write them."""
    rows = table.to_pylist()
    for name, delimiter, sign in (("in.csv", ",", "."), ("semicolon.csv", ";", ",")):
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter=delimiter)
            writer.writerow(table.column_names)
            writer.writerows([_field(value, sign) for value in row.values()] for row in rows)
    (folder / "in.csv.gz").write_bytes(gzip.compress((folder / "in.csv").read_bytes(), mtime=0))
    lines = [json.dumps({n: _json(v) for n, v in row.items()}, ensure_ascii=False) for row in rows]
    (folder / "in.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    pq.write_table(table, folder / "in.parquet")
    with (
        pa.OSFile(str(folder / "in.arrow"), "wb") as sink,
        pa.ipc.new_file(sink, table.schema) as writer,
    ):
        writer.write_table(table)


def _field(value, sign):
    value = _json(value)
    if isinstance(value, float):
        return repr(value).replace(".", sign)
    return "" if value is None else str(value)


def _json(value):
    if isinstance(value, datetime.date):  # also one with a time
        return value.isoformat()
    return None if isinstance(value, float) and math.isnan(value) else value


def prepared(folder, name, **section):
    """The bytes of each split that `prepare` writes for one format."""
    source = {"kind": "tabular", "path": name, **section.pop("source")}
    output = folder / f"prepared-{name}"
    prepare(Prepare.model_validate({"source": source, **section}), root=folder, prepared=output)
    return {split: (output / split).read_bytes() for split in SPLITS}


def whole_path(folder, name, **section):
    """Splits, metrics and predictions for all `FORMS` of a small network trained on `name`."""
    source = {"kind": "tabular", "path": name, **section.pop("source")}
    given = params.validate(
        {
            "prepare": {"source": source, **section},
            "train": {"architecture": "mlp", "epochs": 5, "batch_size": 32, "device": "cpu"},
            "evaluate": {"gates": {}},
            "registration": {"name": "forms"},
        },
        "forms",
    )
    root = folder / f"run-{name}"
    root.mkdir()
    (root / name).symlink_to(folder / name)
    workspace = Workspace(root)
    for step in STEPS.values():
        step.run(given, workspace)
    evaluation = json.loads((workspace.bundle / "evaluation.json").read_bytes())
    answers = []
    for form in FORMS:
        _, table = predict_paths(workspace.bundle, [folder / form], root / f"predicted-{form}")
        answers.append(table.to_pydict())
    splits = {split: (workspace.prepared / split).read_bytes() for split in SPLITS}
    return splits, evaluation["metrics"]["summary"], answers


def compare(table, target, folder, trained=FORMS, **section):
    """Train on each of `trained` and predict all `FORMS`. Returns the differences and the metrics.

    There should be no differences.
    """
    write(table, folder)
    section["source"] = {"target": target, **section.get("source", {})}
    found = {
        name: whole_path(folder, name, **{**section, "source": dict(section["source"])})
        for name in trained
    }
    splits, metrics, answers = found[trained[0]]
    wrong = [f"{name}: other splits" for name in trained if found[name][0] != splits]
    wrong += [f"{name}: other metrics" for name in trained if found[name][1] != metrics]
    for name in trained:
        for form, answer in zip(FORMS, found[name][2], strict=True):
            if answer != answers[0]:
                wrong.append(f"trained on {name}, predicted on {form}: other predictions")
    return wrong, metrics


if __name__ == "__main__":
    rows = pq.read_table(sys.argv[1])
    extra = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}
    with tempfile.TemporaryDirectory() as scratch:
        different, measured = compare(rows, sys.argv[2], Path(scratch), **extra)
    print(json.dumps({"rows": rows.num_rows, "different": different, "metrics": measured}))
