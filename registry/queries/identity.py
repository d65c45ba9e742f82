"""The table `registry`: its one row has the ids of the registry and of its artifact store."""

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
    """The id of its artifact store; None until the first registration."""


def load(c: Connection) -> Identity:
    """The ids of this registry. Raises Corrupt if the row was removed or edited."""
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
            f"{shown(own.store)}, which are not text: somebody edited it. Restore a backup."
        )
    return own


def keep_store(c: Connection, store: str) -> None:
    """Record the id of the artifact store, unless there is one."""
    c.execute(update(registry).where(registry.c.store.is_(None)).values(store=store))
