"""Whether a search found nothing because of a name that is not there."""

from difflib import get_close_matches

from sqlalchemy import Connection, select

from registry.errors import InvalidQuery, choices
from registry.references import CHALLENGER, CHAMPION
from registry.schema import aliases, param_values, version_metrics, version_tags, versions

_TABLES = {"metric": version_metrics.c, "param": param_values.c, "tag": version_tags.c}
_ALWAYS = {CHAMPION, CHALLENGER}
"""Aliases that may be asked for before a version holds them."""


def refuse(c: Connection, model: int | None, kind: str, key: str) -> None:
    """Raise InvalidQuery for a metric or param that no version of any model has.

    Of aliases and tags, which come and go, only for one that is written almost as another.
    """
    if kind == "alias":
        held = _ALWAYS.union(c.execute(select(aliases.c.alias).distinct()).scalars())
        if key not in held and get_close_matches(key, held):
            raise InvalidQuery(f"No version has the alias {key!r}. {choices(key, held)}")
        return
    keys = _TABLES[kind]
    if c.execute(select(keys.key).where(keys.key == key).limit(1)).first() is None:
        known = _some(c, model, kind)
        if kind != "tag" or get_close_matches(key, known):
            raise InvalidQuery(f"No version has the {kind} {key!r}. {choices(key, known)}")


def _some(c: Connection, model: int | None, kind: str) -> set[str]:
    """The keys that the newest versions of a model, or of all, have."""
    keys = _TABLES[kind]
    newest = select(versions.c.id, versions.c.params_id).order_by(versions.c.id.desc()).limit(100)
    some = (newest if model is None else newest.where(versions.c.model_id == model)).subquery().c
    own = keys.params_id == some.params_id if kind == "param" else keys.version_id == some.id
    return set(c.execute(select(keys.key).where(own).distinct()).scalars())
