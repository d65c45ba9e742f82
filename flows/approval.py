"""The approval flow: asks a person in the Prefect UI whether a version may become champion.

The run is suspended meanwhile: no process runs, and servers may restart. After the answer it starts
again from the top, so the question is stored with the run and is not asked twice.
"""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas import State
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterName,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectNotFound
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput, create_flow_run_input, read_flow_run_input
from prefect.input.actions import delete_flow_run_input
from prefect.runtime import flow_run
from prefect.settings import PREFECT_UI_URL
from prefect.states import Completed, Failed
from pydantic import Field

from flows import quiet
from flows.alive import end_with_runner
from flows.artifacts import tag_run
from flows.deploy import deployed_name
from flows.runner import SERVED_WITHIN
from flows.settings import Settings
from registry import CHAMPION, Conflict, Registry, RegistryError, Version
from tasks.bundle.evaluation import Gate, figure
from tasks.bundle.files import CARD
from tasks.errors import InputError
from tasks.formats import record

quiet.install()

DEPLOYMENT = "on-request"
"""Its name in prefect.yaml."""
ANSWER_WITHIN = timedelta(days=7)
QUESTION = "question"
AGAIN = "Retry this run to ask again."
UNANSWERED = "modelmint: end unanswered approvals"


class Answer(RunInput):
    """The form in the UI. The server has no log-in: the name is what the person says."""

    # Words, not a choice of two: clicking a selection in the UI of Prefect 3.8 does not open it.
    decision: str = Field(pattern="^(approve|reject)$", description="approve or reject")
    name: str = Field(pattern=r"\S", description="Who decides; kept in the model's history.")
    reason: str = Field(pattern=r"\S", description="Why; kept in the model's history.")


@dataclass(frozen=True)
class Question:
    """What was asked, pinned: aliases may move before the answer comes."""

    version: str
    champion: str | None
    revision: int
    """Of the champion alias, 0 while it was not set."""
    key: str
    """Tells this question from an earlier one of the same flow run, which was retried since."""
    text: str
    """Markdown, shown above the form."""


def run_name() -> str:
    return f"approve {flow_run.parameters['version']}"


@flow(name="approval", flow_run_name=run_name, persist_result=False)
def approval(version: str, reason: str = "") -> State[Any]:
    """Ask whether a version may become champion, wait for the answer, and act on it.

    Args:
        version: NAME[@ALIAS|:VERSION], as in digits:3.
        reason: Why it should, shown with the question.
    """
    end_with_runner(str(flow_run.id))
    tag_run("approval")
    settings = Settings.from_environment()
    try:
        with settings.open_registry() as registry:
            question = _asked()
            found = registry.resolve(question.version if question else version).version
            if found.status != "candidate":
                return _end(Completed(name="Decided", message=_decided(registry, found)))
            question = question or _ask(registry, found, reason)
            # Ends this process; after the answer the flow gets here again, and then goes on.
            answer = suspend_flow_run(
                wait_for_input=Answer.with_initial_data(description=question.text),
                key=question.key,
            )
            return _end(_act(registry, found, question, answer))
    except (InputError, RegistryError) as error:
        return _end(Failed(message=f"{error} {AGAIN}", data=error))


def _act(registry: Registry, version: Version, question: Question, answer: Answer) -> State[Any]:
    name, number, ref = version.model, version.version, version.ref
    actor, reason = answer.name.strip(), f"{answer.reason.strip()} (answered in the Prefect UI)"
    said = f"{actor}: {answer.reason.strip()}"
    if answer.decision.strip() == "reject":
        registry.reject(name, number, actor=actor, reason=reason)
        return Completed(name="Rejected", message=f"{ref} was rejected by {said}")
    registry.approve(name, number, actor=actor, reason=reason)
    try:
        registry.promote(
            name, number, expect_revision=question.revision, actor=actor, reason=reason
        )
    except Conflict:
        message = (
            f"{ref} was approved by {said}. It is not champion: when this was asked, "
            f"{question.champion or 'nobody'} was, and somebody moved the alias meanwhile (see "
            f"`modelmint models history {name}`). Where {ref} is the better one still: "
            f"modelmint models promote {ref}"
        )
        return Failed(message=message)
    return Completed(name="Approved", message=f"{ref} was approved and made champion by {said}")


def _end(state: State[Any]) -> State[Any]:
    """Record the result; a run that is retried asks again."""
    create_markdown_artifact(str(state.message), key="approval", description=state.name)
    if _asked():
        delete_flow_run_input(QUESTION)
    return state


def _decided(registry: Registry, version: Version) -> str:
    """Who decided before the answer came, and what is left to do."""
    events = registry.history(version.model, version=version.version)
    event = next((event for event in events if event.kind == version.status), None)
    said = f"{version.ref} is {version.status} already"
    if event:
        said += f", by {event.actor}: {event.reason}"
    if version.status != "approved" or CHAMPION in version.aliases:
        return said
    return f"{said}. To make it champion: modelmint models promote {version.ref}"


# The question


