"""Sessions of ONNX Runtime: with buffers that are kept, as on CUDA; without telemetry."""

import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from projects import ROOT

from tasks.session import Bound, cuda_devices, open_session

NO_DEVICE = cuda_devices() == 0


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A graph with two inputs of different types, as a table of numbers and categories has."""
    rng, node = np.random.default_rng(1), helper.make_node
    weights = [
        numpy_helper.from_array(rng.normal(0, 1, shape).astype(np.float32), name)
        for name, shape in {"w": (6, 3), "embedding": (4, 3)}.items()
    ]
    nodes = [
        node("MatMul", ["numbers", "w"], ["projected"]),
        node("Gather", ["embedding", "codes"], ["embedded"]),
        node("Add", ["projected", "embedded"], ["logits"]),
        node("Softmax", ["logits"], ["probabilities"]),
    ]
    given = [
        helper.make_tensor_value_info("numbers", TensorProto.FLOAT, ["batch", 6]),
        helper.make_tensor_value_info("codes", TensorProto.INT64, ["batch"]),
    ]
    found = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3])
        for name in ("logits", "probabilities")
    ]
    graph = helper.make_graph(nodes, "tiny", given, found, weights)
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    opset = helper.make_opsetid("", 20)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=10), path)
    return path


def batches():
    """Batches of several sizes, some of which repeat, so that buffers are kept and replaced."""
    rng = np.random.default_rng(0)
    for rows in (5, 5, 3, 5, 1, 1, 200, 0, 4):
        numbers = rng.normal(0, 1, (rows, 6)).astype(np.float32)
        yield {"numbers": numbers, "codes": rng.integers(0, 4, rows)}


def test_kept_buffers_give_the_bytes_of_a_plain_run(model):
    session = open_session(model, "cpu", threads=1)
    names = [output.name for output in session.inner.get_outputs()]
    bound = Bound(session.inner, "cpu")
    for arrays in batches():
        # A view with strides, as a part of a larger batch may be.
        strided = {name: np.repeat(array, 2, axis=0)[::2] for name, array in arrays.items()}
        expected, found = session.run(arrays, names), bound.run(strided, names)
        assert {n: a.tobytes() for n, a in found.items()} == {
            n: a.tobytes() for n, a in expected.items()
        }


def test_an_answer_stays_as_it_is_when_the_buffers_are_used_again(model):
    session = open_session(model, "cpu", threads=1)
    names = [output.name for output in session.inner.get_outputs()]
    bound = Bound(session.inner, "cpu")
    answers = [(bound.run(arrays, names), session.run(arrays, names)) for arrays in batches()]
    for found, expected in answers:
        assert all(np.array_equal(found[name], expected[name]) for name in names)


def test_buffers_are_kept_while_the_shapes_repeat(model):
    session = open_session(model, "cpu", threads=1)
    bound, kept = Bound(session.inner, "cpu"), []
    for arrays in list(batches())[:3]:
        bound.run(arrays, ["logits"])
        kept.append(dict(bound._buffers))
    for name in ("numbers", "codes"):
        assert kept[0][name] is kept[1][name] is not kept[2][name]


@pytest.mark.gpu
@pytest.mark.skipif(NO_DEVICE, reason="the NVIDIA driver finds no device")
def test_runs_on_cuda_are_those_of_the_cpu(model):
    cpu, cuda = open_session(model, "cpu", threads=1), open_session(model, "cuda", threads=1)
    names = [output.name for output in cpu.inner.get_outputs()]
    for arrays in batches():
        expected, found = cpu.run(arrays, names), cuda.run(arrays, names)
        for name in names:
            assert found[name] == pytest.approx(expected[name], abs=1e-5)  # without TF32


@pytest.mark.parametrize("module", ["tasks.session", "tasks.predict", "flows.job", "modelmint"])
def test_onnx_runtime_reports_nothing(module, tmp_path):
    """Its telemetry leaves a database in the cache folder when it is imported."""
    kept = {
        name: v for name, v in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "CI")
    }
    code = f"import {module}, onnxruntime"
    environment = kept | {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, check=True)
    left = [str(p) for p in tmp_path.rglob("*") if "onnxruntime" in p.name or "Microsoft" in p.name]
    assert left == []
