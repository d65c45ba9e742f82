"""Training in several processes that talk by gloo: the same result; what a failure does."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from forks import FORKS, forks, python_code
from training_helpers import make_prepared, run, tiny, written

from tasks.config import Cnn, Conv1d, Mlp
from tasks.device import Device, devices_here
from tasks.errors import InputError
from tasks.training.losses import CrossEntropy, NextToken
from tasks.training.processes import Processes, joined

ROOT = Path(__file__).parents[2]
CPU = Device("cpu", "32-true", "for the test")
TRAIN = """
import sys
from pathlib import Path
from training_helpers import run
from tasks.config import Train
from tasks.errors import InputError
try:
    run(Train.model_validate_json(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
except InputError as error:
    sys.exit(f"error: {error}")
"""


def start(params, folder, prepared, **variables):
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [*python_code(TRAIN), params.model_dump_json(), folder, prepared],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT}/tests/helpers", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def further_processes(folder):
    """Process ids of those that train into `folder` beside the first one."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            command = place.joinpath("cmdline").read_bytes().decode()
        except OSError:
            continue
        if "tasks.training\0" in command and f"{folder}/" in command:
            found.append(int(place.name))
    return found


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


# 114 rows in batches of 16: the last one has two rows, fewer than three processes.
@pytest.mark.parametrize(
    ("processes", "kind", "task", "changes"),
    [
        (
            3,
            "tabular",
            "multiclass",
            {
                "architecture": Mlp(name="mlp", widths=[16], normalization="batch", dropout=0),
                "imbalance": "weights",
                "accumulate": 3,
                "clip": 0.5,
            },
        ),
        (
            2,
            "image",
            "multiclass",
            {"architecture": Cnn(name="cnn", channels=[4], dense=[8], dropout=0)},
        ),
        (
            2,
            "sequence",
            "regression",
            {
                "architecture": Conv1d(name="conv1d", widths=[4], kernels=[3], dropout=0),
                "loss": "huber",
            },
        ),
    ],
    ids=["weights", "images", "padded"],
)
def test_several_processes_have_the_loss_curve_of_one(
    processes, kind, task, changes, tmp_path, capsys, monkeypatch
):
    if FORKS:  # each further process would import torch
        monkeypatch.setattr(sys, "executable", forks.executable())
    data = make_prepared(tmp_path / "data", kind, task, rows={"train": 114, "validation": 40})
    params = tiny(epochs=4).model_copy(update=changes)
    _, alone = run(params.model_copy(update={"devices": 1}), tmp_path / "one", data)
    report, rows = run(params.model_copy(update={"devices": processes}), tmp_path / "more", data)
    assert f"{processes} processes\n" in capsys.readouterr().out
    assert len(rows) == len(alone) == report.epochs == 4
    assert alone[3]["train_loss"] < 0.95 * alone[0]["train_loss"]  # or the test would show nothing
    for row, other in zip(rows, alone, strict=True):
        assert row == pytest.approx(other, abs=1e-5)
    assert not further_processes(tmp_path)


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="torch finds fewer than two GPUs")
def test_two_gpus_have_the_loss_curve_of_one(tmp_path, capsys):
    data = make_prepared(tmp_path / "data", "image", rows={"train": 114, "validation": 40})
    cnn = Cnn(name="cnn", channels=[4], dense=[8], dropout=0)
    params = tiny(epochs=4, device="cuda", precision="32-true")
    params = params.model_copy(update={"architecture": cnn})
    _, alone = run(params.model_copy(update={"devices": 1}), tmp_path / "one", data)
    _, rows = run(params.model_copy(update={"devices": 2}), tmp_path / "more", data)
    assert "2 processes\n" in capsys.readouterr().out
    for row, other in zip(rows, alone, strict=True):
        assert row == pytest.approx(other, abs=1e-2)


def test_a_killed_process_ends_the_training_which_then_resumes(tmp_path, capsys, monkeypatch):
    if FORKS:
        monkeypatch.setattr(sys, "executable", forks.executable())
    data = make_prepared(tmp_path / "data", "image", rows={"train": 401, "validation": 40})
    # With dropout: the random state of every process must be restored.
    architecture = Cnn(name="cnn", channels=[4], dense=[8], dropout=0.5)
    params = tiny(epochs=12, patience=12, devices=2)
    params = params.model_copy(update={"architecture": architecture})
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run(params, whole, data)
    # First a further process is killed, then the first one.
    for line, number in (("epoch 3/12: loss", 1), ("epoch 6/12: loss", 0)):
        process = start(params, killed, data)
        for said in process.stdout:
            if said.startswith(line):
                break
        (other,) = further_processes(killed)
        if number:
            os.kill(other, signal.SIGKILL)
        else:
            process.kill()
        error = process.communicate()[1]
        assert process.returncode == (1 if number else -signal.SIGKILL)
        if number:
            assert (
                "error: the training lost a process: process 1 (of 0 to 1) was ended by SIGKILL, "
                "probably out of memory. Give the same command again: it resumes from the last "
                "saved state.\n"
            ) in error
        wait_until(lambda: not further_processes(killed), 10)
        assert not (killed / "checkpoint").exists()
    capsys.readouterr()
    run(params, killed, data)
    # Some saves are skipped, so it need not be the last epoch.
    assert "\nresuming after epoch " in capsys.readouterr().out
    assert written(killed) == written(whole)
    assert not (killed / "resume").exists()


def started_as_torchrun_does(folder, params, prepared):
    """Two processes; each has a folder and data of its own, like machines."""
    number = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    meeting = f"file://{folder}/meeting"
    return [
        start(
            params,
            folder / str(rank),
            data,
            **number,
            RANK=str(rank),
            MODELMINT_TRAINING=meeting,
            GLOO_SOCKET_IFNAME="lo",
        )
        for rank, data in enumerate(prepared)
    ]


def test_processes_with_other_data_are_refused(tmp_path):
    data = [make_prepared(tmp_path / name, "tabular") for name in ("a", "b")]
    profile = (data[1] / "profile.json").read_bytes()
    (data[1] / "profile.json").write_bytes(profile + b"\n")
    for process in started_as_torchrun_does(tmp_path, tiny("mlp"), data):
        error = process.communicate()[1]
        assert process.returncode == 1
        assert "error: the processes of this training differ: process 1 has other data" in error
    assert not list(tmp_path.glob("[01]/*"))


def test_train_devices_must_fit_what_torchrun_started(monkeypatch):
    for name, value in {"RANK": 0, "WORLD_SIZE": 4, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    refused = "train.devices is 4, but torchrun started 2 of the processes on this machine"
    with pytest.raises(InputError, match=refused), joined(tiny("mlp", devices=4), CPU, {}):
        pass
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    refused = "but 'LOCAL_WORLD_SIZE' is missing or no number"
    with pytest.raises(InputError, match=refused), joined(tiny("mlp"), CPU, {}):
        pass
    monkeypatch.setenv("WORLD_SIZE", "1")
    with joined(tiny("mlp"), CPU, {}) as processes:
        assert (processes.rank, processes.size) == (0, 1)


@pytest.mark.parametrize("step", ["prepare", "evaluate", "export"])
def test_only_train_runs_in_several_processes(step, tmp_path):
    (tmp_path / "params.yaml").write_text("prepare: {source: {kind: digits}}\n")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "tasks", step],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "WORLD_SIZE": "2", "RANK": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: WORLD_SIZE is set, as torchrun does, but only the step")


def test_the_number_of_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    gpus = Device("cuda", "32-true", "for the test")
    assert [devices_here(tiny(devices=n), gpus) for n in ("auto", 1, 4)] == [4, 1, 4]
    assert [devices_here(tiny(devices=n), CPU) for n in ("auto", 1, 4)] == [1, 1, 4]
    with pytest.raises(InputError, match="5, but torch finds 4 of the kind cuda"):
        devices_here(tiny(devices=5), gpus)
    apple = Device("mps", "32-true", "for the test")
    assert devices_here(tiny(), apple) == 1
    with pytest.raises(InputError, match="finds 1 of the kind mps"):
        devices_here(tiny(devices=2), apple)


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 8, 64])
def test_the_parts_of_a_batch_are_the_batch(rows):
    batch = torch.arange(rows) + 5
    parts = [Processes(rank, 3).part(batch) for rank in range(3)]
    if rows < 3:
        assert all(torch.equal(part, batch) for part in parts)
    else:
        assert torch.equal(torch.cat(parts), batch)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_the_weight_of_a_batch_is_the_divisor_of_its_mean_loss():
    targets = torch.tensor([0, 2, 2, 1])
    weights = torch.tensor([1.0, 2.0, 4.0])
    assert CrossEntropy(tiny(), None).weight(targets) == 4
    assert CrossEntropy(tiny(imbalance="sampler"), weights).weight(targets) == 4
    assert CrossEntropy(tiny(imbalance="weights"), weights).weight(targets) == 11
    # The first token is given; 0 is padding.
    assert NextToken(tiny(), None).weight(torch.tensor([[1, 5, 6, 0], [1, 4, 0, 0]])) == 3
