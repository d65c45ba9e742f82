"""Commands that only read: list, show, compare, search, history, trace, jobs."""

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import output
from cli.models.common import Json, Name, OneModel, Reference, app, open_registry, printed_json
from registry import CHAMPION, SEARCH_HELP, Event, InvalidReference, Job, ModelLine, Summary
from registry.display.comparing import Change, Comparison
from registry.display.comparing import compare as compare_versions
from registry.display.describing import (
    difference,
    facts,
    kind_of,
    local,
    measured,
    number,
    origin,
    why,
)
from registry.display.documents import measurement
from registry.display.drift import said, verdict_of

# A metric in a condition or an order of a search.
METRIC = re.compile(r"\s*metric\.(.+?)\s*(?:(?:>=|<=|=|>|<).*|:asc)?\s*")
# DVC's hash of a file or a folder.
HASH = re.compile(r"[0-9a-f]{32}(\.dir)?")
WEIGHTS_HASH = re.compile(r"(sha256:)?[0-9a-f]{64}")
# The metrics to compare versions by without `registration.metric`, one for each task.
HEADLINES = ("macro_f1", "r2", "perplexity")


@app.command("list")
def list_models(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Models a page.")] = 100,
    after: Annotated[str | None, typer.Option(help="Where the page before ended.")] = None,
    as_json: Json = False,
) -> None:
    """List the models with their aliases, a page at a time."""
    with open_registry() as registry:
        page = registry.overview(limit=limit, after=after)
    if not printed_json(as_json, [asdict(line.model) for line in page.lines]):
        if not page.lines and after is None:
            output.say("No model is registered yet. `modelmint train` registers the first.")
        else:
            _models(page.lines)
    _more("--after", page.after)


@app.command()
def show(reference: Reference, as_json: Json = False) -> None:
    """Show a version: metrics, gates, lineage, files."""
    with open_registry() as registry:
        version = registry.resolve(reference).version
    # `metrics` are those of the registration; `measured` has those of the gates in `evaluation`.
    if printed_json(as_json, asdict(version) | {"measured": asdict(measurement(version))}):
        return
    output.table(["", ""], [[name, value] for name, value in facts(version)])
    output.say("The parameters are in --json.")


@app.command()
def compare(left: Reference, right: Reference, as_json: Json = False) -> None:
    """Compare two versions: metrics, gates, classes, parameters, data and code."""
    with open_registry() as registry:
        versions = [registry.resolve(reference).version for reference in (left, right)]
    both = compare_versions(*versions)
    if not printed_json(as_json, both.as_dict()):
        _comparison(both)


@app.command()
def search(
    name: OneModel = None,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", metavar="CONDITION", help=f"Any number of: {SEARCH_HELP}."),
    ] = None,
    order: Annotated[
        str, typer.Option(help="newest, metric.NAME (highest first) or metric.NAME:asc.")
    ] = "newest",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Versions a page.")] = 20,
    after: Annotated[str | None, typer.Option(help="Where the page before ended.")] = None,
    as_json: Json = False,
) -> None:
    """Search versions by metric, parameter, tag, alias, dataset or time, a page at a time."""
    with open_registry() as registry:
        page = registry.search(name, where or [], order=order, limit=limit, after=after)
    if printed_json(as_json, asdict(page)):
        return
    matches = map(METRIC.fullmatch, [*(where or []), order])
    _versions(page.versions, list(dict.fromkeys(found[1] for found in matches if found)))
    _more("--after", page.after)


@app.command()
def history(
    name: Name,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Events a page.")] = 50,
    before: Annotated[int | None, typer.Option(help="Where the page before ended.")] = None,
    as_json: Json = False,
) -> None:
    """Show what happened to a model, newest first: who did what, when and why."""
    with open_registry() as registry:
        found = registry.history(name, limit=limit + 1, before=before)
    events = found[:limit]
    if not printed_json(as_json, [asdict(event) for event in events]):
        _events(events)
    _more("--before", events[-1].id if len(found) > limit else None)


