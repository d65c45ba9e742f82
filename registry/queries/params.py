"""The tables `params` and `param_values`: each document of parameters is stored once."""

import hashlib
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, insert, select

from registry.queries import on_conflict
from registry.records import Json
from registry.schema import param_values, params
from registry.values import to_json


def sha256_of(document: Json) -> str:
    """The key of a document: the hash of its stored text, so that 1 and 1.0 differ."""
    return hashlib.sha256(to_json(document).encode()).hexdigest()


def find_or_add(c: Connection, document: Json) -> int:
    """The id of a document; stores it if it is new."""
    sha256 = sha256_of(document)
    here = select(params.c.id).where(params.c.sha256 == sha256)
    found: int | None = c.execute(here).scalar_one_or_none()
    return _add(c, sha256, document) if found is None else found


def _add(c: Connection, sha256: str, document: Json) -> int:
    new = on_conflict.insert(c.dialect.name, params).values(sha256=sha256, document=document)
    returned = c.execute(new.on_conflict_do_nothing().returning(params.c.id))
    made: int | None = returned.scalar_one_or_none()
    if made is None:  # another process has added it meanwhile
        here = select(params.c.id).where(params.c.sha256 == sha256)
        found: int = c.execute(here).scalar_one()
        return found
    rows = [{"params_id": made, "key": k, "value": v} for k, v in flat(document).items()]
    if rows:
        c.execute(insert(param_values), rows)
    return made


def flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Parameters by dotted name, as text for search: strings unchanged, other values as JSON."""
    found: dict[str, str] = {}
    for key, value in document.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value if isinstance(value, str) else to_json(value)
    return found
