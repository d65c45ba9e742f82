"""Every architecture with every kind of data, from raw data to predictions."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sample_data
from amounts import usual
from network_helpers import check_at_other_sizes, open_quietly
from path_helpers import register

from flows.job import run_job
from tasks import params
from tasks.architectures import ARCHITECTURES
from tasks.bundle.signature import Signature
from tasks.checkpoint import load
from tasks.inputs import find
from tasks.pipeline import STEPS
from tasks.workspace import Workspace

CASES = [
    (name, kind, task)
    for name, entry in ARCHITECTURES.items()
    for kind in sorted({column.data for column in entry.fronts})
    for task in sorted(entry.tasks)
]


def one_for_each_pair(cases: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Each architecture with each kind of data once: 23 of 63 cases. Every kind gets every task.

    The tasks of one architecture differ only in the last layer and the loss, and
    `tasks/test_architectures.py` builds all cases.
    """
    tasks, times = {}, Counter()
    for name, kind, task in cases:
        tasks.setdefault((name, kind), []).append(task)
    chosen = []
    for (name, kind), possible in sorted(tasks.items(), key=lambda item: len(item[1])):
        task = min(possible, key=lambda task: times[kind, task])
        times[kind, task] += 1
        chosen.append((name, kind, task))
    return chosen


# Gates after a few epochs: clearly better than chance.
GATES = {
    "binary": {"accuracy": 0.6},
    "multiclass": {"accuracy": 0.45},
    "regression": {"r2": 0.2},
    "language_model": {"perplexity": 12.0},
}


def resolved(name: str, kind: str, task: str, root: Path) -> params.Params:
    data = {
        "prepare": sample_data.make(kind, task, root),
        "train": {
            "architecture": ARCHITECTURES[name].debug.model_dump(),
            "epochs": 12,
            "batch_size": 16,
            "optimizer": {"learning_rate": 0.02},
            "device": "cpu",
        },
        "evaluate": {"gates": GATES[task]},
        "registration": {"name": "sample"},
    }
    return params.validate(data, "test")


@pytest.mark.parametrize(
    ("name", "kind", "task"), usual(one_for_each_pair(CASES), CASES), ids=lambda word: word
)
def test_prepare_to_predict_for_every_architecture_and_kind(name, kind, task, tmp_path):
    given = resolved(name, kind, task, tmp_path)
    workspace = Workspace(tmp_path)
    for step in STEPS.values():
        step.run(given, workspace)

    evaluation = json.loads((workspace.bundle / "evaluation.json").read_bytes())
    assert evaluation["passed"], (evaluation["gates"], evaluation["parity"])
    assert not workspace.resume.exists()
    network, _ = load(workspace.checkpoint)
    session = open_quietly((workspace.bundle / "model.onnx").read_bytes())
    check_at_other_sizes(network.eval(), session, longest=10)
    raw = tmp_path / given.prepare.source.path
    with register(workspace) as registry:
        version = registry.resolve("sample")
        for place, path in (("test", workspace.prepared / "test.arrow"), ("raw", raw)):
            run_job(registry, version, find([path]), tmp_path / place)

    table, every = (pq.read_table(tmp_path / p / "predictions") for p in ("test", "raw"))
    with pa.memory_map(str(workspace.prepared / "test.arrow")) as stored:
        test = pa.ipc.open_file(stored).read_all()
    assert table["key"].to_pylist() == test["key"].to_pylist()
    check_predictions(table, test, evaluation["metrics"]["summary"], workspace)
    # The raw file has no keys; its rows get the same predictions as the prepared rows.
    assert every.num_rows == sample_data.ROWS
    same = every.take(table["key"])
    last = table.column_names[-1]  # the score, or the predicted number
    assert same[last].to_numpy() == pytest.approx(table[last].to_numpy(), abs=1e-4)


def check_predictions(table, test, metrics, workspace) -> None:
    """The metrics of the predictions equal those of the evaluation."""
    signature = Signature.read(workspace.bundle / "signature.json")
    predicted = table["prediction"].to_numpy()
    if signature.classifies:
        right = predicted == np.array(test["target"].to_pylist(), object)
        assert right.mean() == pytest.approx(metrics["accuracy"])
        assert 1 / len(signature.classes) <= table["score"].to_numpy().min()
    elif signature.task == "regression":
        errors = np.abs(predicted - test["target"].to_numpy())
        assert errors.mean() == pytest.approx(metrics["mae"], rel=1e-4)
    else:
        # The perplexity of the split is a weighted mean of those of its texts.
        assert predicted.dtype == object
        scores = table["score"].to_numpy()
        assert scores.min() < metrics["perplexity"] < scores.max()
