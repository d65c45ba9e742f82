"""Networks by name: one explicit dict, one module for each family."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tasks.architectures import (
    attention,
    bag,
    cnn,
    conv1d,
    fronts,
    inception,
    linear,
    mlp,
    recurrent,
    resnet,
    resnet_d,
    series,
    tabular,
    transformer,
)
from tasks.architectures.fronts import Fronts, front_of
from tasks.architectures.network import Network, Parts
from tasks.architectures.wrapper import ExportWrapper, dynamic_shapes, example_inputs
from tasks.bundle.signature import Signature
from tasks.columns import TextColumn
from tasks.config import (
    Architecture,
    Attention,
    Bag,
    Cnn,
    Conv1d,
    Gru,
    Inception,
    Linear,
    Logistic,
    Lstm,
    Mlp,
    ResNet,
    ResNetD,
    Rnn,
    Tabular,
    Transformer,
    TransformerLm,
)
from tasks.errors import InputError
from tasks.problems import BY_TASK

__all__ = [
    "ARCHITECTURES",
    "Entry",
    "ExportWrapper",
    "Network",
    "build",
    "dynamic_shapes",
    "example_inputs",
    "signature_for",
]


@dataclass(frozen=True)
class Entry:
    """An architecture: how its network is built, and for which data and tasks."""

    parts: Callable[[Any, Signature], Parts]
    fronts: Fronts
    """The column types it takes, with the front for each."""
    tasks: frozenset[str]
    debug: Architecture
    """Parameters of a tiny network, for tests."""

    def takes(self, signature: Signature) -> bool:
        """Whether one of the fronts takes all columns of the signature."""
        return front_of(signature, self.fronts) is not None


CLASSES = frozenset({"binary", "multiclass"})
TARGETS = frozenset(task for task, problem in BY_TASK.items() if problem.target is not None)

ARCHITECTURES: dict[str, Entry] = {
    "linear": Entry(linear.parts, fronts.TABLES, frozenset({"regression"}), Linear(name="linear")),
    "logistic": Entry(linear.parts, fronts.VECTORS, CLASSES, Logistic(name="logistic")),
    "mlp": Entry(
        mlp.parts,
        fronts.VECTORS,
        TARGETS,
        Mlp(name="mlp", widths=[16, 8], normalization="batch", embedding=3),
    ),
    "tabular": Entry(
        tabular.parts,
        tabular.FRONTS,
        TARGETS,
        Tabular(name="tabular", widths=[12, 8], members=3, periodic=2, one_hot=2, embedding=3),
    ),
    "cnn": Entry(
        cnn.parts,
        fronts.IMAGES,
        TARGETS,
        Cnn(name="cnn", channels=[4, 6], convolutions=1, dense=[8]),
    ),
    "resnet": Entry(
        resnet.parts,
        fronts.IMAGES,
        TARGETS,
        ResNet(name="resnet", widths=[4, 6], blocks=[1, 1]),
    ),
    "resnet_d": Entry(
        resnet_d.parts,
        fronts.IMAGES,
        TARGETS,
        ResNetD(name="resnet_d", widths=[4, 6], blocks=[1, 1]),
    ),
    "bag": Entry(bag.parts, bag.FRONTS, TARGETS, Bag(name="bag", ngrams=3, buckets=64, width=6)),
    "conv1d": Entry(
        conv1d.parts,
        series.FRONTS,
        TARGETS,
        Conv1d(name="conv1d", widths=[4, 5], kernels=[5, 3], scaling="both"),
    ),
    "inception": Entry(
        inception.parts,
        series.FRONTS,
        TARGETS,
        Inception(name="inception", width=3, kernels=[5, 3], depth=4),
    ),
    "rnn": Entry(
        recurrent.parts,
        fronts.TIMESTEPS,
        TARGETS,
        Rnn(name="rnn", width=6, hidden=5, pooling="mean"),
    ),
    "lstm": Entry(
        recurrent.parts, fronts.TIMESTEPS, TARGETS, Lstm(name="lstm", width=6, hidden=5, layers=2)
    ),
    "gru": Entry(
        recurrent.parts,
        fronts.TIMESTEPS,
        TARGETS,
        Gru(name="gru", width=6, hidden=5, bidirectional=False, pooling="max"),
    ),
    "attention": Entry(
        attention.parts, fronts.TIMESTEPS, TARGETS, Attention(name="attention", width=8, heads=2)
    ),
    "transformer": Entry(
        transformer.parts,
        {**fronts.TIMESTEPS, **fronts.PATCHES},
        TARGETS,
        Transformer(name="transformer", width=8, heads=2, layers=2, feedforward=16),
    ),
    "transformer_lm": Entry(
        transformer.parts,
        {TextColumn: fronts.Tokens},
        frozenset({"language_model"}),
        TransformerLm(name="transformer_lm", width=8, heads=2, layers=2, feedforward=16),
    ),
}


def signature_for(architecture: Architecture, signature: Signature) -> Signature:
    """The signature of the model, from the signature of the dataset.

    They are equal, except for a language model: it takes any dataset of texts, labelled or not.

    Raises:
        InputError: the architecture does not support this kind of data or this task.
    """
    name, data, task = architecture.name, signature.data, signature.task
    entry = ARCHITECTURES[name]
    for own in entry.tasks:
        if BY_TASK[own].target is None and entry.takes(signature):
            return Signature.of(own, signature.columns, ())
    if not entry.takes(signature):
        known = sorted({column.data for column in entry.fronts})
        wrong = f"takes {' or '.join(known)} data; this dataset is {data}"
    elif task not in entry.tasks:
        wrong = f"is for {' or '.join(sorted(entry.tasks))}; this dataset is for {task}"
    else:
        return signature
    allowed = [n for n, e in ARCHITECTURES.items() if e.takes(signature) and task in e.tasks]
    raise InputError(
        f"train.architecture: {name} {wrong}. Allowed for {task} on {data} data: "
        f"{', '.join(allowed) or 'none'}"
    )


def build(architecture: Architecture, signature: Signature) -> Network:
    """Build the network for the raw inputs of `signature`, with newly initialised weights.

    Raises:
        InputError: the architecture does not support inputs of that kind or shape.
    """
    signature = signature_for(architecture, signature)
    return Network(signature, ARCHITECTURES[architecture.name].parts(architecture, signature))
