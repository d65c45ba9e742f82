"""Does this place of files belong to this registry? Asked before a file is added or removed there.

The registry has an id, and so has its store, the place of its files; a marker at the root of the
store names both, and so does the database. A copy of a registry, restored from a backup, has the
same id and another store: it must not remove the files of the original.

The database notes an id for its store, then the store is marked with it, then the first file goes
there; whoever is killed in between leaves a note and an empty store, which the next command marks.
So a marked store of a database that notes none is that of the original. Two registries do not
share a store: the second is refused.

A store without a marker, as before there were any, is marked by the first command that writes, if
every file that the database needs is there. It may have been shared: what is in it by then is never
removed, whether the database knows it or not.
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
"""Of the marker."""

_AT_ONCE = 200  # files compared with the database at a time
_END = 1 << 40  # no store was marked later, in seconds since 1970


@dataclass(frozen=True)
class Marker:
    """What the marker of a store says."""

    own: Identity
    adopted: float = 0.0
    """When a store that had files already was marked, in seconds since 1970; 0 of any other."""
    restoring: str | None = None
    """The database that a restore has not filled yet; it may have been killed.

    Killed after it filled it, this stays until the next command that writes.
    """


def check(database: Database, files: Store) -> None:
    """See that database and store are of one registry, and that the database knows its files.

    Changes nothing; a store that is not marked yet may be one that `claim` would mark.

    Raises:
        Refused: the store is another registry's or another copy's, or not the place that the
            database means, or the database knows none of the files in it.
        NoRegistry: nothing was made yet.
        Corrupt, SchemaMismatch: the marker cannot be read.
    """
    compare(database, files)
    _check_known(database, files)


def check_new(database: Database, files: Store) -> None:
    """See that a place may become that of a new registry. Raises Refused."""
    found = read(files)
    if found is None:
        _refuse_backup(files)
    if found is None and not _any_file(files):
        return
    if database.exists():  # another process made it since we looked
        return
    whose = f"of registry {found.own.registry}" if found else "of another"
    raise Refused(
        f"There is no registry in {database.shown} yet, and {files.root} holds the files {whose}. "
        "If MODELMINT_DATABASE_URL is mistaken, correct it; for a new registry set "
        "MODELMINT_ARTIFACTS to a place of its own."
    )


def compare(database: Database, files: Store) -> bool:
    """Whether a store is marked as this registry's, and `claim` has nothing to do.

    Raises:
        Refused: it is another's, or not the place that the database means.
    """
    _, marker = _look(database, files, lost=False)
    return _is_done(marker)


def claim(database: Database, files: Store, *, lost: bool = False) -> None:
    """`compare`, and mark a store that is not marked yet, or still as one that is being restored.

    `lost` says that it is the place, though files are missing that the database needs.

    Raises:
        Refused: as for `compare`.
        Conflict: somebody removed the marker at once.
    """
    own, marker = _look(database, files, lost=lost)
    if _is_done(marker):
        return
    if marker is not None:
        write(files, replace(marker, restoring=None), anew=True)
        return
    adopted = time.time() if _any_file(files) else 0.0
    if own.store is None:
        with database.write() as c:
            identity.keep_store(c, uuid4().hex)
        own = load(database)  # of two at once, one noted its id
    _check_same(database, files, own, write(files, Marker(own, adopted)).own)


def load(database: Database) -> Identity:
    """Which registry a database is."""
    if not database.exists():
        raise NoRegistry(database.shown)
    with database.read() as c:
        return identity.load(c)


def read(files: Store) -> Marker | None:
    """What the marker of a store says; None where there is none.

    Raises:
        Corrupt: there is something else in the place of the marker.
        SchemaMismatch: a newer modelmint wrote it.
    """
    content = files.marker()
    if content is None:
        return None
    found, said = parse_object(content.decode(errors="replace"))
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
            f"{files.root}/{MARKER} {said or 'lacks or has what no release wrote there'}, so it "
            "does not say which registry these files are of. If you know that they are those of "
            "MODELMINT_DATABASE_URL, remove it and run `modelmint models init`."
        )
    return Marker(Identity(found["registry"], found["store"]), float(adopted), restoring)


def adopted_at(files: Store) -> float:
    """`Marker.adopted`; now, of a store that is not marked yet.

    What was there by then may be of another registry, which shared the place before there were
    markers.
    """
    marker = read(files)
    return time.time() if marker is None else marker.adopted


def write(files: Store, marker: Marker, *, anew: bool = False) -> Marker:
    """Mark a store, unless it is marked already; how it is marked now. Raises Conflict.

    A marker that is there is replaced only if that is to be done `anew`.
    """
    what = "The files beside this belong to one registry of modelmint. Do not edit, do not remove."
    said = {
        "format": FORMAT,
        "registry": marker.own.registry,
        "store": marker.own.store,
        "adopted": marker.adopted or None,
        "restoring": marker.restoring,
        "": what,
    }
    files.mark(json.dumps(said, indent=2).encode() + b"\n", anew=anew)
    written = read(files)  # of two at once, one wrote it
    if written is None:
        raise Conflict(f"The marker of {files.root} vanished. See who uses it, and try again.")
    return written


def noted(files: Store) -> set[str]:
    """The SHA-256 of every file that a registration was about to put into the store."""
    return {sha256 for _, digests in files.notes() for sha256 in digests}


def _is_done(marker: Marker | None) -> bool:
    """Whether a store is marked as it stays."""
    return marker is not None and marker.restoring is None


def _look(database: Database, files: Store, *, lost: bool) -> tuple[Identity, Marker | None]:
    """Which registry this is, and the marker of its store, if that has one yet."""
    # The marker first: whoever marks the store now has noted it in the database before.
    marker = read(files)
    own = load(database)
    if marker is None:
        try:
            _check_unmarked(database, files, own, lost=lost)
            return own, None
        except Refused:
            # Of two first registrations at once, the other has marked it and put files there.
            marker, own = read(files), load(database)
            if marker is None:
                raise
    _check_same(database, files, own, marker.own)
    return own, marker


def _check_same(database: Database, files: Store, own: Identity, marker: Identity) -> None:
    if marker.registry != own.registry:
        raise Refused(
            f"The artifact store {files.root} belongs to another registry: its {MARKER} names "
            f"{marker.registry}, and {database.shown} is registry {own.registry}. Two registries "
            "do not share a store. Set MODELMINT_ARTIFACTS to the place of this registry, a new "
            "one if it has none, or correct MODELMINT_DATABASE_URL."
        )
    if marker.store != own.store:
        raise Refused(
            f"The artifact store {files.root} belongs to another copy of this registry: its "
            f"{MARKER} names store {marker.store}, and {database.shown} has its files in store "
            f"{own.store or 'that is not marked yet'}; one was restored from a backup of the "
            "other. Set MODELMINT_ARTIFACTS to the place of this copy, or correct "
            "MODELMINT_DATABASE_URL."
        )


def _check_unmarked(database: Database, files: Store, own: Identity, *, lost: bool) -> None:
    """Whether a store without a marker may be this registry's."""
    _refuse_backup(files)
    stored = set(_names(files))
    with database.read() as c:
        needed = blobs.needed(c).keys()
    missing = needed - stored
    if missing and not lost:
        raise Refused(
            f"{database.shown} is registry {own.registry}, and of the {len(needed):,} files of its "
            f"versions {len(missing):,} are not in {files.root}, which no {MARKER} says to be "
            "their place. Set MODELMINT_ARTIFACTS to where they are. If this is the place, and "
            "those files are lost: `modelmint models init --lost-store` marks it."
        )
    if stored:
        _check_known(database, files)


