"""How a training ended and what it made; how the errors of a flow become such an end."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from prefect.client.schemas import State
from prefect.states import Failed

from flows import quiet
from flows.stages import StageResult
from flows.versioning import WorkspaceBusy
from registry import InvalidReference, NotFound, RegistryError
from tasks.errors import InputError

End = Literal["done", "input", "refused", "error"]


@dataclass
class FlowOutcome:
    """How a training or tuning flow ended."""

    end: End = "done"
    """`input`: the user's input is wrong. `refused`: a gate failed. `error`: any other failure."""
    message: str = ""
    flow_run_id: str = ""
    seconds: float = 0.0

    @property
    def ended_well(self) -> bool:
        return self.end == "done"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Outcome(FlowOutcome):
    """The result of a training flow."""

    model: str = ""
    architecture: str = ""
    dataset: str = ""
    folder: str = ""
    """The run's workspace, or its record under runs/records/ if the worktree was removed."""
    steps: list[StageResult] = field(default_factory=list)
    """The stages and the steps before and after them, in order."""
    metrics: dict[str, float] = field(default_factory=dict)
    headline: list[str] = field(default_factory=list)
    """The metrics to show first; by default versions are compared by the first one."""
    gates: list[dict[str, Any]] = field(default_factory=list)
    parity: dict[str, Any] = field(default_factory=dict)
    intervals: dict[str, list[float]] = field(default_factory=dict)
    """Of the headline metrics, the ends of the 95 % bootstrap interval."""
    baselines: list[dict[str, Any]] = field(default_factory=list)
    repeats: str = ""
    """The spread of the headline metrics over the seeds of `evaluate.repeat`."""
    warnings: list[str] = field(default_factory=list)
    """What to know before the model is used, such as a baseline that is better."""
    notices: list[str] = field(default_factory=list)
    """Changes that `prepare` made to the data and that a user should see."""
    digest: str = ""
    version: str = ""
    created: bool = False
    evaluated: bool = False
    """Whether the evaluation was added to an existing version."""
    ignored: list[str] = field(default_factory=list)
    """What differs between this run and the existing version, which stays as it is."""
    looked: bool = False
    """Whether this run had --look: it shows every metric and registers nothing."""
    rows: dict[str, int] = field(default_factory=dict)
    """Rows of each split."""
    per_class: dict[str, dict[str, float]] = field(default_factory=dict)
    champion: str = ""
    promoted: bool = False
    decision: str = ""
    approval_hint: str = ""
    """How to give the approval that the model's policy requires; empty if none is needed."""

    def add_step(self, name: str, seconds: float) -> None:
        """Add the duration of a step that is not a stage."""
        self.steps.append(StageResult(name, "Completed", seconds))


class NotDone(quiet.Explained):
    """Carries the outcome of a flow that did not end well; a failed state needs an exception."""

    def __init__(self, outcome: FlowOutcome) -> None:
        super().__init__(outcome.message)
        self.outcome = outcome


@contextmanager
def errors_end(outcome: FlowOutcome) -> Iterator[None]:
    """Turn an error that is explained to the user into the end of the flow."""
    try:
        yield
    except WorkspaceBusy as error:  # an InputError, but not the user's mistake
        outcome.end, outcome.message = "error", str(error)
    except (InputError, InvalidReference, NotFound) as error:
        outcome.end, outcome.message = "input", str(error)
    except RegistryError as error:
        outcome.end, outcome.message = "error", str(error)


def failed_state(outcome: FlowOutcome) -> State[Any]:
    """The state of a flow that did not end well; the caller gets the outcome from its `NotDone`."""
    name = "Refused" if outcome.end == "refused" else "Failed"
    return Failed(name=name, message=outcome.message, data=NotDone(outcome))
