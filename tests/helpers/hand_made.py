"""Bundles with graphs written by hand: two classes, predicted within milliseconds of work."""

import numpy as np
import onnx
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from tasks.bundle.signature import Signature
from tasks.columns import (
    BooleanColumn,
    CategoryColumn,
    DateColumn,
    ImageColumn,
    NumberColumn,
    SequenceColumn,
    TextColumn,
)
from tasks.files.reading import PLAIN

CLASSES = ("no", "yes")
SLOPE = 2.0
TABLE = (
    NumberColumn(name="age", low=0.0, high=100.0),
    BooleanColumn(name="member"),
    DateColumn(name="since", fill=1.0),
    CategoryColumn(name="colour", values=("blue", "red"), fill="red"),
)
IMAGE = (ImageColumn(name="image", dtype="uint8", shape=(4, 5, 1)),)
SEQUENCE = (SequenceColumn(name="steps", features=2, max_length=5),)
TEXT = (TextColumn(name="text", vocabulary=15, max_length=9),)


def classifier(folder, columns, tokenizer=None):
    """Write a bundle whose probability of `yes` is the sigmoid of `SLOPE` times the sum of a row's
    first tensor. Where the sum is beyond float32, so is the prediction.
    """
    signature = Signature.of("binary", columns, CLASSES, PLAIN)
    first = signature.inputs[0]
    axes = np.arange(1, len(first.shape) + 1)
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Cast", [first.name], ["floats"], to=onnx.TensorProto.FLOAT),
            onnx.helper.make_node("ReduceSum", ["floats", "axes"], ["sum"], keepdims=0),
            onnx.helper.make_node("Reshape", ["sum", "column"], ["sums"]),
            onnx.helper.make_node("MatMul", ["sums", "slopes"], ["logits"]),
            onnx.helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        "by hand",
        [_info(tensor) for tensor in signature.inputs],
        [_info(tensor) for tensor in signature.outputs],
        [
            onnx.numpy_helper.from_array(axes, "axes"),
            onnx.numpy_helper.from_array(np.array([-1, 1]), "column"),
            onnx.numpy_helper.from_array(np.array([[0, SLOPE]], np.float32), "slopes"),
        ],
    )
    folder.mkdir(parents=True)
    opset = [onnx.helper.make_opsetid("", 20)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=10)
    onnx.save(model, folder / "model.onnx")
    signature.write(folder / "signature.json")
    if tokenizer is not None:
        tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def one_of_each(root, words):
    """A bundle for each kind of data, by its name; `words` are the tokens of the texts."""
    columns = {"table": TABLE, "image": IMAGE, "sequence": SEQUENCE}
    made = {name: classifier(root / name, of) for name, of in columns.items()}
    return made | {"text": classifier(root / "text", TEXT, word_tokenizer(words))}


def word_tokenizer(words):
    """One token for each word; [BOS] begins every text."""
    tokens = ["[PAD]", "[UNK]", "[BOS]", *words]
    made = Tokenizer(models.WordLevel({t: n for n, t in enumerate(tokens)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[BOS] $A", special_tokens=[("[BOS]", 2)]
    )
    return made


def _info(tensor):
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
    shape = ["batch", *("time" if size is None else size for size in tensor.shape)]
    return onnx.helper.make_tensor_value_info(tensor.name, kind, shape)
