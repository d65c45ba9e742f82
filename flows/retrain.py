"""The flow of the loop: it looks now and then, and trains again if there is a cause."""

import fcntl
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows import quiet
from flows.alive import be_watched
from flows.artifacts import tag_run
from flows.loop.check import Loop
from flows.loop.records import ATTEMPTS, FAILED, TOPIC, Retraining
from flows.outcome import NotDone, Outcome
from flows.run_ends import end_of_run
from flows.settings import Settings, actor
from flows.training import training
from registry import Event, NoRegistry, NotFound, RegistryError
from tasks import params as parameters
from tasks.added_rows import Added
from tasks.errors import InputError
from tasks.words import counted

quiet.install()


@flow(name="retrain", flow_run_name="look for a cause to train again", persist_result=False)
def retrain(output: str = "predictions") -> State[Any]:
    """Train again if drift, labels, new data or a schedule are a cause; see `retrain` in
    params.yaml.

    Args:
        output: The folder of the deployment `hourly`, relative to the project's folder. Jobs that
            wrote elsewhere count for nothing.
    """
    be_watched(str(flow_run.id))
    tag_run("retrain")
    settings = Settings.from_environment()
    try:
        params = parameters.load(settings.root / "params.yaml")
        if not params.retrain.triggers and params.retrain.rollback == "off":
            return _idle("the loop is off: see `retrain` in params.yaml")
        with only_one(settings.root) as alone, settings.open_registry() as registry:
            if not alone:
                return _idle("another run of this flow works here")
            loop = Loop(
                registry,
                params,
                settings.root,
                (settings.root / output).absolute(),
                actor(),
                str(flow_run.id),
                datetime.now(UTC),
                get_run_logger().warning,
            )
            return _look(loop)
    except (NoRegistry, NotFound) as error:
        return _idle(f"there is no model yet: {error}")
    except (InputError, RegistryError) as error:
        return Failed(message=str(error), data=error)


def _idle(message: str) -> State[Any]:
    return Completed(name="Idle", message=message)


@contextmanager
def only_one(root: Path) -> Iterator[bool]:
    """Whether no other process works on the loop of this project. The kernel frees it at a kill."""
    path = root / ".dvc/tmp/modelmint-retrain.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True


def _look(loop: Loop) -> State[Any]:
    """Do what is due: note the end of a chain, roll back, go on with a training or start one."""
    loop.note_first_job()
    if back := loop.rolled_back():
        loop.say(f"{back.done}: {back.text}")
        if back.done == "rolled back":
            return Completed(message=f"rolled back to {back.before}: {back.text}")
    log = loop.log()
    if open_ := loop.unfinished(log):
        if loop.is_alive(open_, end_of_run):
            run = open_.holder.payload.get("flow_run_id")
            return _idle(f"a training goes on: {open_.entries[-1].reason} (flow run {run})")
        if open_.attempts >= ATTEMPTS:
            text = f"failed: its process was killed {ATTEMPTS} times. No more attempts"
            loop.end(open_, FAILED, text, None)
            return Failed(message=text)
        claimed = loop.resume(log, open_)
    else:
        facts, decision = loop.decide()
        if decision.cause is None:
            return _idle(decision.text)
        claimed = loop.claim(facts, decision)
    if claimed is None:
        return _idle("another run of this flow has just begun it")
    get_run_logger().info("%s", claimed.entries[-1].reason)
    return _train(loop, claimed)


def _train(loop: Loop, claimed: Retraining) -> State[Any]:
    """Run the training flow, and record how it ended."""
    added, data = Added(0), ""
    try:
        added, overrides, data = loop.add_rows()
        state = training("params.yaml", overrides, return_state=True)
        found: object = state.result(raise_on_failure=False)
    except InputError as error:
        found = Outcome(end="input", message=str(error))
    if isinstance(found, NotDone):
        found = found.outcome
    if not isinstance(found, Outcome):  # it crashed
        found = Outcome(end="error", message=f"{type(found).__name__}: {found}")
    version = int(found.version.rpartition(":")[2]) if found.version else None
    outcome, text = _said(found, loop.promotion(claimed, version) if version else None)
    if outcome == FAILED:
        left = ATTEMPTS - claimed.attempts
        more = counted(left, "more attempt") if left > 0 else "No more attempts"
        text = f"{text.removesuffix('.')}. {more}"
    text += f" ({added.text})" if added.text else ""
    facts: dict[str, Any] = {"labelled": added.rows, "message": found.message or found.decision}
    if outcome != FAILED:
        facts["data"] = data
    loop.end(claimed, outcome, text, version, **facts)
    _show(loop, claimed, text)
    if outcome == FAILED:
        return Failed(message=text, data=InputError(text) if found.end == "input" else None)
    return Failed(name="Refused", message=text) if outcome == "refused" else Completed(message=text)


def _show(loop: Loop, claimed: Retraining, text: str) -> None:
    """The chain so far, as an artifact of this run."""
    started = str(claimed.entries[-1].reason).removeprefix(f"{TOPIC}: ")
    jobs = "".join(f"\n- drifted: job `{job}`" for job in claimed.started.get("jobs", ()))
    key = re.sub("[^a-z0-9]", "-", f"{loop.name}-retraining")  # all that Prefect allows
    create_markdown_artifact(f"- {started}{jobs}\n- {text}", key=key, description=loop.name)


def _said(found: Outcome, promotion: Event | None) -> tuple[str, str]:
    """The outcome of a training in a word, and in a sentence; see `Loop.promotion`."""
    if found.end == "refused":
        return "refused", f"ended, {found.message}"
    if not found.ended_well:
        return FAILED, f"failed: {found.message}"
    if found.promoted:
        return "promoted", f"ended, {found.version} is champion: {found.decision}"
    if found.approval_hint:
        return "waits", f"ended, {found.version} waits for approval: {found.decision}"
    if promotion:
        return "promoted", f"ended, {found.version} became champion meanwhile: {promotion.reason}"
    how = "" if found.created else " (it was registered before)"
    return "kept", f"ended, {found.version}{how} changes nothing: {found.decision}"
