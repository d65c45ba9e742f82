"""The table `registry`: its one row says which registry this is, and where its files are."""

from dataclasses import dataclass

from sqlalchemy import Connection, select, update

from registry.errors import Corrupt
from registry.schema import registry
from registry.values import shown


@dataclass(frozen=True)
class Identity:
    """Two random ids, of 32 hexadecimal digits."""

    registry: str
    store: str | None
    """Of the place of its files; None until there is one."""


def load(c: Connection) -> Identity:
    """Which registry this is. Raises Corrupt where its row was removed or edited."""
    rows = c.execute(select(registry.c.id, registry.c.store)).all()
    if len(rows) != 1:
        raise Corrupt(
            f"The table `registry` of this database has {len(rows)} rows instead of one: somebody "
            "edited it. Restore a backup."
        )
    (own,) = (Identity(row.id, row.store) for row in rows)
    if not isinstance(own.registry, str) or not isinstance(own.store, str | None):
        raise Corrupt(
            f"The table `registry` of this database has the ids {shown(own.registry)} and "
            f"{shown(own.store)}, which are not texts: somebody edited it. Restore a backup."
        )
    return own


def keep_store(c: Connection, store: str) -> None:
    """Note the place of the files, once and for all."""
    c.execute(update(registry).where(registry.c.store.is_(None)).values(store=store))
