"""torch's exporter reads the sources of its 500 operators anew for each export: 0.36 CPU seconds of
0.8 for a small network. They do not change, so a process of the tests reads them once."""

import functools
import sys

MODULE = "torch.onnx._internal.exporter._registration"


def read_operators_once() -> None:
    """Does nothing before the exporter is imported, by the first export."""
    module = sys.modules.get(MODULE)
    read = getattr(getattr(module, "ONNXRegistry", None), "from_torchlib", None)
    if read and not hasattr(read, "cache_info"):
        # torch calls it on an object, and a cache would be bound to that one.
        module.ONNXRegistry.from_torchlib = staticmethod(functools.cache(read))  # type: ignore[union-attr]
