"""torch's exporter reads the sources of its 500 operators anew for each export: 0.36 CPU seconds of
0.8 for a small network. They do not change, so a process of the tests reads them once."""

import functools
import sys

MODULE = "torch.onnx._internal.exporter._registration"
OPSET = 20  # the default of `export.opset`; the operators of each one are kept


def read_operators_once() -> None:
    """Does nothing before the exporter is imported, by the first export."""
    module = sys.modules.get(MODULE)
    read = getattr(getattr(module, "ONNXRegistry", None), "from_torchlib", None)
    if read and not hasattr(read, "cache_info"):
        # torch calls it on an object, and a cache would be bound to that one.
        module.ONNXRegistry.from_torchlib = staticmethod(functools.cache(read))  # type: ignore[union-attr]


def read_operators_now() -> None:
    """For all forks of this process. With the argument by name, as torch calls it: the cache tells
    the two apart, and each fork would read the operators again."""
    read_operators_once()
    sys.modules[MODULE].ONNXRegistry.from_torchlib(opset_version=OPSET)
