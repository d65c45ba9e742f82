"""Triggers that only SQLite needs: for foreign keys, and against OR REPLACE.

SQLite checks foreign keys only if the connection switches them on; the `sqlite3` shell and Python's
module do not. And INSERT OR REPLACE, or UPDATE OR REPLACE, deletes the conflicting row without
running the triggers of DELETE.
"""

from sqlalchemy import (
    Column,
    ForeignKeyConstraint,
    Integer,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
)

from registry.rules.rule import APPEND_ONLY, LASTING, Effect, Rule
from registry.schema import metadata

_UPSERTED = ("blobs", "version_tags")
"""Tables with INSERT ... ON CONFLICT DO UPDATE."""


def rules() -> list[Rule]:
    """The rules for foreign keys and against OR REPLACE, for every table in the schema."""
    found = []
    for table in metadata.sorted_tables:
        for key in sorted(table.foreign_key_constraints, key=lambda key: str(key.name)):
            found += _child_rules(table, key)
            found += _parent_rules(table, key)
        found += _replace_rules(table)
    return found


EFFECTS = (
    Effect(
        "version_state_carries_its_aliases",
        "version_state",
        "UPDATE",
        "UPDATE aliases SET status = NEW.status WHERE model_id = NEW.model_id "
        "AND version = NEW.version AND status <> NEW.status",
    ),
)
"""Does what ON UPDATE CASCADE does if foreign keys are on."""


def _child_rules(table: Table, key: ForeignKeyConstraint) -> list[Rule]:
    """A referenced row must exist."""
    pairs = [(element.parent.name, element.column.name) for element in key.elements]
    parent = key.referred_table.name
    same = " AND ".join(f"p.{theirs} = NEW.{own}" for own, theirs in pairs)
    # A composite key with one NULL column refers to nothing.
    given = " AND ".join(f"NEW.{own} IS NOT NULL" for own, _ in pairs if table.c[own].nullable)
    broken = f"NOT EXISTS (SELECT 1 FROM {parent} p WHERE {same})"
    sentence = f"{table.name}: it refers to no row of {parent} (foreign key {key.name})"
    events = ["INSERT"] if table.name in APPEND_ONLY else ["INSERT", "UPDATE"]
    return [
        Rule(f"{key.name}_on_{e.lower()}", table.name, e, broken, sentence, when=given)
        for e in events
    ]


def _parent_rules(table: Table, key: ForeignKeyConstraint) -> list[Rule]:
    """A referenced row must stay. Most tables keep all rows and keys anyway."""
    parent = key.referred_table.name
    if parent in APPEND_ONLY or parent in LASTING:
        return []
    pairs = [(element.parent.name, element.column.name) for element in key.elements]
    same = " AND ".join(f"c.{own} = OLD.{theirs}" for own, theirs in pairs)
    broken = f"EXISTS (SELECT 1 FROM {table.name} c WHERE {same})"
    sentence = f"{parent}: {table.name} still refers to this row (foreign key {key.name})"
    return [Rule(f"{key.name}_on_delete", parent, "DELETE", broken, sentence)]


def _replace_rules(table: Table) -> list[Rule]:
    """No row may replace another one, neither by INSERT nor by UPDATE."""
    name, rowid = table.name, _has_hidden_rowid(table)
    taken = [] if name in _UPSERTED else _taken(table)
    if rowid:
        key = " AND ".join(f"o.{c.name} = NEW.{c.name}" for c in table.primary_key.columns)
        taken.append(f"o.rowid = NEW.rowid AND NOT ({key})")
    found = []
    if taken:
        broken = " OR ".join(
            f"EXISTS (SELECT 1 FROM {name} o WHERE {one})" for one in sorted(set(taken))
        )
        sentence = f"{name}: it already has a row of this key"
        found.append(Rule(f"{name}_refuses_replace", name, "INSERT", broken, sentence))
    if rowid and name not in APPEND_ONLY:
        moved = "NEW.rowid <> OLD.rowid"
        found.append(
            Rule(f"{name}_keeps_its_rowid", name, "UPDATE", moved, f"{name}: rows keep their place")
        )
    return found


def _taken(table: Table) -> list[str]:
    """Conditions that another row `o` has the same key as the new row, for each unique index."""
    keys = [
        _same(list(c.columns))
        for c in table.constraints
        if isinstance(c, PrimaryKeyConstraint | UniqueConstraint)
    ]
    for index in (index for index in table.indexes if index.unique):
        where = index.dialect_options["sqlite"]["where"]
        same = _same(list(index.columns))
        keys.append(f"{same} AND o.{where} AND NEW.{where}" if where is not None else same)
    return keys


def _same(columns: list[Column[object]]) -> str:
    return " AND ".join(f"o.{column.name} = NEW.{column.name}" for column in columns)


def _has_hidden_rowid(table: Table) -> bool:
    """Whether the table has a rowid, which a client may set."""
    if table.dialect_options["sqlite"]["with_rowid"] is False:
        return False
    keys = list(table.primary_key.columns)
    return not (len(keys) == 1 and isinstance(keys[0].type, Integer))