def _asked() -> Question | None:
    kept: Any = read_flow_run_input(QUESTION)
    return record(Question, kept) if kept else None


def _ask(registry: Registry, version: Version, reason: str) -> Question:
    alias = registry.alias(version.model)
    champion = registry.resolve(f"{alias.model}:{alias.version}").version if alias else None
    verdicts = _verdicts(version, champion, reason)
    files = registry.open(version)
    card = files[CARD].read_text(encoding="utf-8") if CARD in files else ""
    artifact = create_markdown_artifact(
        f"{verdicts}\n\n{card}", key="approval-question", description=version.ref
    )
    link = f"{PREFECT_UI_URL.value()}/artifacts/artifact/{artifact}"
    question = Question(
        version=version.ref,
        champion=champion.ref if champion else None,
        revision=alias.revision if alias else 0,
        key=str(uuid4()),
        text=f"{verdicts}\n\n[Model card]({link})",
    )
    _limit_waiting()
    create_flow_run_input(QUESTION, asdict(question))
    days = ANSWER_WITHIN.days
    get_run_logger().info("%s waits %d days for an answer: click Resume", version.ref, days)
    return question


def _verdicts(version: Version, champion: Version | None, reason: str) -> str:
    """The comparison of the two, then the gates, as Markdown."""
    place = f"in place of {champion.ref}" if champion else "which there is none of yet"
    lines = [f"**{version.ref}**, registered by {version.created_by}, asks to be champion {place}"]
    lines[0] += f": {reason}" if reason else "."
    rivals = [version, *([champion] if champion else [])]
    lines += _table(
        ["metric", *(rival.ref for rival in rivals)],
        [
            [name, *(figure(rival.metrics.get(name)) for rival in rivals)]
            for name in version.metrics
        ],
    )
    if champion and champion.lineage.test_split != version.lineage.test_split:
        lines.append("The two were evaluated on different test splits.")
    gates = [record(Gate, gate) for gate in version.evaluation.get("gates", [])]
    lines += _table(
        ["gate", "condition", "value", "result"],
        [[gate.gate, gate.condition, gate.figure, gate.verdict] for gate in gates],
    )
    return "\n".join(lines)


def _table(titles: list[str], rows: list[list[str]]) -> list[str]:
    lines = [titles, ["---"] * len(titles), *rows]
    return ["", *(f"| {' | '.join(cells)} |" for cells in lines), ""] if rows else []


# Who asks


def request(version: str, reason: str) -> str | None:
    """Have a person asked whether a version (NAME:NUMBER) may become champion.

    Nothing is asked twice: a question that waits already is the one returned.

    Returns the flow run's page in the Prefect UI; None where no process serves this project's
    deployment `on-request` to this Prefect server, so that nobody would be asked.
    """
    name = f"approve {version}"
    with get_client(sync_client=True) as client:
        if (deployment := _served(client, Settings.from_environment().root)) is None:
            return None
        asked = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                name=FlowRunFilterName(any_=[name]),
                deployment_id=FlowRunFilterDeploymentId(any_=[deployment.id]),
            ),
            sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        )
        run = next((run for run in asked if run.state and not run.state.is_final()), None)
        if run is None:
            run = client.create_flow_run_from_deployment(
                deployment.id,
                name=name,
                parameters={"version": version, "reason": reason},
                # Two that ask at once get one run; once that has ended, the next is another.
                idempotency_key=f"{name} after {asked[0].id if asked else 'none'}",
            )
    return f"{PREFECT_UI_URL.value()}/runs/flow-run/{run.id}"


def _served(client: SyncPrefectClient, root: Path) -> DeploymentResponse | None:
    """The deployment that asks for this project: of `modelmint serve`, or else of a work pool."""
    for name in (deployed_name(DEPLOYMENT, root), DEPLOYMENT):
        try:
            found = client.read_deployment_by_name(f"approval/{name}")
        except ObjectNotFound:
            continue
        if name == DEPLOYMENT and not found.work_pool_name:
            continue  # what an older release served, of whichever project
        polled = found.last_polled
        if not found.paused and polled and datetime.now(UTC) - polled <= SERVED_WITHIN:
            return found
    return None


def _limit_waiting() -> None:
    """Have the Prefect server end questions that nobody answers; it keeps the one rule for all."""
    rule = AutomationCore(
        name=UNANSWERED,
        trigger=EventTrigger(
            posture=Posture.Proactive,
            threshold=1,
            within=ANSWER_WITHIN,
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=ResourceSpecification(
                {"prefect.resource.role": "flow", "prefect.resource.name": "approval"}
            ),
            for_each={"prefect.resource.id"},
            after={"prefect.flow-run.Suspended"},
            expect={f"prefect.flow-run.{name}" for name in ("Resuming", "Cancelled", "Failed")},
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.FAILED,
                name="Unanswered",
                message=f"Nobody answered within {ANSWER_WITHIN.days} days. {AGAIN}",
                force=False,
            )
        ],
    )
    with get_client(sync_client=True) as client:
        if not client.read_automations_by_name(UNANSWERED):
            client.create_automation(rule)
