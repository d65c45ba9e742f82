"""`modelmint status` and `doctor`: what happens now, and whether everything works here."""

from dataclasses import asdict
from typing import Annotated

import typer

from cli import output, status
from flows.settings import Settings
from tasks.words import counted

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]


def doctor(as_json: Json = False) -> None:
    """Check the installation, the project, the registry, the server, disks and clocks.

    Each problem is listed with what solves it. Exit status 1 if there is one.
    """
    from flows.doctor import examine

    findings = []
    for finding in examine(Settings.from_environment()):
        findings.append(finding)
        output.say(f"{finding.state:<8} {finding.check:<22} {finding.found}")
        if finding.fix:
            output.say(f"{'':<31} -> {finding.fix}")
    problems = [finding for finding in findings if finding.state == "problem"]
    output.say(counted(len(problems), "problem") if problems else "no problem was found")
    if as_json:
        output.print_json([asdict(finding) for finding in findings])
    if problems:
        raise typer.Exit(status.ERROR)


def overview(as_json: Json = False) -> None:
    """Show the server, schedules, runs, models, last jobs and disks on one screen.

    Lines marked with ! need a person; then the exit status is 1.
    """
    from flows.overview import overview

    lines = list(overview(Settings.from_environment()))
    output.table(
        ["", "", "", ""],
        [["!" if line.attention else "", line.section, line.name, line.text] for line in lines],
    )
    if as_json:
        output.print_json([asdict(line) for line in lines])
    if any(line.attention for line in lines):
        raise typer.Exit(status.ERROR)
