"""The predictions of `gpu.py`: rows/s, and the outputs of ONNX Runtime and PyTorch compared."""

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.gpu_cases import Case
from benchmarks.gpu_processes import Row, attempted, failure
from tasks.workspace import Workspace

ROUNDS = 5
PROVIDERS = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}


def machine(device: str) -> Iterator[Row]:
    """The card, and the versions of what uses it."""
    import torch
    from onnxruntime.capi import build_and_package_info as built

    cards = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    if device == "cuda":
        yield Row("card", "", ", ".join(cards), f"driver {_driver()}", bool(cards))
    else:
        yield Row("card", "", "none: NOTHING OF A GPU WAS MEASURED, sizes are those of a test")
    cudnn = torch.backends.cudnn.version() if cards else "not there"
    yield Row(
        "versions",
        "",
        f"torch {torch.__version__}: CUDA {torch.version.cuda}, cuDNN {cudnn}",
        f"ONNX Runtime {built.__version__}: CUDA {built.cuda_version}; "
        f"modelmint {version('modelmint')}",
    )


def _driver() -> str:
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown, nvidia-smi did not say"
    return ", ".join(sorted(set(done.stdout.split())))


def exported(cases: list[Case], root: Path, device: str) -> Iterator[Row]:
    """Speed and parity of the networks that the stage has trained with 32-true."""
    from tasks.pipeline import STEPS

    for case in cases:
        workspace = Workspace(root / "stage" / case.name / "32-true")
        try:
            STEPS["export"].run(case.params(device, "32-true"), workspace)
        except Exception as error:
            yield Row("export", case.name, failure(error), passed=False)
            continue
        for what, make in (("prediction", _speed), ("parity", _parity)):
            yield attempted(what, case.name, make, case, workspace, device)


def _speed(case: Case, workspace: Workspace, device: str) -> Row:
    """Sessions as a batch job opens them, with the batch size that it measures."""
    from tasks.serving.batch_size import batch_size
    from tasks.serving.model import ReadyModel

    files = {path.name: path for path in workspace.bundle.iterdir()}
    arrays = _rows(workspace, case.predicted)
    sample = {name: array[:4096] for name, array in arrays.items()}
    model, on_cpu = (ReadyModel.open(files, target) for target in (device, "cpu"))
    size, cpu_size = (batch_size(one, "", sample, None) for one in (model, on_cpu))
    session = model.session
    # Any other provider takes the inputs of each batch from the memory of the CPU.
    unbound = replace(session, provider="")
    speeds = [
        _speed_of(one, model.signature, arrays, rows)
        for one, rows in ((session, size), (unbound, size), (on_cpu.session, cpu_size))
    ]
    placed = session.nodes.get(session.provider, 0), sum(session.nodes.values())
    return Row(
        "prediction",
        case.name,
        f"{speeds[0]:,.0f} rows/s, batches of {size:,}; {placed[0]} of {placed[1]} nodes there",
        f"plain `run` {speeds[1]:,.0f}; CPU {speeds[2]:,.0f}, batches of {cpu_size:,}",
        session.provider == PROVIDERS[device] and placed[0] > 0,
    )


def _rows(workspace: Workspace, count: int) -> dict[str, Any]:
    """Encoded rows of the test split, again and again, by length as in a job."""
    import numpy as np

    from tasks.dataset import read_split
    from tasks.encoding import Encoder

    split = read_split(workspace.prepared, "test", Encoder.read(workspace.checkpoint))
    numbers = np.arange(count) % len(split)
    if "length" in split.inputs:
        numbers = numbers[np.argsort(split.inputs["length"][numbers], kind="stable")]
    return {name: array[numbers] for name, array in split.inputs.items()}


def _speed_of(session: Any, signature: Any, arrays: dict[str, Any], size: int) -> float:
    """Rows/s; the first round is not counted."""
    rows, took = len(next(iter(arrays.values()))), []
    for _ in range(1 + ROUNDS):
        started = time.perf_counter()
        session.run_all(signature, arrays, signature.problem.predicted, size)
        took.append(time.perf_counter() - started)
    return rows / median(took[1:])


class TorchSession:
    """A network with the `run` of a session."""

    def __init__(self, checkpoint: Path, device: str) -> None:
        from tasks.checkpoint import load

        self._network, self._device = load(checkpoint)[0].to(device), device

    def run(self, arrays: dict[str, Any], names: list[str]) -> dict[str, Any]:
        import torch

        with torch.inference_mode():
            inputs = {n: torch.tensor(array, device=self._device) for n, array in arrays.items()}
            outputs = self._network.outputs(inputs, self._network(inputs))
        return {name: outputs[name].cpu().numpy() for name in names}


def _parity(case: Case, workspace: Workspace, device: str) -> Row:
    """The comparison of `export`, on all rows of the test split, of everything that computes."""
    import torch

    from tasks.dataset import read_split
    from tasks.encoding import Encoder
    from tasks.parity import compare_outputs
    from tasks.session import open_session

    torch.backends.cudnn.allow_tf32 = False  # as in our sessions of ONNX Runtime
    params, model = case.params(device, "32-true"), workspace.bundle / "model.onnx"
    encoder = Encoder.read(workspace.checkpoint)
    inputs = read_split(workspace.prepared, "test", encoder).inputs
    names = [output.name for output in encoder.signature.outputs]
    torch_cpu, torch_there = (TorchSession(workspace.checkpoint, d) for d in ("cpu", device))
    onnx_cpu, onnx_there = (open_session(model, d) for d in ("cpu", device))  # type: ignore[arg-type]
    pairs: dict[str, tuple[Any, TorchSession]] = {
        f"PyTorch {device}, PyTorch cpu": (torch_there, torch_cpu),
        f"ONNX {device}, PyTorch {device}": (onnx_there, torch_there),
        f"ONNX {device}, PyTorch cpu": (onnx_there, torch_cpu),
        "ONNX cpu, PyTorch cpu": (onnx_cpu, torch_cpu),
    }
    size, allowed = params.evaluate.batch_size, params.export.tolerance
    found = {
        pair: compare_outputs(
            one, encoder.signature, inputs, lambda b, o=other: o.run(b, names), size, allowed
        )
        for pair, (one, other) in pairs.items()
    }
    listed = [f"{pair}: {one.max_error:.0e}, {one.flipped}" for pair, one in found.items()]
    return Row(
        "parity",
        case.name,
        "; ".join(listed),
        f"largest error and other labels; allowed {allowed:.0e}, 0",
        all(one.passed for one in found.values()),
    )


def refused(model: Path) -> Iterator[Row]:
    """A session on CUDA, for a process that sees no device."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before anything looks for one
    from tasks.errors import SetupError
    from tasks.session import open_session

    try:
        provider = open_session(model, "cuda").provider
        yield Row("no device", "", f"NOT REFUSED: {provider}", passed=False)
    except SetupError as error:
        yield Row("no device", "", f"refused: {error}", passed=True)
