"""Training on rows that do not fit into memory: a window of them at a time."""

import pytest
import torch
from training_helpers import make_prepared, run, tiny, written

from tasks.architectures.target_transforms import TargetScale
from tasks.bundle.files import Bundle
from tasks.checkpoint import load
from tasks.config import CheckpointEvery
from tasks.encoding import Encoder
from tasks.errors import InputError
from tasks.training import rows as rows_module
from tasks.training.objective import Objective
from tasks.training.processes import Processes
from tasks.training.resume import TrainingCheckpointer
from tasks.training.rows import Reader, Whole, Windows, memory_bytes

COUNT = 1003
ROWS = {"train": COUNT, "validation": 130}
ALONE = Processes()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return make_prepared(tmp_path_factory.mktemp("table") / "data", "tabular", rows=ROWS)


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    """A regression, whose targets all differ: they tell the rows apart."""
    folder = tmp_path_factory.mktemp("regression") / "data"
    return make_prepared(folder, "tabular", "regression", rows=ROWS)


def reader(prepared, name="train", scale=None):
    return Reader(prepared, name, Encoder.read(prepared), torch.device("cpu"), scale)


def epoch(rows, number=1, first=0, seed=0, processes=ALONE):
    """The targets of each batch of an epoch."""
    params = tiny(seed=seed)
    found = list(rows.epoch(params, number, first, None, processes))
    assert all(len(t) == n for _, t, n in found) or processes.size > 1
    return [targets.tolist() for _, targets, _ in found]


def flat(batches):
    return [value for batch in batches for value in batch]


@pytest.mark.parametrize("window", [16, 40, 300, 1000])
def test_every_row_is_in_one_batch_of_an_epoch(window, numbered):
    everything = reader(numbered).read().targets.tolist()
    batches = epoch(Windows(reader(numbered, scale=TargetScale(0.0, 1.0)), window, 16))
    # 62 full batches, and one of the 11 rows that are left over.
    assert sorted(map(len, batches)) == [11] + [16] * 62
    assert sorted(flat(batches)) == pytest.approx(sorted(everything))


def test_a_last_row_alone_is_left_out_as_in_memory(numbered):
    params = tiny(batch_size=501)  # two batches, and one row
    for rows in (Windows(reader(numbered), 600, 501), Whole(reader(numbered))):
        found = list(rows.epoch(params, 1, 0, None, ALONE))
        assert [count for _, _, count in found] == [501, 501]


def test_windows_are_mixed_from_the_whole_split(numbered):
    rows = Windows(reader(numbered), 330, 10)  # 33 blocks of ten rows
    everything = reader(numbered).read().targets.tolist()
    place = {value: number for number, value in enumerate(everything)}
    (first, *_) = [[place[v] for v in flat(epoch(rows, number)[:20])] for number in (1, 2)]
    # 200 rows in order, or of the first 330, would have a mean far below the middle.
    assert abs(sum(first) / len(first) - COUNT / 2) < 150
    assert first != sorted(first)


def test_the_order_depends_on_seed_and_epoch_only(numbered):
    def order(**given):
        return flat(epoch(Windows(reader(numbered), 200, 16), **given))

    assert order() == order()
    assert len({tuple(order(**given)) for given in ({}, {"number": 2}, {"seed": 1})}) == 3


@pytest.mark.parametrize("first", [1, 7, 12, 13, 40, 62])
def test_a_resumed_epoch_goes_on_with_the_same_batches(first, numbered):
    rows = Windows(reader(numbered), 200, 16)
    assert epoch(rows, first=first) == epoch(rows)[first:]


def test_several_processes_share_the_batches_of_one(numbered):
    rows = Windows(reader(numbered), 200, 16)
    alone = epoch(rows)
    parts = [epoch(rows, processes=Processes(rank, 3)) for rank in range(3)]
    assert [flat(batch) for batch in zip(*parts, strict=True)] == alone


def test_a_window_of_all_rows_trains_as_without_one(prepared, tmp_path):
    for folder, window in (("auto", "auto"), ("all", COUNT)):
        run(tiny(window=window), tmp_path / folder, prepared)
    auto, all_rows = (written(tmp_path / folder) for folder in ("auto", "all"))
    assert auto["weights.safetensors"] == all_rows["weights.safetensors"]
    assert auto["history.csv"] == all_rows["history.csv"]


