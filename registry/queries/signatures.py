"""The table `version_signatures`: who vouched for the files of a version."""

from collections import defaultdict

from sqlalchemy import Connection, insert, select

from registry.candidates import seal_json
from registry.schema import version_signatures, versions


def add(c: Connection, version_id: int, key_id: str, document: str) -> None:
    """Keep what a key signed; the caller has seen that it signed nothing of it before."""
    new = insert(version_signatures).values(version_id=version_id, key_id=key_id, document=document)
    c.execute(new)


def load(c: Connection, version_id: int) -> dict[str, str]:
    """The signature documents of a version by the ids of their keys, sorted."""
    query = select(version_signatures.c.key_id, version_signatures.c.document)
    here = query.where(version_signatures.c.version_id == version_id)
    return dict(sorted((row.key_id, row.document) for row in c.execute(here)))


def seals(c: Connection, model: int) -> dict[int, dict[str, str]]:
    """What an event vouches for of each signature of a model, by version and key."""
    query = select(versions.c.version, version_signatures.c.key_id, version_signatures.c.document)
    query = query.join(versions, versions.c.id == version_signatures.c.version_id)
    found: dict[int, dict[str, str]] = defaultdict(dict)
    for row in c.execute(query.where(versions.c.model_id == model)):
        found[row.version][row.key_id] = seal_json(row.document)
    return found
