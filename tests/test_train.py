"""Training tiny networks for an epoch or two."""

import csv
import json
import math

import numpy as np
import pytest
import torch

from tasks.checkpoint import load
from tasks.config import Cnn, Mlp, Optimizer, Schedule
from tasks.dataset import read_split
from tasks.device import choose_device
from tasks.errors import InputError
from tasks.signature import Signature
from tasks.train import _batches, _schedule, train

NAMES = ["logistic", "mlp", "cnn"]


def run(params, folder, prepared):
    """Train into `folder`; the report and the rows of the history."""
    report = train(
        params, prepared=prepared, checkpoint=folder / "checkpoint", history=folder / "history.csv"
    )
    with (folder / "history.csv").open(newline="") as file:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    return report, rows


def content(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def validation_logits(folder, prepared):
    split = read_split(prepared, "validation", Signature.read(prepared / "signature.json"))
    network, _ = load(folder / "checkpoint")
    with torch.no_grad():
        logits = network(torch.tensor(split.inputs["image"])).double().numpy()
    return logits, split.labels


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("name", NAMES)
def test_each_architecture_trains_from_raw_images(
    name, dtype, tiny_train, prepared_images, tmp_path
):
    report, rows = run(tiny_train(name), tmp_path, prepared_images[dtype])
    network, config = load(tmp_path / "checkpoint")
    assert (report.architecture, report.epochs, len(rows)) == (name, 2, 2)
    assert config["architecture"]["name"] == name
    assert report.parameters == sum(p.numel() for p in network.parameters())
    assert rows[1]["train_loss"] < rows[0]["train_loss"]


def test_more_epochs_learn_the_images(tiny_train, prepared_images, tmp_path):
    report, _ = run(tiny_train("mlp", epochs=8), tmp_path, prepared_images["uint8"])
    assert report.validation_accuracy > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_bytes_and_another_does_not(
    name, tiny_train, prepared_images, tmp_path
):
    for folder, seed in (("a", 5), ("b", 5), ("c", 6)):
        (tmp_path / folder).mkdir()
        run(tiny_train(name, seed=seed), tmp_path / folder, prepared_images["uint8"])
    a, b, c = (content(tmp_path / folder) for folder in "abc")
    assert sorted(a) == ["config.json", "history.csv", "weights.safetensors"]
    assert a == b
    assert a["weights.safetensors"] != c["weights.safetensors"]
    assert a["history.csv"] != c["history.csv"]


def test_what_was_drawn_before_does_not_change_the_training(tiny_train, prepared_images, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        torch.rand(17 if folder == "b" else 1)
        run(tiny_train("mlp"), tmp_path / folder, prepared_images["uint8"])
    assert content(tmp_path / "a") == content(tmp_path / "b")


def overshoot(tiny_train, **changes):
    """Training that gets worse soon: so high a rate that the later epochs undo the first."""
    rate = Optimizer(name="sgd", learning_rate=0.5, weight_decay=0)
    return tiny_train(
        "cnn", optimizer=rate, schedule=Schedule(name="constant", warmup=0), **changes
    )


def test_the_weights_of_the_best_epoch_are_kept_not_the_last(tiny_train, prepared_images, tmp_path):
    params = overshoot(tiny_train, epochs=6)
    report, rows = run(params, tmp_path, prepared_images["uint8"])
    losses = [row["validation_loss"] for row in rows]
    assert losses.index(min(losses)) < len(losses) - 1  # or the test would show nothing
    assert report.best_epoch == losses.index(min(losses)) + 1
    logits, labels = validation_logits(tmp_path, prepared_images["uint8"])
    shifted = logits - logits.max(1, keepdims=True)
    picked = shifted[np.arange(len(labels)), labels] - np.log(np.exp(shifted).sum(1))
    assert -picked.mean() == pytest.approx(min(losses), rel=1e-5)
    best = rows[report.best_epoch - 1]
    assert (logits.argmax(1) == labels).mean() == pytest.approx(best["validation_accuracy"])
    config = json.loads((tmp_path / "checkpoint/config.json").read_bytes())
    assert config["results"] == {"best": pytest.approx(best), "epochs": 6}


def test_training_stops_after_the_patience_is_over(tiny_train, prepared_images, tmp_path):
    params = overshoot(tiny_train, epochs=60, patience=2)
    report, rows = run(params, tmp_path, prepared_images["uint8"])
    assert len(rows) == report.epochs == report.best_epoch + 2 < 60


def test_the_history_has_a_row_for_each_epoch_with_what_a_plot_needs(
    tiny_train, prepared_images, tmp_path, capsys
):
    _, rows = run(tiny_train("logistic", epochs=3), tmp_path, prepared_images["uint8"])
    assert (tmp_path / "history.csv").read_text().splitlines()[0] == (
        "epoch,train_loss,validation_loss,validation_accuracy,learning_rate"
    )
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("device: cpu (asked for), precision 32-true")
    assert [line.split(":")[0] for line in printed[1:]] == [f"epoch {n}/3" for n in (1, 2, 3)]


def test_the_learning_rate_warms_up_and_then_falls_along_a_cosine(tiny_train):
    params = tiny_train(
        epochs=4,
        optimizer=Optimizer(learning_rate=1.0),
        schedule=Schedule(name="cosine", warmup=2),
    )
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = _schedule(optimizer, params, steps=2)
    rates = []
    for _ in range(8):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    half = math.sqrt(0.5)
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1, 1, (1 + half) / 2, 0.5, (1 - half) / 2])
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0)


