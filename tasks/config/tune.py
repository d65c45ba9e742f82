"""The section `tune`: which parameters `modelmint tune` varies, and how long it may take."""

import json
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from tasks.config.section import Section, Seed


class Dimension(Section):
    """The values that a parameter may get: a range, or a list."""

    low: float | None = None
    """The lowest value of a range."""
    high: float | None = None
    """The highest value of a range; trials may use it."""
    step: float | None = Field(default=None, gt=0)
    """Only `low`, `low + step`, and so on."""
    log: bool = False
    """Search powers evenly: as many values between 0.001 and 0.01 as between 0.01 and 0.1."""
    choices: list[Any] | None = Field(default=None, min_length=1)
    """A list of values, in place of a range."""
    when: dict[str, Any] = Field(default={})
    """Only if each of these parameters has this value, or one of a list of values."""

    @model_validator(mode="after")
    def _a_range_or_choices(self) -> "Dimension":
        if self.choices is not None:
            if self.low is not None or self.high is not None or self.step or self.log:
                raise ValueError("give low and high, or choices, not both")
            if len(set(self.labels)) < len(self.labels):
                raise ValueError("two of the choices are the same")
            return self
        if self.low is None or self.high is None:
            raise ValueError("give low and high, or choices")
        if self.low >= self.high:
            raise ValueError(f"low ({self.low:g}) must be less than high ({self.high:g})")
        if self.log and self.low <= 0:
            raise ValueError(f"log needs low > 0; given was {self.low:g}")
        if self.log and self.step:
            raise ValueError("log and step cannot be combined; leave one of them out")
        return self

    @model_serializer(mode="wrap")
    def _without_defaults(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        given: dict[str, Any] = serialize(self)
        return {key: value for key, value in given.items() if value or type(value) is float}

    @property
    def labels(self) -> list[str]:
        """The choices as text: a study stores no lists or mappings."""
        return [c if isinstance(c, str) else json.dumps(c) for c in self.choices or ()]

    def meets(self, name: str, value: Any) -> bool:
        """Whether `when` allows the parameter `name` to have this value."""
        allowed = self.when[name]
        return value in allowed if isinstance(allowed, list) else bool(value == allowed)


class Tune(Section):
    """What `modelmint tune` searches. No stage reads this section."""

    parameters: dict[str, Dimension] = Field(default={})
    """By name, such as `train.optimizer.learning_rate`: a range (`{low: 0.0003, high: 0.03, log:
    true}`, also with `step`) or `{choices: [32, 64]}`. With `when: {train.optimizer.name: sgd}`
    only if that parameter has that value. Only parameters of `train`. Without any, `modelmint tune`
    proposes some."""
    trials: int | None = Field(default=None, ge=1)
    """The study ends after this many trials. Without `trials` and `minutes`, after 40."""
    minutes: float | None = Field(default=None, gt=0)
    """The study begins no trial after this many minutes, in which interruptions do not count."""
    pruner: Literal["median", "hyperband", "none"] = "median"
    """Which trials are stopped early, by their validation loss after each epoch. `median`: those
    that are worse than the median of the earlier trials at that epoch. `hyperband`: the worse two
    thirds of a group of trials, at several epochs (Li et al. 2018). `none`: no trial."""
    seed: Seed = 0
    """Seed of the values that are tried. The trials themselves use `train.seed`."""

    @property
    def most_trials(self) -> int | None:
        """The largest number of trials; None if only the time is limited."""
        return 40 if self.trials is None and self.minutes is None else self.trials
