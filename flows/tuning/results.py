"""What a study has found: for the terminal, the artifacts, and the version."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)

from flows.outcome import FlowOutcome, Outcome
from flows.tuning.repeats import Repeated, Verdict
from flows.tuning.studies import Study, Trial
from tasks import formats
from tasks.config import Tune


@dataclass
class TuneOutcome(FlowOutcome):
    """The result of a tuning flow; `refused`, if the winner failed a gate."""

    study: str = ""
    proposed: bool = False
    """Whether the parameters to vary are proposals, since params.yaml names none."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """What was varied, and between which values."""
    trials: dict[str, int] = field(default_factory=dict)
    """How many trials ended in which way."""
    repeated: list[dict[str, Any]] = field(default_factory=list)
    """The defaults and the best trials, trained again with other seeds."""
    importances: dict[str, float] = field(default_factory=dict)
    winner: int | None = None
    """The trial that was registered; None if none is better than the defaults."""
    verdict: str = ""
    overrides: list[str] = field(default_factory=list)
    """The parameters of the winner, as `modelmint train -S` takes them."""
    training: Outcome | None = None
    """The training of the winner, with its gates and the challenge."""


def document(
    study: Study,
    tune: Tune,
    parameters: Mapping[str, Any],
    repeated: Sequence[Repeated],
    verdict: Verdict,
    importances: Mapping[str, float],
) -> dict[str, Any]:
    """`study.json` of a version: all trials, and what was decided from them."""
    return {
        "format": formats.STUDY,
        "study": study.name,
        "trial": verdict.winner,
        "verdict": verdict.reason,
        "parameters": dict(parameters),
        "search": tune.model_dump(mode="json", exclude={"parameters"}),
        "trials": [
            {
                "number": one.number,
                "state": one.state,
                "loss": one.loss,
                "epochs": len(one.losses),
                "seconds": round(one.seconds, 1),
                "values": dict(one.values),
            }
            for one in study.trials()
        ],
        "repeated": [one.as_dict() for one in repeated],
        "importances": dict(importances),
    }


def show_study(model: str, found: Mapping[str, Any]) -> None:
    """Show the optimisation history, the importances and the verdict as an artifact."""
    lines = [f"# {found['study']}", "", found["verdict"], "", "## Importance", ""]
    lines += ["| parameter | share of the variance |", "|---|---|"]
    lines += [f"| `{name}` | {share:.0%} |" for name, share in found["importances"].items()]
    lines += [
        "",
        "## Trials",
        "",
        "| trial | state | validation loss | lowest so far | epochs | values |",
    ]
    lines += ["|---|---|---|---|---|---|"]
    best: float | None = None
    for one in found["trials"]:
        loss = one["loss"]
        best = loss if best is None else best if loss is None else min(best, loss)
        cells = [one["number"], one["state"], _figure(loss), _figure(best), one["epochs"]]
        values = ", ".join(f"{_short(n)} {_value(v)}" for n, v in one["values"].items())
        lines.append(f"| {' | '.join(map(str, cells))} | {values} |")
    key = f"{model}-study".replace(".", "-").replace("_", "-")
    create_markdown_artifact(
        "\n".join(lines), key=key, description=f"What `modelmint tune` found for {model}"
    )


class StudyProgress:
    """How far a study is, as one artifact of the flow run."""

    def __init__(self) -> None:
        self._artifact: UUID | None = None

    def tell(self, percent: float, text: str) -> None:
        """Show a share in percent, and a text."""
        if self._artifact is None:
            made: Any = create_progress_artifact(percent, key="tune-progress", description=text)
            self._artifact = made
        else:
            update_progress_artifact(self._artifact, percent, description=text)


def counted_by_state(trials: Sequence[Trial]) -> dict[str, int]:
    """How many trials are in which state, the usual ones first."""
    states = [trial.state for trial in trials]
    names = ("complete", "pruned", "failed", "running")
    return {name: states.count(name) for name in names if name in states}


def left_in_words(seconds: float) -> str:
    """A time that is left, roughly: `about 3 min left`."""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s left"
    if seconds < 90 * 60:
        return f"about {round(seconds / 60)} min left"
    return f"about {seconds / 3600:.1f} h left"


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _short(name: str) -> str:
    return name.removeprefix("train.")
