"""Artifacts of a flow run, shown in the Prefect UI."""

from uuid import UUID

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run
from prefect.settings import PREFECT_UI_URL

from flows.candidate import EvaluatedBundle
from flows.deploy import project_tag
from flows.links import history_link, version_link, version_page
from flows.promotion import Decision
from flows.settings import Settings
from registry import Version


def tag_run(kind: str) -> None:
    """Tag the current flow run, not its tasks, with its kind and the project it belongs to.

    A tagged task, as `prefect.tags` makes it, first asks the server for a slot: up to two seconds
    each on SQLite.
    """
    project = project_tag(Settings.from_environment().root)
    with get_client(sync_client=True) as client:
        client.update_flow_run(UUID(flow_run.id), tags={*flow_run.tags, kind, project})


def show_verdicts(model: str, bundle: EvaluatedBundle) -> None:
    """Show the model card and the gate verdicts of a candidate, also of a refused one."""
    evaluation = bundle.evaluation
    create_markdown_artifact(
        bundle.card, key=_key(model, "model-card"), description=f"Model card of {model}"
    )
    rows = [
        {
            "gate": gate.gate,
            "value": gate.figure,
            "condition": gate.condition,
            "verdict": gate.verdict,
        }
        for gate in evaluation.gates
    ]
    if (parity := evaluation.parity) is not None:
        rows.append(
            {
                "gate": "parity with PyTorch",
                "value": f"{parity.max_error:.1e}",
                "condition": f"<= {parity.tolerance:g}"
                + ", no label flips" * (parity.flipped is not None),
                "verdict": parity.verdict,
            }
        )
    history = history_link(model)
    create_table_artifact(
        rows,
        key=_key(model, "gate-verdicts"),
        description=f"Gate verdicts of {model}" + (f" ({history})" if history else ""),
    )


def link_version(version: Version, decision: Decision) -> None:
    """Show a link to the registered version: its page in the registry, or else its model card."""
    champion = f"champion is {decision.champion or 'none yet'}"
    if decision.needs_approval:
        champion = f"it is challenger and waits for approval; {champion}"
    card = f"{PREFECT_UI_URL.value()}/artifacts/key/{_key(version.model, 'model-card')}"
    create_link_artifact(
        version_page(version.ref) or card,
        link_text=version.ref,
        key=_key(version.model, "version"),
        description=(
            f"Registered as **{version_link(version.ref)}**; {champion} ({decision.reason}). "
            f"`modelmint models show {version.ref}`"
        ),
    )


def show_facts(key: str, title: str, facts: dict[str, str], problems: list[str]) -> None:
    """Show a table of facts, and the problems before it."""
    table = ["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in facts.items())]
    listed = [f"- {problem}" for problem in problems]
    create_markdown_artifact("\n".join([*listed, "", *table]), key=key, description=title)


def _key(model: str, what: str) -> str:
    """A Prefect key: only lower-case letters, digits and dashes are allowed."""
    return f"{model}-{what}".replace(".", "-").replace("_", "-")
