"""`modelmint feedback`: labels that arrive after the predictions."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cli import output
from cli.models.common import Json, Name, open_registry, printed_json
from flows.settings import actor


def feedback(
    name: Name,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]",
            help="A table with keys and labels. Without it, only what was measured is shown.",
        ),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(help="The column of labels; by default the target of the training."),
    ] = None,
    key: Annotated[str, typer.Option(help="The column of keys, as in the predictions.")] = "key",
    job: Annotated[
        str | None, typer.Option(help="Only the rows of this job; see `modelmint models jobs`.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Give labels to earlier predictions, and measure the model with them.

    Labels are joined to the predictions of finished jobs by key, and kept beside them.
    """
    from flows.feedback import FeedbackReport, give, measured
    from tasks.words import counted

    with open_registry() as registry:
        if file is None:
            found = FeedbackReport(0, 0, 0, 0, measured(registry, name))
        else:
            found = give(
                registry,
                name,
                file,
                key=key,
                label=label,
                job=job,
                actor=actor(),
                say=output.say,
            )
    if file is not None:
        known = f", {found.known} of which had them already" if found.known else ""
        output.say(
            f"{found.used:,} of {found.given:,} labels are of predicted rows, in "
            f"{counted(found.jobs, 'job')}{known}"
        )
    for notice in found.notices:
        output.say(notice)
    if printed_json(as_json, asdict(found)):
        return
    if not found.measured:
        output.say("No labels were given so far.")
        return
    rows = [
        [
            one.version,
            one.week,
            f"{one.labels:,} of {one.rows:,}",
            ", ".join(f"{metric} {value:.3f}" for metric, value in one.metrics.items()),
            "{accuracy:.3f} [{low:.3f}, {high:.3f}]".format(**one.estimate) if one.estimate else "",
        ]
        for one in found.measured
    ]
    output.table(["version", "week", "labels", "measured", "accuracy, estimated"], rows)
