"""The tables `params` and `param_values`: each document of parameters once."""

import hashlib
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select

from registry.queries import on_conflict
from registry.records import Json
from registry.schema import param_values, params
from registry.values import to_json


def sha256_of(document: Json) -> str:
    """The key of a document: of the very text that is stored, so that 1 and 1.0 stay apart."""
    return hashlib.sha256(to_json(document).encode()).hexdigest()


FOUND = select(params.c.id).where(params.c.sha256 == bindparam("params")).scalar_subquery()
"""The id of the document whose SHA-256 is given as `params`; NULL if it was never stored."""


def add(c: Connection, document: Json) -> int:
    """Store a document that was not there when one looked; returns its id."""
    sha256 = sha256_of(document)
    new = on_conflict.insert(c.dialect.name, params).values(sha256=sha256, document=document)
    made = c.execute(new.on_conflict_do_nothing().returning(params.c.id)).scalar_one_or_none()
    # Or others were faster.
    id_: int = made or c.execute(select(FOUND), {"params": sha256}).scalar_one()
    rows = [{"params_id": id_, "key": k, "value": v} for k, v in flat(document).items()]
    if made and rows:
        c.execute(insert(param_values), rows)
    return id_


def flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Parameters by their dotted names, as text to search by: strings as they are, else JSON."""
    found: dict[str, str] = {}
    for key, value in document.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value if isinstance(value, str) else to_json(value)
    return found
