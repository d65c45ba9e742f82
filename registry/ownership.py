"""Checks that the artifact store belongs to the registry, before files are added or removed.

The registry has an id, and its artifact store has another one. The marker, a file at the root of
the store, has both ids, and so has the database. A copy of a registry that was restored from a
backup has the same registry id and another store id: it must not remove the original's files.

The order is: the database records an id for its store; the store gets its marker; the first file is
added. If the process is killed in between, the next command writes the marker. So if the store is
marked and the database has no store id, the store belongs to the original of a copy. Two registries
cannot share a store: the second one is refused.

Stores of early releases have no marker. The first command that writes adds it, if every file that
the database needs is there. Such a store may have been shared, so the files that are in it by then
are never removed, whether the database knows them or not.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from uuid import uuid4

from registry.artifacts import BACKUP_README, MANIFEST, MARKER, Store
from registry.databases.database import Database
from registry.errors import Conflict, Corrupt, NoRegistry, Refused, SchemaMismatch
from registry.queries import blobs, identity
from registry.queries.identity import Identity
from registry.values import parse_object, shown

FORMAT = 1
"""The format number of the marker."""

_AT_ONCE = 200  # files compared with the database at a time
_END = 1 << 40  # seconds since 1970: the latest plausible time of a marker


@dataclass(frozen=True)
class Marker:
    """The content of a store's marker."""

    own: Identity
    adopted: float = 0.0
    """When a store that already had files was marked, in seconds since 1970; otherwise 0."""
    restoring: str | None = None
    """The database that a restore is filling. The restore may have been killed.

    If it was killed after filling the database, this stays until the next command that writes.
    """


def check(database: Database, files: Store) -> None:
    """Check that database and store belong to one registry, and that the database knows its files.

    Changes nothing. A store without a marker passes if `claim` would mark it.

    Raises:
        Refused: the store belongs to another registry or another copy, lacks files that the
            database needs, or the database knows none of its files.
        NoRegistry: the registry was not created yet.
        Corrupt, SchemaMismatch: the marker cannot be read.
    """
    compare(database, files)
    _check_known(database, files)


def check_new(database: Database, files: Store) -> None:
    """Check that a place can become the store of a new registry. Raises Refused."""
    found = read(files)
    if found is None:
        _refuse_backup(files)
    if found is None and not _any_file(files):
        return
    if database.exists():  # another process has created it meanwhile
        return
    whose = f"of registry {found.own.registry}" if found else "of another registry"
    raise Refused(
        f"There is no registry in {database.shown} yet, but {files.root} has the files {whose}. "
        "If MODELMINT_DATABASE_URL is wrong, correct it; for a new registry set "
        "MODELMINT_ARTIFACTS to an empty place."
    )


def compare(database: Database, files: Store) -> bool:
    """Whether a store has this registry's marker, so that `claim` has nothing to do.

    Raises:
        Refused: it belongs to another registry, or lacks files that the database needs.
    """
    _, marker = _read_both(database, files, lost=False)
    return _is_done(marker)


def claim(database: Database, files: Store, *, lost: bool = False) -> None:
    """`compare`, and write the marker if it is missing or says that a restore is running.

    With `lost`, files that the database needs may be missing.

    Raises:
        Refused: as for `compare`.
        Conflict: somebody removed the new marker.
    """
    own, marker = _read_both(database, files, lost=lost)
    if _is_done(marker):
        return
    if marker is not None:
        write(files, replace(marker, restoring=None), anew=True)
        return
    adopted = time.time() if _any_file(files) else 0.0
    if own.store is None:
        with database.write() as c:
            identity.keep_store(c, uuid4().hex)
        own = load(database)  # if two processes do this at once, one has recorded its id
    _check_same(database, files, own, write(files, Marker(own, adopted)).own)


def load(database: Database) -> Identity:
    """The ids of a registry and of its store."""
    if not database.exists():
        raise NoRegistry(database.shown)
    with database.read() as c:
        return identity.load(c)


def read(files: Store) -> Marker | None:
    """Read the marker of a store; None if there is none.

    Raises:
        Corrupt: the file is not a marker.
        SchemaMismatch: a newer modelmint wrote it.
    """
    content = files.marker()
    if content is None:
        return None
    found, problem = parse_object(content.decode(errors="replace"))
    format_ = found.get("format")
    if type(format_) is int and format_ > FORMAT:
        raise SchemaMismatch(
            f"{files.root}/{MARKER} has format {shown(format_)}, and this release reads {FORMAT}: "
            "upgrade modelmint."
        )
    ids, restoring = (found.get("registry"), found.get("store")), found.get("restoring")
    adopted = found.get("adopted") or 0
    if (
        type(format_) is not int
        or format_ != FORMAT
        or not all(isinstance(id_, str) and id_ for id_ in ids)
        or type(adopted) not in (int, float)
        or not 0 <= adopted < _END
        or not isinstance(restoring, str | None)
    ):
        raise Corrupt(
            f"{files.root}/{MARKER} {problem or 'has missing or invalid fields'}, so it does not "
            "say which registry these files belong to. If you know that it is the registry in "
            "MODELMINT_DATABASE_URL, remove that file and run `modelmint models init`."
        )
    return Marker(Identity(found["registry"], found["store"]), float(adopted), restoring)


