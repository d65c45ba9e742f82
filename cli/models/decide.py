"""Commands that move aliases, change the status of versions and set policies."""

from dataclasses import asdict
from typing import Annotated

import typer

from cli import output
from cli.models.common import DryRun, Json, Name, OneModel, Reason, app, open_registry, printed_json
from flows.settings import actor
from registry import (
    CHAMPION,
    Alias,
    InvalidReference,
    Registry,
    Version,
    parse_reference,
    upkeep,
)
from registry.display.describing import failed, local

Numbered = Annotated[
    str,
    typer.Argument(metavar="NAME:VERSION", help="Or NAME@ALIAS, the version it points to."),
]


@app.command()
def promote(
    reference: Numbered,
    alias: Annotated[str, typer.Option(help="The alias to move.")] = CHAMPION,
    reason: Reason = "by hand",
) -> None:
    """Point an alias to a version, without comparing metrics. The decision is recorded.

    A candidate can become champion only if its newest evaluation passed.
    """
    with open_registry() as registry:
        version = registry.resolve(reference).version
        _moved(registry, _promote(registry, version, alias, reason))


@app.command()
def rollback(
    name: Name,
    alias: Annotated[str, typer.Option(help="The alias to move.")] = CHAMPION,
    reason: Reason = "by hand",
) -> None:
    """Point an alias back to its previous version. Repeat to go further back."""
    with open_registry() as registry:
        current = registry.alias(name, alias)
        revision = current.revision if current else None
        _moved(
            registry,
            registry.rollback(name, alias, expect_revision=revision, actor=actor(), reason=reason),
        )


@app.command()
def unset(
    reference: Annotated[str, typer.Argument(metavar="NAME@ALIAS", help="The alias to remove.")],
    reason: Reason = "by hand",
) -> None:
    """Remove an alias; the version stays."""
    parsed = parse_reference(reference)
    if parsed.alias is None or "@" not in reference:
        raise InvalidReference(
            f"{reference!r} does not name an alias. Give NAME@ALIAS, as in digits@canary."
        )
    with open_registry() as registry:
        registry.unset(parsed.name, parsed.alias, actor=actor(), reason=reason)
    output.say(f"{reference} is not set any more")


@app.command()
def approve(
    reference: Numbered,
    reason: Reason = "by hand",
    and_promote: Annotated[
        bool, typer.Option("--promote", help="Then make it champion as well.")
    ] = False,
) -> None:
    """Approve a version whose newest evaluation passed: only approved ones can be champion."""
    with open_registry() as registry:
        version = registry.resolve(reference).version
        registry.approve(version.model, version.version, actor=actor(), reason=reason)
        output.say(f"{version.ref} is approved")
        if and_promote:
            _moved(registry, _promote(registry, version, CHAMPION, reason))


@app.command()
def reject(reference: Numbered, reason: Reason = "by hand") -> None:
    """Reject a version: it cannot become champion, unless it is approved later."""
    with open_registry() as registry:
        version = registry.resolve(reference).version
        registry.reject(version.model, version.version, actor=actor(), reason=reason)
    output.say(f"{version.ref} is rejected")


@app.command()
def archive(reference: Numbered, reason: Reason = "by hand") -> None:
    """Archive a version that nothing uses; `gc --purge` may then remove its files."""
    with open_registry() as registry:
        version = registry.resolve(reference).version
        registry.archive(version.model, version.version, actor=actor(), reason=reason)
    output.say(f"{version.ref} is archived")


@app.command()
def unarchive(reference: Numbered, reason: Reason = "by hand") -> None:
    """Make an archived version a candidate again."""
    with open_registry() as registry:
        version = registry.resolve(reference).version
        registry.unarchive(version.model, version.version, actor=actor(), reason=reason)
    output.say(f"{version.ref} is a candidate again")


