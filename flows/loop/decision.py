"""Whether a training starts now, from facts that were read before: a function without effects."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from flows.loop.records import Log
from registry import Job
from registry.display.drift import said
from tasks.config import Retrain
from tasks.words import counted

LEVELS = ("watch", "drifted")


@dataclass(frozen=True)
class Facts:
    """What is known of a model and of the rows that it would be trained on."""

    champion: int | None
    """Its version; None if there is none."""
    revision: int
    """How often the champion was moved."""
    champion_data: str | None
    """DVC's hash of the raw data that the champion was trained on."""
    data: str
    """That of the raw data now."""
    labels: Mapping[str, int]
    """The number of labels that jobs below the output folder were given so far, by job."""
    jobs: tuple[Job, ...]
    """The finished jobs of the champion below that folder, newest first."""
    below: str
    """How the labels show that the champion does not meet its gates; empty if they do not."""
    log: Log
    """What the loop did before."""


@dataclass(frozen=True)
class Decision:
    """`cause` is that of a training that is to start now; None: none is, for the reason `text`."""

    cause: str | None
    text: str
    jobs: tuple[str, ...] = ()
    """The jobs that drifted, the first of them last."""


def decide(facts: Facts, rules: Retrain, now: datetime) -> Decision:
    """Whether a training starts: for the first of `retrain.triggers` that waits for nothing."""
    if not rules.triggers:
        return Decision(None, "the loop is off: retrain.triggers in params.yaml is empty")
    if facts.champion is None:
        return Decision(None, "there is no champion yet: modelmint train")
    found = list(_causes(facts, rules))
    if not found:
        return Decision(None, f"no cause among {', '.join(rules.triggers)}")
    first = found[0]
    if last := facts.log.last:
        until = last.at + timedelta(days=rules.cool_down)
        if now < until:
            end = f"until {until:%Y-%m-%d %H:%M} UTC"
            return Decision(None, f"{first.text}; the cool-down lasts {end}", first.jobs)
    missing = [_missing_rows(facts, rules, cause) for cause in found]
    for cause, lacks in zip(found, missing, strict=True):
        if not lacks:
            return cause
    return Decision(None, f"{first.text}; waits for {missing[0]}", first.jobs)


def _causes(facts: Facts, rules: Retrain) -> Iterator[Decision]:
    for trigger in dict.fromkeys(rules.triggers):
        if trigger == "drift" and (jobs := _drifted(facts, rules)):
            first, newest = jobs[-1], jobs[0]
            text = f"drift since job {first.id}, in {counted(len(jobs), 'job')}: {said(newest)}"
            yield Decision(trigger, text, tuple(job.id for job in jobs))
        elif trigger == "labels" and facts.below:
            yield Decision(trigger, facts.below)
        elif trigger == "data" and _new_data(facts):
            yield Decision(
                trigger, f"the raw data is now dvc:{facts.data}, not dvc:{facts.champion_data}"
            )
        elif trigger == "schedule":
            yield Decision(trigger, "as scheduled")


def _drifted(facts: Facts, rules: Retrain) -> list[Job]:
    """The newest jobs of the champion without a break, if they drifted and that was not answered.

    A training that was started with the same champion was the answer, whatever came of it.
    """
    if any(one.champion == facts.champion for one in facts.log.answers):
        return []
    found = []
    for job in facts.jobs:
        verdict = (job.drift or {}).get("verdict")
        if verdict is None:  # too few rows for one
            continue
        if verdict not in LEVELS[LEVELS.index(rules.drift) :]:
            break
        found.append(job)
    return found


def _new_data(facts: Facts) -> bool:
    """Whether neither the champion nor a training of the loop had the raw data of now."""
    known = {one.ended.payload.get("data") for one in facts.log.answers if one.ended}
    return facts.data not in known | {facts.champion_data}


def _missing_rows(facts: Facts, rules: Retrain, cause: Decision) -> str:
    """What is missing for a training that has other rows than the last one, and for drift rows that
    have drifted: with the same it would give the same model. Empty if nothing is."""
    if _new_data(facts):
        return ""
    if rules.data == "raw":
        return "new raw data"
    if cause.jobs:
        have, what = sum(facts.labels.get(job, 0) for job in cause.jobs), " of these jobs"
    else:
        before = max((int(one.started.get("labels", 0)) for one in facts.log.answers), default=0)
        have, what = sum(facts.labels.values()) - before, ""
    missing = rules.labels - have
    return f"{missing:,} more labels{what}, or new raw data" if missing > 0 else ""