def adopted_at(files: Store) -> float:
    """`Marker.adopted`; the present time for a store without a marker.

    Older files may belong to another registry that shared the store before there were markers.
    """
    marker = read(files)
    return time.time() if marker is None else marker.adopted


def write(files: Store, marker: Marker, *, anew: bool = False) -> Marker:
    """Write the marker of a store; returns the marker that is there now. Raises Conflict.

    An existing marker is replaced only with `anew`.
    """
    what = "The files beside this belong to one registry of modelmint. Do not edit, do not remove."
    content = {
        "format": FORMAT,
        "registry": marker.own.registry,
        "store": marker.own.store,
        "adopted": marker.adopted or None,
        "restoring": marker.restoring,
        "": what,
    }
    files.mark(json.dumps(content, indent=2).encode() + b"\n", anew=anew)
    written = read(files)  # if two processes do this at once, one has written it
    if written is None:
        raise Conflict(
            f"The marker of {files.root} vanished. Check who else uses that store, and try again."
        )
    return written


def noted(files: Store) -> set[str]:
    """The SHA-256 of every file in the notes of running or killed registrations."""
    return {sha256 for _, digests in files.notes() for sha256 in digests}


def _is_done(marker: Marker | None) -> bool:
    """Whether the marker is complete: no restore is running."""
    return marker is not None and marker.restoring is None


def _read_both(database: Database, files: Store, *, lost: bool) -> tuple[Identity, Marker | None]:
    """The ids of this registry, and the marker of its store, if it has one."""
    # The marker first: its id is recorded in the database before the marker is written.
    marker = read(files)
    own = load(database)
    if marker is None:
        try:
            _check_unmarked(database, files, own, lost=lost)
            return own, None
        except Refused:
            # Another first registration may have written marker and files meanwhile.
            marker, own = read(files), load(database)
            if marker is None:
                raise
    _check_same(database, files, own, marker.own)
    return own, marker


def _check_same(database: Database, files: Store, own: Identity, marker: Identity) -> None:
    if marker.registry != own.registry:
        raise Refused(
            f"The artifact store {files.root} belongs to another registry: its {MARKER} names "
            f"{marker.registry}, but {database.shown} is registry {own.registry}. Two registries "
            "cannot share a store. Set MODELMINT_ARTIFACTS to the store of this registry, or to "
            "an empty place if it has none, or correct MODELMINT_DATABASE_URL."
        )
    if marker.store != own.store:
        raise Refused(
            f"The artifact store {files.root} belongs to another copy of this registry: its "
            f"{MARKER} names store {marker.store}, but the store of {database.shown} is "
            f"{own.store or 'not marked yet'}; one was restored from a backup of the other. Set "
            "MODELMINT_ARTIFACTS to the store of this copy, or correct MODELMINT_DATABASE_URL."
        )


def _check_unmarked(database: Database, files: Store, own: Identity, *, lost: bool) -> None:
    """Raises Refused if a store without a marker cannot belong to this registry."""
    _refuse_backup(files)
    stored = set(_names(files))
    with database.read() as c:
        needed = blobs.needed(c).keys()
    missing = needed - stored
    if missing and not lost:
        raise Refused(
            f"{database.shown} is registry {own.registry}, and of the {len(needed):,} files of its "
            f"versions {len(missing):,} are not in {files.root}, which has no {MARKER}. Set "
            "MODELMINT_ARTIFACTS to the store with these files. If they are lost, mark "
            "this store as that of the registry: `modelmint models init --lost-store`."
        )
    if stored:
        _check_known(database, files)


def _check_known(database: Database, files: Store) -> None:
    """Raises Refused if the store has files, and no version in the database has any of them."""
    stored, strange = _names(files), set[str]()
    while batch := list(islice(stored, _AT_ONCE)):
        with database.read() as c:
            if blobs.any_referenced(c, batch):
                return
        strange.update(batch)
    if strange - noted(files):  # a first registration that was killed left the rest
        raise Refused(
            f"{database.shown} knows none of the {len(strange):,} files in the artifact store "
            f"{files.root}. The database was emptied, or is another registry: correct "
            "MODELMINT_DATABASE_URL or MODELMINT_ARTIFACTS, or restore a backup. For a new "
            "registry, set MODELMINT_ARTIFACTS to an empty place."
        )


def _refuse_backup(files: Store) -> None:
    readme = files.marker("README.txt") or b""
    if readme.startswith(BACKUP_README) or files.marker(MANIFEST) is not None:
        raise Refused(
            f"{files.root} is the backup of a registry, and cannot be an artifact store, too. Set "
            "MODELMINT_ARTIFACTS to another place; `modelmint models restore` restores the backup "
            "there."
        )


def _any_file(files: Store) -> bool:
    return next(_names(files), None) is not None


def _names(files: Store) -> Iterator[str]:
    return (sha256 for sha256, _ in files.files())
