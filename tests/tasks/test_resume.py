"""A killed training resumes, and gives the same bytes as an uninterrupted one."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from forks import python_code
from training_helpers import make_prepared, run, tiny, written

from tasks.config import Augmentation, CheckpointEvery, Optimizer, Schedule, Train
from tasks.session import cuda_devices

ROOT = Path(__file__).parents[2]
ROWS = {"train": 401, "validation": 40}
IN_EPOCH = CheckpointEvery(epochs=1000, minutes=1e-6)
TRAIN = """
import sys
from pathlib import Path
from training_helpers import run
from tasks.config import Train
run(Train.model_validate_json(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
"""
# A process that is killed in the midst of writing: half of the file is there.
KILLED_WRITING = """
import os, signal
from tasks.training import resume
whole = resume.save_file
def save_file(tensors, path, metadata):
    whole(tensors, path, metadata)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    os.kill(os.getpid(), signal.SIGKILL)
resume.save_file = save_file
"""


def start(params: Train, folder: Path, prepared: Path, before: str = "") -> subprocess.Popen[str]:
    """Train in a process of its own; only one with code `before` it imports torch itself."""
    folder.mkdir(exist_ok=True)
    python = [sys.executable, "-c", before + TRAIN] if before else python_code(TRAIN)
    return subprocess.Popen(
        [*python, params.model_dump_json(), folder, prepared],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT}/tests/helpers"},
        stdout=subprocess.PIPE,
        text=True,
    )


def kill_after(line: str, params: Train, folder: Path, prepared: Path, before: str = "") -> str:
    """Start the training, kill it after it has printed `line`, and return its output so far."""
    process = start(params, folder, prepared, before)
    printed = ""
    for said in process.stdout:
        printed += said
        if said.startswith(line):
            process.kill()
            process.stdout.read()  # until a fork, which is killed a moment later, has ended
            break
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    return printed


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    made = {}

    def make(kind):
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind) / "prepared"
            made[kind] = make_prepared(folder, kind, rows=ROWS, rare=kind == "tabular")
        return made[kind]

    return make


@pytest.mark.parametrize(
    ("kind", "architecture", "changes"),
    [
        (
            "tabular",
            "mlp",
            {
                "optimizer": Optimizer(name="sgd", learning_rate=0.05),
                "imbalance": "sampler",
                "clip": 0.5,
                "accumulate": 3,
                "schedule": Schedule(name="one_cycle"),
                "checkpoint": IN_EPOCH,
            },
        ),
        (
            "image",
            "mlp",
            {
                "augmentation": Augmentation(shift=1, flip=True, crop=0.8, erase=0.5),
                "schedule": Schedule(name="plateau", every=1, factor=0.5),
                "checkpoint": IN_EPOCH,
            },
        ),
        (
            "text",
            "gru",
            {
                "optimizer": Optimizer(name="adam", learning_rate=0.01),
                "schedule": Schedule(name="step", every=2),
                "token_dropout": 0.2,
                "precision": "bf16-mixed",
                "batch_size": 64,
                "checkpoint": CheckpointEvery(epochs=2),
            },
        ),
    ],
    ids=["sampler", "augmentation", "text"],
)
def test_a_killed_and_resumed_training_gives_the_same_bytes(
    kind, architecture, changes, prepared, tmp_path, capsys
):
    params = tiny(architecture, epochs=20, patience=20, **changes)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    run(params, whole, prepared(kind))
    kill_after("epoch 4/20: loss", params, killed, prepared(kind))
    capsys.readouterr()
    run(params, killed, prepared(kind))
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("resuming after epoch ")
    assert (" batches of epoch " in lines[1]) == (params.checkpoint == IN_EPOCH)
    assert written(killed) == written(whole)
    assert not (killed / "resume").exists()


@pytest.mark.gpu
@pytest.mark.skipif(cuda_devices() == 0, reason="the NVIDIA driver finds no device")
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_a_killed_and_resumed_training_on_cuda_gives_the_same_bytes(
    precision, prepared, tmp_path, capsys
):
    """With dropout, and with 16-mixed the scaler of the gradients."""
    params = tiny(
        "cnn", epochs=60, patience=60, device="cuda", precision=precision, checkpoint=IN_EPOCH
    )
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    run(params, whole, prepared("image"))
    # A process of its own: CUDA cannot be used in a fork of one that has used it.
    kill_after("epoch 30/60: loss", params, killed, prepared("image"), before="\n")
    capsys.readouterr()
    run(params, killed, prepared("image"))
    assert " batches of epoch " in capsys.readouterr().out.splitlines()[1]
    assert written(killed) == written(whole)


def test_a_training_can_be_killed_several_times_also_while_saving(prepared, tmp_path, capsys):
    params = tiny("mlp", epochs=30, patience=30, checkpoint=CheckpointEvery(minutes=1e-6))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    run(params, whole, prepared("image"))
    for line in ("device", "epoch 5/30"):
        kill_after(line, params, killed, prepared("image"))
    process = start(params, killed, prepared("image"), KILLED_WRITING)
    printed = process.communicate()[0]
    assert process.returncode == -signal.SIGKILL
    assert "resuming after epoch" in printed
    names = sorted(path.name for path in (killed / "resume").iterdir())
    assert names == ["state.partial", "state.safetensors"]
    capsys.readouterr()
    run(params, killed, prepared("image"))
    assert "resuming after epoch" in capsys.readouterr().out
    assert written(killed) == written(whole)
    assert not (killed / "resume").exists()


def test_the_state_of_another_training_is_not_resumed(prepared, tmp_path, capsys):
    folder, data = tmp_path / "a", prepared("tabular")
    params = tiny("mlp", epochs=30, patience=30)
    kill_after("epoch 3/30", params, folder, data)
    state = (folder / "resume/state.safetensors").read_bytes()
    profile = (data / "profile.json").read_bytes()
    others = [
        params.model_copy(update={"seed": 1, "epochs": 2}),
        params.model_copy(update={"epochs": 2}),
    ]
    for other, content in zip(others, (profile, profile + b"\n"), strict=True):
        (data / "profile.json").write_bytes(content)
        (folder / "resume").mkdir(exist_ok=True)
        (folder / "resume/state.safetensors").write_bytes(state)
        run(other, folder, data)
        lines = capsys.readouterr().out.splitlines()
        assert lines[1] == (
            f"starting from scratch: {folder / 'resume/state.safetensors'} belongs to other data, "
            "parameters, code or device"
        )
        assert lines[2].startswith("epoch 1/2: ")
    # How often the state is saved may change between attempts.
    (data / "profile.json").write_bytes(profile)
    (folder / "resume").mkdir()
    (folder / "resume/state.safetensors").write_bytes(state)
    run(params.model_copy(update={"checkpoint": CheckpointEvery(epochs=7)}), folder, data)
    assert capsys.readouterr().out.splitlines()[1].startswith("resuming after epoch ")


def test_no_state_is_saved_after_the_last_epoch(prepared, tmp_path):
    (tmp_path / "resume").write_text("in the way of a folder")
    run(tiny("mlp", epochs=1), tmp_path, prepared("tabular"))
    with pytest.raises(OSError, match="resume"):
        run(tiny("mlp", epochs=2), tmp_path, prepared("tabular"))


def test_an_unreadable_state_starts_the_training_from_scratch(prepared, tmp_path, capsys):
    (tmp_path / "resume").mkdir()
    (tmp_path / "resume/state.safetensors").write_bytes(b"no safetensors")
    run(tiny("mlp"), tmp_path, prepared("tabular"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("starting from scratch: ")
    assert "state.safetensors cannot be read" in lines[1]
    assert lines[2].startswith("epoch 1/2: ")
