"""The table `aliases`: where aliases point now. Their moves are in `events`."""

from sqlalchemy import ColumnElement, Connection, and_, bindparam, delete, insert, select, update

from registry.errors import NotFound, choices
from registry.records import Alias
from registry.references import NUMBER, how_to_get_newest
from registry.schema import aliases, models

# Built once: building a statement takes longer than SQLite needs to answer it.
_ALL = (
    select(models.c.name, aliases.c.alias, aliases.c.version, aliases.c.revision)
    .join(models, models.c.id == aliases.c.model_id)
    .order_by(models.c.name, aliases.c.alias)
)
_ONE = _ALL.where(models.c.name == bindparam("model"), aliases.c.alias == bindparam("name"))


def load_all(c: Connection, *where: ColumnElement[bool]) -> list[Alias]:
    """The aliases that meet conditions on `aliases` or `models`, by model and name."""
    return [Alias(*row) for row in c.execute(_ALL.where(*where))]


def of_model(c: Connection, name: str) -> list[Alias]:
    """The aliases of a model; none if the model does not exist."""
    return load_all(c, models.c.name == name)


def find(c: Connection, name: str, alias: str) -> Alias | None:
    """An alias of a model; None also if the model does not exist."""
    row = c.execute(_ONE, {"model": name, "name": alias}).one_or_none()
    return None if row is None else Alias(*row)


def load(c: Connection, name: str, alias: str) -> Alias:
    """An alias of a model; NotFound names the close match."""
    found = find(c, name, alias)
    if found is None:
        raise unknown(c, name, alias)
    return found


def unknown(c: Connection, name: str, alias: str) -> NotFound:
    """The error for an alias that an existing model does not have."""
    known = [held.name for held in of_model(c, name)]
    what = f"Model {name!r} has no alias {alias!r}."
    if (number := NUMBER.fullmatch(alias)) and int(number[1]) > 0:
        return NotFound(f"{what} Name a version with a colon: {name}:{int(number[1])}.")
    if alias in ("latest", "newest"):
        last = c.execute(select(models.c.last_version).where(models.c.name == name)).scalar()
        return NotFound(f"{what} {how_to_get_newest(name, last)}")
    other = "Name that" if len(known) == 1 else "Name one of them"
    advice = f"{other}, or a version" if known else "Promote a version first, or name one"
    return NotFound(f"{what} {choices(alias, known)} {advice}: {name}:1.")


def move(
    c: Connection,
    model: int,
    alias: str,
    *,
    version: int,
    status: str,
    revision: int,
    set_yet: bool,
) -> None:
    """Point an alias to a version with that status, as its `revision`.

    The caller has locked the model's row, so nobody has moved the alias since it was read.
    """
    to = {"version": version, "status": status, "revision": revision}
    if set_yet:
        here = and_(aliases.c.model_id == model, aliases.c.alias == alias)
        c.execute(update(aliases).where(here).values(to))
    else:
        c.execute(insert(aliases).values(model_id=model, alias=alias, **to))


def unset(c: Connection, model: int, alias: str) -> None:
    """Remove an alias."""
    c.execute(delete(aliases).where(aliases.c.model_id == model, aliases.c.alias == alias))
