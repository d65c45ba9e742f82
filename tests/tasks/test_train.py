"""Training tiny networks for an epoch or two."""

import json
import math
import re

import numpy as np
import pytest
import torch
from training_helpers import make_prepared, run, tiny, written

from tasks.architectures import ARCHITECTURES
from tasks.checkpoint import load
from tasks.config import Cnn, Mlp, Optimizer, Schedule
from tasks.dataset import read_split
from tasks.device import choose_device
from tasks.encoding import Encoder
from tasks.errors import InputError
from tasks.training.batches import DeviceRows, in_batches, order_of

NAMES = ["logistic", "mlp", "cnn"]
# Each architecture once, each kind of data and each task at least once.
CASES = [
    ("linear", "tabular", "regression"),
    ("logistic", "image", "multiclass"),
    ("mlp", "tabular", "binary"),
    ("mlp", "image", "regression"),
    ("cnn", "image", "binary"),
    ("resnet", "image", "multiclass"),
    ("resnet_d", "image", "multiclass"),
    ("rnn", "sequence", "regression"),
    ("lstm", "text", "multiclass"),
    ("gru", "sequence", "binary"),
    ("attention", "text", "regression"),
    ("tabular", "tabular", "multiclass"),
    ("bag", "text", "binary"),
    ("conv1d", "sequence", "regression"),
    ("inception", "sequence", "multiclass"),
    ("transformer", "image", "multiclass"),
    ("transformer", "sequence", "multiclass"),
    ("transformer_lm", "text", "language_model"),
]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Prepared datasets by kind and task; each is made once."""
    made = {}

    def make(kind="image", task="multiclass", **given):
        key = (kind, task, *given.values())
        if key not in made:
            made[key] = make_prepared(tmp_path_factory.mktemp(kind) / "data", kind, task, **given)
        return made[key]

    return make


def validation(folder, prepared):
    """Inputs, scores and targets of the validation split, from the checkpoint."""
    split = read_split(prepared, "validation", Encoder.read(folder / "checkpoint"))
    network, _ = load(folder / "checkpoint")
    inputs = {name: torch.tensor(array) for name, array in split.inputs.items()}
    with torch.no_grad():
        return network, inputs, network(inputs), split.targets


@pytest.mark.parametrize(("name", "kind", "task"), CASES)
def test_each_architecture_trains_from_raw_inputs(name, kind, task, prepared, tmp_path):
    report, rows = run(tiny(name, epochs=3), tmp_path, prepared(kind, task))
    network, config = load(tmp_path / "checkpoint")
    assert (report.architecture, report.epochs, len(rows)) == (name, 3, 3)
    assert config["architecture"]["name"] == name
    assert report.parameters == sum(p.numel() for p in network.parameters())
    assert rows[2]["train_loss"] < rows[0]["train_loss"]
    metrics = {"regression": "r2", "language_model": "perplexity"}
    assert report.metric == config["results"]["metric"] == metrics.get(task, "accuracy")


def test_every_architecture_is_covered():
    assert {name for name, _, _ in CASES} == set(ARCHITECTURES)


def test_eight_epochs_learn_the_images(prepared, tmp_path):
    report, _ = run(tiny("mlp", epochs=8), tmp_path, prepared())
    assert report.validation_metric > 0.9


@pytest.mark.parametrize("name", [*NAMES, "lstm", "inception"])
def test_training_is_deterministic_by_seed(name, prepared, tmp_path):
    kind = {"lstm": "text", "inception": "sequence"}.get(name, "image")
    for folder, seed in (("a", 5), ("b", 5), ("c", 6)):
        run(tiny(name, seed=seed), tmp_path / folder, prepared(kind))
    a, b, c = (written(tmp_path / folder) for folder in "abc")
    text = ["tokenizer.json"] if kind == "text" else []
    assert sorted(a) == [
        "config.json", "history.csv", "signature.json", *text, "weights.safetensors"
    ]  # fmt: skip
    assert a == b
    assert a["weights.safetensors"] != c["weights.safetensors"]
    assert a["history.csv"] != c["history.csv"]


def test_training_does_not_depend_on_the_former_random_state(prepared, tmp_path):
    for folder in ("a", "b"):
        torch.rand(17 if folder == "b" else 1)
        run(tiny("mlp"), tmp_path / folder, prepared())
    assert written(tmp_path / "a") == written(tmp_path / "b")


def overshoot(**changes):
    """A training whose learning rate is so high that later epochs are worse than the first."""
    rate = Optimizer(name="sgd", learning_rate=0.5, weight_decay=0)
    return tiny("cnn", optimizer=rate, schedule=Schedule(name="constant", warmup=0), **changes)


def test_the_checkpoint_has_the_weights_of_the_best_epoch(prepared, tmp_path):
    report, rows = run(overshoot(epochs=6), tmp_path, prepared())
    losses = [row["validation_loss"] for row in rows]
    assert losses.index(min(losses)) < len(losses) - 1  # or the test would show nothing
    assert report.best_epoch == losses.index(min(losses)) + 1
    _, _, logits, labels = validation(tmp_path, prepared())
    picked = torch.log_softmax(logits.double(), 1).numpy()[np.arange(len(labels)), labels]
    assert -picked.mean() == pytest.approx(min(losses), rel=1e-5)
    best = rows[report.best_epoch - 1]
    right = logits.argmax(1).numpy() == labels
    assert right.mean() == pytest.approx(best["validation_metric"])
    config = json.loads((tmp_path / "checkpoint/config.json").read_bytes())
    assert config["results"] == {"best": pytest.approx(best), "metric": "accuracy", "epochs": 6}


def test_training_stops_after_patience_epochs_without_improvement(prepared, tmp_path):
    report, rows = run(overshoot(epochs=60, patience=2), tmp_path, prepared())
    assert len(rows) == report.epochs == report.best_epoch + 2 < 60


def test_history_csv_has_a_row_for_each_epoch(prepared, tmp_path, capsys):
    _, rows = run(tiny("logistic", epochs=3), tmp_path, prepared())
    assert (tmp_path / "history.csv").read_text().splitlines()[0] == (
        "epoch,train_loss,validation_loss,validation_metric,learning_rate"
    )
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("device: cpu (requested), precision 32-true")
    assert [line.split(":")[0] for line in printed[1:]] == [f"epoch {n}/3" for n in (1, 2, 3)]
    assert f"validation loss {rows[2]['validation_loss']:.4f}, accuracy " in printed[3]


def test_a_long_epoch_prints_its_progress(prepared, tmp_path, capsys, monkeypatch):
    run(tiny("mlp"), tmp_path / "quiet", prepared())
    capsys.readouterr()
    monkeypatch.setattr("tasks.train.PROGRESS_S", 0.0)
    run(tiny("mlp"), tmp_path / "told", prepared())
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 2 * 8  # of each epoch's eight batches, the last ends it
    assert re.fullmatch(r"epoch 2/2: batch 3/8, loss \d+\.\d{4}", lines[11])
    assert written(tmp_path / "quiet") == written(tmp_path / "told")


def test_validation_r2_matches_the_predictions(prepared, tmp_path):
    from sklearn.metrics import r2_score

    report, _ = run(tiny("mlp", epochs=4), tmp_path, prepared("tabular", "regression"))
    network, inputs, scores, targets = validation(tmp_path, prepared("tabular", "regression"))
    with torch.no_grad():
        predicted = network.outputs(inputs, scores)["prediction"]
    assert targets.mean() > 1000  # raw; the loss is on the standardised scale
    assert report.validation_metric == pytest.approx(r2_score(targets, predicted), rel=1e-4)
    assert 0 < report.validation_loss < 2


def test_validation_perplexity_skips_the_first_token_and_padding(prepared, tmp_path):
    data = prepared("text", "language_model")
    report, _ = run(tiny("transformer_lm", epochs=2), tmp_path, data)
    network, inputs, scores, _ = validation(tmp_path, data)
    with torch.no_grad():
        outputs = network.outputs(inputs, scores)
    mean = -outputs["log_likelihood"].sum() / outputs["scored"].sum()
    assert report.validation_loss == pytest.approx(mean.item(), rel=1e-4)
    assert report.validation_metric == pytest.approx(math.exp(mean), rel=1e-4)


def test_a_language_model_trains_on_a_labelled_dataset(prepared, tmp_path):
    report, _ = run(tiny("transformer_lm"), tmp_path, prepared("text", "multiclass"))
    _, config = load(tmp_path / "checkpoint")
    assert report.metric == "perplexity"
    assert (config["signature"]["task"], config["signature"]["classes"]) == ("language_model", [])


def test_the_network_normalises_images_with_the_training_profile(prepared, tmp_path):
    data = prepared(dtype="float32")
    run(tiny("logistic"), tmp_path, data)
    network, _ = load(tmp_path / "checkpoint")
    images = read_split(data, "train", Encoder.read(data)).inputs["image"]
    assert network.front.scale.mean.numpy() == pytest.approx(images.mean((0, 1, 2)), rel=1e-5)
    assert network.front.scale.std.numpy() == pytest.approx(images.std((0, 1, 2)), rel=1e-4)


def test_mixed_precision_does_not_round_raw_inputs(prepared, tmp_path):
    # Days since 1970 differ in the third digit, where bfloat16 ends.
    data = prepared("tabular", "regression")
    report, _ = run(tiny("mlp", epochs=8, precision="bf16-mixed"), tmp_path, data)
    with torch.autocast("cpu", torch.bfloat16):
        network, _, scores, targets = validation(tmp_path, data)
    expected = (torch.tensor(targets) - network.target_mean) / network.target_std
    loss = (scores.float() - expected).square().mean().item()
    assert report.validation_loss == pytest.approx(loss, rel=1e-3)


def test_an_epoch_has_each_row_once_except_a_last_batch_of_one():
    def rows_of(rows, epoch=1):
        return [batch.tolist() for batch in in_batches(order_of(rows, 0, epoch), 4)]

    assert [len(batch) for batch in rows_of(10)] == [4, 4, 2]
    assert [len(batch) for batch in rows_of(9)] == [4, 4]
    assert sorted(row for batch in rows_of(10) for row in batch) == list(range(10))
    assert rows_of(10) == rows_of(10) != rows_of(10, epoch=2)


def test_a_batch_of_texts_is_padded_to_its_longest_text(prepared):
    encoder = Encoder.read(prepared("text"))
    rows = DeviceRows.read(prepared("text"), "train", encoder, torch.device("cpu"))
    short = torch.argsort(rows.lengths)[:5]
    inputs, targets = rows.take(short)
    assert inputs["tokens"].shape == (5, rows.lengths[short].max())
    assert inputs["tokens"].shape[1] < rows.inputs["tokens"].shape[1]
    assert (inputs["tokens"] == rows.inputs["tokens"][short, : inputs["tokens"].shape[1]]).all()
    assert (inputs["length"] == rows.lengths[short]).all()
    assert (targets == rows.targets[short]).all()


def test_training_skips_a_last_batch_of_one_row(tmp_path):
    # Batch normalisation would fail on it.
    data = make_prepared(tmp_path / "data", rows={"train": 33, "validation": 5})
    _, rows = run(tiny("mlp", batch_size=16), tmp_path, data)
    assert math.isfinite(rows[1]["train_loss"])


def test_train_refuses_a_split_with_too_few_rows(tmp_path):
    data = make_prepared(tmp_path / "data", rows={"train": 1, "validation": 5})
    with pytest.raises(InputError, match="1 training rows and 5 validation rows; at least 2"):
        run(tiny("logistic"), tmp_path, data)


def test_train_refuses_a_cnn_with_too_many_blocks(prepared, tmp_path):
    params = tiny().model_copy(update={"architecture": Cnn(name="cnn", channels=[2, 2, 2, 2])})
    with pytest.raises(InputError, match="allows 3"):
        run(params, tmp_path, prepared())
    assert not list(tmp_path.iterdir())


def test_a_diverged_training_is_refused_and_writes_nothing(prepared, tmp_path):
    rate = Optimizer(name="sgd", learning_rate=1e30)
    params = tiny("mlp", optimizer=rate, schedule=Schedule(warmup=0)).model_copy(
        update={"architecture": Mlp(name="mlp", widths=[16])}
    )
    with pytest.raises(InputError) as caught:
        run(params, tmp_path, prepared())
    assert str(caught.value).startswith("training diverged: the validation loss was never a finite")
    assert "Lower train.optimizer.learning_rate" in str(caught.value)
    assert not (tmp_path / "checkpoint").exists()
    assert not (tmp_path / "history.csv").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_an_unavailable_device_is_refused_with_the_available_ones(prepared, tmp_path):
    with pytest.raises(InputError) as caught:
        run(tiny(device="cuda"), tmp_path, prepared())
    said = str(caught.value)
    assert said.startswith(f"train.device is cuda, which torch {torch.__version__} does not")
    assert "it finds cpu" in said
    assert "Set train.device to one of these or to auto." in said
    assert not list(tmp_path.iterdir())


def test_device_auto_chooses_the_best_device_with_a_reason():
    chosen = choose_device(tiny(device="auto"))
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    best = next((name for name, there in available.items() if there), "cpu")
    assert chosen.accelerator == best
    assert chosen.reason.startswith(f"{best} (the best device torch")


def test_a_requested_precision_is_used():
    chosen = choose_device(tiny(precision="bf16-mixed"))
    assert chosen.precision == "bf16-mixed"
    assert chosen.reason == "cpu (requested), precision bf16-mixed (requested)"


def test_a_precision_that_the_cpu_does_not_support_is_refused():
    with pytest.raises(InputError, match=r"Set train\.precision to bf16-mixed"):
        choose_device(tiny(precision="16-mixed", device="cpu"))


@pytest.mark.parametrize("kind", ["image", "text"])
def test_a_checkpoint_can_be_loaded_without_other_files(kind, prepared, tmp_path):
    run(tiny("mlp" if kind == "image" else "gru"), tmp_path, prepared(kind))
    network, config = load(tmp_path / "checkpoint")
    encoder, theirs = Encoder.read(tmp_path / "checkpoint"), Encoder.read(prepared(kind))
    assert not network.training
    assert encoder.signature == theirs.signature == network.signature
    assert config["signature"] == theirs.signature.model_dump(mode="json")
    assert config["parameters"]["epochs"] == 2
    if kind == "text":
        assert encoder.tokenizer.to_str() == theirs.tokenizer.to_str()


on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")


@pytest.mark.gpu
@on_cuda
@pytest.mark.parametrize(("name", "kind", "task"), CASES)
def test_each_architecture_trains_on_cuda_to_the_same_bytes_again(
    name, kind, task, prepared, tmp_path
):
    for folder in ("a", "b"):
        params = tiny(name, epochs=3, device="cuda")
        _, rows = run(params, tmp_path / folder, prepared(kind, task))
        assert rows[2]["train_loss"] < rows[0]["train_loss"]
    assert written(tmp_path / "a") == written(tmp_path / "b")


@pytest.mark.gpu
@on_cuda
def test_a_quantile_trains_on_cuda(prepared, tmp_path):
    """Its metric needs the k-th value of the targets, which torch refuses on CUDA."""
    params = tiny("linear", device="cuda", loss="quantile", quantile=0.9)
    report, _ = run(params, tmp_path, prepared("tabular", "regression"))
    assert report.metric == "pinball_skill"


@pytest.mark.gpu
@on_cuda
@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_trained_on_cuda_gives_the_same_outputs_on_the_cpu(name, prepared, tmp_path):
    for folder in ("a", "b"):
        params = tiny(name, device="cuda", precision="32-true")
        report, _ = run(params, tmp_path / folder, prepared())
    assert written(tmp_path / "a") == written(tmp_path / "b")
    _, _, logits, labels = validation(tmp_path / "a", prepared())
    right = logits.argmax(1).numpy() == labels
    assert right.mean() == pytest.approx(report.validation_metric, abs=0.05)
