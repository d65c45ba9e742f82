"""Errors for searches that found nothing because a name does not exist."""

import re
from difflib import get_close_matches

from sqlalchemy import Connection, select

from registry.errors import InvalidQuery, choices
from registry.queries import models
from registry.queries.rows import AnySelect
from registry.references import CHALLENGER, CHAMPION
from registry.schema import (
    aliases,
    param_values,
    version_data,
    version_metrics,
    version_tags,
    versions,
)
from registry.validation.checks import escaped
from registry.values import spellings

_TABLES = {"metric": version_metrics.c, "param": param_values.c, "tag": version_tags.c}
_HASH = re.compile(r"(dvc:)?[0-9a-f]{32}(\.dir)?|(sha256:)?[0-9a-f]{64}")
_ALWAYS = {CHAMPION, CHALLENGER}
"""Aliases that a search may name before a version holds them."""


def refuse_unknown(c: Connection, name: str | None, kind: str, key: str) -> None:
    """Raise InvalidQuery for a metric or param that no version, of this model or of all, has.

    For data, if the key is not a hash; for aliases and tags, which may be removed, only if the key
    is almost equal to an existing one.
    """
    if kind == "dataset":
        for column in (versions.c.dataset, version_data.c.md5):
            found = select(column).where(column.in_(spellings(key))).limit(1)
            if c.execute(found).first() is not None:
                return
        check_hash(key)
        return
    if kind == "alias":
        held = _ALWAYS.union(c.execute(select(aliases.c.alias).distinct()).scalars())
        if key not in held and get_close_matches(key, held):
            raise InvalidQuery(f"No version has the alias {key!r}. {choices(key, held)}")
        return
    keys = _TABLES[kind]
    anywhere = c.execute(select(keys.key).where(keys.key == key).limit(1)).first() is not None
    model = None if name is None else models.load_id(c, name)
    if anywhere and (kind == "tag" or model is None or _has(c, model, kind, key)):
        return
    known = _some(c, model, kind)
    if kind != "tag" or get_close_matches(key, known):
        of = "" if name is None else f" of {name!r}"
        others = " Versions of other models do." if anywhere else ""
        raise InvalidQuery(f"No version{of} has the {kind} {key!r}.{others} {choices(key, known)}")


def check_hash(text: str) -> None:
    """Raise InvalidQuery for a text without results that is not a complete hash."""
    if not _HASH.fullmatch(text):
        raise InvalidQuery(
            f"No version was built on {text!r}, which is not a hash as DVC gives it: 32 digits of "
            "0-9a-f, followed by .dir for a folder. Give the whole hash, as dvc.lock has it; of a "
            "file of weights, the SHA-256."
        )


def _has(c: Connection, model: int, kind: str, key: str) -> bool:
    """Whether a version of a model has a key."""
    query = _joined(kind, select(versions.c.id).where(versions.c.model_id == model))
    return c.execute(query.where(_TABLES[kind].key == key).limit(1)).first() is not None


def _some(c: Connection, model: int | None, kind: str) -> set[str]:
    """The keys that the newest versions of a model, or of all, have."""
    newest = select(versions.c.id).order_by(versions.c.id.desc()).limit(100)
    newest = newest if model is None else newest.where(versions.c.model_id == model)
    query = _joined(
        kind, select(_TABLES[kind].key).where(versions.c.id.in_(newest.subquery().select()))
    )
    return set(map(escaped, c.execute(query.distinct()).scalars()))


def _joined(kind: str, query: AnySelect) -> AnySelect:
    """Join versions with their metrics, tags or parameters."""
    keys = _TABLES[kind]
    own = (
        keys.params_id == versions.c.params_id
        if kind == "param"
        else keys.version_id == versions.c.id
    )
    return query.where(own)
