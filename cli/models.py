"""`modelmint models`: the registry on the command line."""

from dataclasses import asdict
from typing import Annotated

import typer

from cli import output
from flows.settings import Settings, actor
from registry import Registry
from registry import upgrade as upgrade_database

app = typer.Typer(help="The model registry.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="A model, such as digits.")]
Reference = Annotated[
    str, typer.Argument(metavar="NAME[@ALIAS|:VERSION]", help="A bare name means its champion.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


def _registry() -> Registry:
    settings = Settings.from_environment()
    return Registry(settings.database_url, settings.artifacts)


@app.command("list")
def list_models(as_json: Json = False) -> None:
    """List the models with their aliases."""
    with _registry() as registry:
        found = registry.models()
    if as_json:
        output.machine([asdict(model) for model in found])
        return
    if not found:
        output.say("No model is registered yet. `modelmint train` registers the first.")
        return
    output.table(
        ["model", "versions", "aliases"],
        [
            [
                m.name,
                str(m.versions),
                ", ".join(f"{a.name} -> {m.name}:{a.version}" for a in m.aliases),
            ]
            for m in found
        ],
    )


@app.command()
def show(reference: Reference, as_json: Json = False) -> None:
    """Show a version: metrics, gates, lineage, files."""
    with _registry() as registry:
        version = registry.resolve(reference).version
    if as_json:
        output.machine(asdict(version))
        return
    lineage, parity = version.lineage, version.evaluation["parity"]
    commit = lineage.git_commit or "none"
    facts = [
        ("version", version.ref),
        ("aliases", ", ".join(version.aliases) or "none"),
        ("digest", version.digest),
        ("registered", f"{output.moment(version.created_at)} by {version.created_by}"),
        *((name, f"{value:.4f}") for name, value in version.metrics.items()),
        *(
            (f"gate {g['gate']}", f"{g['condition']}: {'passed' if g['passed'] else 'refused'}")
            for g in version.evaluation["gates"]
        ),
        ("parity", f"max error {parity['max_error']:.1e}, {parity['flipped']} labels flipped"),
        ("dataset", lineage.dataset),
        ("commit", commit + " with uncommitted changes" * lineage.git_dirty),
        ("flow run", lineage.flow_run_id or "none"),
        ("libraries", ", ".join(f"{n} {v}" for n, v in lineage.libraries.items())),
        *((f"file {a.path}", f"{a.sha256}  {a.size:,} bytes") for a in version.artifacts),
    ]
    output.table(["", ""], [[name, value] for name, value in facts])
    output.say("The parameters are in --json.")


@app.command()
def history(name: Name, as_json: Json = False) -> None:
    """Show what happened to a model, newest first: registered, refused, promoted."""
    with _registry() as registry:
        events = registry.history(name)
    if as_json:
        output.machine([asdict(event) for event in events])
        return
    output.table(
        ["when", "who", "what", "version", "why"],
        [
            [
                output.moment(e.at),
                e.actor,
                f"{e.kind} {e.alias}" if e.alias else e.kind,
                (f"{name}:{e.previous} -> " if e.previous else "")
                + (f"{name}:{e.version}" if e.version else ""),
                e.reason or "",
            ]
            for e in events
        ],
    )


@app.command()
def promote(
    reference: Annotated[str, typer.Argument(metavar="NAME:VERSION")],
    alias: Annotated[str, typer.Option(help="The alias to move.")] = "champion",
    reason: Annotated[str, typer.Option(help="Why; kept in the history.")] = "by hand",
) -> None:
    """Point an alias to a version, whatever it scored: the decision is yours, and recorded."""
    with _registry() as registry:
        version = registry.resolve(reference).version
        held = registry.alias(version.model, alias)
        moved = registry.promote(
            version.model,
            version.version,
            alias,
            expect_revision=held.revision if held else 0,
            actor=actor(),
            reason=reason,
        )
    output.say(f"{moved.model}@{moved.name} is {moved.model}:{moved.version}")


@app.command()
def jobs(
    name: Annotated[str | None, typer.Argument(help="Of this model only.")] = None,
    as_json: Json = False,
) -> None:
    """List the batch inference jobs, newest first."""
    with _registry() as registry:
        found = registry.jobs(name)
    if as_json:
        output.machine([asdict(job) for job in found])
        return
    output.table(
        ["started", "model", "state", "rows", "provider", "output"],
        [
            [
                output.moment(j.started_at),
                f"{j.model}:{j.version}",
                j.state,
                "" if j.rows is None else f"{j.rows:,}",
                j.provider or "",
                j.error or j.output,
            ]
            for j in found
        ],
    )


@app.command()
def verify(name: Annotated[str | None, typer.Argument(help="This model only.")] = None) -> None:
    """Read every file of every version again and compare it with its digest."""
    with _registry() as registry:
        problems = registry.verify(name)
    for problem in problems:
        output.error(f"{problem.ref} {problem.path}: {problem.what}")
    if problems:
        raise typer.Exit(1)
    output.say("every file is what was registered")


@app.command()
def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list them.")] = False,
    grace: Annotated[
        int, typer.Option(min=0, help="Seconds for which a file may still be needed.")
    ] = 86_400,
    as_json: Json = False,
) -> None:
    """Remove files that no version refers to, which a killed registration left behind."""
    with _registry() as registry:
        strays = registry.gc(dry_run=dry_run, grace_s=grace)
    if as_json:
        output.machine([asdict(stray) for stray in strays])
        return
    done = "would be removed" if dry_run else "removed"
    output.table(
        ["file", "bytes", "age", ""],
        [
            [str(s.path), f"{s.size:,}", f"{s.age_s:.0f} s", done if s.removable else "too young"]
            for s in strays
        ],
    )


@app.command()
def upgrade() -> None:
    """Bring the database to the schema of this release."""
    before = upgrade_database(Settings.from_environment().database_url)
    output.say(f"the schema is current (it was {before or 'empty'})")
