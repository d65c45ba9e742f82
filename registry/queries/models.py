"""The table `models`: names, counters, heads of histories, policies."""

from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import (
    Connection,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from registry.errors import NotFound, choices
from registry.queries import aliases, on_conflict
from registry.queries.rows import AnyRow
from registry.records import Model, Policy
from registry.references import CHAMPION
from registry.schema import models, protected_aliases
from registry.values import now

# NO KEY UPDATE: rows that refer to the model may be written meanwhile. SQLite needs no lock.
_LOCKED = select(models).where(models.c.name == bindparam("model")).with_for_update(key_share=True)
_PROTECTED = (
    select(func.aggregate_strings(protected_aliases.c.alias, " "))
    .where(protected_aliases.c.model_id == models.c.id)
    .scalar_subquery()
    .label("protected")
)
_WITH_POLICY = select(models, _PROTECTED)
_ONE_WITH_POLICY = _WITH_POLICY.where(models.c.name == bindparam("model"))
_ID = select(models.c.id).where(models.c.name == bindparam("model"))


@dataclass(slots=True)
class Locked:
    """A model whose row this transaction has locked: nobody else changes that model meanwhile."""

    id: int
    name: str
    last_version: int
    head: str
    """The hash of its newest event."""
    four_eyes: bool


def lock(c: Connection, name: str) -> Locked:
    """Lock a model's row until the transaction ends; NotFound names the close match."""
    row = c.execute(_LOCKED, {"model": name}).one_or_none()
    if row is None:
        raise _unknown(c, name)
    return _locked(row)


def lock_or_add(c: Connection, name: str) -> Locked:
    """Lock a model's row until the transaction ends; a new model gets one first."""
    row = c.execute(_LOCKED, {"model": name}).one_or_none()
    if row is None:
        # If two first registrations run at once, one adds the row and the other finds it.
        new = on_conflict.insert(c.dialect.name, models).values(
            name=name, last_version=0, created_at=now()
        )
        c.execute(new.on_conflict_do_nothing())
        row = c.execute(_LOCKED, {"model": name}).one()
    return _locked(row)


def find_id(c: Connection, name: str) -> int | None:
    """The id of a model, None if it is new."""
    return c.execute(_ID, {"model": name}).scalar_one_or_none()


def find_size(c: Connection, name: str) -> tuple[int | None, int]:
    """The id of a model, None if it is new, and the number of its versions."""
    query = select(models.c.id, models.c.last_version).where(models.c.name == name)
    row = c.execute(query).one_or_none()
    return (None, 0) if row is None else (row.id, row.last_version)


def load_id(c: Connection, name: str) -> int:
    """The id of a model; NotFound names the close match."""
    found = find_id(c, name)
    if found is None:
        raise _unknown(c, name)
    return found


def load_head(c: Connection, name: str) -> str:
    """The hash of the newest event of a model that exists."""
    query = select(models.c.last_event).where(models.c.name == name)
    return str(c.execute(query).scalar_one())


def load(c: Connection, name: str) -> Model:
    """A model with its aliases; NotFound names the close match."""
    row = c.execute(_ONE_WITH_POLICY, {"model": name}).one_or_none()
    if row is None:
        raise _unknown(c, name)
    return _model(row, tuple(aliases.load_all(c, models.c.id == row.id)))


def load_all(c: Connection) -> list[Model]:
    """All models, by name."""
    held = defaultdict(list)
    for alias in aliases.load_all(c):
        held[alias.model].append(alias)
    rows = c.execute(_WITH_POLICY.order_by(models.c.name))
    return [_model(row, tuple(held[row.name])) for row in rows]


def load_page(c: Connection, *, contains: str, limit: int, after: str | None) -> list[Model]:
    """Models whose name contains a text, by name, starting after `after`."""
    query = _WITH_POLICY.where(models.c.name.contains(contains, autoescape=True))
    if after is not None:
        query = query.where(models.c.name > after)
    rows = c.execute(query.order_by(models.c.name).limit(limit)).all()
    held = defaultdict(list)
    for alias in aliases.load_all(c, models.c.id.in_([row.id for row in rows])):
        held[alias.model].append(alias)
    return [_model(row, tuple(held[row.name])) for row in rows]


def set_policy(c: Connection, model: Locked, policy: Policy) -> None:
    """Replace the policy of a model."""
    rules = asdict(policy)
    of_it = protected_aliases.c.model_id == model.id
    before = set(c.execute(select(protected_aliases.c.alias).where(of_it)).scalars())
    after = set(rules.pop("protected")) - {CHAMPION}
    c.execute(update(models).where(models.c.id == model.id).values(rules))
    if removed := before - after:
        c.execute(delete(protected_aliases).where(of_it, protected_aliases.c.alias.in_(removed)))
    if new := sorted(after - before):
        rows = [{"model_id": model.id, "alias": alias} for alias in new]
        c.execute(insert(protected_aliases), rows)


def is_protected(c: Connection, model: Locked, alias: str) -> bool:
    """Whether only approved versions may hold an alias of a model."""
    here = protected_aliases.c.model_id == model.id, protected_aliases.c.alias == alias
    return alias == CHAMPION or c.execute(select(1).where(*here)).first() is not None


def _locked(row: AnyRow) -> Locked:
    return Locked(row.id, row.name, row.last_version, row.last_event, row.four_eyes)


def _unknown(c: Connection, name: str) -> NotFound:
    known = c.execute(select(models.c.name)).scalars()
    return NotFound(f"There is no model {name!r}. {choices(name, known)}")


def _model(row: AnyRow, held: tuple[Any, ...]) -> Model:
    others = sorted((row.protected or "").split())
    policy = Policy(
        row.four_eyes,
        row.keep_last,
        row.keep_days,
        protected=(CHAMPION, *others),
        keep_holders=row.keep_holders,
    )
    return Model(row.name, row.last_version, held, policy)
