"""Rights on PostgreSQL: three group roles that logins become members of.

Rules for everybody, including the owner of the tables, are in `registry.rules`. Only the owner
removes files, upgrades and restores, and runs `create_roles` again after each upgrade and restore,
since nobody else has rights on new tables.
"""

from contextlib import closing

from sqlalchemy import Connection, Integer, text

from registry import schema
from registry.databases import studies
from registry.databases.database import Database, hide_password
from registry.errors import Refused
from registry.schema import VERSION_TABLE

READER, WRITER, PROMOTER = "modelmint_reader", "modelmint_writer", "modelmint_promoter"

ROLES = {
    READER: "read-only; cannot record prediction jobs",
    WRITER: "reads; registers, evaluates and tags versions, records jobs and signatures",
    PROMOTER: "reads; approves, rejects and archives versions, moves aliases, sets policies, signs",
}
"""The rights of each role. A login can have several roles: `GRANT modelmint_writer TO ada`."""

# Every change adds an event. A trigger updates the head of its model; the right on that column is
# needed because only a role that may update a row can lock it.
_HISTORY = {
    "models": ("INSERT (name, last_version, created_at)", "UPDATE (last_event)"),
    "events": ("INSERT",),
}

_GRANTS: dict[str, dict[str, tuple[str, ...]]] = {
    READER: {},
    WRITER: {
        **_HISTORY,
        # Once, with the first registration.
        "registry": ("UPDATE (store)",),
        # To announce a file, which clears `purged_at`; a rule refuses to set it.
        "blobs": ("INSERT (sha256, size, touched)", "UPDATE (touched, purged_at)"),
        "versions": ("INSERT",),
        "version_artifacts": ("INSERT",),
        "version_metrics": ("INSERT",),
        "params": ("INSERT",),
        "param_values": ("INSERT",),
        "version_tags": ("INSERT", "UPDATE (value)", "DELETE"),
        "version_data": ("INSERT",),
        "version_signatures": ("INSERT",),
        "evaluations": ("INSERT",),
        "jobs": (
            "INSERT",
            "UPDATE (state, rows, provider, onnxruntime, error, finished_at, substituted, "
            "quarantined, drift)",
        ),
        "job_inputs": ("INSERT",),
    },
    PROMOTER: {
        **_HISTORY,
        "models": (*_HISTORY["models"], "UPDATE (four_eyes, keep_last, keep_days, keep_holders)"),
        # To lock the rows of a version that is unarchived.
        "blobs": ("UPDATE (touched)",),
        "version_signatures": ("INSERT",),
        "version_state": ("UPDATE (status, approval_id)",),
        "approvals": ("INSERT",),
        # To end jobs that were killed, when their version is archived.
        "jobs": ("UPDATE (state, finished_at)",),
        "aliases": ("INSERT", "UPDATE (version, status, revision)", "DELETE"),
        "protected_aliases": ("INSERT", "DELETE"),
    },
}
"""Rights by role and table, in addition to reading."""


def create_roles(url: str) -> None:
    """Create the three roles if they are missing, and grant them exactly their rights.

    Run by the owner of the tables, after each upgrade again. Roles belong to the database server,
    their rights to this database.

    Raises:
        Refused: the database has no roles, or the caller may not grant them.
        NoRegistry: there are no tables yet.
        Unreachable, SchemaMismatch: as for `Database`.
    """
    if not url.startswith("postgresql"):
        raise Refused(
            f"{hide_password(url)} has no roles: a user who may write the file of a SQLite "
            "database has all rights. Use file permissions, or keep the registry in PostgreSQL."
        )
    with closing(Database(url)) as database, database.write() as c:
        _check_owner(c)
        # If two processes grant on the same tables at once, PostgreSQL ends one with an error.
        _run(c, f"LOCK TABLE {VERSION_TABLE} IN SHARE ROW EXCLUSIVE MODE")
        _create_missing(c)
        for statement in _grants(c):
            _run(c, statement)


def _check_owner(c: Connection) -> None:
    # A GRANT by another user does nothing and raises no error.
    query = (
        "SELECT tableowner, pg_has_role(current_user, tableowner, 'USAGE') AS may, current_user "
        "FROM pg_tables WHERE schemaname = current_schema() AND tablename = :name"
    )
    owner, may, me = c.execute(text(query), {"name": VERSION_TABLE}).one()
    if not may:
        raise Refused(
            f"The tables of this registry belong to {owner}, and only {owner} can grant rights on "
            f"them, not {me}. Connect as {owner}: set MODELMINT_DATABASE_URL."
        )


def _create_missing(c: Connection) -> None:
    there = set(c.execute(text("SELECT rolname FROM pg_roles")).scalars())
    missing = [f"CREATE ROLE {role} NOLOGIN;" for role in ROLES if role not in there]
    may = "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user"
    if missing and not c.execute(text(may)).scalar_one():
        raise Refused(
            "This database role may not create roles. Ask an administrator to run this once, then "
            f"try again: {' '.join(missing)}"
        )
    for create in missing:
        # Another database of this server may create the same roles at the same time.
        taken = "EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;"
        _run(c, f"DO $$ BEGIN {create} {taken} END $$")


def _grants(c: Connection) -> list[str]:
    quote = c.dialect.identifier_preparer.quote
    name: str = c.execute(text("SELECT current_schema()")).scalar_one()
    here, everyone = f"SCHEMA {quote(name)}", ", ".join(ROLES)
    return [
        # Before PostgreSQL 15 everybody may create tables in this schema.
        f"REVOKE CREATE ON {here} FROM PUBLIC",
        f"REVOKE ALL ON ALL TABLES IN {here} FROM {everyone}",
        f"REVOKE ALL ON ALL SEQUENCES IN {here} FROM {everyone}",
        f"GRANT USAGE ON {here} TO {everyone}",
        f"GRANT SELECT ON ALL TABLES IN {here} TO {everyone}",
        f"GRANT USAGE ON ALL SEQUENCES IN {here} TO {WRITER}, {PROMOTER}",
        *(
            f"GRANT {_columns(right, table)} ON {table} TO {role}"
            for role, tables in _GRANTS.items()
            for table, rights in tables.items()
            for right in rights
        ),
        *studies.grants(c, WRITER),
    ]


def _columns(right: str, table: str) -> str:
    """INSERT without the id, which comes from a sequence."""
    if right != "INSERT":
        return right
    columns = schema.metadata.tables[table].columns
    counted = [c.name for c in columns if c.name == "id" and isinstance(c.type, Integer)]
    names = [column.name for column in columns if column.name not in counted]
    return f"INSERT ({', '.join(names)})"


def _run(c: Connection, statement: str) -> None:
    c.execute(text(statement))
