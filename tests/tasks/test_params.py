"""Reading, overriding and validating params.yaml."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args, get_origin

import pytest
from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML

from cli import parameters as listing
from tasks import params
from tasks.config import Logistic, Mlp, Params
from tasks.config.describing import parameters
from tasks.errors import InputError

ROOT = Path(__file__).parents[2]
SMALL = """
prepare: {source: {kind: digits}}
train: {architecture: {name: cnn, channels: [4], dropout: 0.1}}
evaluate: {gates: {accuracy: 0.9}}
registration: {name: digits}
"""


@pytest.fixture
def small(tmp_path):
    """A small params file with only the required keys."""
    path = tmp_path / "params.yaml"
    path.write_text(SMALL)
    return path


def refusal(path, *assignments):
    with pytest.raises(InputError) as caught:
        params.load(path, assignments)
    return str(caught.value)


@pytest.mark.parametrize(
    "path", [ROOT / "params.yaml", *ROOT.glob("examples/*.yaml")], ids=lambda path: path.name
)
def test_params_yaml_and_examples_are_valid_and_have_gates(path):
    assert params.load(path).evaluate.gates


def test_keys_beside_a_preset_override_it(small):
    chosen = params.load(small, ["train.architecture=lenet"]).train.architecture
    assert (chosen.name, chosen.channels, chosen.dense) == ("cnn", [6, 16], [120, 84])
    wider = ["train.architecture.name=vit", "train.architecture.width=96"]
    chosen = params.load(small, wider).train.architecture
    assert (chosen.name, chosen.width, chosen.layers) == ("transformer", 96, 4)


def test_group_and_time_cannot_be_combined(small):
    said = refusal(small, "prepare.group=patient", "prepare.time=visit")
    assert said.startswith("params.yaml: prepare: group and time cannot be combined; set only one")


def test_a_file_is_read_into_typed_sections_with_defaults(small):
    read = params.load(small)
    assert read.train.architecture.channels == [4]
    assert read.train.architecture.dense == [128]
    assert read.evaluate.gates == {"accuracy": 0.9}
    assert read.export.opset == 20


def test_an_override_changes_one_value_and_no_other(small):
    plain, changed = params.load(small), params.load(small, ["train.epochs=3"])
    assert changed.train.epochs == 3
    assert plain.train.epochs != 3
    train = plain.train.model_copy(update={"epochs": 3})
    assert changed == plain.model_copy(update={"train": train})


def test_an_override_creates_missing_sections(small):
    read = params.load(
        small,
        ["train.optimizer.name=sgd", "train.optimizer.learning_rate=0.5", "export.opset=18"],
    )
    assert (read.train.optimizer.name, read.train.optimizer.learning_rate) == ("sgd", 0.5)
    assert read.export.opset == 18


def test_override_does_not_change_its_argument(small):
    data = params.read(small)
    params.override(data, ["train.architecture.channels=[9]", "evaluate.gates.accuracy=0.1"])
    assert data == params.read(small)


def test_the_last_override_of_a_key_wins(small):
    assert params.load(small, ["train.seed=1", "train.seed=2"]).train.seed == 2


def test_an_override_value_may_be_a_list_or_contain_an_equals_sign(small):
    read = params.load(small, ["train.architecture.channels=[1, 2]", "prepare.source.path=a=b.gz"])
    assert read.train.architecture.channels == [1, 2]
    assert read.prepare.source.path == "a=b.gz"


@pytest.mark.parametrize("text", ["1e-3", "1.0e-3", "0.001", "1E-3"])
def test_floats_are_parsed_as_yaml_1_2(small, text):
    override = f"train.optimizer.learning_rate={text}"
    assert params.load(small, [override]).train.optimizer.learning_rate == 0.001
    small.write_text(SMALL + f"export: {{tolerance: {text}}}\n")
    assert params.load(small).export.tolerance == 0.001


def test_yaml_1_1_booleans_such_as_on_are_strings(small):
    assert params.load(small, ["registration.name=on"]).registration.name == "on"


def test_a_bare_architecture_name_uses_its_defaults(small):
    small.write_text(SMALL.replace("{name: cnn, channels: [4], dropout: 0.1}", "mlp"))
    assert params.load(small).train.architecture == Mlp(name="mlp")
    assert params.load(small, ["train.architecture=logistic"]).train.architecture == Logistic(
        name="logistic"
    )


def test_a_bare_architecture_name_can_be_overridden(small):
    small.write_text(SMALL.replace("{name: cnn, channels: [4], dropout: 0.1}", "mlp"))
    wider = params.load(small, ["train.architecture.widths=[3]"])
    assert wider.train.architecture == Mlp(name="mlp", widths=[3])
    other = params.load(small, ["train.architecture.name=logistic"])
    assert other.train.architecture == Logistic(name="logistic")


def test_overriding_the_architecture_drops_its_former_keys(small):
    read = params.load(small, ["train.architecture.name=mlp", "train.architecture.widths=[5]"])
    assert read.train.architecture == Mlp(name="mlp", widths=[5])


def test_overriding_with_the_same_architecture_keeps_its_keys(small):
    read = params.load(small, ["train.architecture.name=cnn"])
    assert read.train.architecture.channels == [4]


def test_overriding_the_source_kind_drops_its_former_keys(small):
    path = "prepare: {source: {kind: digits, path: old.gz}}"
    small.write_text(SMALL.replace("prepare: {source: {kind: digits}}", path))
    message = refusal(small, "prepare.source.kind=image")
    assert message == "params.yaml: prepare.source.path: required, but missing"


def test_overriding_the_registration_name_keeps_its_metric(small):
    small.write_text(SMALL.replace("{name: digits}", "{name: digits, metric: accuracy}"))
    read = params.load(small, ["registration.name=numbers"])
    assert (read.registration.name, read.registration.metric) == ("numbers", "accuracy")


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("train.epoch=3", "train.epoch: unknown key; did you mean 'epochs'? allowed: archit"),
        (
            "train.keep.epochs=3",
            "train.keep: this parameter is now called train.checkpoint; rename it",
        ),
        ("trian.epochs=3", "trian: unknown key; did you mean 'train'? allowed: prepare, train, ev"),
        ("train.zzz=3", "train.zzz: unknown key; allowed: architecture, seed, epochs, patience"),
        (
            "train.architecture.chanels=[3]",
            "train.architecture.chanels: unknown key; did you mean 'channels'? "
            "allowed: name, channels, convolutions, kernel, padding, batch_norm, dense, dropout",
        ),
        (
            "train.architecture.name=cnnn",
            "train.architecture: unknown 'name' 'cnnn'; did you mean 'cnn'? "
            "allowed: auto, linear, logistic, mlp, tabular, cnn, resnet, resnet_d, bag, "
            "conv1d, inception, rnn, lstm, gru, attention, transformer, transformer_lm, lenet, vit",
        ),
        (
            "train.architecture=boosting",
            "train.architecture: unknown 'name' 'boosting'; allowed: auto, linear, logistic, mlp",
        ),
        (
            "train.architecture={name: conv1d, widths: [8, 16]}",
            "train.architecture: widths has 2 numbers and kernels 3; give one number for each",
        ),
        (
            "train.architecture={name: inception, kernels: [9, 4]}",
            "train.architecture.kernels.1: give an odd number",
        ),
        (
            "train.architecture={name: resnet, widths: [8, 16]}",
            "train.architecture: widths has 2 numbers and blocks 3; give one number for each",
        ),
        (
            "train.architecture={name: attention, width: 10, heads: 4}",
            "train.architecture: width (10) must be a multiple of heads (4)",
        ),
        (
            "train.architecture={dense: 3}",
            "train.architecture: the key 'name' is missing, which chooses one; given was",
        ),
        ("prepare.source.kind=x", "prepare.source: unknown 'kind' 'x'; allowed: digits, tabular"),
        ("train.epochs=many", "train.epochs: input should be a valid integer; given was 'many'"),
        ("train.epochs=3.5", "train.epochs: input should be a valid integer; given was 3.5"),
        ("train.epochs=0", "train.epochs: input should be greater than or equal to 1; given was 0"),
        (
            "train.architecture.channels=[3, a]",
            "train.architecture.channels.1: input should be a valid integer; given was 'a'",
        ),
        ("train.optimizer.learning_rate=.nan", "train.optimizer.learning_rate: input should be"),
        (
            "train.optimizer.name=adamm",
            "train.optimizer.name: 'adamm' is not allowed; did you mean 'adam'? "
            "allowed: adamw, adam, sgd",
        ),
        ("prepare.test=1.5", "prepare.test: input should be less than 1; given was 1.5"),
        ("prepare.test=0", "prepare.test: input should be greater than 0; given was 0"),
        (
            "prepare.test=0.95",
            "prepare: test (0.95) + validation (0.1) must be less than 1; the remaining share is "
            "the training split",
        ),
        (
            "evaluate.gates.acuracy=0.9",
            "evaluate.gates.acuracy: 'acuracy' is not allowed; did you mean 'accuracy'? "
            "allowed: accuracy, balanced_accuracy, macro_precision, macro_recall, macro_f1, "
            "weighted_precision, weighted_recall, weighted_f1, roc_auc, average_precision, "
            "log_loss, calibration_error, r2, mae, rmse, mse, pinball_loss, perplexity",
        ),
        ("evaluate.gates.accuracy=.nan", "evaluate.gates.accuracy: input should be a finite numb"),
        ("registration.metric=loss", "registration.metric: 'loss' is not allowed; did you mean"),
        ("registration.metric=r2", "registration.metric: r2 is not measured for classification; "),
        ("evaluate.gates.perplexity=9", "evaluate.gates.perplexity: perplexity is not measured "),
        ("prepare.sensitive_rule=hash", "prepare: sensitive_rule hash needs salt_file; make one "),
        ("registration.name=Digits!", "registration.name: string should match pattern"),
    ],
)
def test_a_validation_error_names_key_given_value_and_allowed_values(small, assignment, message):
    said = refusal(small, assignment)
    assert said.startswith(f"params.yaml: {message}")
    assert "\n" not in said


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("epochs=3", "-S epochs=3: not of the form section.key=value, such as train.epochs=3"),
        ("train.epochs", "-S train.epochs: not of the form section.key=value"),
        ("train.=3", "-S train.=3: not of the form section.key=value"),
        (
            "registration.name.x=3",
            "-S registration.name.x=3: name is a value, not a section; it",
        ),
        ("train.epochs=[", "-S train.epochs=[: the value is not YAML"),
    ],
)
def test_a_malformed_override_is_quoted_in_the_error(small, assignment, message):
    assert refusal(small, assignment).startswith(message)


def test_each_validation_error_has_its_own_line(small):
    said = refusal(small, "train.epoch=3", "export.opset=99").splitlines()
    assert [line.split(":")[1] for line in said] == [" train.epoch", " export.opset"]


TABULAR = {"kind": "tabular", "path": "data/raw/Sold Houses.csv", "target": "y"}
TEXT = {"kind": "text", "path": "tweets.jsonl", "target": "y"}
CASES = [
    ("classification", {"kind": "digits"}, ["accuracy", "macro_f1"], "cnn", "mine"),
    ("classification", TABULAR, ["accuracy", "macro_f1"], "mlp", "sold-houses"),
    ("regression", TABULAR, ["r2"], "mlp", "sold-houses"),
    ("classification", TEXT, ["accuracy", "macro_f1"], "gru", "tweets"),
    ("language_model", TEXT, ["perplexity"], "transformer_lm", "tweets"),
    ("regression", {"kind": "image", "path": "x/cats"}, ["r2"], "cnn", "cats"),
    (
        "classification",
        {"kind": "sequence", "path": "s.npz"},
        ["accuracy", "macro_f1"],
        "conv1d",
        "s",
    ),
]


def snippet(said):
    """The example that a message shows, read as YAML."""
    return YAML(typ="safe").load(said.split("For example:")[1].partition("`modelmint")[0])


@pytest.mark.parametrize(("task", "source", "gates", "network", "name"), CASES)
def test_missing_sections_give_an_example_for_the_task(task, source, gates, network, name):
    data = {"prepare": {"source": source, "task": task}}
    with pytest.raises(InputError) as caught:
        params.validate(data, "params.yaml")
    said = str(caught.value)
    assert said.startswith(
        "params.yaml: train: required, but missing\n"
        "params.yaml: evaluate: required, but missing\n"
        "params.yaml: registration: required, but missing\n"
        "For example:\n"
    )
    assert "modelmint train --look" in said
    shown = snippet(said)
    assert list(shown["evaluate"]["gates"]) == gates
    assert shown["train"] == {"architecture": network}
    assert shown["registration"] == {"name": name}
    # What is shown can be put there as it stands.
    params.validate(data | shown, "params.yaml")


@pytest.mark.parametrize("section", ["prepare", "train", "evaluate", "registration"])
def test_a_missing_section_gives_an_example_of_only_this_section(small, section):
    data = params.read(small)
    del data[section]
    with pytest.raises(InputError) as caught:
        params.validate(data, "params.yaml")
    said = str(caught.value)
    assert said.startswith(f"params.yaml: {section}: required, but missing\nFor example:\n")
    assert list(snippet(said)) == [section]
    if section != "prepare":
        params.validate(data | snippet(said), "params.yaml")


@pytest.mark.parametrize("key", ["train.architecture", "evaluate.gates", "registration.name"])
def test_a_missing_required_key_gives_an_example(small, key):
    section, _, name = key.partition(".")
    data = params.read(small)
    data[section] = {}
    with pytest.raises(InputError) as caught:
        params.validate(data, "params.yaml")
    assert str(caught.value).startswith(f"params.yaml: {key}: required, but missing\nFor exampl")
    assert list(snippet(str(caught.value))[section]) == [name]


def test_other_validation_errors_give_no_example(small):
    assert "For example" not in refusal(small, "train.epoch=3")


@pytest.mark.parametrize("lacking", [(), ("evaluate",), ("registration",), ("evaluate", "registr")])
def test_look_makes_gates_and_name_optional_and_checks_the_rest(small, lacking):
    text = "".join(
        line + "\n" for line in SMALL.splitlines() if not line.startswith(lacking or ("#",))
    )
    small.write_text(text)
    read = params.load(small, look=True)
    assert read.evaluate.gates == ({} if "evaluate" in lacking else {"accuracy": 0.9})
    assert read.evaluate.batch_size == 1024
    with pytest.raises(InputError, match="unknown key; did you mean 'batch_size'"):
        params.load(small, ["evaluate.batch_sise=3"], look=True)
    if lacking:
        with pytest.raises(InputError, match="required, but missing"):
            params.load(small)


def every_field(model, prefix=""):
    """The paths of all fields of a parameter class, including all choices."""
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        if get_origin(field.annotation) is dict:
            continue  # the meaning of the mapping explains its values
        for kind in [field.annotation, *get_args(field.annotation)]:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from every_field(kind, f"{prefix}{name}.")


def test_every_parameter_has_a_meaning():
    found = parameters()
    assert {p.path for p in found} == set(every_field(Params))
    assert [p.path for p in found if not p.meaning] == []


@pytest.mark.parametrize(
    ("path", "only", "kind", "default"),
    [
        ("train.epochs", "", "a whole number >= 1", 40),
        ("prepare.test", "", "a number > 0 and < 1", 0.2),
        ("prepare.seed", "", "a whole number >= 0 and < 4294967296", 0),
        ("train.clip", "", "a number > 0 or null", None),
        ("export.opset", "", "a whole number >= 18 and <= 22", 20),
        ("train.architecture.kernel", "name: cnn", "one of 3, 5, 7", 3),
        ("train.architecture.dropout", "name: cnn", "a number >= 0 and < 1", 0.3),
        ("train.architecture.dropout", "name: mlp", "a number >= 0 and < 1", 0.2),
        ("prepare.source.max_length", "kind: text", "a whole number >= 2", 128),
        ("prepare.source.max_length", "kind: sequence", "a whole number >= 1", 512),
        ("prepare.source.tokenizer.lowercase", "kind: text", "true or false", True),
    ],
)
def test_parameters_have_type_bounds_and_default(path, only, kind, default):
    (found,) = [p for p in parameters() if (p.path, p.only) == (path, only)]
    assert (found.type, found.default, found.required) == (kind, default, False)


def test_required_parameters_are_marked():
    required = {p.path for p in parameters() if p.required and not p.only}
    assert required == {
        "prepare",
        "prepare.source",
        "train",
        "train.architecture",
        "evaluate",
        "evaluate.gates",
        "registration",
        "registration.name",
    }


def test_modelmint_params_prints_a_section_in_100_columns():
    every = list(listing.lines(listing.chosen(None)))
    assert max(map(len, every)) <= 100
    said = list(listing.lines(listing.chosen("train.optimizer")))
    assert said[:2] == ["train.optimizer", "    The optimizer: how gradients change the weights."]
    assert "train.optimizer.learning_rate: a number > 0; default 0.002" in said
    assert not any(line.startswith("train.schedule") for line in said)
    assert 'prepare.source.csv.decimal: one of ".", "," or null; default null' in every
    with pytest.raises(InputError, match=r"did you mean train\.optimizer\.learning_rate\?"):
        listing.chosen("learning_rate")
    with pytest.raises(InputError, match=r"did you mean train\.epochs\?"):
        listing.chosen("train.epoch")


def test_docs_parameters_md_is_up_to_date():
    page = (ROOT / "docs/parameters.md").read_text(encoding="utf-8")
    assert page == listing.page(), "write it again with `make docs`"


def test_a_missing_params_file_is_named_with_a_remedy(tmp_path):
    said = refusal(tmp_path / "none.yaml")
    assert said.startswith(f"cannot read the parameters: {tmp_path / 'none.yaml'}: No such file")
    assert "--params" in said


@pytest.mark.parametrize(
    "content", [b"train: [", b"a: 1\na: 2\n", b"\xff\xfe\x00", b"a: !!python/object:os.system x"]
)
def test_a_params_file_that_is_not_yaml_is_named(small, content):
    small.write_bytes(content)
    said = refusal(small)
    assert said.startswith(f"{small} is not YAML: ")
    assert "\n" not in said


@pytest.mark.parametrize("content", ["", "- 1\n- 2\n", "hello"])
def test_a_params_file_without_sections_is_refused(small, content):
    small.write_text(content)
    assert refusal(small).startswith(f"{small} must have sections (prepare, train, evaluate")


def test_parameters_are_frozen(small):
    read = params.load(small)
    with pytest.raises(ValidationError, match="frozen"):
        read.train.epochs = 3
    with pytest.raises(ValidationError, match="frozen"):
        read.train.architecture.dense = 3


def test_written_params_can_be_read_back(small, tmp_path):
    data = params.override(params.read(small), ["train.optimizer.learning_rate=1e-5"])
    params.write(data, tmp_path / "resolved.yaml")
    assert params.read(tmp_path / "resolved.yaml") == data
    assert sorted(p.name for p in tmp_path.iterdir()) == ["params.yaml", "resolved.yaml"]


@pytest.mark.whole
def test_reading_parameters_imports_no_torch():
    code = "import sys, tasks.config, tasks.params, tasks.pipeline; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_overriding_the_optimizer_name_keeps_the_learning_rate():
    chosen = params.load(ROOT / "params.yaml", ["train.optimizer.name=sgd"])
    assert chosen.train.optimizer.name == "sgd"
    assert chosen.train.optimizer.learning_rate == 0.002


WHOLE = """\
# mine
prepare: {source: {kind: digits}}
train: {architecture: logistic}
evaluate: {gates: {accuracy: 0.5}}
registration: {name: digits}"""


@pytest.mark.parametrize("end", ["", "\n", "  # the end\n", "\n\n"])
def test_complete_appends_a_missing_section_only(tmp_path, end):
    path = tmp_path / "params.yaml"
    path.write_text(WHOLE + end)
    before = params.load(path)
    assert "had no section export; added 'export: {}'" in params.add_missing_sections(path)
    text = path.read_text()
    assert text.startswith(WHOLE + end.rstrip("\n"))
    assert text.endswith("\nexport: {}\n")
    assert params.load(path) == before
    assert params.add_missing_sections(path) == ""
    assert path.read_text() == text
    assert [p.name for p in tmp_path.iterdir()] == ["params.yaml"]


def test_complete_keeps_line_endings(tmp_path):
    path = tmp_path / "params.yaml"
    before = WHOLE.replace("\n", "\r\n").encode()
    path.write_bytes(before)
    params.add_missing_sections(path)
    assert path.read_bytes() == before + b"\r\nexport: {}\r\n"


def test_complete_does_not_overwrite_a_concurrent_edit(tmp_path, monkeypatch):
    path = tmp_path / "params.yaml"
    path.write_text(WHOLE)
    edited = WHOLE.replace("0.5", "0.7")
    copy_mode = shutil.copymode

    def edit_meanwhile(*given):
        copy_mode(*given)
        path.write_text(edited)

    monkeypatch.setattr(shutil, "copymode", edit_meanwhile)
    with pytest.raises(InputError, match=r"the section export is missing.*Add this line: export: "):
        params.add_missing_sections(path)
    assert path.read_text() == edited
    assert [p.name for p in tmp_path.iterdir()] == ["params.yaml"]


@pytest.mark.parametrize("form", ["{%s}\n", "%s\n...\n"], ids=["flow style", "end of document"])
def test_complete_refuses_a_file_that_cannot_be_appended_to(tmp_path, form):
    path = tmp_path / "params.yaml"
    lines = WHOLE.splitlines()[1:]
    text = form % (", ".join(lines) if form.startswith("{") else "\n".join(lines))
    path.write_text(text)
    with pytest.raises(InputError, match=r"the section export is missing.*Add this line: export: "):
        params.add_missing_sections(path)
    assert path.read_text() == text
    assert [p.name for p in tmp_path.iterdir()] == ["params.yaml"]


def test_differences_are_named_by_dotted_path():
    own = params.load(ROOT / "params.yaml")
    assert params.differences(own, own) == {}
    changes = ["train.epochs=3", "evaluate.gates.log_loss=1", "train.architecture=logistic"]
    other = params.load(ROOT / "params.yaml", changes)
    assert params.differences(other, own) == {
        "train.epochs": 3,
        "evaluate.gates.log_loss": 1.0,
        "train.architecture.name": "logistic",
    }
