"""Parameters of each network by name, one class for each. tasks/architectures builds them."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from tasks.config.section import Activation, Dropout, Section, Width

Pooling = Literal["last", "mean", "max"]
Scaling = Literal["dataset", "series", "both"]


def _odd(kernel: int) -> int:
    if kernel % 2 == 0:
        raise ValueError("give an odd number: a convolution has a timestep in its middle")
    return kernel


Kernel = Annotated[Width, AfterValidator(_odd)]


def _one_for_each_stage(widths: list[int], blocks: list[int]) -> None:
    if len(widths) != len(blocks):
        raise ValueError(
            f"widths has {len(widths)} numbers and blocks {len(blocks)}; give one "
            "number for each stage in both"
        )


class Auto(Section):
    """The network that `modelmint new` proposes for such columns and so many rows, chosen when the
    training begins. The version has its name and parameters."""

    name: Literal["auto"]


class Linear(Section):
    """Linear regression on numbers and one-hot categories."""

    name: Literal["linear"]


class Logistic(Section):
    """Logistic (softmax) regression on the flattened input."""

    name: Literal["logistic"]


class Mlp(Section):
    """A feed-forward network on the flattened input."""

    name: Literal["mlp"]
    widths: list[Width] = Field(default=[256, 128], min_length=1)
    """Units of each hidden layer."""
    activation: Activation = "relu"
    """The function after each hidden layer."""
    normalization: Literal["none", "batch", "layer"] = "none"
    """Normalisation between a layer and its activation. Deep or narrow networks need it."""
    dropout: Dropout = 0.2
    """Share of the units of each hidden layer that are set to zero at each training step."""
    embedding: Width | None = None
    """Size of the learned vector for each category of a table; without it, one-hot encoding."""


class Tabular(Section):
    """An ensemble of feed-forward networks that share their weights (TabM, Gorishniy et al. 2025),
    on robustly scaled numbers and their periodic embeddings."""

    name: Literal["tabular"]
    widths: list[Width] = Field(default=[128, 128], min_length=1)
    """Units of each hidden layer."""
    members: Width = 8
    """Networks of the ensemble. They share the weights of their layers, and each has vectors of its
    own by which the inputs and outputs of a layer are multiplied. The prediction is their mean."""
    periodic: int = Field(default=3, ge=0)
    """Learned numbers for each number of a table, made from waves of 16 learned frequencies, beside
    the number itself; 0 for none."""
    one_hot: int = Field(default=8, ge=0)
    """Categories with at most so many values are one-hot; others become a learned vector."""
    embedding: Width = 8
    """Size of the learned vector for each value of the other categories."""
    dropout: Dropout = 0.1
    """Share of the units of each hidden layer that are set to zero at each training step."""


class Cnn(Section):
    """Blocks of convolutions with 2x2 max pooling at the end of each, then dense layers."""

    name: Literal["cnn"]
    channels: list[Width] = Field(default=[32, 64], min_length=1)
    """Channels of each block; every block halves height and width."""
    convolutions: Width = 2
    """Convolutions in each block."""
    kernel: Literal[3, 5, 7] = 3
    """Height and width of a convolution in pixels."""
    padding: bool = True
    """Pad images with zeros, so that a convolution keeps their size."""
    batch_norm: bool = True
    """Batch normalisation after each convolution."""
    dense: list[Width] = Field(default=[128])
    """Units of the hidden layers between the last block and the outputs."""
    dropout: Dropout = 0.3
    """Share of the units before the outputs that are set to zero at each training step."""


class ResNet(Section):
    """A residual network of basic blocks (He et al. 2015)."""

    name: Literal["resnet"]
    widths: list[Width] = Field(default=[16, 32, 64], min_length=1)
    """Channels of each stage; every stage but the first halves height and width."""
    blocks: list[Width] = Field(default=[1, 1, 1], min_length=1)
    """Residual blocks of two convolutions in each stage."""
    dropout: Dropout = 0.0
    """Share of the units before the outputs that are set to zero at each training step."""

    @model_validator(mode="after")
    def _as_many_widths_as_blocks(self) -> "ResNet":
        _one_for_each_stage(self.widths, self.blocks)
        return self


class ResNetD(Section):
    """A residual network whose cost hardly depends on the size of the images (ResNet-D, He et al.
    2019)."""

    name: Literal["resnet_d"]
    widths: list[Width] = Field(default=[32, 64, 128], min_length=1)
    """Channels of each stage; every stage but the first halves sides of 7 pixels or more. Before
    the first, convolutions halve sides of more than 16 pixels."""
    blocks: list[Width] = Field(default=[1, 1, 1], min_length=1)
    """Residual blocks of two convolutions in each stage."""
    dropout: Dropout = 0.3
    """Share of the units before the outputs that are set to zero at each training step."""

    @model_validator(mode="after")
    def _as_many_widths_as_blocks(self) -> "ResNetD":
        _one_for_each_stage(self.widths, self.blocks)
        return self


class Bag(Section):
    """A linear model of the tokens of a text and of sequences of neighbouring tokens, weighted by
    how rare they are (Joulin et al. 2016, TF-IDF)."""

    name: Literal["bag"]
    ngrams: Width = 2
    """The longest sequences of neighbouring tokens: 2 for words, 3 or 4 for characters."""
    buckets: int = Field(default=131_072, ge=16)
    """Vectors that the sequences share: each sequence has the one that its hash says."""
    width: Width = 16
    """Units of a vector."""
    dropout: Dropout = 0.2
    """Share of the units before the outputs that are set to zero at each training step."""


class _Convolutional(Section):
    scaling: Scaling = "both"
    """How each channel is scaled: by the mean and standard deviation of all training timesteps
    (`dataset`), by those of the sequence itself, so that only its shape counts (`series`), or
    `both`, as twice the channels."""
    dropout: Dropout = 0.1
    """Share of the units before the outputs that are set to zero at each training step."""


class Conv1d(_Convolutional):
    """Convolutions over the timesteps of a sequence, then their mean (Wang et al. 2017)."""

    name: Literal["conv1d"]
    widths: list[Width] = Field(default=[64, 128, 64], min_length=1)
    """Channels of each convolution."""
    kernels: list[Kernel] = Field(default=[9, 5, 3], min_length=1)
    """Timesteps that each convolution sees; odd numbers."""

    @model_validator(mode="after")
    def _as_many_widths_as_kernels(self) -> "Conv1d":
        if len(self.widths) != len(self.kernels):
            raise ValueError(
                f"widths has {len(self.widths)} numbers and kernels {len(self.kernels)}; give one "
                "number for each convolution in both"
            )
        return self


class Inception(_Convolutional):
    """Convolutions of several lengths beside each other, with residual connections (InceptionTime,
    Ismail Fawaz et al. 2020)."""

    name: Literal["inception"]
    width: Width = 16
    """Channels of each length; a block has as many for each of `kernels`, and for a maximum over
    three timesteps."""
    kernels: list[Kernel] = Field(default=[39, 19, 9], min_length=1)
    """Timesteps that the convolutions of a block see; odd numbers. For sequences of fewer than a
    hundred timesteps take shorter ones, such as `[9, 5, 3]`."""
    depth: Width = 6
    """Blocks in a row. The input of every three is added to their result."""


class _Recurrent(Section):
    width: Width = 64
    """Units of the token embedding, or of the linear layer that reads a numeric sequence."""
    hidden: Width = 64
    """Units of the state, in each direction."""
    layers: Width = 1
    """Recurrent layers, stacked."""
    bidirectional: bool = True
    """Also read the sequence backwards."""
    pooling: Pooling = "last"
    """How a sequence becomes one vector: the last valid state of each direction, or the mean or
    maximum over the valid timesteps."""
    dropout: Dropout = 0.3
    """Share of the units that are set to zero at each training step: of the input, between layers,
    and before the outputs."""


class Rnn(_Recurrent):
    """A recurrent network of tanh units (Elman 1990)."""

    name: Literal["rnn"]


class Lstm(_Recurrent):
    """Long short-term memory (Hochreiter and Schmidhuber 1997)."""

    name: Literal["lstm"]


class Gru(_Recurrent):
    """Gated recurrent units (Cho et al. 2014)."""

    name: Literal["gru"]


class _Heads(Section):
    width: Width = 64
    """Units of each token, and of all heads together."""
    heads: Width = 4
    """Attention heads of a block; `width` must be a multiple of them."""
    dropout: Dropout = 0.1
    """Share of the units that are set to zero at each training step."""
    positions: Literal["learned", "sinusoidal"] = "learned"
    """How positions are encoded: learned vectors, or fixed sines."""

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> "_Heads":
        if self.width % self.heads:
            raise ValueError(f"width ({self.width}) must be a multiple of heads ({self.heads})")
        return self


class Attention(_Heads):
    """One self-attention block (Vaswani et al. 2017), then pooling over the valid timesteps."""

    name: Literal["attention"]
    pooling: Literal["mean", "max"] = "mean"
    """How a sequence becomes one vector: mean or maximum over the valid timesteps."""


class _Transformer(_Heads):
    layers: Width = 2
    """Blocks, stacked."""
    feedforward: Width = 128
    """Units of the hidden layer inside each block."""


class Transformer(_Transformer):
    """A transformer encoder (Vaswani et al. 2017); images are split into patches (Dosovitskiy
    2021)."""

    name: Literal["transformer"]
    pooling: Literal["mean", "max"] = "mean"
    """How a sequence becomes one vector: mean or maximum over the valid timesteps."""
    patch: Width = 4
    """Height and width of an image's patches in pixels."""


