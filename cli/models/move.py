"""Commands that copy versions and registries: backup, restore, export, import, sign."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cli import output
from cli.models.common import Json, Name, Reference, app, open_registry, printed_json
from flows.settings import Places, actor

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of the backup.")]


@app.command()
def backup(
    folder: Folder,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="Overwrite a backup that this registry does not continue; that backup is lost.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Copy all rows and their files to a folder. A second backup copies only what is new.

    It does not replace a backup of another registry, or one with events or jobs that this registry
    does not have.
    """
    from registry.transfer.backup import backup as back_up

    with open_registry() as registry, output.counting("backing up") as count:
        made = back_up(registry, folder, replace=replace, progress=_steps(count))
    if printed_json(as_json, asdict(made)):
        return
    repaired = f", {made.repaired:,} were damaged and are repaired" if made.repaired else ""
    output.say(
        f"{made.models:,} models, {made.versions:,} versions ({made.rows:,} rows) and "
        f"{made.files:,} files ({made.bytes:,} bytes; {made.copied:,} files were new{repaired}) "
        f"of registry {made.registry} are in {folder}"
    )
    output.table(["history of", "its newest hash"], [[m, head] for m, head in made.heads.items()])
    output.say(f"`modelmint models verify --backup {folder}` checks it.")


@app.command()
def restore(folder: Folder) -> None:
    """Restore a backup into the registry that the settings name, which must be empty."""
    from registry.transfer.restoring import restore as bring_back

    settings = Places.of_registry(files=True)
    assert settings.artifacts is not None
    with output.counting("restoring") as count:
        found = bring_back(
            folder,
            settings.database_url,
            settings.artifacts,
            settings.cache,
            progress=_steps(count),
        )
    for problem in found.problems:
        output.error(f"{problem.ref} {problem.path}: {problem.what}")
    output.say(f"restored {found.versions:,} versions with {found.files:,} files")
    if found.problems:
        output.say("The registry had these problems when it was backed up.")
        raise typer.Exit(1)


@app.command("export")
def export_version(
    reference: Reference,
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The archive to write.")],
) -> None:
    """Write a version with its history to a tar archive, an OCI image layout."""
    from registry.transfer.oci import export_version as export

    with open_registry() as registry:
        made = export(registry, reference, path)
    output.say(f"{made.version.ref} is in {path} ({made.size:,} bytes, manifest {made.digest})")


@app.command("import")
def import_version(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="An exported version.")],
    name: Annotated[
        str | None, typer.Option(help="The model to import it into; by default its own.")
    ] = None,
) -> None:
    """Register an exported version under the next number here, as a candidate."""
    from registry.transfer.oci import import_version as bring_in

    with open_registry() as registry:
        found = bring_in(registry, path, actor=actor(), name=name)
    how = "imported" if found.created else "already registered"
    output.say(f"{found.version.ref} is {how}, as {found.version.status}")
    for line in found.ignored:
        output.say(f"not changed: {line}")


@app.command("import-mlflow")
def import_mlflow(
    uri: Annotated[str, typer.Argument(metavar="URI", help="URI of MLflow's server or database.")],
    name: Name,
    to: Annotated[
        str | None, typer.Option(help="The model to import into; by default the same name.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Register every version of a model of an MLflow registry. Can be repeated."""
    from registry.transfer.mlflow_import import import_from_mlflow

    with open_registry() as registry, output.counting("importing") as count:
        made = import_from_mlflow(
            registry,
            uri,
            name,
            actor=actor(),
            to=to,
            progress=lambda done: count(f"version {done.version}"),
        )
    if printed_json(as_json, asdict(made)):
        return
    output.table(
        ["MLflow version", "here", ""],
        [
            [str(v.version), v.ref or "skipped", v.note or ("" if v.created else "known before")]
            for v in made.versions
        ],
    )
    output.table(
        ["alias", "MLflow version", ""],
        [[a.alias, str(a.version), a.note or "set"] for a in made.aliases],
    )


@app.command()
def sign(
    reference: Reference,
    key: Annotated[Path, typer.Option(help="A private elliptic-curve key, in PEM.")],
) -> None:
    """Sign the files of a version with your key (OpenSSF model signing)."""
    from registry.signing import sign as sign_version

    with open_registry() as registry:
        made = sign_version(registry, reference, key, actor=actor())
    how = "signed now" if made.created else "was signed before"
    output.say(f"{made.version.ref} {how} by the key {made.key_id}")


def _steps(count: Callable[[str], None]) -> Callable[[str, int, int], None]:
    def step(doing: str, done: int, total: int) -> None:
        what = "" if doing == "rows" else " files"
        count(f"{doing} {done:,} of {total:,}{what}")

    return step
