"""Removes old flow runs from a Prefect server, and compacts its database where that is safe.

Prefect has a service for old flow runs too (`db_vacuum`), but it removes those of every project on
the server. Its services for events and for what is left of removed runs are switched on in
`deploy.LASTING`.
"""

import os
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic import TypeAdapter

from flows.deploy import deployed_names, entry_names, project_tag

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

BATCH = 50
"""Runs in one request; the server accepts no more."""
PAUSE_S = 0.1
"""Between two requests, so that other clients of a SQLite database are not kept waiting."""
COMPACT_BYTES = 2**27
"""The most content that is copied while the server runs. On two busy cores VACUUM wrote
22 MB/s, and clients of Prefect wait 10 s for an answer."""
COMPACT_SHARE = 0.25
"""The least share of free pages that is worth a copy."""


@dataclass(frozen=True)
class Removed:
    """How many flow runs were removed, and in words what becomes of their artifacts and events."""

    runs: int
    artifacts: str
    events: str


def remove_old_runs(root: Path, before: datetime) -> Removed:
    """Remove the project's runs that ended earlier, with their task runs, states and logs.

    Those are the runs of the deployments in its `prefect.yaml`, and those without a deployment that
    commands such as `modelmint train` start, by the tag of the project. Active and scheduled runs
    have no end, so they stay.
    """
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        removed = sum(
            _remove(client, {**_ended(before), **chosen}) for chosen in _of_project(client, root)
        )
        artifacts, events = _services(client)
    return Removed(removed, artifacts, events)


def _ended(before: datetime) -> dict[str, Any]:
    return {
        "state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]}},
        "end_time": {"before_": before.isoformat()},
    }


def _of_project(client: "SyncPrefectClient", root: Path) -> list[dict[str, Any]]:
    """Filters that together match the runs of the project."""
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName

    served, pooled = deployed_names(root / "prefect.yaml"), entry_names(root / "prefect.yaml")
    named = DeploymentFilter(name=DeploymentFilterName(any_=[*served, *pooled]))
    ours = [str(d.id) for d in client.read_deployments(deployment_filter=named)]
    filters: list[dict[str, Any]] = [
        {"deployment_id": {"is_null_": True}, "tags": {"all_": [project_tag(root)]}},
    ]
    if ours:
        filters.append({"deployment_id": {"any_": ours}})
    return filters


def _remove(client: "SyncPrefectClient", wanted: dict[str, Any]) -> int:
    removed = 0
    while True:
        body = {"flow_runs": wanted, "limit": BATCH}
        # The client has no method for it, and its list of routes does not have this one.
        reply = client.request("POST", "/flow_runs/bulk_delete", json=body)  # type: ignore[arg-type]
        gone = len(reply.json()["deleted"])
        removed += gone
        if gone < BATCH:
            return removed
        time.sleep(PAUSE_S)


def _services(client: "SyncPrefectClient") -> tuple[str, str]:
    """What the services of the server do with artifacts of removed runs, and with old events."""
    settings = client.request("GET", "/admin/settings").json()["server"]
    enabled = settings["services"]["db_vacuum"]["enabled"]
    enabled = (
        set(enabled) if isinstance(enabled, list) else {"events", "flow_runs"} if enabled else set()
    )
    orphans = not enabled.isdisjoint({"orphans", "flow_runs"})
    kept = TypeAdapter(timedelta).validate_python(settings["events"]["retention_period"])
    days = kept / timedelta(days=1)
    return (
        "removed by Prefect's service within a day"
        if orphans
        else "stay: start the server with PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED=events,orphans",
        f"removed by Prefect's service after {days:g} days" if "events" in enabled else "stay",
    )


def compact_database(run_id: str) -> str:
    """Give the free pages of the server's SQLite database back to the disk. Returns what was done.

    Only if the database is a file on this machine, with enough free pages to be worth a copy, and
    small enough that clients need not wait long. Other databases reuse their free pages.
    """
    path = _database_file()
    if path is None or not _has_run(path, run_id):
        return "not compacted: it is no SQLite file on this machine; PostgreSQL does that itself"
    with closing(sqlite3.connect(path, timeout=5, isolation_level=None)) as database:
        pages, free, size = (
            database.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        whole, content = pages * size, (pages - free) * size
        if free < COMPACT_SHARE * pages:
            return f"{whole:,} bytes, {free * size:,} of them free and reused: not compacted"
        if content > COMPACT_BYTES:
            return (
                f"{whole:,} bytes, {free * size:,} of them free and reused. To compact it, stop "
                f"`modelmint serve` and run: sqlite3 {path} VACUUM"
            )
        try:
            database.execute("VACUUM")
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.OperationalError as error:  # somebody writes all the time
            return f"{whole:,} bytes: not compacted now ({error})"
    return f"compacted from {whole:,} to {path.stat().st_size:,} bytes"


def _database_file() -> Path | None:
    """The SQLite file of a server that `modelmint serve` starts with this environment."""
    from prefect.settings import get_current_settings

    url = get_current_settings().server.database.connection_url
    text = url.get_secret_value() if url else ""
    prefix, _, path = text.partition(":///")
    found = Path(os.path.expanduser(path.partition("?")[0]))
    return found if prefix.startswith("sqlite") and found.is_file() else None


def _has_run(path: Path, run_id: str) -> bool:
    """Whether the database has this flow run, so that it is the one of the server in use."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as database:
            query = "SELECT 1 FROM flow_run WHERE id IN (?, ?)"
            number = UUID(run_id)
            return bool(database.execute(query, (str(number), number.hex)).fetchone())
    except (sqlite3.Error, ValueError):
        return False
