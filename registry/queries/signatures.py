"""The table `version_signatures`: signatures over the files of versions, by key."""

from sqlalchemy import Connection, insert, select

from registry.schema import version_signatures


def add(c: Connection, version_id: int, key_id: str, document: str) -> None:
    """Store the signature of a version by a key that has not signed it before."""
    new = insert(version_signatures).values(version_id=version_id, key_id=key_id, document=document)
    c.execute(new)


def load(c: Connection, version_id: int) -> dict[str, str]:
    """The signature documents of a version by the ids of their keys, sorted."""
    query = select(version_signatures.c.key_id, version_signatures.c.document)
    here = query.where(version_signatures.c.version_id == version_id)
    return dict(sorted((row.key_id, row.document) for row in c.execute(here)))
