"""Params: everything that `params.yaml` may say, one class per section.

Imports no torch, so that reading parameters costs nothing. Every stage of `dvc.yaml` depends on
this file: a default that changes here makes every stage stale, as a value in `params.yaml` would.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Section(BaseModel):
    """A frozen part of the parameters; keys that it does not name are refused."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


Seed = Annotated[int, Field(ge=0, lt=2**32)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Width = Annotated[int, Field(ge=1)]
Activation = Literal["relu", "gelu", "tanh"]


class DigitsSource(Section):
    """scikit-learn's handwritten digits: 1,797 grey 8x8 images of ten classes, embedded."""

    kind: Literal["digits"]
    path: str = "data/raw/digits.csv.gz"
    """Where the raw file lies. It is put there from scikit-learn when it is missing."""


class ImageSource(Section):
    """Images and labels in a NumPy `.npz` file, the arrays `images` and `labels`.

    `images` is uint8 or float32 of shape (N, H, W) or (N, H, W, C); `labels` is (N,), integers
    or strings. Nothing is unpickled.
    """

    kind: Literal["image"]
    path: str
    """The `.npz` file."""


Source = Annotated[DigitsSource | ImageSource, Field(discriminator="kind")]


class Prepare(Section):
    """The stage `prepare`: from raw data to the prepared dataset."""

    source: Source
    """Which raw data, and how it is read."""
    seed: Seed = 0
    """Decides the splits."""
    test: Fraction = 0.2
    """Share of the rows in the test split."""
    validation: Fraction = 0.1
    """Share of the rows in the validation split."""
    missing: Literal["refuse", "drop"] = "refuse"
    """What happens to rows with a missing or non-finite value or no label."""
    duplicates: Literal["drop", "refuse"] = "drop"
    """What happens to exact copies of a row; kept, they could stand on both sides of a split."""

    @model_validator(mode="after")
    def _leave_something_to_train_on(self) -> "Prepare":
        if self.test + self.validation >= 1:
            raise ValueError(
                f"test ({self.test}) + validation ({self.validation}) must be less than 1: "
                "what is left over is the training split"
            )
        return self


class Logistic(Section):
    """Logistic (softmax) regression on the flattened input."""

    name: Literal["logistic"]


class Mlp(Section):
    """A feed-forward network on the flattened input."""

    name: Literal["mlp"]
    widths: list[Width] = Field(default=[256, 128], min_length=1)
    """Units of each hidden layer."""
    activation: Activation = "relu"
    dropout: float = Field(default=0.2, ge=0, lt=1)


class Cnn(Section):
    """Blocks of two 3x3 convolutions with batch normalisation, each halved by max pooling."""

    name: Literal["cnn"]
    channels: list[Width] = Field(default=[32, 64], min_length=1)
    """Channels of each block; every block halves height and width."""
    dense: Width = 128
    """Units of the hidden layer between the last block and the classes."""
    dropout: float = Field(default=0.3, ge=0, lt=1)


Architecture = Annotated[Logistic | Mlp | Cnn, Field(discriminator="name")]


class Optimizer(Section):
    """How weights follow gradients."""

    name: Literal["adamw", "sgd"] = "adamw"
    """`adamw` (Loshchilov and Hutter 2019), or `sgd` with Nesterov momentum 0.9."""
    learning_rate: float = Field(default=0.002, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)


class Schedule(Section):
    """How the learning rate moves, step by step."""

    name: Literal["constant", "cosine"] = "cosine"
    """`cosine` falls from the learning rate to zero over all epochs (Loshchilov, Hutter 2017)."""
    warmup: int = Field(default=1, ge=0)
    """Epochs over which the learning rate first rises in a straight line."""


class Train(Section):
    """The stage `train`: from the prepared dataset to the best weights."""

    architecture: Architecture
    """The network and its shape. A bare name stands for that architecture's defaults."""
    seed: Seed = 0
    """Decides initial weights, dropout and the order of the batches."""
    epochs: int = Field(default=40, ge=1)
    """The most passages over the training split."""
    patience: int = Field(default=15, ge=1)
    """Stop after this many epochs without a lower validation loss."""
    batch_size: int = Field(default=64, ge=2)
    label_smoothing: float = Field(default=0.05, ge=0, lt=1)
    """Share of each label given to the other classes while training (Szegedy et al. 2016)."""
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "32-true", "16-mixed", "bf16-mixed"] = "auto"

    @model_validator(mode="before")
    @classmethod
    def _a_bare_name_is_an_architecture(cls, data: object) -> object:
        if isinstance(data, dict) and isinstance(data.get("architecture"), str):
            return {**data, "architecture": {"name": data["architecture"]}}
        return data


HigherIsBetter = Literal[
    "accuracy",
    "balanced_accuracy",
    "macro_precision",
    "macro_recall",
    "macro_f1",
    "weighted_precision",
    "weighted_recall",
    "weighted_f1",
]
LowerIsBetter = Literal["log_loss", "calibration_error"]
Metric = Literal[HigherIsBetter, LowerIsBetter]


class Evaluate(Section):
    """The stage `evaluate`, and the gates that every candidate must pass."""

    gates: dict[Metric, float]
    """Metric on the test split: the least it may be (the most, for `log_loss` and
    `calibration_error`). Without a gate nothing is registered."""
    batch_size: int = Field(default=1024, ge=1)
    calibration_bins: int = Field(default=15, ge=1)
    """Bins of equal width for the expected calibration error."""


class Export(Section):
    """The stage `export`: from the best weights to a judged ONNX bundle."""

    opset: int = Field(default=20, ge=18, le=22)
    """ONNX operator set. From 23 on, ONNX Runtime on a CPU refuses masked attention."""
    tolerance: float = Field(default=1e-4, gt=0)
    """Largest difference between ONNX Runtime and PyTorch: |d| <= tolerance * max(1, |y|)."""


class Registration(Section):
    """What registration and promotion need."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")
    """The model's name in the registry."""
    metric: HigherIsBetter = "macro_f1"
    """What a challenger must beat the champion in, on the same test split."""


class Params(Section):
    """The whole of `params.yaml`."""

    prepare: Prepare
    train: Train
    evaluate: Evaluate
    export: Export = Export()
    registration: Registration
