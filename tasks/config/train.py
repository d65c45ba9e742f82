"""The section `train`: the network, and how it learns."""

from typing import Literal

from pydantic import Field, model_validator

from tasks.config.architectures import Architecture, expand
from tasks.config.section import Section, Seed


class Optimizer(Section):
    """How weights follow gradients."""

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    """`adamw` (Loshchilov and Hutter 2019), `adam` (Kingma and Ba 2015), or `sgd` with Nesterov
    momentum."""
    learning_rate: float = Field(default=0.002, gt=0)
    """How far weights move at a step, where the schedule is at its highest."""
    weight_decay: float = Field(default=0.01, ge=0)
    """How strongly weights are drawn to zero."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """For `sgd` alone."""


class Schedule(Section):
    """How the learning rate moves."""

    name: Literal["constant", "cosine", "one_cycle", "step", "plateau"] = "cosine"
    """`cosine` falls to zero over all epochs (Loshchilov and Hutter 2017); `one_cycle` rises over
    the first 30 % of the steps and falls to nearly zero (Smith and Topin 2018); `step` multiplies
    by `factor` after every `every` epochs; `plateau` does when the validation loss has not fallen
    for `every` epochs."""
    warmup: float = Field(default=1, ge=0)
    """Epochs, parts of one too, over which the learning rate first rises in a straight line;
    `one_cycle` has its own."""
    every: int = Field(default=10, ge=1)
    """Epochs, for `step` and `plateau`."""
    factor: float = Field(default=0.1, gt=0, lt=1)
    """For `step` and `plateau`."""


class Augmentation(Section):
    """Random changes to the images of the training split, new ones in every epoch."""

    shift: int = Field(default=0, ge=0)
    """Move by up to so many pixels in each direction; what comes in is black."""
    flip: bool = False
    """Mirror every second image left to right."""
    crop: float = Field(default=1.0, gt=0, le=1)
    """Cut out at least this share of height and width, and resize it to the whole."""
    erase: float = Field(default=0.0, ge=0, le=1)
    """Share of the images of which a rectangle is blackened (Zhong et al. 2017)."""


class Every(Section):
    """How often the state of the training is kept, to go on from after a kill.

    Less often where writing it would take more than a twentieth of the time.
    """

    epochs: int = Field(default=1, ge=1)
    """After so many epochs."""
    minutes: float | None = Field(default=None, gt=0)
    """Also after so many minutes, in the midst of an epoch."""


class Train(Section):
    """The stage `train`: from the prepared dataset to the best weights."""

    architecture: Architecture
    """The network and its shape. A bare name stands for that architecture's defaults; `lenet`
    and `vit` are presets of `cnn` and `transformer`."""
    seed: Seed = 0
    """Decides initial weights, dropout and the order of the batches."""
    epochs: int = Field(default=40, ge=1)
    """The most passages over the training split."""
    patience: int = Field(default=15, ge=1)
    """Stop after this many epochs without a lower validation loss."""
    batch_size: int = Field(default=64, ge=2)
    """Rows of the training split that a step looks at together."""
    accumulate: int = Field(default=1, ge=1)
    """Batches whose gradients are added up before the weights move."""
    clip: float | None = Field(default=None, gt=0)
    """The largest norm that the gradients of all weights together may have."""
    label_smoothing: float = Field(default=0.05, ge=0, lt=1)
    """Share of each label given to the other classes while training (Szegedy et al. 2016)."""
    imbalance: Literal["none", "weights", "sampler"] = "none"
    """What rare classes get: `weights` counts a row by the inverse of its class's frequency,
    `sampler` draws each class equally often, with replacement."""
    augmentation: Augmentation = Augmentation()
    """Random changes to images while training."""
    token_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of a text's tokens that are unknown to the network while it trains."""
    optimizer: Optimizer = Optimizer()
    """How weights follow gradients."""
    schedule: Schedule = Schedule()
    """How the learning rate moves."""
    init_from: str | None = None
    """A registered version whose weights to start from, as NAME, NAME@ALIAS or NAME:VERSION.
    Layers that match are loaded, the rest is reported."""
    freeze: list[str] = Field(default=[])
    """Patterns of weights that do not learn, such as `front.*`; shell wildcards. The running
    statistics of a batch normalisation whose weights are frozen stay, too."""
    keep: Every = Every()
    """How often the state is kept; the same command goes on from there after a kill."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to train; `auto` takes a GPU where there is one."""
    precision: Literal["auto", "32-true", "16-mixed", "bf16-mixed"] = "auto"
    """Numbers that the network computes with while it trains; `auto` goes by the device."""

    @model_validator(mode="before")
    @classmethod
    def _a_bare_name_is_an_architecture(cls, data: object) -> object:
        if isinstance(data, dict) and "architecture" in data:
            return {**data, "architecture": expand(data["architecture"])}
        return data
