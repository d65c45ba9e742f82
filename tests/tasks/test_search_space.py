"""The section `tune` of params.yaml: what it may contain, and what is proposed without it."""

from pathlib import Path
from typing import Any, get_args

import pytest
from ruamel.yaml import YAML

from tasks import params as parameters
from tasks.config import Params, Tune
from tasks.config.architectures import Architecture
from tasks.config.writing import explained
from tasks.errors import InputError
from tasks.search_space import CHECKED, Space, assignments, proposed

BASE: dict[str, Any] = {
    "prepare": {"source": {"kind": "digits"}},
    "train": {"architecture": "cnn"},
    "evaluate": {"gates": {"accuracy": 0.5}},
    "registration": {"name": "digits"},
}
SGD = {"train.optimizer.name": {"choices": ["adamw", "sgd"]}}
MOMENTUM = {"low": 0.5, "high": 0.99, "when": {"train.optimizer.name": "sgd"}}


def space_of(found: dict[str, Any], **others: Any) -> Space:
    tune = parameters.validate({**BASE, "tune": {"parameters": found, **others}}, "p.yaml").tune
    return Space.of(BASE, tune, "p.yaml")


REFUSED = {
    "an unknown parameter": (
        {"train.optimizer.learning_rat": {"low": 0.1, "high": 0.2}},
        "unknown key; did you mean 'learning_rate'?",
    ),
    "a value that the parameter does not allow": (
        {"train.architecture.dropout": {"low": 0.0, "high": 1.0}},
        "with train.architecture.dropout=1.0: train.architecture.dropout: input should be less",
    ),
    "a choice that does not exist": (
        {"train.optimizer.name": {"choices": ["adamw", "sdg"]}},
        "'sdg' is not allowed; did you mean 'sgd'?",
    ),
    "a fraction for a whole number": (
        {"train.epochs": {"low": 1.5, "high": 4}},
        "should be a valid integer; given was 1.5",
    ),
    "choices that are invalid together": (
        {
            "train.architecture.name": {"choices": ["cnn", "mlp"]},
            "train.architecture.widths": {"choices": [[8], [16, 8]]},
        },
        "train.architecture.widths: unknown key",
    ),
    "a parameter of the data": (
        {"prepare.test": {"low": 0.1, "high": 0.3}},
        "only parameters of train can be varied",
    ),
    "the seed": ({"train.seed": {"low": 0, "high": 9}}, "the best of many seeds is luck"),
    "class weights": (
        {"train.imbalance": {"choices": ["none", "weights"]}},
        "what the validation loss measures",
    ),
    "a condition that is never met": (
        {"train.optimizer.momentum": MOMENTUM},
        "tune.parameters.train.optimizer.momentum: `when` is never met",
    ),
    "conditions in a circle": (
        {
            "train.epochs": {"low": 1, "high": 3, "when": {"train.patience": 5}},
            "train.patience": {"low": 1, "high": 5, "when": {"train.epochs": 3}},
        },
        "goes in a circle",
    ),
    "low above high": ({"train.epochs": {"low": 3, "high": 2}}, "low (3) must be less than high"),
    "log of zero": (
        {"train.label_smoothing": {"low": 0, "high": 0.1, "log": True}},
        "log needs low > 0",
    ),
    "a range and choices": (
        {"train.epochs": {"low": 3, "high": 5, "choices": [3]}},
        "give low and high, or choices, not both",
    ),
    "neither": ({"train.epochs": {"step": 2}}, "give low and high, or choices"),
    "the same choice twice": ({"train.batch_size": {"choices": [8, 8]}}, "are the same"),
    "a misspelt key": ({"train.epochs": {"lo": 1, "high": 2}}, "lo: unknown key; did you mean"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_mistake_in_the_search_space_is_one_message_that_says_what_is_wrong(case: str):
    found, words = REFUSED[case]
    with pytest.raises(InputError, match=r"p\.yaml") as caught:
        space_of(found)
    assert words in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_a_mistake_far_inside_a_large_space_is_found():
    others = {f"train.{n}": {"choices": [1, 2, 3, 4]} for n in ("epochs", "patience", "accumulate")}
    wrong = {"train.schedule.factor": {"choices": [0.1, 0.2, 0.3, 1.0]}}
    large = {**others, **wrong, "train.batch_size": {"choices": [2, 4, 8]}}
    assert CHECKED < 4**4 * 3
    with pytest.raises(InputError, match="factor: input should be less than 1"):
        space_of(large)


def test_a_parameter_with_a_condition_has_a_value_only_where_it_is_met():
    space = space_of({"train.optimizer.momentum": MOMENTUM, **SGD})
    for name in ("sgd", "adamw"):
        own = {"train.optimizer.name": name, "train.optimizer.momentum": 0.9}
        chosen = space.values(lambda parameter, _, own=own: own[parameter])
        assert ("train.optimizer.momentum" in chosen) == (name == "sgd")


def test_whole_numbers_are_recognised_by_the_parameter_and_not_by_how_a_range_is_written():
    space = space_of(
        {
            "train.epochs": {"low": 2, "high": 6},
            "train.clip": {"low": 1, "high": 5},
            "train.optimizer.learning_rate": {"low": 1, "high": 2},
        }
    )
    assert space.whole == {"train.epochs"}


def test_values_become_parameters_whatever_their_kind():
    space = space_of(
        {
            "train.architecture.name": {"choices": ["cnn", "mlp"]},
            "train.architecture.widths": {
                "choices": [[8], [16, 8]],
                "when": {"train.architecture.name": "mlp"},
            },
            "train.optimizer.learning_rate": {"low": 1e-5, "high": 0.1, "log": True},
        }
    )
    stored = {
        "train.architecture.name": "mlp",
        "train.architecture.widths": "[16, 8]",
        "train.optimizer.learning_rate": 1e-05,
    }
    values = space.decoded(stored)
    params = parameters.validate(parameters.override(BASE, assignments(values)), "")
    assert params.train.architecture.name == "mlp"
    assert params.train.architecture.widths == [16, 8]
    assert params.train.optimizer.learning_rate == 1e-05


def networks() -> list[str]:
    members = get_args(get_args(Architecture)[0])
    return [get_args(member.model_fields["name"].annotation)[0] for member in members]


@pytest.mark.parametrize("network", networks())
def test_what_is_proposed_is_valid_for_every_architecture(network: str):
    task = "language_model" if network == "transformer_lm" else "classification"
    task = "regression" if network == "linear" else task
    gates = {"classification": "accuracy", "regression": "r2", "language_model": "perplexity"}
    data = {
        **BASE,
        "prepare": {"source": {"kind": "digits"}, "task": task},
        "train": {"architecture": network},
        "evaluate": {"gates": {gates[task]: 0.5}},
    }
    space = Space.of(data, Tune(), "p.yaml")
    assert len(space.dimensions) >= 3
    of_network = [name for name in space.dimensions if name.startswith("train.architecture")]
    assert network != "auto" or not of_network


@pytest.mark.parametrize(
    ("key", "having"),
    [
        ("widths", "one that has it: mlp, tabular, resnet, resnet_d, conv1d"),
        ("hidden", "one that has it: rnn, lstm, gru"),
        ("preset", "a network"),
    ],
)
def test_for_auto_a_parameter_of_a_network_is_refused_with_the_networks_that_have_it(key, having):
    data = {**BASE, "train": {"architecture": "auto"}}
    tune = Tune.model_validate({"parameters": {f"train.architecture.{key}": {"choices": [[8]]}}})
    with pytest.raises(InputError) as caught:
        Space.of(data, tune, "p.yaml")
    assert f"auto chooses the network and its parameters, and has no {key!r}. " in str(caught.value)
    assert str(caught.value).endswith(f"set train.architecture.name to {having}")


def test_params_without_the_section_are_valid_and_no_stage_needs_it(tmp_path: Path):
    path = tmp_path / "params.yaml"
    with path.open("w") as file:
        YAML(typ="safe", pure=True).dump({**BASE, "export": {}}, file)
    before = path.read_bytes()
    parameters.add_missing_sections(path)
    assert path.read_bytes() == before
    assert parameters.load(path).tune == Tune()


def test_a_written_search_space_is_read_as_it_was():
    params = Params.model_validate(BASE)
    params = params.model_copy(update={"tune": Tune(parameters=proposed(params), trials=7)})
    text = explained(params)
    assert "    train.batch_size: {choices: [32, 64, 128]}\n" in text
    assert Params.model_validate(YAML(typ="safe").load(text)) == params