@app.command()
def trace(
    what: Annotated[
        str,
        typer.Argument(
            metavar="NAME[@ALIAS|:VERSION]|dvc:MD5|sha256:HASH",
            help="A version, the DVC hash of data, or the SHA-256 of a weights file.",
        ),
    ],
    limit: Annotated[
        int, typer.Option(min=1, max=1000, help="Versions a page, and jobs a page.")
    ] = 20,
    after: Annotated[
        str | None, typer.Option(help="Where the versions of the page before ended.")
    ] = None,
    before: Annotated[
        str | None, typer.Option(help="Where the jobs of the page before ended.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Trace a version to its origin and uses, or data to the versions and jobs that used it.

    Versions and jobs are printed a page at a time.
    """
    position: dict[str, Any] = {"limit": limit, "after": after, "before": before}
    with open_registry() as registry:
        if what.startswith("dvc:") or WEIGHTS_HASH.fullmatch(what):
            built = registry.trace_data(what.removeprefix("dvc:"), **position)
            if printed_json(as_json, asdict(built)):
                return
            output.say(f"Built on {built.md5}: {built.version_count:,} in all")
            _versions(built.versions)
            _more("--after", built.after)
            output.say("Predicted with these:")
            _jobs(built.jobs)
            _more("--before", built.before)
            return
        if HASH.fullmatch(what):
            raise InvalidReference(f"{what!r} looks like a hash of data. Give dvc:{what}.")
        found = registry.trace(what, **position)
    if printed_json(as_json, asdict(found)):
        return
    lines = [("version", found.version.ref), *origin(found.version)]
    if found.retraining:
        lines.append(("retraining", why(found.retraining).removeprefix("retraining: ")))
    lines += [("started from it", child) for child in found.children]
    output.table(["", ""], [[name, value] for name, value in lines])
    if found.after:
        output.say(f"{found.child_count:,} versions started from it.")
    _more("--after", found.after)
    output.say(f"Predicted with it: {found.job_count:,} in all")
    _jobs(found.jobs)
    _more("--before", found.before)


@app.command()
def jobs(
    name: OneModel = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Jobs a page.")] = 50,
    before: Annotated[str | None, typer.Option(help="Where the page before ended.")] = None,
    as_json: Json = False,
) -> None:
    """List the batch inference jobs, newest first."""
    with open_registry() as registry:
        found = registry.jobs(name, limit=limit + 1, before=before)
    shown = found[:limit]
    if not printed_json(as_json, [asdict(job) for job in shown]):
        _jobs(shown)
    _more("--before", shown[-1].id if len(found) > limit else None)


def _more(option: str, where: object) -> None:
    """Print the option for the next page, if any, on standard error; with --json, too."""
    if where is not None:
        output.say(f"More: the same command with {option} {where}")


def _serving(line: ModelLine) -> str:
    """The headline metric of the champion."""
    champion = line.holders.get(CHAMPION)
    return _decides(champion.version) if champion and champion.version else ""


def _comparison(both: Comparison) -> None:
    left, right = both.left.ref, both.right.ref
    output.table(
        ["metric", left, right, "difference", ""],
        [
            [m.name, number(m.left), number(m.right), difference(m.difference), m.verdict]
            for m in both.metrics
        ],
    )
    output.say(f"{left} was evaluated on {both.left_on}")
    output.say(f"{right} was evaluated on {both.right_on}")
    if not both.same_split:
        output.say("They were evaluated on different test splits: differences say little.")
    if both.gates:
        output.table(
            ["gate", left, right],
            [[g.name, measured(g.left), measured(g.right)] for g in both.gates],
        )
    if both.classes:
        output.table(
            ["class", "", left, right, "difference"],
            [
                [c.label, c.name, number(c.left), number(c.right), difference(c.difference)]
                for c in both.classes
            ],
        )
    _changes("parameter", both.params, left, right)
    output.say(f"parameters that are the same in both: {both.params_alike}")
    _changes("data and code", both.origin, left, right)
    _changes("library", both.libraries, left, right)
    if both.same_bytes:
        output.say("Both have the same digest: they predict the same.")


def _changes(what: str, found: Sequence[Change], left: str, right: str) -> None:
    if found:
        output.table(
            [what, left, right], [[c.key, c.left or "none", c.right or "none"] for c in found]
        )
    else:
        output.say(f"{what}: no difference")


def _moved(event: Event) -> str:
    before = f"{event.model}:{event.previous} -> " if event.previous else ""
    return before + (f"{event.model}:{event.version}" if event.version else "")


def _models(lines: Sequence[ModelLine]) -> None:
    output.table(
        ["model", "versions", "aliases", "champion"],
        [
            [
                line.model.name,
                str(line.model.last_version),
                ", ".join(f"{a.name} -> {a.model}:{a.version}" for a in line.model.aliases),
                _serving(line),
            ]
            for line in lines
        ],
    )


def _events(events: Sequence[Event]) -> None:
    output.table(
        ["when", "who", "what", "version", "why"],
        [
            [
                local(e.at),
                e.actor,
                f"{kind_of(e)} {e.alias}" if e.alias else kind_of(e),
                _moved(e),
                why(e),
            ]
            for e in events
        ],
    )


def _versions(found: Sequence[Summary], named: Sequence[str] = ()) -> None:
    """A table of versions, with the headline metric and a column for each named metric."""
    output.table(
        ["version", "status", "aliases", "decides", *named, "registered", "by", "dataset"],
        [
            [
                v.ref,
                v.status,
                ", ".join(v.aliases),
                _decides(v),
                *(f"{v.metrics[name]:.4f}" if name in v.metrics else "" for name in named),
                local(v.created_at),
                v.created_by,
                v.dataset,
            ]
            for v in found
        ],
    )


def _decides(version: Summary) -> str:
    """The headline metric with its value; without a known headline, the first metric."""
    usual = (version.metric, *HEADLINES, *version.metrics)
    name = next((name for name in usual if name in version.metrics), None)
    return f"{name} {version.metrics[name]:.4f}" if name else ""


def _jobs(found: Sequence[Job]) -> None:
    """A table of jobs. What is a sentence stands below it: a cell would break it into words."""
    output.table(
        ["started", "model", "state", "rows", "quarantined", "drift", "on", "output"],
        [
            [
                local(j.started_at),
                f"{j.model}:{j.version}",
                j.state,
                "" if j.rows is None else f"{j.rows:,}",
                "" if j.quarantined is None else f"{j.quarantined:,}",
                verdict_of(j),
                (j.provider or "").removesuffix("ExecutionProvider"),
                _from_here(j.output),
            ]
            for j in found
        ],
    )
    for j in found:
        told = f"failed: {j.error}" if j.error else said(j)
        if told not in ("", verdict_of(j)):
            output.say(f"{local(j.started_at)}  {told}")


def _from_here(path: str) -> str:
    """A path as it is named in the current folder, if it lies there."""
    here = f"{Path.cwd()}/"
    return path.removeprefix(here)
