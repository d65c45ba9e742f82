"""Params: everything that `params.yaml` can contain, one class for each section.

Imports no torch, so that reading parameters is fast. This package is code of every stage: a changed
default makes every stage stale.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from tasks.config.architectures import (
    PRESETS,
    Architecture,
    Attention,
    Auto,
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
from tasks.config.retrain import Retrain
from tasks.config.section import Fraction, Section, Seed
from tasks.config.sources import (
    Csv,
    DigitsSource,
    ImageSource,
    SequenceSource,
    Source,
    TabularSource,
    TextSource,
    Tokenizer,
)
from tasks.config.train import Augmentation, CheckpointEvery, Optimizer, Schedule, Train
from tasks.config.tune import Dimension, Tune
from tasks.problems import METRICS, PROBLEMS

if TYPE_CHECKING:
    MetricName = str
    ProblemName = str
else:  # pydantic needs the actual names, for forms, help and messages
    MetricName, ProblemName = Literal[tuple(METRICS)], Literal[tuple(PROBLEMS)]

__all__ = [
    "PRESETS",
    "Architecture",
    "Attention",
    "Augmentation",
    "Auto",
    "Bag",
    "Bounds",
    "CheckpointEvery",
    "Cnn",
    "Conv1d",
    "Csv",
    "DigitsSource",
    "Dimension",
    "Evaluate",
    "Export",
    "Gru",
    "ImageSource",
    "Inception",
    "Linear",
    "Logistic",
    "Lstm",
    "MetricName",
    "Mlp",
    "Optimizer",
    "Params",
    "Prepare",
    "Registration",
    "ResNet",
    "ResNetD",
    "Retrain",
    "Rnn",
    "Schedule",
    "SequenceSource",
    "Source",
    "Tabular",
    "TabularSource",
    "TextSource",
    "Tokenizer",
    "Train",
    "Transformer",
    "TransformerLm",
    "Tune",
]


class Prepare(Section):
    """The stage `prepare`: from raw data to the prepared dataset."""

    source: Source
    """Where the raw data is, and how it is read."""
    task: ProblemName = "classification"
    """What to predict: a class, a number or, without a target, the next token."""
    seed: Seed = 0
    """Seed of the random splits."""
    test: Fraction = 0.2
    """Share of the rows in the test split."""
    validation: Fraction = 0.1
    """Share of the rows in the validation split; if a test split is given, share of the remaining
    rows."""
    split_column: str | None = None
    """A column with the values `train`, `validation` and `test`. If it has no `validation`, that
    split is drawn at random."""
    group: str | None = None
    """A column such as `patient`: rows with the same value are never in two splits."""
    time: str | None = None
    """A column to order the rows by. The latest rows are the test split, the rows before them the
    validation split."""
    missing: Literal["refuse", "drop", "fill"] = "refuse"
    """What happens to rows with a missing or non-finite value. `refuse`: an error. `drop`: they are
    removed. `fill`: a number becomes the median of the training split, a category its most frequent
    value; a row without a target is removed."""
    duplicates: Literal["auto", "keep", "group", "drop", "refuse"] = "auto"
    """What happens to equal rows. `keep`: nothing; the report says how many test rows have an equal
    row in training. `group`: rows with the same features are never in two splits (with `time`, all
    go to the split of the latest). `drop`: of rows that are equal in every column of the raw data,
    ignored columns included, one is kept. `refuse`: such rows are an error. `auto`: `keep` for
    tables and `group` for images, texts and sequences. A test split that is given (by
    `split_column` or by the files) is never changed."""
    sensitive: list[str] = Field(default=[])
    """Columns with personal data. They are never features."""
    sensitive_rule: Literal["drop", "hash"] = "drop"
    """`drop` leaves these columns out of the dataset. `hash` writes a keyed hash of each value, so
    that rows can be joined."""
    salt_file: str | None = None
    """The file with the key of the hashes; keep it out of git and DVC. The stage records a mark of
    the key: with another key, a flow runs the stage again."""
    label_noise: bool = False
    """Report rows whose label is probably wrong, according to a cross-validated linear model
    (Northcutt et al. 2021, https://arxiv.org/abs/1911.00068)."""

    @model_validator(mode="after")
    def _rules_that_go_together(self) -> "Prepare":
        if self.test + self.validation >= 1:
            raise ValueError(
                f"test ({self.test}) + validation ({self.validation}) must be less than 1; the "
                "remaining share is the training split"
            )
        ways = [name for name in ("split_column", "group", "time") if getattr(self, name)]
        if len(ways) > 1:
            raise ValueError(f"{' and '.join(ways)} cannot be combined; set only one of them")
        if self.sensitive_rule == "hash" and not self.salt_file:
            raise ValueError(
                "sensitive_rule hash needs salt_file; make one with `openssl rand -hex 32 > FILE`"
            )
        return self


class Bounds(Section):
    """What a gate demands of a metric, if it is more than one number."""

    at_least: float | None = None
    """The lowest value that passes."""
    at_most: float | None = None
    """The highest value that passes, of a metric where lower is better."""
    above_baseline: float | None = None
    """By how much the metric must be better than the best baseline; 0 lets an equal one pass."""


def _form_of_gate(given: object) -> str:
    return "[bounds]" if isinstance(given, Mapping | Bounds) else "[number]"


# In brackets, since pydantic adds the tag to the location of a mistake: it is no key of the YAML.
GateBound = Annotated[
    Annotated[float, Tag("[number]")] | Annotated[Bounds, Tag("[bounds]")],
    Discriminator(_form_of_gate),
]


def _a_threshold(given: object) -> object:
    if given == "auto" or (type(given) in (int, float) and 0 < given < 1):  # type: ignore[operator]
        return given
    raise ValueError(f"{given!r} is not allowed; a number between 0 and 1 is expected, or auto")


class Evaluate(Section):
    """The stage `evaluate`, and the gates that every candidate must pass."""

    gates: dict[MetricName, GateBound]
    """For each metric on the test split: the lowest value that passes, or the highest where lower
    is better (`log_loss`, `calibration_error`, `mse`, `rmse`, `mae`, `pinball_loss`,
    `perplexity`). Or a mapping:
    `{at_least: 0.8, above_baseline: 0.0}` must also be at least as good as every baseline,
    `at_most` takes the place of `at_least` where lower is better. A model is not registered without
    gates, or if the metric of a gate was not measured."""
    single_class: Literal["refuse", "allow"] = "refuse"
    """What happens to a model that predicts the same class for every test row. `refuse`: a gate
    fails. `allow`: a warning."""
    threshold: Annotated[
        Annotated[float, Field(gt=0, lt=1)] | Literal["auto"], BeforeValidator(_a_threshold)
    ] = 0.5
    """Of two classes, the probability from which on the second one is predicted (alphabetical
    order; whole numbers by size). `auto` chooses the threshold with the best metric on the
    validation split: the first of `macro_f1`, `balanced_accuracy`, `macro_recall`, `weighted_f1`,
    `accuracy` and `weighted_recall` that has a gate, else `macro_f1`. Probabilities do not
    change."""
    batch_size: int = Field(default=1024, ge=1)
    """Rows per batch in evaluation; does not change the metrics."""
    calibration_bins: int = Field(default=15, ge=1)
    """Number of bins of equal width for the expected calibration error."""
    baseline: bool = True
    """Compare the model with baselines: the most frequent class or the mean, and a quick model of
    scikit-learn. For a language model: frequencies of tokens and of pairs of tokens."""
    baseline_cells: int = Field(default=4_000_000, ge=1)
    """So many numbers or characters of training rows may the quick model read. Of more, it learns
    from rows drawn by `seed`. The default takes up to ten seconds on one core."""
    seed: Seed = 0
    """Seed of the rows that the quick model learns from, and of the intervals of metrics."""
    repeat: int = Field(default=1, ge=1, le=100)
    """How many seeds to train with. The model is that of `train.seed`; the others, which have the
    seeds after it, show how much of its metrics is luck. Takes as many times as long."""

    @model_validator(mode="after")
    def _gates_that_can_be_checked(self) -> "Evaluate":
        for name, gate in self.gates.items():
            if not isinstance(gate, Bounds):
                continue
            where, lower = f"gates.{name}", METRICS[name].lower_is_better
            wrong, right = ("at_least", "at_most") if lower else ("at_most", "at_least")
            if getattr(gate, wrong) is not None:
                better = "lower" if lower else "higher"
                raise ValueError(f"{where}: {better} is better; give {right} in place of {wrong}")
            if getattr(gate, right) is None and gate.above_baseline is None:
                raise ValueError(f"{where}: give {right}, above_baseline or both")
            if gate.above_baseline is not None and not self.baseline:
                raise ValueError(
                    f"{where}.above_baseline needs baselines, but evaluate.baseline is false"
                )
        return self


class Export(Section):
    """The stage `export`: from the best weights to an evaluated ONNX bundle."""

    opset: int = Field(default=20, ge=18, le=22)
    """ONNX operator set. ONNX Runtime cannot run masked attention of sets from 23 on a CPU."""
    tolerance: float = Field(default=1e-4, gt=0)
    """Largest allowed difference between ONNX Runtime and PyTorch: |d| <= tolerance * max(1, |y|);
    for a regression, with the standard deviation of the target in place of 1."""


class Registration(Section):
    """What registration and promotion need."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")
    """The model's name in the registry."""
    metric: MetricName | None = None
    """The metric by which a challenger is compared with the champion, on the same test split.
    Default: `macro_f1` for classes, `r2` for numbers, `perplexity` for a language model."""
    confidence: float = Field(0.9, ge=0, lt=1)
    """A challenger replaces the champion only if it is better in this share of draws of the test
    rows (a paired bootstrap). 0: if its metric is better, however little."""


class Params(Section):
    """The whole of `params.yaml`."""

    prepare: Prepare
    """From raw data to the prepared dataset."""
    train: Train
    """The network, and how it is trained."""
    evaluate: Evaluate
    """Metrics and gates."""
    export: Export = Export()
    """The ONNX bundle."""
    registration: Registration
    """The model's name, and the metric by which versions are compared."""
    retrain: Retrain = Retrain()
    """When a new training starts by itself."""
    tune: Tune = Tune()
    """What `modelmint tune` searches. No stage reads this section."""

    @property
    def _task(self) -> str:
        """What the network predicts."""
        texts = self.train.architecture.name == "transformer_lm"
        return "language_model" if texts else self.prepare.task

    @model_validator(mode="after")
    def _what_the_task_has(self) -> "Params":
        problem, train = PROBLEMS[self._task], self.train
        for name, given, fits, what in (
            (
                "evaluate.threshold",
                self.evaluate.threshold,
                problem.thresholds or self.evaluate.threshold == 0.5,
                "two classes",
            ),
            ("train.loss", train.loss, train.loss in ("auto", *problem.losses), "numbers"),
            (
                "train.target_transform",
                train.target_transform,
                problem.standardised or train.target_transform == "none",
                "numbers",
            ),
        ):
            if not fits:
                raise ValueError(
                    f"{name}: {given} is for {what}, but the task is {self._task}. Remove it"
                )
        return self

    @model_validator(mode="after")
    def _metrics_that_will_be_measured(self) -> "Params":
        task = self._task
        allowed = [metric.name for metric in PROBLEMS[task].metrics]
        if self.train.loss != "quantile" and "pinball_loss" in allowed:
            allowed.remove("pinball_loss")
        named = {f"evaluate.gates.{name}": name for name in self.evaluate.gates}
        if self.registration.metric:
            named["registration.metric"] = self.registration.metric
        for where, name in named.items():
            if name not in allowed:
                raise ValueError(
                    f"{where}: {name} is not measured for {task}; allowed: {', '.join(allowed)}"
                )
        return self
