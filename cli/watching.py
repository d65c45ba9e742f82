"""`modelmint doctor`: whether everything that modelmint depends on works here."""

from dataclasses import asdict
from typing import Annotated

import typer

from cli import output, status
from flows.settings import Settings

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
    output.say(f"{len(problems)} problems" if problems else "no problem was found")
    if as_json:
        output.print_json([asdict(finding) for finding in findings])
    if problems:
        raise typer.Exit(status.ERROR)
