"""`dvc.yaml` matches `tasks.pipeline.STEPS`; the command of a stage."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from forks import FORKS, forks
from ruamel.yaml import YAML

from tasks.pipeline import STEPS
from tasks.workspace import Workspace

ROOT = Path(__file__).parents[2]
DVC = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())
STAGES = DVC["stages"]
each_step = pytest.mark.parametrize("step", STEPS.values(), ids=lambda step: step.name)


def paths(entries):
    """The paths of a list in `dvc.yaml`; entries may be mappings with options."""
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries or ()]


def place(name):
    """A path of a `Workspace` as `dvc.yaml` writes it."""
    if name == "root":  # from which the source's own path starts
        return "${prepare.source.path}"
    return getattr(Workspace(Path()), name).as_posix()


def test_dvc_yaml_has_the_steps_in_the_same_order():
    assert list(STAGES) == list(STEPS)


@each_step
def test_dvc_yaml_names_the_params_of_each_step(step):
    stage = STAGES[step.name]
    assert stage["cmd"] == f"python -P -m tasks {step.name}"
    code = {"code.json": [f"stages.{step.name}"]}
    assert stage["params"] == [*sorted(step.sections), code]
    assert stage["desc"]


@each_step
def test_dvc_yaml_deps_are_the_paths_that_the_step_reads(step):
    deps = paths(STAGES[step.name]["deps"])
    assert sorted(deps) == sorted(place(name) for name in step.reads)


@each_step
def test_dvc_yaml_outs_are_the_paths_that_the_step_writes(step):
    stage = STAGES[step.name]
    given = [path for kind in ("outs", "metrics", "plots") for path in paths(stage.get(kind))]
    written = {place(name) for name in step.writes}
    # And the record of what it read, by which DVC's own notes are checked.
    assert set(given) == written | {f"outputs/read/{step.name}.json"}
    # DVC would remove these before it runs the stage again.
    assert not {place(name) for name in step.keeps} & set(given)


def test_each_stage_reads_outputs_of_earlier_stages():
    there = {"root", "base"}  # what a flow puts in place
    for step in STEPS.values():
        assert set(step.reads) <= there, step.name
        there |= set(step.writes)


@pytest.fixture
def workspace(tmp_path):
    """A folder with parameters for a tiny training on the digits."""
    (tmp_path / "params.yaml").write_text("""
prepare: {source: {kind: digits}}
train: {architecture: logistic, epochs: 1, device: cpu}
evaluate: {gates: {accuracy: 0.5}}
registration: {name: digits}
""")
    return tmp_path


def run(workspace, *arguments, module="tasks"):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    python = forks.command(module) if FORKS else [sys.executable, "-P", "-m", module]
    return subprocess.run(
        [*python, *arguments],
        cwd=workspace,
        env=environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("arguments", [[], ["prepar"], ["predict"], ["prepare", "train"]])
def test_an_unknown_step_prints_usage_and_exits_with_2(arguments, workspace):
    done = run(workspace, *arguments)
    assert done.returncode == 2
    assert done.stderr == "usage: python -m tasks {prepare,train,evaluate,export}\n"
    assert done.stdout == ""


def refused(done):
    """The single line of the error message."""
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    return line


def test_an_input_error_prints_one_line_and_exits_with_2(workspace):
    line = refused(run(workspace, "prepare"))
    assert line.startswith("error: ")
    assert "data/raw/digits.csv.gz is missing. Run `python -m tasks.sources`" in line
    assert [p.name for p in workspace.iterdir()] == ["params.yaml"]


def test_invalid_params_print_one_line_and_exit_with_2(workspace):
    text = (workspace / "params.yaml").read_text()
    (workspace / "params.yaml").write_text(text.replace("epochs", "epoch"))
    line = refused(run(workspace, "prepare"))
    assert line.startswith("error: params.yaml: train.epoch: unknown key; did you mean 'epochs'?")
    (workspace / "params.yaml").unlink()
    line = refused(run(workspace, "prepare"))
    assert line.startswith("error: cannot read the parameters: ")


def test_the_stage_commands_make_a_bundle_from_raw_digits(workspace):
    assert run(workspace, module="tasks.sources").returncode == 0
    for step in STEPS:
        done = run(workspace, step)
        assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    assert printed[0] == "exported to ONNX"
    assert printed[1].startswith("parity passed")
    written = {name for step in STEPS.values() for name in step.writes}
    assert all(getattr(Workspace(workspace), name).exists() for name in written)
    expected = {"params.yaml", "data", "outputs"}
    assert {p.name for p in workspace.iterdir()} == expected
    drawn = {p.relative_to(workspace).as_posix() for p in Workspace(workspace).plots.iterdir()}
    assert drawn == set(paths(DVC["plots"]))
    # Its parameters had no section `export`, which DVC wants to see.
    assert (workspace / "params.yaml").read_text().endswith("\nexport: {}\n")


def test_a_step_without_its_input_names_the_missing_file(workspace):
    done = run(workspace, "train")
    assert done.returncode == 2
    assert "data/prepared/signature.json is not a signature" in done.stderr


@pytest.mark.whole
def test_tasks_sources_without_params_yaml_is_refused(tmp_path):
    done = run(tmp_path, module="tasks.sources")
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot read the parameters")
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_a_step_ends_when_its_parent_is_killed(workspace):
    """Also if the parent is killed with SIGKILL."""
    assert run(workspace, module="tasks.sources").returncode == 0
    assert run(workspace, "prepare").returncode == 0
    text = (workspace / "params.yaml").read_text()
    endless = text.replace("epochs: 1", "epochs: 1000000, patience: 1000000")
    (workspace / "params.yaml").write_text(endless)
    parent = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-m", "tasks", "train"], stdout=subprocess.PIPE)
while b"epoch" not in child.stdout.readline():
    pass
print(child.pid, flush=True)
child.wait()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", parent],
        cwd=workspace,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    child = Path("/proc") / process.stdout.readline().strip()
    assert child.exists()
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 3

    def alive():
        try:
            return "State:\tZ" not in (child / "status").read_text()
        except OSError:
            return False

    while alive() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive()
