"""Models with the holders of their aliases, for lists: five queries per page of any length."""

from collections.abc import Collection, Sequence

from sqlalchemy import Connection, Select, func, select

from registry import schema
from registry.queries import events, models, parts, summaries
from registry.queries.rows import AnySelect
from registry.records import Alias, Event, Holder, Model, ModelLine, ModelPage, Summary
from registry.references import CHALLENGER, CHAMPION

_e = schema.events.c


def page(c: Connection, contains: str, *, limit: int, after: str | None) -> ModelPage:
    """Models whose name contains a text, by name, with their champion and challenger."""
    found = models.load_page(c, contains=contains, limit=limit + 1, after=after)
    shown = found[:limit]
    held = holders(c, shown, only=(CHAMPION, CHALLENGER))
    changed = _last_changes(c, shown)
    lines = tuple(
        ModelLine(
            model,
            {h.alias.name: h for h in held if h.alias.model == model.name},
            changed.get(model.name),
        )
        for model in shown
    )
    return ModelPage(lines, shown[-1].name if len(found) > limit else None)


def holders(
    c: Connection, found: Sequence[Model], *, only: Collection[str] | None = None
) -> list[Holder]:
    """The holders of the aliases of models; with `only`, of the aliases with these names."""
    held = [a for model in found for a in model.aliases if only is None or a.name in only]
    if not held:
        return []
    versions, moved = _versions(c, held), _last_moves(c, held)
    keys = [(a, (a.model, a.version), (a.model, a.name)) for a in held]
    return [Holder(a, versions.get(number), moved.get(name)) for a, number, name in keys]


def _versions(c: Connection, held: Sequence[Alias]) -> dict[tuple[str, int], Summary]:
    # Joined to the aliases: with a list of pairs, SQLite would compare it with every version.
    found = summaries.SUMMARY.join(schema.aliases, parts.POINTS_HERE)
    rows = c.execute(found.where(schema.aliases.c.model_id.in_(_ids(held)))).all()
    return {(v.model, v.version): v for v in summaries.load(c, rows)}


def _last_moves(c: Connection, held: Sequence[Alias]) -> dict[tuple[str, str], Event]:
    """The newest event of each alias."""
    a = schema.aliases.c
    own = select(func.max(_e.id)).where(_e.model_id == a.model_id, _e.alias == a.alias)
    ids = select(own.scalar_subquery()).select_from(schema.aliases)
    ids = ids.where(a.model_id.in_(_ids(held)), a.alias.in_({alias.name for alias in held}))
    return {(e.model, e.alias or ""): e for e in _of_ids(c, ids)}


def _last_changes(c: Connection, found: Sequence[Model]) -> dict[str, Event]:
    """The newest event of each model."""
    own = select(func.max(_e.id)).where(_e.model_id == schema.models.c.id)
    names = [model.name for model in found]
    ids = select(own.scalar_subquery()).where(schema.models.c.name.in_(names))
    return {e.model: e for e in _of_ids(c, ids)}


def _ids(held: Sequence[Alias]) -> Select[int]:
    """The ids of the models that aliases are of."""
    names = sorted({alias.model for alias in held})
    return select(schema.models.c.id).where(schema.models.c.name.in_(names))


def _of_ids(c: Connection, ids: AnySelect) -> list[Event]:
    # Two queries: with IN (SELECT max ...), a database may read every event.
    found = [id_ for id_ in c.execute(ids).scalars() if id_ is not None]
    return events.load(c, _e.id.in_(found)) if found else []