@app.command()
def tag(
    reference: Numbered,
    tags: Annotated[
        list[str], typer.Argument(metavar="KEY=VALUE...", help="KEY= removes the tag.")
    ],
) -> None:
    """Set or remove tags of a version."""
    pairs = [text.partition("=") for text in tags]
    for text, (key, equals, _value) in zip(tags, pairs, strict=True):
        if not key or not equals:
            raise InvalidReference(f"{text!r} is not a tag. Give KEY=VALUE, or KEY= to remove one.")
    with open_registry() as registry:
        version = registry.resolve(reference).version
        for key, _, value in pairs:
            registry.tag(version.model, version.version, key, value or None, actor=actor())
        now = registry.resolve(version.ref).version.tags
    output.say(", ".join(f"{key}={value}" for key, value in now.items()) or "no tags")


@app.command()
def note(
    reference: Numbered,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What you saw.")],
) -> None:
    """Add a remark about a version to the history."""
    with open_registry() as registry:
        version = registry.resolve(reference).version
        registry.note(version.model, version.version, text, actor=actor())
    output.say(f"noted in the history of {version.ref}")


@app.command()
def policy(
    name: Name,
    four_eyes: Annotated[
        bool | None,
        typer.Option(
            "--four-eyes/--no-four-eyes",
            help="Whether the champion, and every protected alias, needs an approval by somebody "
            "who did not train the version.",
        ),
    ] = None,
    protect: Annotated[
        str | None,
        typer.Option(
            metavar="ALIAS,...",
            help="The aliases that need an approved version; always includes champion.",
        ),
    ] = None,
    keep_last: Annotated[
        int | None,
        typer.Option(min=0, help="Retention keeps this many of the newest versions; 0: no rule."),
    ] = None,
    keep_days: Annotated[
        int | None,
        typer.Option(
            min=0, help="Retention keeps versions younger than this many days; 0: no rule."
        ),
    ] = None,
    keep_holders: Annotated[
        int | None,
        typer.Option(min=0, help="Retention keeps this many former champions, to roll back to."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the rules of a model, or change those that are given."""
    with open_registry() as registry:
        protected = None if protect is None else _listed(protect)
        changes = (four_eyes, protected, keep_last, keep_days, keep_holders)
        if all(change is None for change in changes):
            rules = registry.model(name).policy
        else:
            rules = registry.change_policy(
                name,
                four_eyes=four_eyes,
                protected=protected,
                keep_last=keep_last,
                keep_days=keep_days,
                keep_holders=keep_holders,
                actor=actor(),
            )
    if printed_json(as_json, asdict(rules)):
        return
    output.table(
        ["rule", "of " + name],
        [
            ["needs an approval", ", ".join(rules.protected)],
            ["four eyes", "yes" if rules.four_eyes else "no"],
            ["keep newest", "all" if rules.keep_last is None else f"{rules.keep_last} versions"],
            ["keep for", "ever" if rules.keep_days is None else f"{rules.keep_days} days"],
            ["keep for rollback", f"{rules.keep_holders} earlier holders of each protected alias"],
        ],
    )


@app.command()
def retain(name: OneModel = None, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Archive the versions that the policy of their model does not keep."""
    with open_registry() as registry:
        retired = upkeep.retain(registry, name, actor=actor(), dry_run=dry_run)
    if printed_json(as_json, [asdict(version) for version in retired]):
        return
    done = "would be archived" if dry_run else "archived"
    output.table(
        ["version", "registered", ""],
        [[v.ref, local(v.created_at), done] for v in retired],
    )


def _promote(registry: Registry, version: Version, alias: str, reason: str) -> Alias:
    current = registry.alias(version.model, alias)
    return registry.promote(
        version.model,
        version.version,
        alias,
        expect_revision=current.revision if current else 0,
        actor=actor(),
        reason=reason,
    )


def _listed(text: str) -> tuple[str, ...]:
    return tuple(alias.strip() for alias in text.split(",") if alias.strip())


def _moved(registry: Registry, alias: Alias) -> None:
    output.say(f"{alias.model}@{alias.name} is {alias.model}:{alias.version}")
    if warning := failed(registry.resolve(f"{alias.model}:{alias.version}").version):
        output.say(f"warning: {warning}")
