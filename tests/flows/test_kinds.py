"""The training flow on a user's own data of several kinds."""

import json

import pyarrow.parquet as pq
import pytest
import sample_data
from projects import Project
from ruamel.yaml import YAML

from tasks.architectures import ARCHITECTURES
from tasks.inputs import find


def write_raw_data(project: Project, kind: str, task: str) -> dict:
    """Write raw data to data/raw. Returns the section `prepare` that reads it."""
    raw = project.root / "data/raw"
    section = sample_data.make(kind, task, raw)
    section["source"]["path"] = f"data/raw/{section['source']['path']}"
    return section


def debug_params(name: str, gates: dict, model: str, prepare: dict, **train: object) -> dict:
    architecture = ARCHITECTURES[name].debug.model_dump()
    if "layers" in architecture:
        architecture["layers"] = 1  # `test_whole_path.py` exports stacks of layers
    learning = {"epochs": 8, "batch_size": 16, "optimizer": {"learning_rate": 0.02}}
    return {
        "prepare": prepare,
        "train": {"architecture": architecture, **learning, **train},
        "evaluate": {"gates": gates},
        "export": {},
        "registration": {"name": model},
    }


def write_params(project: Project, name: str, params: dict) -> str:
    with (project.root / name).open("w") as file:
        YAML(typ="safe", pure=True).dump(params, file)
    return name


@pytest.mark.release  # test_readme.py: a table; test_whole_path.py: the steps on every kind of data
@pytest.mark.parametrize(
    ("kind", "task", "architecture", "gates"),
    [
        ("tabular", "regression", "linear", {"r2": 0.2}),
        ("sequence", "binary", "gru", {"accuracy": 0.6, "roc_auc": 0.6}),
    ],
)
def test_train_and_predict_work_on_a_users_own_data(project, kind, task, architecture, gates):
    params = debug_params(architecture, gates, "own", write_raw_data(project, kind, task))
    write_params(project, "params.yaml", params)
    outcome = project.train()
    assert outcome["version"] == "own:1"
    assert outcome["promoted"]
    assert (project.root / f"{params['prepare']['source']['path']}.dvc").exists()
    raw = project.root / params["prepare"]["source"]["path"]
    project.modelmint("predict", "own", str(raw), "--output", "out")
    table = pq.read_table(project.root / "out/predictions")
    assert table.num_rows == find([raw])[0].rows == sample_data.ROWS
    # Again: no stage is stale, and no second version is registered.
    again = project.train()
    assert {s["how"] for s in again["steps"] if s["name"] in ("prepare", "train")} == {"Fresh"}
    assert (again["version"], again["created"]) == ("own:1", False)
    stages = ("prepare", "train", "evaluate", "export")
    assert "up to date" in project.run("dvc", "status", *stages).stdout


@pytest.mark.release  # cli/test_models_cli.py: the flow; tasks/test_init_from.py: the weights
def test_init_from_trains_a_classifier_from_a_registered_language_model(project: Project):
    prepare = write_raw_data(project, "text", "multiclass")
    lm = debug_params("transformer_lm", {"perplexity": 30.0}, "texts-lm", prepare)
    first = project.train("--params", write_params(project, "lm.yaml", lm))
    assert first["version"] == "texts-lm:1"
    assert first["headline"] == ["perplexity"]

    params = debug_params("transformer", {"accuracy": 0.4}, "texts", prepare, init_from="texts-lm")
    write_params(project, "fine.yaml", params)
    printed = project.modelmint("train", "--params", "fine.yaml", "--json")
    outcome = json.loads(printed.stdout)
    # The same prepared dataset and tokenizer, so the language model saw no text of the test split.
    assert outcome["dataset"] == first["dataset"]
    assert "starts from the weights of texts-lm:1" in printed.stderr
    version = json.loads(project.modelmint("models", "show", "texts", "--json").stdout)
    (stored,) = [a for a in version["artifacts"] if a["path"] == "lineage.json"]
    blob = next((project.root / "artifacts").rglob(stored["sha256"]))
    assert json.loads(blob.read_bytes())["parent"] == {
        "ref": "texts-lm:1",
        "digest": first["digest"],
    }


def test_init_from_a_missing_version_exits_with_status_2(trained: Project):
    outcome = trained.train("-S", "train.init_from=nobody", status=2)
    assert "nobody" in outcome["message"]
