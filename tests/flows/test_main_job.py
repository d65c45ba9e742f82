"""The main job, `modelmint run` with the default parameters, from raw digits to predictions."""

import json

import pyarrow.parquet as pq
import pytest
from projects import Project, make_project


@pytest.fixture(scope="module")
def clone(main_job) -> Project:
    return main_job.project


@pytest.fixture(scope="module")
def first(main_job) -> dict:
    return main_job.document


def test_digits_accuracy_and_macro_f1_reach_98_percent(first):
    metrics = first["training"]["metrics"]
    assert metrics["accuracy"] >= 0.98
    assert metrics["macro_f1"] >= 0.98


def test_the_test_split_has_20_percent_of_the_rows(clone, first):
    report = json.loads((clone.root / "data/prepared/report.json").read_bytes())
    assert report["rows"]["test"] >= 0.2 * sum(report["rows"].values())


def test_run_promotes_the_first_version_and_predicts_every_row(first):
    training, job = first["training"], first["job"]
    assert (training["version"], training["champion"]) == ("digits:1", "digits:1")
    assert training["created"]
    assert training["promoted"]
    table = pq.read_table(job["output"])
    assert table.num_rows == job["rows"] == 360
    assert table.schema.metadata[b"modelmint.digest"].decode() == training["digest"]


def test_a_second_run_trains_and_registers_nothing(clone, first):
    second = json.loads(clone.modelmint("run", "--json").stdout)
    stages = {s["name"]: s["how"] for s in second["training"]["steps"]}
    assert {stages[n] for n in ("prepare", "train", "evaluate", "export")} == {"Fresh"}
    assert second["training"]["digest"] == first["training"]["digest"]
    assert not second["training"]["created"]
    assert second["job"]["fresh"]
    (model,) = json.loads(clone.modelmint("models", "list", "--json").stdout)
    assert model["last_version"] == 1
    assert json.loads(clone.modelmint("models", "gc", "--dry-run", "--json").stdout) == []


def test_dvc_repro_after_the_flow_runs_no_stage(clone, first):
    lock = (clone.root / "dvc.lock").read_bytes()
    printed = clone.run("dvc", "repro").stdout
    assert "Running stage" not in printed
    assert (clone.root / "dvc.lock").read_bytes() == lock
    assert "up to date" in clone.run("dvc", "status").stdout


def test_dvc_repro_and_the_flow_give_the_same_bytes(clone, tmp_path):
    two_epochs = {"train": {"epochs": 2}, "evaluate": {"gates": {"accuracy": 0.5}}}
    by_flow, by_dvc = (make_project(tmp_path / name, two_epochs) for name in ("flow", "dvc"))
    for made in (by_flow, by_dvc):
        made.environment |= clone.environment
        (made.root / "dvc.lock").unlink(missing_ok=True)
    trained = by_flow.train()
    by_dvc.run("dvc", "repro")
    assert _stages(by_dvc.root / "dvc.lock") == _stages(by_flow.root / "dvc.lock")
    outcome = by_dvc.train()
    assert {s["how"] for s in outcome["steps"][1:5]} == {"Fresh"}
    assert outcome["digest"] == trained["digest"]
    assert outcome["created"]


def _stages(lock):
    from ruamel.yaml import YAML

    return YAML(typ="safe").load(lock.read_text())["stages"]


def test_the_summary_of_run_names_dataset_metrics_gates_and_outputs(main_job, first):
    shown = main_job.summary
    for word in (
        first["training"]["dataset"],
        first["training"]["digest"],
        "cnn",
        "accuracy",
        "macro F1",
        "gate",
        "parity",
        "digits:1",
        "champion",
        "360 rows",
        first["job"]["output"],
        "took: train",
        "Next:",
    ):
        assert word in shown


def test_lineage_has_commit_dataset_flow_run_and_libraries(clone, first):
    version = json.loads(clone.modelmint("models", "show", "digits", "--json").stdout)
    head = clone.run("git", "rev-parse", "HEAD").stdout.strip()
    lineage = version["lineage"]
    assert lineage["git_commit"] == head
    assert lineage["dataset"] == first["training"]["dataset"]
    assert lineage["flow_run_id"] == first["training"]["flow_run_id"]
    assert lineage["libraries"]["torch"]
    assert version["params"]["train"]["architecture"]["channels"] == [32, 64]
