"""The table `evaluations`: the newest one of a version decides whether it can be approved."""

from sqlalchemy import Connection, insert, select

from registry.queries.rows import AnyRow
from registry.records import Json
from registry.schema import evaluations
from registry.values import now


def has_passed(report: Json) -> bool:
    """Whether an evaluation passed: its `passed` is `true`."""
    return report.get("passed") is True


def add(c: Connection, version_id: int, report: Json, actor: str) -> None:
    """Add an evaluation; it is now the newest one of the version."""
    new = {
        "version_id": version_id,
        "passed": has_passed(report),
        "report": report,
        "at": now(),
        "actor": actor,
    }
    # inline: without the new id, since returning it would end a pipeline of statements.
    c.execute(insert(evaluations).inline(), new)


def newest(c: Connection, version_id: int) -> AnyRow | None:
    """id and passed of the newest evaluation."""
    query = select(evaluations.c.id, evaluations.c.passed)
    query = query.where(evaluations.c.version_id == version_id)
    return c.execute(query.order_by(evaluations.c.id.desc()).limit(1)).one_or_none()


def load(c: Connection, version_id: int) -> list[AnyRow]:
    """report, at, actor of every evaluation of a version, oldest first."""
    query = select(evaluations.c.report, evaluations.c.at, evaluations.c.actor)
    here = query.where(evaluations.c.version_id == version_id).order_by(evaluations.c.id)
    return list(c.execute(here))
