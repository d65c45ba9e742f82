"""Random inputs for a network, and a comparison with its ONNX file for many batch sizes."""

import numpy as np
import onnxruntime
import torch

from tasks.columns import TextColumn


def rows(signature, lengths, time=None):
    """Random inputs, one row for each of `lengths`, padded to `time` timesteps."""
    count, time = len(lengths), time or max(lengths)
    words = next((c.vocabulary for c in signature.columns if isinstance(c, TextColumn)), 0)
    inputs = {}
    for tensor in signature.inputs:
        shape = (count, *(time if n is None else n for n in tensor.shape))
        match tensor.name, tensor.dtype:
            case "length", "int64":
                inputs["length"] = torch.tensor(lengths)
            case "tokens", _:
                inputs["tokens"] = torch.randint(1, words, shape)
            case "categories", _:
                inputs["categories"] = torch.randint(0, 3, shape)
            case name, "uint8":
                inputs[name] = torch.randint(0, 256, shape, dtype=torch.uint8)
            case name, _:
                inputs[name] = 5 + 3 * torch.randn(shape)
    for name in ("tokens", "sequence"):
        if name in inputs:
            for row, length in enumerate(lengths):
                inputs[name][row, length:] = 0
    return inputs


def open_quietly(model: bytes) -> onnxruntime.InferenceSession:
    """A session whose threads sleep between runs."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options)


def check_at_other_sizes(network, session, longest=16):
    """Assert that ONNX Runtime's outputs equal the network's for any batch size and length."""
    various = [7, 1, longest, 3, 0, longest, 5]
    for lengths, time in [([1], 1), ([2], 2), (various, longest), ([3] * 4 + [0], 5)]:
        inputs = rows(network.signature, lengths, time)
        with torch.no_grad():
            expected = network.outputs(inputs, network(inputs))
        found = session.run(None, {n: t.numpy() for n, t in inputs.items()})
        for values, correct in zip(found, expected.values(), strict=True):
            assert np.isfinite(values).all()
            # The sums of a trained LSTM over 10 timesteps, in another order, differ by up to 2e-5.
            np.testing.assert_allclose(values, correct.numpy(), rtol=1e-4, atol=1e-4)
