"""Commands that look after the registry: verify, gc, upgrade, roles, and its page."""

from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cli import output
from cli.models.common import DryRun, Json, OneModel, app, open_registry, printed_json
from flows.links import prefect_ui
from flows.settings import Places, actor
from registry import RegistryError, Stray, extras, integrity, upkeep
from registry import upgrade as upgrade_database
from tasks.errors import InputError


@app.command()
def verify(
    name: OneModel = None,
    public_key: Annotated[
        Path | None,
        typer.Option(help="Also require a signature of every version by this key (PEM)."),
    ] = None,
    backup: Annotated[
        Path | None,
        typer.Option(help="Check this backup instead, and that the registry continues it."),
    ] = None,
    since: Annotated[
        int | None,
        typer.Option(
            metavar="EVENT",
            help="Only what events after this id changed; ids are in `history --json`.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Read every file again, and check every version and history against what was recorded."""
    if backup is not None:
        _verify_backup(backup, as_json=as_json)
        return
    with open_registry() as registry, output.counting("verifying") as count:
        found = integrity.verify(
            registry,
            name,
            since=since,
            progress=lambda so_far: count(f"{so_far.versions} versions, {so_far.files} files"),
        )
        problems = found.problems
        if public_key is not None:
            from registry.signing import check_signatures

            problems += check_signatures(registry, public_key, name)
    if as_json:
        output.print_json([asdict(problem) for problem in problems])
    for problem in problems:
        where = f"{problem.ref} {problem.path}".rstrip()
        output.error(f"{where}: {problem.what}")
    for left_out in found.not_looked_at:
        output.say(f"not checked: {left_out}")
    if found.unknown and not problems:  # a problem may be that the database is the wrong one
        output.say(
            f"{found.unknown:,} files in the store belong to no version; killed registrations "
            "leave such files: `modelmint models gc --dry-run` lists them"
        )
    if problems:
        raise typer.Exit(1)
    verdict = "no problems in what was checked" if found.not_looked_at else "no problems"
    output.say(
        f"{verdict}: {found.versions:,} versions, {found.files:,} files ({found.bytes:,} bytes), "
        f"{found.events:,} events; {found.purged:,} files were purged; the newest event is "
        f"{found.newest or 'none'}"
    )


def _verify_backup(folder: Path, *, as_json: bool) -> None:
    from registry.transfer.backup import verify_backup

    with ExitStack() as stack:
        registry, why_not = None, ""
        try:
            registry = stack.enter_context(open_registry())
            registry.models()  # raises NoRegistry if there is none yet
        except (RegistryError, InputError) as error:
            registry, why_not = None, str(error)
        count = stack.enter_context(output.counting("verifying"))
        found = verify_backup(
            folder,
            registry,
            progress=lambda doing, done, total: count(f"{doing} {done:,} of {total:,}"),
        )
    if as_json:
        output.print_json(asdict(found))
    for problem in found.problems:
        output.error(problem)
    if why_not:
        output.say(f"The backup was not compared with your registry: {why_not}")
    if found.problems:
        raise typer.Exit(1)
    of = f"registry {found.registry}" if found.registry else "a registry without an id"
    if found.models == 0:
        output.say(f"the backup is complete, but it is of an EMPTY registry: no model; of {of}")
        return
    output.say(
        f"the backup is complete: {found.models:,} models, {found.versions:,} versions "
        f"({found.rows:,} rows), {found.files:,} files, of {of}"
    )
    output.table(["history of", "its newest hash"], [[m, head] for m, head in found.heads.items()])
    if registry is not None:
        output.say("The registry continues each of these histories.")


@app.command()
def gc(
    dry_run: DryRun = False,
    grace: Annotated[
        int, typer.Option(min=0, help="Keep unreferenced files younger than this many seconds.")
    ] = upkeep.DAY_S,
    purge: Annotated[
        bool, typer.Option("--purge", help="Also remove the files of archived versions.")
    ] = False,
    unknown: Annotated[
        bool,
        typer.Option(
            "--unknown",
            help="Also remove files that this database never knew. If the database is an older "
            "copy, later versions need these files.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Remove files that no version refers to, which killed registrations leave behind."""
    with open_registry() as registry:
        strays = []
        # First: `gc` tries again to remove files that `purge` marked and could not remove.
        if purge:
            strays += upkeep.purge(registry, actor=actor(), dry_run=dry_run, unknown=unknown)
        strays += upkeep.gc(registry, dry_run=dry_run, grace_s=grace, unknown=unknown)
    if printed_json(as_json, [asdict(stray) for stray in strays]):
        return
    done = "would be removed" if dry_run else "removed"
    output.table(
        ["file", "bytes", "age", ""],
        [
            [s.path, f"{s.size:,}", f"{s.age_s:.0f} s", done if s.removable else _why_kept(s)]
            for s in strays
        ],
    )


def _why_kept(stray: Stray) -> str:
    return "may belong to another registry" if stray.perhaps_foreign else "too young"


@app.command()
def init(
    lost_store: Annotated[
        bool,
        typer.Option(
            "--lost-store",
            help="Accept MODELMINT_ARTIFACTS although files of the registry are missing there.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Create an empty registry. If there is one, show it and restore the marker of its store."""
    places = Places.of_registry(files=lost_store)
    with places.open_registry() as registry:
        made = registry.create()
        if places.artifacts is not None:
            registry.adopt_store(lost=lost_store)
        found = {
            "id": registry.id,
            "database": registry.database.shown,
            "created": made,
            "lost_store": registry.files.root if lost_store else None,
        }
    if not printed_json(as_json, found):
        how = "was created" if made else "already exists"
        output.say(f"The registry {found['id']} {how}: {found['database']}")
        if lost_store:
            output.say(
                f"{found['lost_store']} is now its artifact store. `modelmint models verify` names "
                "the missing files; registering the same bytes again restores them."
            )


@app.command()
def upgrade() -> None:
    """Bring the database to the schema of this release."""
    before = upgrade_database(Places.of_registry().database_url)
    output.say(f"the schema is current (it was {before})")


@app.command()
def roles() -> None:
    """Create the roles that may read, register or promote in PostgreSQL. Run as its owner."""
    from registry.databases.roles import ROLES, create_roles

    create_roles(Places.of_registry().database_url)
    output.table(["role", "may"], [[role, may] for role, may in ROLES.items()])
    output.say("Give one to a login, for example: GRANT modelmint_writer TO ada;")
    output.say("Run this command again after each upgrade or restore.")


@app.command()
def ui(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 5600,
) -> None:
    """Show the registry as a read-only web page. Ctrl-C ends it.

    To listen beyond this machine it needs a token, MODELMINT_UI_TOKEN, which visitors enter.
    """
    import os

    serve = extras.load("registry.web", "ui", "The page").serve

    with open_registry() as registry:
        registry.database.check_exists()  # now, not with the first request
        output.say(f"The registry: http://{host}:{port} (Ctrl-C ends it)")
        try:
            serve(registry, host, port, os.environ.get("MODELMINT_UI_TOKEN"), prefect_ui())
        except ValueError as error:
            raise InputError(f"{error} The token is MODELMINT_UI_TOKEN.") from error
