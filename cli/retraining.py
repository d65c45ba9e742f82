"""`modelmint retrain`: one look of the loop, as the deployment `retrain` does it every hour."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from cli import output, status
from flows.settings import Settings, actor
from tasks.errors import InputError


def retrain(
    folder: Annotated[
        str, typer.Option("--output", help="Folder of the jobs that count.")
    ] = "predictions",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say whether a training would start, and why.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on standard output.")
    ] = False,
) -> None:
    """Train again if drift, labels, new data or a schedule are a cause (`retrain` in params.yaml).

    The deployment `retrain` does the same every hour.
    """
    if dry_run:
        found = _decision(folder)
        output.say(f"{found['cause'] or 'nothing to do'}: {found['text']}")
        if as_json:
            output.print_json(found)
        return
    from flows import launch

    launch.prepare_prefect(output.say)
    state = launch.retrain(folder)
    output.say(f"{state.name}: {state.message or 'done'}")
    if as_json:
        output.print_json({"state": state.name, "message": state.message})
    if not state.is_completed():
        cause = state.result(raise_on_failure=False)
        if isinstance(cause, InputError):
            raise cause
        refused = state.name == "Refused"
        raise typer.Exit(status.REFUSED if refused else status.ERROR)


def _decision(folder: str) -> dict[str, object]:
    """Whether a training would start. Changes nothing."""
    from flows.loop.check import Loop
    from tasks import params as parameters

    settings = Settings.from_environment()
    params = parameters.load(settings.root / "params.yaml")
    with settings.open_registry() as registry:
        loop = Loop(
            registry,
            params,
            settings.root,
            (settings.root / folder).absolute(),
            actor(),
            "",
            datetime.now(UTC),
            output.say,
        )
        if going_on := loop.unfinished(loop.log()):
            text = f"a training has not ended: {going_on.entries[-1].reason}"
            return {"cause": None, "text": text, "jobs": []}
        _, found = loop.decide()
    return {"cause": found.cause, "text": found.text, "jobs": list(found.jobs)}
