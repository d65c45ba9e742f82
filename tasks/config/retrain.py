"""The section `retrain`: when a new training starts by itself. No stage reads it."""

from typing import Literal

from pydantic import Field

from tasks.config.section import Section

Trigger = Literal["drift", "labels", "data", "schedule"]


class Retrain(Section):
    """When the deployment `retrain` trains again by itself, with which rows, and what happens to a
    champion that labels show to be worse. docs/retraining.md has the rules.
    """

    triggers: list[Trigger] = Field(default=[])
    """What starts a training; nothing does if it is empty. `drift`: the rows of a job with the
    champion have drifted. `labels`: the labels of its predictions show that it does not meet
    `evaluate.gates` any more. `data`: the raw data is not that of the champion. `schedule`: the
    cool-down is over. None of them starts a training on the rows of the last one."""
    drift: Literal["watch", "drifted"] = "drifted"
    """The verdict of a job from which on it counts as drift."""
    labels: int = Field(default=200, ge=1)
    """So many labels must have come since the last training by itself before they count as new
    data, and so many rows of a version must have one before it is judged by them."""
    cool_down: float = Field(default=7.0, ge=0, le=100_000)
    """Days that pass between two trainings of a model that start by themselves."""
    data: Literal["all", "window", "raw"] = "all"
    """The rows to train on. `all`: the raw data, and each predicted row that got a label. `window`:
    only predicted rows with a label, of the last days. `raw`: only the raw data, as it is. `all`
    and `window` need a folder of tables."""
    window: float = Field(default=90.0, gt=0, le=100_000)
    """With `data: window`: a row is used for so many days after it was predicted."""
    rollback: Literal["off", "propose", "automatic"] = "off"
    """What happens if labels show that the champion is worse than the version before it."""