@pytest.mark.parametrize(
    ("architecture", "kind", "task"),
    [("tabular", "tabular", "multiclass"), ("bag", "text", "multiclass"),
     ("transformer_lm", "text", "language_model")],
)  # fmt: skip
def test_windows_train_as_well_and_are_recorded(architecture, kind, task, tmp_path, capsys):
    data = make_prepared(tmp_path / "data", kind, task, rows=ROWS)
    results = {}
    for window in ("auto", 256):
        folder = tmp_path / str(window)
        results[window], rows = run(tiny(architecture, epochs=2, window=window), folder, data)
        assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    assert "reading about 256 of 1,003 rows at a time: train.window\n" in capsys.readouterr().out
    best = [report.validation_loss for report in results.values()]
    assert best[0] != best[1]
    assert best[0] == pytest.approx(best[1], rel=0.2)
    networks = {window: load(tmp_path / str(window) / "checkpoint") for window in results}
    recorded = [config["results"].get("window") for _, config in networks.values()]
    assert recorded == [None, 256]
    # What is fitted on the rows before the training, such as medians, is the same.
    whole, parts = (
        {n: b for n, b in network.named_buffers() if "scale" in n or "rarity" in n}
        for network, _ in networks.values()
    )
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert bool(whole) == (architecture != "transformer_lm")


def test_a_split_that_does_not_fit_is_read_in_windows(prepared, tmp_path, capsys, monkeypatch):
    size = reader(prepared).row_bytes
    assert 20 <= size <= 40  # two numbers, a code and a class
    most = size * sum(ROWS.values())
    monkeypatch.setattr(rows_module, "WINDOW_BYTES", 300 * size)
    for name, memory in (("fits", most * 2 / 0.8 + 1), ("not", most * 2 / 0.8 - 10)):
        monkeypatch.setattr(rows_module, "memory_bytes", lambda memory=memory: memory)
        run(tiny(), tmp_path / name, prepared)
        said = "reading about 300 of 1,003 rows at a time: all take 0.0 GiB"
        assert (said in capsys.readouterr().out) == (name == "not")


def test_the_memory_of_this_machine():
    assert 2**28 < memory_bytes() < 2**50


def test_a_training_in_windows_resumes_within_an_epoch(prepared, tmp_path, monkeypatch, capsys):
    params = tiny(window=128, checkpoint=CheckpointEvery(minutes=1e-9), imbalance="weights")
    run(params, tmp_path / "whole", prepared)
    after_step = TrainingCheckpointer.after_step

    def stop(self, state):
        after_step(self, state)
        if (state.epoch, state.batch) == (2, 23):
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(TrainingCheckpointer, "after_step", stop)
        patched.setattr("tasks.training.resume.LARGEST_SHARE", 1e9)  # saves after each step
        with pytest.raises(KeyboardInterrupt):
            run(params, tmp_path / "stopped", prepared)
    # With another window the order would be another one.
    state = tmp_path / "stopped/resume/state.safetensors"
    kept = state.read_bytes()
    capsys.readouterr()
    run(params.model_copy(update={"window": 256}), tmp_path / "stopped", prepared)
    assert "starting from scratch" in capsys.readouterr().out
    state.parent.mkdir()
    state.write_bytes(kept)
    run(params, tmp_path / "stopped", prepared)
    assert "resuming after epoch 1 and 23 batches of epoch 2\n" in capsys.readouterr().out
    assert written(tmp_path / "stopped") == written(tmp_path / "whole")


def test_class_weights_and_targets_are_those_of_all_rows(prepared, numbered, monkeypatch):
    monkeypatch.setattr(rows_module, "PART", 100)
    signature = Encoder.read(prepared).signature
    weights = [
        Objective.of(tiny(imbalance="weights"), signature, rows.targets()).class_weights
        for rows in (Whole(reader(prepared)), Windows(reader(prepared), 100, 16))
    ]
    assert torch.equal(weights[0], weights[1])
    scaled = reader(numbered, "validation", TargetScale(1050.0, 40.0))
    whole = Whole(scaled).all_targets
    assert torch.equal(Windows(scaled, 100, 16).all_targets, whole)
    values = reader(numbered, "validation").read().targets
    assert whole.tolist() == pytest.approx(((values - 1050) / 40).tolist(), abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"window": 15}, "train.window is 15, fewer rows than a batch; train.batch_size is 16"),
        (
            {"window": 500, "imbalance": "sampler"},
            "draws from all rows, but the training reads 500",
        ),
    ],
)
def test_windows_that_do_not_fit_are_refused(changes, refused, prepared, tmp_path):
    assert Bundle.at(prepared).signature.exists()
    with pytest.raises(InputError, match=refused):
        run(tiny(**changes), tmp_path, prepared)
    assert not list(tmp_path.iterdir())
