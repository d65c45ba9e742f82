"""The tables `approvals` and `version_state`.

A trigger gives a new version the status candidate.
"""

from sqlalchemy import Connection, and_, insert, select, update

from registry.queries.models import Locked
from registry.queries.rows import AnyRow
from registry.schema import approvals, version_state, versions
from registry.values import now

_state = version_state.alias("state")
STATUS = (
    select(_state.c.status)
    .where(_state.c.version_id == versions.c.id)
    .scalar_subquery()
    .label("status")
)
"""The status of a row of `versions`. Not a join: PostgreSQL takes long to plan joins of many
tables, and would read every state instead of those of a page."""


def find(c: Connection, model: Locked, version: int) -> AnyRow | None:
    """version_id, status, created_by of a version; the caller has locked its model."""
    query = select(version_state.c.version_id, version_state.c.status, versions.c.created_by)
    query = query.join(versions, versions.c.id == version_state.c.version_id)
    here = and_(version_state.c.model_id == model.id, version_state.c.version == version)
    return c.execute(query.where(here)).one_or_none()


def approve(c: Connection, version_id: int, evaluation: AnyRow, approver: str, why: str) -> None:
    """Record an approval that is based on an evaluation; the version is approved now."""
    new = {
        "version_id": version_id,
        "evaluation_id": evaluation.id,
        "passed": evaluation.passed,
        "approver": approver,
        "reason": why,
        "at": now(),
    }
    approval = c.execute(insert(approvals).returning(approvals.c.id), new).scalar_one()
    here = version_state.c.version_id == version_id
    c.execute(update(version_state).where(here).values(status="approved", approval_id=approval))


def change(c: Connection, version_id: int, status: str) -> None:
    """Set another status; an earlier approval no longer counts."""
    here = version_state.c.version_id == version_id
    c.execute(update(version_state).where(here).values(status=status, approval_id=None))
