"""An ONNX Runtime session, and the device it really runs on. Needs no torch."""

import ctypes
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime as ort

from tasks.bundle.signature import Signature
from tasks.columns import Arrays
from tasks.errors import SetupError

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class Session:
    """A loaded model. `provider` is where its nodes were placed; `nodes` counts them."""

    inner: ort.InferenceSession
    provider: str
    nodes: dict[str, int]

    def run(self, arrays: Arrays, names: Sequence[str]) -> Arrays:
        """The outputs `names` for one batch of the model's inputs."""
        return dict(zip(names, self.inner.run(list(names), arrays), strict=True))

    def run_all(
        self, signature: Signature, arrays: Arrays, names: Sequence[str], batch_size: int
    ) -> Arrays:
        """The outputs `names` for all rows, in batches."""
        parts = [self.run(part, names) for part in split_into(signature, arrays, batch_size)]
        return {name: np.concatenate([part[name] for part in parts]) for name in names}


def split_into(signature: Signature, arrays: Arrays, batch_size: int) -> Iterator[Arrays]:
    """Batches of a model's inputs, each padded only to its own longest row."""
    rows = len(next(iter(arrays.values())))
    for start in range(0, rows, batch_size):
        yield signature.trim_padding({n: a[start : start + batch_size] for n, a in arrays.items()})


def open_session(model: Path, device: Device = "auto", threads: int = 0) -> Session:
    """Load an ONNX file; CUDA where there really is a device, the CPU otherwise.

    `threads` are those of one call; 0 is one for each core. Several Python threads that share a
    session of one thread each are 1.4 to 2 times as fast as one call on all cores.

    Raises:
        SetupError: CUDA was asked for and the session did not get it.
    """
    built_for_cuda = "CUDAExecutionProvider" in ort.get_available_providers()
    cuda = device != "cpu" and built_for_cuda and cuda_devices() > 0
    if cuda:
        with redirect_stdout(sys.stderr):  # it prints; standard output belongs to `--json`
            ort.preload_dlls()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    # Spinning workers burn a core after each run and slow whatever else runs on it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    providers = [*(["CUDAExecutionProvider"] if cuda else []), "CPUExecutionProvider"]
    inner = ort.InferenceSession(str(model), options, providers=providers)
    # Or a failing provider would be replaced by the CPU in the middle of a job, unseen.
    inner.disable_fallback()
    provider = inner.get_providers()[0]
    if device == "cuda" and provider != "CUDAExecutionProvider":
        raise SetupError(
            "CUDA was asked for, and ONNX Runtime could not use it here; use --device auto or cpu"
        )
    nodes = Counter(g.ep_name for g in inner.get_provider_graph_assignment_info())
    return Session(inner, provider, dict(nodes))


def cuda_devices() -> int:
    """Devices the NVIDIA driver has; what onnxruntime lists is only what it was built for."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value
