"""Does this place of files belong to this registry? Asked before a file is added or removed there.

The registry has an id, and so has its store, the place of its files; a marker at the root of the
store names both, and so does the database. A copy of a registry, restored from a backup, has the
same id and another store: it must not remove the files of the original.

The database notes an id for its store, then the store is marked with it, then the first file goes
there; whoever is killed in between leaves a note and an empty store, which the next command marks.
So a marked store of a database that notes none is that of the original. Two registries do not
share a store: the second is refused.

A store of before there were markers is marked by the first command that writes, if the database
knows one of its files, or if it has none. It may have been shared: what is in it by then, and the
database does not know, is never collected.
"""

import json
import time
from collections.abc import Iterator
from itertools import islice
from uuid import uuid4

from registry.artifacts import MARKER, Store
from registry.database import Database
from registry.errors import Conflict, Corrupt, NoRegistry, Refused, SchemaMismatch
from registry.queries import blobs, identity
from registry.queries.identity import Identity

FORMAT = 1
"""Of the marker."""

_AT_ONCE = 200  # files compared with the database at a time


def check(database: Database, files: Store) -> None:
    """See that database and store are of one registry, and that the database knows its files.

    Changes nothing; a store that is not marked yet may be one that `claim` would mark.

    Raises:
        Refused: the store is another registry's or another copy's, or the database knows none of
            the files in it.
        NoRegistry: nothing was made yet.
        Corrupt, SchemaMismatch: the marker cannot be read.
    """
    marked = compare(database, files, lost=True)
    _check_known(database, files, marked=marked)


def check_new(database: Database, files: Store) -> None:
    """See that a place may become that of a new registry. Raises Refused."""
    found = read(files)
    if found is None and not _any_file(files):
        return
    if database.exists():  # another process made it since we looked
        return
    whose = f"of registry {found.registry}" if found else "of another"
    raise Refused(
        f"There is no registry in {database.shown} yet, and {files.root} holds the files {whose}. "
        "If MODELMINT_DATABASE_URL is mistaken, correct it; for a new registry set "
        "MODELMINT_ARTIFACTS to a place of its own."
    )


def compare(database: Database, files: Store, *, lost: bool = False) -> bool:
    """Whether a store is marked as this registry's, and not only may be.

    `lost` says that it may also be empty where the database knows better: files are put back.

    Raises:
        Refused: it is another's, or not the place that the database means.
    """
    return _look(database, files, lost=lost)[1]


def claim(database: Database, files: Store, *, lost: bool = False) -> None:
    """`compare`, and mark a store that is not marked yet.

    Raises:
        Refused: as for `compare`.
        Conflict: somebody removed the marker at once.
    """
    own, marked = _look(database, files, lost=lost)
    if marked:
        return
    adopted = time.time() if _any_file(files) else None
    if own.store is None:
        with database.write() as c:
            identity.keep_store(c, uuid4().hex)
        own = load(database)  # of two at once, one noted its id
    write(files, own, adopted)
    marker = read(files)  # of two at once, one wrote it
    if marker is None:
        raise Conflict(f"The marker of {files.root} vanished. See who uses it, and try again.")
    _check_same(database, files, own, marker)


def load(database: Database) -> Identity:
    """Which registry a database is."""
    if not database.exists():
        raise NoRegistry(database.shown)
    with database.read(single=True) as c:
        return identity.load(c)


def read(files: Store) -> Identity | None:
    """Whose a store is by its marker.

    Raises:
        Corrupt: there is something else in the place of the marker.
        SchemaMismatch: a newer modelmint wrote it.
    """
    content = files.marker()
    if content is None:
        return None
    try:
        found = json.loads(content)
        format_, own = int(found["format"]), Identity(found["registry"], found["store"])
    except (ValueError, TypeError, KeyError) as error:
        raise Corrupt(
            f"{files.root}/{MARKER} does not say which registry these files are of ({error!r}). If "
            f"you know that they are those of MODELMINT_DATABASE_URL, remove it and run `modelmint "
            "models init`."
        ) from error
    if format_ > FORMAT:
        raise SchemaMismatch(
            f"{files.root}/{MARKER} has format {format_}, and this release reads {FORMAT}: upgrade "
            "modelmint."
        )
    return own


def adopted_at(files: Store) -> float:
    """When a store that had files already was marked, in seconds since 1970; 0 of any other.

    Now, of one that is not marked yet. What the database does not know of those files may be of
    another registry, which shared the place before there were markers.
    """
    content = files.marker()
    return time.time() if content is None else float(json.loads(content).get("adopted") or 0)


def write(files: Store, own: Identity, adopted: float | None = None) -> None:
    """Mark a store, unless it is marked already; `adopted` is now where it has files."""
    said = {"format": FORMAT, "registry": own.registry, "store": own.store, "adopted": adopted}
    what = "The files beside this belong to one registry of modelmint. Do not edit, do not remove."
    files.mark(json.dumps({**said, "": what}, indent=2).encode() + b"\n")


def _look(database: Database, files: Store, *, lost: bool) -> tuple[Identity, bool]:
    """Which registry this is, and whether the store is marked as its own."""
    # The marker first: whoever marks the store now has noted it in the database before.
    marker = read(files)
    own = load(database)
    if marker is None:
        try:
            _check_unmarked(database, files, own, lost=lost)
            return own, False
        except Refused:
            # Of two first registrations at once, the other has marked it and put files there.
            marker, own = read(files), load(database)
            if marker is None:
                raise
    _check_same(database, files, own, marker)
    return own, True


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
    if own.store is None or lost or _any_file(files):
        _check_known(database, files, marked=False)
        return
    with database.read() as c:
        if not blobs.any_kept(c):
            return
    raise Refused(
        f"{database.shown} is registry {own.registry} with its files in store {own.store}, and "
        f"{files.root} is empty. Set MODELMINT_ARTIFACTS to where they are. If this is the place, "
        "and they are lost: `modelmint models init` marks it again."
    )


def _check_known(database: Database, files: Store, *, marked: bool) -> None:
    """Raises Refused where there are files, and the database knows none of them."""
    stored, count = _names(files), 0
    while batch := list(islice(stored, _AT_ONCE)):
        with database.read() as c:
            if blobs.any_known(c, batch):
                return
        count += len(batch)
    if count:
        raise Refused(
            f"{database.shown} knows none of the {count:,} files in the artifact store "
            f"{files.root}. It was emptied, or is another registry: correct "
            "MODELMINT_DATABASE_URL or MODELMINT_ARTIFACTS, or restore a backup. "
            + (
                "If they are what a killed first registration left, register a version."
                if marked
                else "For a registry that begins, set MODELMINT_ARTIFACTS to an empty place."
            )
        )


def _any_file(files: Store) -> bool:
    return next(_names(files), None) is not None


def _names(files: Store) -> Iterator[str]:
    return (sha256 for sha256, _ in files.files())
