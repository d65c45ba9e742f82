"""Export and import of single versions, between registries or to a container registry.

An archive is an OCI image layout (`layout.py`) whose layers are the version's files and whose
config is everything that the registry knows about it, including its history.
"""

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from uuid import uuid4

from registry import digests
from registry.artifacts import name_once
from registry.errors import Conflict, InvalidCandidate, Refused, Unreachable
from registry.queries import versions
from registry.records import Artifact, Candidate, Json, Registration, Version
from registry.registry import Registry
from registry.signing import add_signature
from registry.transfer import layout, version_record
from registry.transfer.layout import Descriptor, Manifest
from registry.transfer.version_record import VersionRecord
from registry.validation import candidates
from registry.validation.arguments import checked

VERSION = "application/vnd.modelmint.version.v1"
"""The artifact type of an archive."""

CONFIG = f"{VERSION}+json"

# Registered media types only; all other files are octets.
_MEDIA_TYPES = {
    ".arrow": "application/vnd.apache.arrow.file",
    ".csv": "text/csv",
    ".html": "text/html",
    ".json": "application/json",
    ".md": "text/markdown",
    ".parquet": "application/vnd.apache.parquet",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
}
_OCTETS = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Export:
    """An archive that was written."""

    version: Version
    digest: str
    """`sha256:...` of the manifest, its name in a container registry."""
    size: int
    """Bytes of the archive."""


@checked
def export_version(registry: Registry, reference: str, path: Path) -> Export:
    """Write a version and its whole record to a new tar file.

    Every file is checked before it is written. Exporting a version again gives the same bytes, as
    long as its record has not changed.

    Raises:
        InvalidReference: the reference has another form.
        NotFound: the model, alias or version does not exist.
        Corrupt: a file of it is missing or was changed.
        Refused: there is something at that path.
        Unreachable: the file cannot be written.
    """
    _refuse_taken(path)
    record = version_record.load_record(registry, reference)
    version = record.version
    files = registry.open(version)
    config = version_record.dump(record)
    manifest = Manifest(
        artifactType=VERSION,
        config=layout.describe(config, CONFIG),
        layers=[_layer(artifact) for artifact in version.artifacts],
        annotations=_annotations(version),
    )
    by_digest = {artifact.sha256: files[artifact.path] for artifact in version.artifacts}
    draft = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        named = layout.write(draft, manifest, config, by_digest, tag=str(version.version))
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        size = draft.stat().st_size
        if not name_once(draft, path):  # another process created it meanwhile
            _refuse_taken(path)
    except OSError as error:
        raise Unreachable(
            f"{path} cannot be written ({error.strerror or error}). Give a file in a folder that "
            "exists and that you may write, with room for the model."
        ) from error
    finally:
        with suppress(OSError):
            draft.unlink()
    return Export(version, named.digest, size)


@checked
def import_version(
    registry: Registry, path: Path, *, actor: str, name: str | None = None
) -> Registration:
    """Register the version in an archive, under its model's name or another.

    It keeps its uid and digest and gets the next number in this registry. It becomes a candidate
    with its newest evaluation; earlier evaluations, its history and its origin are in the event
    that records the import. If its parent is imported later, the two are linked then. Its
    signatures are imported, too. If the version exists in this registry (same uid, or same bytes
    from the same dataset), it is returned unchanged.

    Raises:
        InvalidCandidate: the archive is damaged, or is not an export.
        InvalidReference: the name is not allowed.
        Conflict: this registry has its uid with other bytes, or under another name than `name`.
        Refused: the version whose weights it started from is archived in this registry.
    """
    with TemporaryDirectory(prefix="modelmint-import-") as folder:
        record, files = _unpack(path, Path(folder))
        version, parent = record.version, None
        here = _find(registry, version.uid)
        if here is not None:
            _check_same(here, version, name)
        if record.parent_uid is not None:
            parent = _find(registry, record.parent_uid)
        newest = record.evaluations[-1].report if record.evaluations else {}
        candidate = Candidate(
            files=files,
            identity=frozenset(a.path for a in version.artifacts if a.identity),
            signature=version.signature,
            metrics=version.metrics,
            params=version.params,
            evaluation=newest,
            lineage=replace(version.lineage, parent=parent.ref if parent else None),
            tags=version.tags,
        )
        made = registry.admit(
            here.model if here else name or version.model,
            candidate,
            "imported",
            actor=actor,
            request_id=f"import:{version.uid}",
            trainer=version.created_by,
            uid=version.uid,
            parent_uid=record.parent_uid,
            payload=_origin(record, path),
        )
    _keep_signatures(registry, made.version, record.signatures, actor)
    return made


# Export


def _refuse_taken(path: Path) -> None:
    if os.path.lexists(path):
        raise Refused(
            f"{path} exists, and an export does not replace files. Give the path of a new file, or "
            "remove that one."
        )


