"""The residual network for images of any size: how far it reduces them, and its ONNX file."""

import pytest
import torch
from network_helpers import check_at_other_sizes, open_quietly, rows

from tasks.architectures import build
from tasks.architectures.resnet_d import Block
from tasks.bundle.signature import Signature
from tasks.columns import ImageColumn
from tasks.config import ResNetD
from tasks.export import _write_onnx

SMALL = ResNetD(name="resnet_d", widths=[4, 6, 8], blocks=[1, 1, 1])
CLASSES = {"multiclass": ("cat", "dog", "owl"), "regression": ()}


def network_for(shape, task="multiclass", dtype="uint8"):
    torch.manual_seed(0)
    column = ImageColumn(name="image", dtype=dtype, shape=shape)
    return build(SMALL, Signature.of(task, (column,), CLASSES[task]))


SIZES = {
    (1, 1): [(1, 1)] * 3,
    (8, 8): [(8, 8), (4, 4), (4, 4)],
    (28, 28): [(14, 14), (7, 7), (4, 4)],
    (33, 32): [(9, 16), (5, 8), (5, 4)],
    (5, 100): [(5, 13), (5, 7), (5, 4)],
    (224, 224): [(14, 14), (7, 7), (4, 4)],
}


@pytest.mark.parametrize(("size", "expected"), SIZES.items(), ids=str)
def test_images_are_halved_by_their_size(size, expected):
    network, found = network_for((*size, 3)).eval(), []
    for block in (layer for layer in network.body if isinstance(layer, Block)):
        block.register_forward_hook(lambda _, __, output: found.append(tuple(output.shape[2:])))
    assert network(rows(network.signature, [1] * 2)).shape == (2, 3)
    assert found == expected


@pytest.mark.parametrize(
    ("shape", "task", "dtype"),
    [((1, 1, 1), "multiclass", "uint8"), ((9, 37, 3), "regression", "float32")],
)
def test_the_onnx_file_predicts_as_the_network_does(shape, task, dtype, tmp_path):
    network = network_for(shape, task, dtype).train()
    network(rows(network.signature, [1] * 8))  # statistics of batch normalisation
    _write_onnx(network.eval(), network.signature, 18, tmp_path / "model.onnx")
    check_at_other_sizes(network, open_quietly((tmp_path / "model.onnx").read_bytes()))


def test_a_shortcut_takes_the_mean_of_the_pixels_that_are_there():
    pixels = torch.arange(9.0).reshape(1, 1, 3, 3)
    block = Block(1, 1, (2, 2))
    assert block.shortcut[0](pixels).flatten().tolist() == [2.0, 3.5, 6.5, 8.0]
