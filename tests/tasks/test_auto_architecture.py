"""`train.architecture: auto` is a network by the columns and rows, by the rules of `new`."""

import json

import pytest

from tasks.checkpoint import load
from tasks.config import Train
from tasks.errors import InputError
from tasks.recipes import Seen, network
from tasks.training.choice import with_network
from tests.helpers.training_helpers import make_prepared, run, written

AUTO = {"architecture": "auto", "epochs": 1, "device": "cpu"}


@pytest.mark.parametrize(
    ("data", "rows", "columns", "characters", "size", "expected"),
    [
        ("tabular", 100, 10, False, (0, 0), {"name": "tabular"}),
        ("tabular", 99, 10, False, (0, 0), {"name": "tabular", "periodic": 0}),
        ("text", 50, 1, False, (0, 0), {"name": "bag", "ngrams": 2}),
        ("text", 50, 1, True, (0, 0), {"name": "bag", "ngrams": 3}),
        ("image", 50, 1, False, (4, 32), {"name": "cnn"}),
        ("image", 50, 1, False, (3, 32), {"name": "resnet_d"}),
        ("image", 50, 1, False, (4, 33), {"name": "resnet_d"}),
        ("sequence", 50, 1, False, (0, 0), {"name": "conv1d"}),
    ],
)
def test_the_rule_for_each_kind_of_data(data, rows, columns, characters, size, expected):
    assert network(data, Seen(rows, columns, characters, size)) == expected


@pytest.mark.parametrize(
    ("kind", "task", "name"),
    [
        ("tabular", "regression", "tabular"),
        ("text", "binary", "bag"),
        ("text", "language_model", "transformer_lm"),
        ("image", "multiclass", "cnn"),
        ("sequence", "binary", "conv1d"),
    ],
)
def test_auto_trains_that_network_and_the_checkpoint_names_it(kind, task, name, tmp_path, capsys):
    folder = make_prepared(tmp_path / "data", kind, task)
    report, _ = run(Train(**AUTO), tmp_path / "auto", folder)
    printed = capsys.readouterr().out
    chosen = with_network(Train(**AUTO), folder).architecture
    assert (report.architecture, chosen.name) == (name, name)
    assert f"train.architecture: auto is {{name: {name}" in printed
    config = load(tmp_path / "auto" / "checkpoint")[1]
    assert config["architecture"] == config["parameters"]["architecture"] == chosen.model_dump()
    # The same bytes as with the network by its name.
    run(Train(**AUTO | {"architecture": chosen}), tmp_path / "named", folder)
    assert written(tmp_path / "auto") == written(tmp_path / "named")


def test_a_network_by_name_stays_as_it_is(tmp_path):
    given = Train(**AUTO | {"architecture": "logistic"})
    assert with_network(given, tmp_path) is given


def test_a_mixture_of_columns_has_no_rule(tmp_path):
    folder = make_prepared(tmp_path / "data", "tabular", "binary")
    texts = make_prepared(tmp_path / "texts", "text", "binary")
    file = folder / "signature.json"
    document = json.loads(file.read_text())
    document["columns"].append({"name": "note", "kind": "text", "vocabulary": 9, "max_length": 5})
    file.write_text(json.dumps(document))
    (folder / "tokenizer.json").write_bytes((texts / "tokenizer.json").read_bytes())
    with pytest.raises(InputError, match="auto has no network for tabular and text data"):
        with_network(Train(**AUTO), folder)