def _layer(artifact: Artifact) -> Descriptor:
    return Descriptor(
        mediaType=_MEDIA_TYPES.get(PurePosixPath(artifact.path).suffix, _OCTETS),
        digest=f"sha256:{artifact.sha256}",
        size=artifact.size,
        annotations={layout.TITLE: artifact.path},
    )


def _annotations(version: Version) -> dict[str, str]:
    found = {
        "org.opencontainers.image.created": version.created_at.isoformat(),
        layout.TITLE: version.model,
        "org.opencontainers.image.version": str(version.version),
    }
    if version.lineage.git_commit:
        found["org.opencontainers.image.revision"] = version.lineage.git_commit
    return found


# Import


def _unpack(path: Path, folder: Path) -> tuple[VersionRecord, dict[str, Path]]:
    """The record of the version in an archive, and its files, under names that we choose."""
    with layout.read(path) as archive:
        manifest = archive.manifest
        if (manifest.artifactType, manifest.config.mediaType) != (VERSION, CONFIG):
            what = f"it is a {manifest.artifactType!r}, and only {VERSION!r} is imported"
            raise layout.import_error(path, what)
        record = _parse(path, archive.blob(manifest.config))
        _check_files(path, record.version, manifest.layers)
        files = {}
        for number, (artifact, layer) in enumerate(
            zip(record.version.artifacts, manifest.layers, strict=True)
        ):
            files[artifact.path] = folder / str(number)
            archive.copy(layer, files[artifact.path])
        return record, files


def _parse(path: Path, config: bytes) -> VersionRecord:
    try:
        record = version_record.parse(config)
    except ValueError as error:
        raise layout.import_error(path, f"its config is invalid: {error}") from error
    if re.fullmatch(r"[0-9a-f]{32}", record.version.uid) is None:
        raise layout.import_error(path, f"{record.version.uid!r} is not a uid")
    parent = record.parent_uid
    if parent is not None and re.fullmatch(r"[0-9a-f]{32}", parent) is None:
        raise layout.import_error(path, f"{parent!r} is not a uid")
    if parent == record.version.uid:
        raise layout.import_error(path, "its version is its own parent")
    return record


def _check_files(path: Path, version: Version, layers: list[Descriptor]) -> None:
    """Refuse layers that are not the files of the record, and files that do not make its digest."""
    expected = [(a.path, f"sha256:{a.sha256}", a.size) for a in version.artifacts]
    if len({a.path for a in version.artifacts}) != len(expected):
        raise layout.import_error(path, "its record names a file twice")
    if expected != [((x.annotations or {}).get(layout.TITLE), x.digest, x.size) for x in layers]:
        raise layout.import_error(path, "its layers are not the files that its record names")
    if digests.digest(version.artifacts) != version.digest:
        raise layout.import_error(path, f"its files do not match digest {version.digest}")


def _find(registry: Registry, uid: str) -> Version | None:
    if not registry.database.exists():
        return None  # the import creates the registry
    with registry.database.read() as c:
        found = versions.find_uid(c, uid)
        return None if found is None else versions.load(c, *found)


def _check_same(here: Version, version: Version, name: str | None) -> None:
    """Refuse a version whose uid this registry has with other bytes or under another name."""
    same = (here.digest, here.lineage.dataset) == (version.digest, version.lineage.dataset)
    if not same:
        raise Conflict(
            f"{here.ref} has the same uid, {version.uid}, but other bytes or another dataset: the "
            "archive or the registry was tampered with. Run `modelmint models verify`."
        )
    if name not in (None, here.model):
        raise Conflict(
            f"This registry already has this version, as {here.ref}, and a version has one name. "
            f"Import it without a name to get {here.ref}."
        )


def _origin(record: VersionRecord, path: Path) -> Json:
    """The origin of a version, for the event of its import."""
    version = record.version
    plain = version_record.document(record)
    origin = {
        "imported_from": version.ref,
        "head": record.head,
        "created_at": plain["version"]["created_at"],
        "created_by": version.created_by,
        "events": plain["events"],
        "earlier_evaluations": plain["evaluations"][:-1],
        "signatures": {
            key_id: digests.seal_json(text) for key_id, text in record.signatures.items()
        },
    }
    if record.parent_uid or version.lineage.parent:
        origin["parent"] = {"version": version.lineage.parent, "uid": record.parent_uid}
    try:
        candidates.check_json("its config", origin)
    except InvalidCandidate as error:
        raise layout.import_error(path, str(error)) from error
    return origin


def _keep_signatures(
    registry: Registry, version: Version, offered: Mapping[str, str], actor: str
) -> None:
    """Add the signatures that the event of the import names, and no others.

    So a later archive cannot add signatures to a version. This runs after the import; if it is
    interrupted, importing the archive again completes it.
    """
    history = registry.history(version.model, version=version.version)
    origin = next((e.payload for e in history if e.kind == "imported"), {})
    named = origin.get("signatures", {})
    for key_id, document in sorted(offered.items()):
        if named.get(key_id) == digests.seal_json(document):
            add_signature(registry, version, key_id, document, actor=actor)
