"""An ONNX Runtime session, and the device it really runs on. Needs no torch."""

import ctypes
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from tasks.bundle.signature import Signature
from tasks.columns import Arrays
from tasks.errors import SetupError

Device = Literal["auto", "cpu", "cuda"]
CUDA = "CUDAExecutionProvider"
# On Ampere and later it rounds factors to 10 bits by default (TF32), an error of about 1e-3. The
# comparison of a bundle with PyTorch allows 1e-4.
OPTIONS = {"use_tf32": "0"}
ONNX_TYPES = {"float32": "float", "float64": "double", "bool": "bool"} | {
    name: name for name in ("uint8", "int32", "int64")
}
"""ONNX Runtime's names of the types of inputs, by NumPy's."""


@dataclass(frozen=True)
class Session:
    """A loaded model. `provider` is where its nodes were placed; `nodes` counts them."""

    inner: ort.InferenceSession
    provider: str
    nodes: dict[str, int]
    _of_thread: threading.local = field(default_factory=threading.local, compare=False, repr=False)

    def run(self, arrays: Arrays, names: Sequence[str]) -> Arrays:
        """The outputs `names` for one batch of the model's inputs."""
        if self.provider != CUDA:  # there it gains nothing: 2.1-2.3 against 2.2-2.3 times torch
            return dict(zip(names, self.inner.run(list(names), arrays), strict=True))
        if not hasattr(self._of_thread, "bound"):
            self._of_thread.bound = Bound(self.inner, "cuda")
        bound: Bound = self._of_thread.bound
        return bound.run(arrays, names)

    def run_all(
        self, signature: Signature, arrays: Arrays, names: Sequence[str], batch_size: int
    ) -> Arrays:
        """The outputs `names` for all rows, in batches."""
        parts = [self.run(part, names) for part in split_into(signature, arrays, batch_size)]
        return {name: np.concatenate([part[name] for part in parts]) for name in names}


class Bound:
    """Runs a session with inputs in buffers on the device, of one thread alone.

    `InferenceSession.run` allocates them anew for each batch; these are kept while shapes repeat.
    """

    def __init__(self, inner: ort.InferenceSession, device: str) -> None:
        """`device` as ONNX Runtime names it: cuda, or cpu."""
        self._inner, self._device = inner, device
        self._binding = inner.io_binding()
        self._buffers: dict[str, ort.OrtValue] = {}

    def run(self, arrays: Arrays, names: Sequence[str]) -> Arrays:
        """The outputs `names` for one batch."""
        for name, array in arrays.items():
            array = np.ascontiguousarray(array)
            kept = self._buffers.get(name)
            if kept is not None and self._fits(kept, array):
                kept.update_inplace(array)
                continue
            copied = ort.OrtValue.ortvalue_from_numpy(array, self._device, 0)
            self._buffers[name] = copied
            self._binding.bind_ortvalue_input(name, copied)
        self._binding.clear_binding_outputs()  # the shape may be another one
        for name in names:
            self._binding.bind_output(name, self._device)
        self._inner.run_with_iobinding(self._binding)
        return dict(zip(names, self._binding.copy_outputs_to_cpu(), strict=True))

    def _fits(self, kept: ort.OrtValue, array: NDArray[np.generic]) -> bool:
        kind = ONNX_TYPES.get(array.dtype.name)
        return kept.data_type() == f"tensor({kind})" and tuple(kept.shape()) == array.shape


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
    built_for_cuda = CUDA in ort.get_available_providers()
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
    providers = [*([(CUDA, OPTIONS)] if cuda else []), "CPUExecutionProvider"]
    inner = ort.InferenceSession(str(model), options, providers=providers)
    # Or a failing provider would be replaced by the CPU in the middle of a job, unseen.
    inner.disable_fallback()
    provider = inner.get_providers()[0]
    if device == "cuda" and provider != CUDA:
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