class TransformerLm(_Transformer):
    """A decoder-only transformer that predicts the next token (Radford et al. 2018)."""

    name: Literal["transformer_lm"]


Architecture = Annotated[
    Auto
    | Linear
    | Logistic
    | Mlp
    | Tabular
    | Cnn
    | ResNet
    | ResNetD
    | Bag
    | Conv1d
    | Inception
    | Rnn
    | Lstm
    | Gru
    | Attention
    | Transformer
    | TransformerLm,
    Field(discriminator="name"),
]

PRESETS: dict[str, dict[str, Any]] = {
    # Two convolutions of 6 and 16 filters of 5x5, dense layers of 120 and 84: LeNet-5's shape
    # (LeCun et al. 1998).
    "lenet": {
        "name": "cnn",
        "channels": [6, 16],
        "convolutions": 1,
        "kernel": 5,
        "padding": False,
        "batch_norm": False,
        "dense": [120, 84],
        "dropout": 0.0,
    },
    "vit": {
        "name": "transformer",
        "width": 64,
        "heads": 4,
        "layers": 4,
        "feedforward": 128,
        "patch": 4,
    },
}
"""Names for an architecture with other defaults; keys beside the name override these defaults."""


def expand(architecture: object) -> object:
    """The mapping for a bare name or a preset; returns anything else unchanged."""
    if isinstance(architecture, str):
        architecture = {"name": architecture}
    if isinstance(architecture, dict) and architecture.get("name") in PRESETS:
        preset = PRESETS[architecture["name"]]
        return {**preset, **architecture, "name": preset["name"]}
    return architecture
