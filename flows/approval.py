"""The approval flow: asks a person in the Prefect UI whether a version may become champion.

The run is suspended until the answer: no process waits, and servers may restart. Then Prefect runs
the flow again from the top, so the question is stored with the run and not asked twice.
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
from flows.alive import be_watched
from flows.artifacts import tag_run
from flows.deploy import deployed_name
from flows.links import version_link
from flows.runner import SERVED_WITHIN
from flows.settings import Settings
from registry import CHAMPION, Conflict, Registry, RegistryError, Version
from registry.display import documents
from tasks.bundle.evaluation import Gate, figure
from tasks.bundle.files import CARD
from tasks.errors import InputError
from tasks.formats import record

quiet.install()

DEPLOYMENT = "on-request"
"""Name of the approval deployment in prefect.yaml."""
ANSWER_WITHIN = timedelta(days=7)
QUESTION = "question"
AGAIN = "Retry this run to ask again."
UNANSWERED = "modelmint: end unanswered approvals"


class Answer(RunInput):
    """The form in the UI. The server has no login, so nothing verifies the name."""

    # A text field, because the UI of Prefect 3.8 does not open a selection when it is clicked.
    decision: str = Field(pattern="^(approve|reject)$", description="approve or reject")
    name: str = Field(pattern=r"\S", description="Who decides; recorded in the model's history.")
    reason: str = Field(pattern=r"\S", description="Why; recorded in the model's history.")


@dataclass(frozen=True)
class Question:
    """The question as it was asked: aliases may move before the answer."""

    version: str
    champion: str | None
    revision: int
    """Revision of the champion alias; 0 if it was not set."""
    key: str
    """Unique for each question, because a retried flow run asks again."""
    text: str
    """Markdown, shown above the form."""


def run_name() -> str:
    return f"approve {flow_run.parameters['version']}"


@flow(name="approval", flow_run_name=run_name, persist_result=False)
def approval(version: str, reason: str = "") -> State[Any]:
    """Ask whether a version may become champion, then record and apply the answer.

    Args:
        version: NAME[@ALIAS|:VERSION], as in digits:3.
        reason: Why the version should become champion; shown with the question.
    """
    be_watched(str(flow_run.id))
    tag_run("approval")
    settings = Settings.from_environment()
    try:
        with settings.open_registry() as registry:
            question = _stored_question()
            found = registry.resolve(question.version if question else version).version
            if found.status != "candidate":
                message = _describe_decision(registry, found)
                return _end_run(Completed(name="Decided", message=message))
            question = question or _store_question(registry, found, reason)
            # Ends this process. After the answer the flow runs again up to here and continues.
            answer = suspend_flow_run(
                wait_for_input=Answer.with_initial_data(description=question.text),
                key=question.key,
            )
            return _end_run(_apply_answer(registry, found, question, answer))
    except (InputError, RegistryError) as error:
        return _end_run(Failed(message=f"{error} {AGAIN}", data=error))


def _apply_answer(
    registry: Registry, version: Version, question: Question, answer: Answer
) -> State[Any]:
    name, number, ref = version.model, version.version, version.ref
    actor, reason = answer.name.strip(), f"{answer.reason.strip()} (answered in the Prefect UI)"
    who = f"{actor}: {answer.reason.strip()}"
    if answer.decision.strip() == "reject":
        registry.reject(name, number, actor=actor, reason=reason)
        return Completed(name="Rejected", message=f"{ref} was rejected by {who}")
    registry.approve(name, number, actor=actor, reason=reason)
    try:
        registry.promote(
            name, number, expect_revision=question.revision, actor=actor, reason=reason
        )
    except Conflict:
        message = (
            f"{ref} was approved by {who}. It is not champion, because the champion alias moved "
            f"after the question was asked; it was {question.champion or 'not set'} then (see "
            f"`modelmint models history {name}`). If {ref} is still the better one: "
            f"modelmint models promote {ref}"
        )
        return Failed(message=message)
    return Completed(name="Approved", message=f"{ref} was approved and made champion by {who}")


def _end_run(state: State[Any]) -> State[Any]:
    """Show the result and delete the question, so that a retried run asks again."""
    create_markdown_artifact(str(state.message), key="approval", description=state.name)
    if _stored_question():
        delete_flow_run_input(QUESTION)
    return state


def _describe_decision(registry: Registry, version: Version) -> str:
    """Who decided before the answer, and what remains to be done."""
    events = registry.history(version.model, version=version.version)
    event = next((event for event in events if event.kind == version.status), None)
    text = f"{version.ref} is already {version.status}"
    if event:
        text += f", by {event.actor}: {event.reason}"
    if version.status != "approved" or CHAMPION in version.aliases:
        return text
    return f"{text}. To make it champion: modelmint models promote {version.ref}"


# The question


def _stored_question() -> Question | None:
    stored: Any = read_flow_run_input(QUESTION)
    return record(Question, stored) if stored else None


def _store_question(registry: Registry, version: Version, reason: str) -> Question:
    alias = registry.alias(version.model)
    champion = registry.resolve(f"{alias.model}:{alias.version}").version if alias else None
    verdicts = _format_verdicts(version, champion, reason)
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
    _end_unanswered_questions()
    create_flow_run_input(QUESTION, asdict(question))
    days = ANSWER_WITHIN.days
    get_run_logger().info("%s waits %d days for an answer: click Resume", version.ref, days)
    return question


def _format_verdicts(version: Version, champion: Version | None, reason: str) -> str:
    """The comparison with the champion, then the gates, as Markdown."""
    instead = f"in place of {version_link(champion.ref)}" if champion else "(there is none yet)"
    ref = version_link(version.ref)
    lines = [f"Should **{ref}**, registered by {version.created_by}, become champion"]
    lines[0] += f" {instead}?" + (f" Reason: {reason}" if reason else "")
    lines += [f"**Warning: {text}**" for text in documents.warnings(version.evaluation)]
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


# Starting the flow


def request_approval(version: str, reason: str) -> str | None:
    """Start an approval flow for a version (NAME:NUMBER), or find the one that already waits.

    Returns the URL of the flow run in the Prefect UI; None if nobody serves this project's
    deployment `on-request`, so that the question would never be shown.
    """
    name = f"approve {version}"
    with get_client(sync_client=True) as client:
        if (deployment := _served_deployment(client, Settings.from_environment().root)) is None:
            return None
        runs = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                name=FlowRunFilterName(any_=[name]),
                deployment_id=FlowRunFilterDeploymentId(any_=[deployment.id]),
            ),
            sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        )
        run = next((run for run in runs if run.state and not run.state.is_final()), None)
        if run is None:
            run = client.create_flow_run_from_deployment(
                deployment.id,
                name=name,
                parameters={"version": version, "reason": reason},
                # Two callers at once get the same run; after it has ended, a call makes a new one.
                idempotency_key=f"{name} after {runs[0].id if runs else 'none'}",
            )
    return f"{PREFECT_UI_URL.value()}/runs/flow-run/{run.id}"


def _served_deployment(client: SyncPrefectClient, root: Path) -> DeploymentResponse | None:
    """This project's approval deployment: that of `modelmint serve`, or else of a work pool."""
    for name in (deployed_name(DEPLOYMENT, root), DEPLOYMENT):
        try:
            found = client.read_deployment_by_name(f"approval/{name}")
        except ObjectNotFound:
            continue
        if name == DEPLOYMENT and not found.work_pool_name:
            continue  # an older release served it under this name, from an unknown project
        polled = found.last_polled
        if not found.paused and polled and datetime.now(UTC) - polled <= SERVED_WITHIN:
            return found
    return None


def _end_unanswered_questions() -> None:
    """Have the Prefect server fail unanswered questions: one automation for all runs."""
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
