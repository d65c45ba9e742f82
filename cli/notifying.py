"""`modelmint notify`: where notifications go, and a test of it."""

from dataclasses import asdict
from typing import Annotated

import typer

from cli import output, status
from flows.settings import Settings


def notify(
    test: Annotated[
        bool,
        typer.Option("--test", help="Send one message over each channel, and say what happens."),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on standard output.")
    ] = False,
) -> None:
    """Show where `modelmint serve` sends notifications; with --test, try it.

    The channels are variables MODELMINT_NOTIFY_...; `modelmint config` lists them.
    """
    from flows.notify import trial

    root = Settings.from_environment().root
    found = trial.channels()
    if not test:
        states = {state.name: state for state in trial.states(root)}
        rows = [
            {
                "channel": one.name,
                "to": one.target,
                "sent": states[one.name].sent if one.name in states else 0,
                "waiting": states[one.name].waiting if one.name in states else 0,
                "error": states[one.name].error if one.name in states else None,
            }
            for one in found
        ]
        output.table(list(rows[0]), [[str(v or "") for v in row.values()] for row in rows])
        if as_json:
            output.print_json(rows)
        return
    results = []
    for channel, made in trial.send_test(root):
        word = "sent" if made.sent else "NOT SENT"
        output.say(f"{channel.name:<8} {channel.target}: {word}: {made.detail}")
        results.append({"channel": channel.name, "to": channel.target, **asdict(made)})
    if as_json:
        output.print_json(results)
    if not all(result["sent"] for result in results):
        raise typer.Exit(status.ERROR)
