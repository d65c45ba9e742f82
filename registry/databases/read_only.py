"""Reading a SQLite registry as a user without write permission.

SQLite keeps recent changes in a second file, `-wal`, and needs a third one, `-shm`, to read it. If
this user may not create `-shm`, there are three cases:

* both files exist, since another process has the registry open: SQLite reads all three;
* `-wal` is missing or empty: everything is in the database file, which SQLite can read alone if it
  is opened as immutable. It would then miss a writer, so we compare the file before and after;
* `-wal` has content and there is no `-shm`: the newest state cannot be read, and an older state
  would be wrong, so this is an error.
"""

import os

from sqlalchemy import Connection

from registry.errors import Conflict, Unreachable

_Stamp = tuple[int, int, int]


def mode(path: str) -> tuple[str, _Stamp | None]:
    """How to open a database: the options of its URI, and what to compare afterwards.

    Raises:
        Unreachable: its newest state cannot be read without writing.
    """
    if _may_write(path):
        return "mode=rw", None
    pending = os.path.exists(f"{path}-wal")
    if os.path.exists(f"{path}-journal") or (pending and os.path.exists(f"{path}-shm")):
        return "mode=ro", None
    if pending and os.stat(f"{path}-wal").st_size > 0:
        raise Unreachable(
            f"The newest changes of the registry database {path} are in {path}-wal, and cannot be "
            f"read by a user who may not write to {os.path.dirname(path)}. Ask somebody who may "
            "to run `modelmint models list` there once, which moves them into the database. "
            "Check MODELMINT_DATABASE_URL."
        )
    return "mode=ro&immutable=1", _stamp(path)


def after_read(connection: Connection) -> None:
    """After a transaction: check that the file has not changed. The next one opens it again.

    Raises:
        Conflict: somebody wrote to it meanwhile.
    """
    before = connection.info.get("as_of")
    if before is None:
        return
    path = connection.info["path"]
    connection.invalidate()  # its cache would not notice a change
    if _stamp(path) != before:
        raise Conflict(
            f"{path} was changed while it was read. A user without write permission cannot lock "
            "it against that. Try again."
        )


def _may_write(path: str) -> bool:
    beside = (f"{path}-wal", f"{path}-shm")
    return _allowed(path) and (_allowed(os.path.dirname(path)) or all(map(_allowed, beside)))


def _allowed(path: str) -> bool:
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _stamp(path: str) -> _Stamp | None:
    try:
        status = os.stat(path)
    except OSError:
        return None  # opening it will say why
    return status.st_ino, status.st_size, status.st_mtime_ns