def _check_known(database: Database, files: Store) -> None:
    """Raises Refused where there are files, and no version in the database has one of them."""
    stored, strange = _names(files), set[str]()
    while batch := list(islice(stored, _AT_ONCE)):
        with database.read() as c:
            if blobs.any_referenced(c, batch):
                return
        strange.update(batch)
    if strange - noted(files):  # the rest is of a first registration that was killed
        raise Refused(
            f"{database.shown} knows none of the {len(strange):,} files in the artifact store "
            f"{files.root}. It was emptied, or is another registry: correct "
            "MODELMINT_DATABASE_URL or MODELMINT_ARTIFACTS, or restore a backup. For a registry "
            "that begins, set MODELMINT_ARTIFACTS to an empty place."
        )


def _refuse_backup(files: Store) -> None:
    readme = files.marker("README.txt") or b""
    if readme.startswith(BACKUP_README) or files.marker(MANIFEST) is not None:
        raise Refused(
            f"{files.root} holds the backup of a registry, which is no place for the files of one. "
            "Set MODELMINT_ARTIFACTS to another place; `modelmint models restore` brings the "
            "backup there."
        )


def _any_file(files: Store) -> bool:
    return next(_names(files), None) is not None


def _names(files: Store) -> Iterator[str]:
    return (sha256 for sha256, _ in files.files())
