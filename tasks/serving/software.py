"""What reads, encodes, predicts and writes the rows of a job, beside the model."""

import platform

import numpy as np
import onnxruntime
import PIL
import pyarrow as pa
import tokenizers

from tasks.fingerprint import installed_digest


def software() -> dict[str, str]:
    """Versions of what decides the bytes of predictions, as this process has loaded it.

    They are part of a plan's identity, and all workers of a job must have the same.
    """
    major, minor, _ = platform.python_version_tuple()
    return {
        "Python": f"{major}.{minor}",
        "code of modelmint": installed_digest(),
        "ONNX Runtime": onnxruntime.__version__,
        "pyarrow": pa.__version__,
        "NumPy": np.__version__,
        "tokenizers": tokenizers.__version__,
        "Pillow": PIL.__version__,
    }
