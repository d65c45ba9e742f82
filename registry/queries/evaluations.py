"""The table `evaluations`, read whole; `queries.states` has what decides over a status."""

from typing import Any

from sqlalchemy import Connection, Row, select

from registry.schema import evaluations


def load(c: Connection, version_id: int) -> list[Row[Any]]:
    """report, at, actor of every evaluation of a version, oldest first."""
    query = select(evaluations.c.report, evaluations.c.at, evaluations.c.actor)
    here = query.where(evaluations.c.version_id == version_id).order_by(evaluations.c.id)
    return list(c.execute(here))