def test_a_constant_schedule_keeps_the_rate(tiny_train, prepared_images, tmp_path):
    params = tiny_train("logistic", schedule=Schedule(name="constant", warmup=0))
    _, rows = run(params, tmp_path, prepared_images["uint8"])
    assert {row["learning_rate"] for row in rows} == {0.01}


def test_images_are_normalised_by_the_training_split_inside_the_network(
    tiny_train, prepared_images, tmp_path
):
    prepared = prepared_images["float32"]
    run(tiny_train("logistic"), tmp_path, prepared)
    network, _ = load(tmp_path / "checkpoint")
    images = read_split(prepared, "train", Signature.read(prepared / "signature.json")).inputs[
        "image"
    ]
    assert network.mean.numpy() == pytest.approx(images.mean((0, 1, 2)), rel=1e-5)
    assert network.std.numpy() == pytest.approx(images.std((0, 1, 2)), rel=1e-4)


def test_a_channel_that_never_changes_gives_no_nan(tiny_train, prepared_images, tmp_path):
    from tasks.architectures import build

    signature = Signature.read(prepared_images["float32"] / "signature.json")
    network = build(Mlp(name="mlp", widths=[3]), signature).eval()
    network.normalise_by([1.0, 2.0, 3.0], [0.0, 1.0, 0.0])
    assert torch.isfinite(network(torch.ones(2, 8, 8, 3))).all()


def test_every_epoch_has_each_row_once_but_for_a_last_batch_of_one(tiny_train):
    def rows_of(rows, epoch=1):
        return [batch.tolist() for batch in _batches(rows, params, epoch, torch.device("cpu"))]

    params = tiny_train(batch_size=4)
    assert [len(batch) for batch in rows_of(10)] == [4, 4, 2]
    assert [len(batch) for batch in rows_of(9)] == [4, 4]
    assert sorted(row for batch in rows_of(10) for row in batch) == list(range(10))
    assert rows_of(10) == rows_of(10) != rows_of(10, epoch=2)


def test_more_blocks_than_the_image_can_be_halved_are_refused(
    tiny_train, prepared_images, tmp_path
):
    params = tiny_train().model_copy(
        update={"architecture": Cnn(name="cnn", channels=[2, 2, 2, 2])}
    )
    with pytest.raises(InputError) as caught:
        run(params, tmp_path, prepared_images["uint8"])
    assert str(caught.value) == (
        "train.architecture.channels names 4 blocks, and each halves the image; one of 8x8 "
        "allows 3. Name fewer channels."
    )
    assert not list(tmp_path.iterdir())


def test_training_that_diverges_says_so_and_writes_nothing(tiny_train, prepared_images, tmp_path):
    rate = Optimizer(name="sgd", learning_rate=1e30)
    params = tiny_train("mlp", optimizer=rate, schedule=Schedule(warmup=0))
    with pytest.raises(InputError) as caught:
        run(params, tmp_path, prepared_images["uint8"])
    assert str(caught.value).startswith("training diverged: the validation loss was never a finite")
    assert "Lower train.optimizer.learning_rate" in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_asking_for_a_device_that_is_not_there_says_what_is(tiny_train, prepared_images, tmp_path):
    with pytest.raises(InputError) as caught:
        run(tiny_train(device="cuda"), tmp_path, prepared_images["uint8"])
    said = str(caught.value)
    assert said.startswith(f"train.device asks for cuda, which torch {torch.__version__} does not")
    assert "it finds cpu" in said
    assert "Set train.device to one of these or to auto." in said
    assert not list(tmp_path.iterdir())


def test_auto_finds_a_device_and_says_why(tiny_train):
    chosen = choose_device(tiny_train(device="auto"))
    best = "cuda" if torch.cuda.is_available() else "cpu"
    if not torch.backends.mps.is_available():
        assert chosen.accelerator == best
        assert chosen.reason.startswith(f"{best} (the best device torch")


def test_a_precision_that_was_asked_for_is_taken(tiny_train):
    chosen = choose_device(tiny_train(precision="bf16-mixed"))
    assert chosen.precision == "bf16-mixed"
    assert chosen.reason == "cpu (asked for), precision bf16-mixed (asked for)"


def test_a_precision_that_the_cpu_does_not_compute_is_refused(tiny_train):
    with pytest.raises(InputError, match="set it to bf16-mixed, 32-true or auto"):
        choose_device(tiny_train(precision="16-mixed", device="cpu"))


def test_a_checkpoint_rebuilds_its_network_alone(tiny_train, prepared_images, tmp_path):
    run(tiny_train("cnn"), tmp_path, prepared_images["uint8"])
    network, config = load(tmp_path / "checkpoint")
    assert not network.training
    assert Signature.model_validate(config["signature"]) == Signature.read(
        prepared_images["uint8"] / "signature.json"
    )
    assert config["parameters"]["epochs"] == 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")
@pytest.mark.parametrize("name", NAMES)
def test_training_on_cuda_gives_a_checkpoint_that_the_cpu_agrees_with(
    name, tiny_train, prepared_images, tmp_path
):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        params = tiny_train(name, device="cuda", precision="32-true")
        report, _ = run(params, tmp_path / folder, prepared_images["uint8"])
    assert content(tmp_path / "a") == content(tmp_path / "b")
    logits, labels = validation_logits(tmp_path / "a", prepared_images["uint8"])
    assert (logits.argmax(1) == labels).mean() == pytest.approx(
        report.validation_accuracy, abs=0.05
    )
