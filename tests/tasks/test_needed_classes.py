"""A parameter for two classes is refused before the training, if the data have more."""

import re

import pytest
from training_helpers import make_prepared

from tasks.config import Params
from tasks.errors import InputError
from tasks.pipeline import STEPS
from tasks.workspace import Workspace


def params(**changes):
    document = {
        "prepare": {"source": {"kind": "digits"}},
        "train": {"architecture": "logistic"},
        "evaluate": {"gates": {"accuracy": 0.5}},
        "registration": {"name": "a"},
    }
    for name, value in changes.items():
        document[name] = document[name] | value
    return Params.model_validate(document)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evaluate": {"gates": {"macro_f1": 0.5}, "threshold": "auto"}}, "threshold: auto"),
        ({"evaluate": {"gates": {"macro_f1": 0.5}, "threshold": 0.3}}, "threshold: 0.3"),
        ({"evaluate": {"gates": {"accuracy": 0.5, "roc_auc": 0.9}}}, "gates: roc_auc"),
        ({"evaluate": {"gates": {"average_precision": 0.9}}}, "gates: average_precision"),
        ({"registration": {"metric": "roc_auc"}}, "metric: roc_auc"),
    ],
)
def test_the_step_train_refuses_it_and_writes_nothing(changes, message, tmp_path):
    workspace = Workspace(tmp_path)
    make_prepared(workspace.prepared, "tabular", "multiclass")
    before = sorted(tmp_path.rglob("*"))
    whole = rf"{re.escape(message)} is for two classes, and these data have 3\. Remove it from"
    with pytest.raises(InputError, match=whole):
        STEPS["train"].run(params(**changes), workspace)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("task", "changes"),
    [
        ("binary", {"evaluate": {"gates": {"roc_auc": 0.9}, "threshold": "auto"}}),
        ("multiclass", {"evaluate": {"gates": {"macro_f1": 0.9}}}),
        ("multiclass", {"registration": {"metric": "log_loss"}}),
        ("regression", {"prepare": {"task": "regression"}, "evaluate": {"gates": {"r2": 0}}}),
    ],
)
def test_what_applies_is_not_refused(task, changes, tmp_path):
    workspace = Workspace(tmp_path)
    make_prepared(workspace.prepared, "tabular", task)
    STEPS["train"].check(params(**changes), workspace)
