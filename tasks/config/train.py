"""The section `train`: the network, and how it learns."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tasks.config.architectures import Architecture, expand
from tasks.config.section import Section, Seed
from tasks.config.start import is_weights_file, refuse_other_files

Devices = Annotated[int, Field(ge=1)]
WindowRows = Annotated[int, Field(ge=2)]


class Optimizer(Section):
    """The optimizer: how gradients change the weights."""

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    """`adamw` (Loshchilov and Hutter 2019), `adam` (Kingma and Ba 2015), or `sgd` with Nesterov
    momentum."""
    learning_rate: float = Field(default=0.002, gt=0)
    """The highest learning rate of the schedule."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Weight decay: how strongly weights are pulled towards zero."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum of `sgd`; ignored for the others."""


class Schedule(Section):
    """How the learning rate changes during the training."""

    name: Literal["constant", "cosine", "one_cycle", "step", "plateau"] = "cosine"
    """`constant` stays the same. `cosine` falls to zero over all epochs (Loshchilov and Hutter
    2017). `one_cycle` rises over the first 30 % of the steps and falls to nearly zero (Smith and
    Topin 2018). `step` multiplies by `factor` after every `every` epochs. `plateau` multiplies by
    `factor` when the validation loss has not fallen for `every` epochs."""
    warmup: float = Field(default=1, ge=0)
    """Epochs (may be a fraction) over which the learning rate first rises linearly. Ignored for
    `one_cycle`, which has its own warm-up."""
    every: int = Field(default=10, ge=1)
    """Number of epochs, for `step` and `plateau`."""
    factor: float = Field(default=0.1, gt=0, lt=1)
    """What the learning rate is multiplied by, for `step` and `plateau`."""


class Augmentation(Section):
    """Random changes to training images, drawn again in every epoch."""

    shift: int = Field(default=0, ge=0)
    """Shift by up to this many pixels in each direction; new pixels are black."""
    flip: bool = False
    """Mirror an image left to right with probability 0.5."""
    crop: float = Field(default=1.0, gt=0, le=1)
    """Crop to at least this share of height and width, and resize to the full size."""
    erase: float = Field(default=0.0, ge=0, le=1)
    """Share of the images in which a random rectangle is set to black (Zhong et al. 2017)."""


class CheckpointEvery(Section):
    """How often the state of the training is saved. A killed training resumes from the last one.

    Some saves are skipped if writing would take more than a twentieth of the time.
    """

    epochs: int = Field(default=1, ge=1)
    """Save after this many epochs."""
    minutes: float | None = Field(default=None, gt=0)
    """Also save after this many minutes within an epoch."""


class Train(Section):
    """The stage `train`: from the prepared dataset to the best weights."""

    architecture: Architecture
    """The network and its size. A name alone means that architecture with its defaults; `lenet`
    and `vit` are presets of `cnn` and `transformer`."""
    seed: Seed = 0
    """Seed of the initial weights, dropout and the order of the batches."""
    epochs: int = Field(default=40, ge=1)
    """Maximum number of epochs."""
    patience: int = Field(default=15, ge=1)
    """Stop after this many epochs without a lower validation loss."""
    batch_size: int = Field(default=64, ge=2)
    """Training rows in a batch."""
    accumulate: int = Field(default=1, ge=1)
    """Batches whose gradients are summed before each update of the weights."""
    clip: float | None = Field(default=None, gt=0)
    """Gradient clipping: the maximum norm of all gradients together; null does not clip."""
    loss: Literal["auto", "huber", "quantile"] = "auto"
    """What the training minimises. `auto`: cross-entropy of classes and tokens, squared error of
    numbers. Of numbers also `huber`, the absolute error beyond one standard deviation of the target
    (Huber 1964), for targets with outliers; and `quantile`, the pinball loss (Koenker and Bassett
    1978)."""
    quantile: float | None = Field(default=None, gt=0, lt=1)
    """The quantile that the loss `quantile` predicts: with 0.9, nine of ten values are below the
    prediction."""
    target_transform: Literal["none", "log", "quantile"] = "none"
    """What a network for numbers learns in place of the target. `log`: its logarithm, for values
    above 0 over several orders of magnitude; errors then count in proportion to the value.
    `quantile`: the normal score of its rank among the training rows. Predictions and metrics are in
    the unit of the target: the ONNX graph inverts it."""
    label_smoothing: float = Field(default=0.05, ge=0, lt=1)
    """Share of each label given to the other classes while training (Szegedy et al. 2016)."""
    imbalance: Literal["none", "weights", "sampler"] = "none"
    """Handling of rare classes: `weights` weights each row by the inverse frequency of its class,
    `sampler` draws each class equally often, with replacement."""
    augmentation: Augmentation = Augmentation()
    """Random changes to training images."""
    token_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the tokens of a text that are replaced by the unknown token during training."""
    optimizer: Optimizer = Optimizer()
    """The optimizer: how gradients change the weights."""
    schedule: Schedule = Schedule()
    """How the learning rate changes during the training."""
    init_from: str | None = None
    """The weights to start from: a registered version, as NAME, NAME@ALIAS or NAME:VERSION, or a
    file, as a path that ends in `.safetensors`. Weights with the same names and shapes are loaded;
    the others are listed in the log."""
    init_keys: dict[str, str] = Field(default={})
    """For a file: parts of the names in it, and what they are in the network, such as
    `layer1.0: body.2`. A part stands between dots, wherever in the name; of several that fit, the
    longest is taken. A whole name renames only that weight."""
    freeze: list[str] = Field(default=[])
    """Names of weights that are not trained, with shell wildcards, such as `front.*`. Batch
    normalisation with frozen weights keeps its running statistics too."""
    window: Literal["auto"] | WindowRows = "auto"
    """Training rows that are in memory at a time, and are shuffled together. `auto` is all rows if
    they fit, otherwise as many as take 256 MiB."""
    checkpoint: CheckpointEvery = CheckpointEvery()
    """How often the state is saved. After a kill, the same command resumes from the last one."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Device to train on; `auto` uses a GPU if there is one."""
    devices: Literal["auto"] | Devices = "auto"
    """How many devices of this machine train together, each in a process that computes a part of
    every batch. `auto` is all GPUs, or one process on a CPU."""
    precision: Literal["auto", "32-true", "16-mixed", "bf16-mixed"] = "auto"
    """Floating-point precision of the training; `auto` depends on the device."""

    @model_validator(mode="after")
    def _a_quantile_with_its_loss(self) -> "Train":
        if (self.loss == "quantile") != (self.quantile is not None):
            raise ValueError(
                "loss: quantile and quantile: NUMBER, such as 0.9, go together; give both or none"
            )
        return self

    @model_validator(mode="after")
    def _a_file_that_can_be_read(self) -> "Train":
        if self.init_from is not None:
            try:
                refuse_other_files(self.init_from)
            except ValueError as error:
                raise ValueError(f"init_from: {error}") from error
        if self.init_keys and not is_weights_file(self.init_from or ""):
            raise ValueError(
                "init_keys renames the weights of a file, but init_from is "
                f"{self.init_from or 'null'}; give the path of a .safetensors file, or remove "
                "init_keys"
            )
        for name in (*self.init_keys, *self.init_keys.values()):
            if not all(name.split(".")) or name.split() != [name]:
                raise ValueError(
                    f"init_keys: {name!r} is not a name or a part of one; give the parts between "
                    "dots, such as layer1.0, without a dot at either end"
                )
        return self

    @model_validator(mode="before")
    @classmethod
    def _a_bare_name_is_an_architecture(cls, data: object) -> object:
        if isinstance(data, dict) and "architecture" in data:
            return {**data, "architecture": expand(data["architecture"])}
        return data
