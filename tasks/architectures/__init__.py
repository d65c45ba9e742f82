"""Networks by name: one explicit dict, one small file for each family."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tasks.architectures import attention, cnn, linear, mlp, recurrent, resnet, transformer
from tasks.architectures.network import Network, Parts
from tasks.architectures.served import Served, dynamic_shapes, example_inputs
from tasks.config import (
    Architecture,
    Attention,
    Cnn,
    Gru,
    Linear,
    Logistic,
    Lstm,
    Mlp,
    ResNet,
    Rnn,
    Transformer,
    TransformerLm,
)
from tasks.errors import InputError
from tasks.signature import Signature

__all__ = [
    "ARCHITECTURES",
    "Entry",
    "Network",
    "Served",
    "build",
    "dynamic_shapes",
    "example_inputs",
    "signature_for",
]


@dataclass(frozen=True)
class Entry:
    """An architecture: how its network is made, and for what."""

    parts: Callable[[Any, Signature], Parts]
    kinds: frozenset[str]
    """Kinds of data: image, tabular, text, sequence."""
    tasks: frozenset[str]
    debug: Architecture
    """A tiny one, for tests."""


VECTORS = frozenset({"tabular", "image"})
STEPS = frozenset({"text", "sequence"})
CLASSES = frozenset({"binary", "multiclass"})
TARGETS = CLASSES | {"regression"}

ARCHITECTURES: dict[str, Entry] = {
    "linear": Entry(
        linear.parts, frozenset({"tabular"}), frozenset({"regression"}), Linear(name="linear")
    ),
    "logistic": Entry(linear.parts, VECTORS, CLASSES, Logistic(name="logistic")),
    "mlp": Entry(
        mlp.parts,
        VECTORS,
        TARGETS,
        Mlp(name="mlp", widths=[16, 8], normalization="batch", embedding=3),
    ),
    "cnn": Entry(
        cnn.parts,
        frozenset({"image"}),
        TARGETS,
        Cnn(name="cnn", channels=[4, 6], convolutions=1, dense=[8]),
    ),
    "resnet": Entry(
        resnet.parts,
        frozenset({"image"}),
        TARGETS,
        ResNet(name="resnet", widths=[4, 6], blocks=[1, 1]),
    ),
    "rnn": Entry(
        recurrent.parts, STEPS, TARGETS, Rnn(name="rnn", width=6, hidden=5, pooling="mean")
    ),
    "lstm": Entry(recurrent.parts, STEPS, TARGETS, Lstm(name="lstm", width=6, hidden=5, layers=2)),
    "gru": Entry(
        recurrent.parts,
        STEPS,
        TARGETS,
        Gru(name="gru", width=6, hidden=5, bidirectional=False, pooling="max"),
    ),
    "attention": Entry(
        attention.parts, STEPS, TARGETS, Attention(name="attention", width=8, heads=2)
    ),
    "transformer": Entry(
        transformer.parts,
        STEPS | {"image"},
        TARGETS,
        Transformer(name="transformer", width=8, heads=2, layers=2, feedforward=16),
    ),
    "transformer_lm": Entry(
        transformer.parts,
        frozenset({"text"}),
        frozenset({"language_model"}),
        TransformerLm(name="transformer_lm", width=8, heads=2, layers=2, feedforward=16),
    ),
}


def signature_for(architecture: Architecture, signature: Signature) -> Signature:
    """The signature of the model, given that of the dataset.

    They are the same, but for a language model: it takes any dataset of texts, labelled or not.

    Raises:
        InputError: the architecture does not take this kind of data, or has no such task.
    """
    name, kind, task = architecture.name, signature.kind, signature.task
    entry = ARCHITECTURES[name]
    if "language_model" in entry.tasks and kind in entry.kinds:
        return Signature.of("language_model", signature.columns, ())
    if kind not in entry.kinds:
        wrong = f"takes {' or '.join(sorted(entry.kinds))} data; this dataset is {kind}"
    elif task not in entry.tasks:
        wrong = f"is for {' or '.join(sorted(entry.tasks))}; this dataset is for {task}"
    else:
        return signature
    fitting = [n for n, e in ARCHITECTURES.items() if kind in e.kinds and task in e.tasks]
    raise InputError(
        f"train.architecture: {name} {wrong}. For {task} on {kind} data: {', '.join(fitting)}"
    )


def build(architecture: Architecture, signature: Signature) -> Network:
    """The network that takes the raw inputs of the model's `signature`, with fresh weights.

    Raises:
        InputError: the architecture cannot take inputs of that kind or shape.
    """
    signature = signature_for(architecture, signature)
    return Network(signature, ARCHITECTURES[architecture.name].parts(architecture, signature))
