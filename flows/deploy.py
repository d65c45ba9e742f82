"""Reads the deployments of `prefect.yaml` and gives them names that are unique to this project."""

import hashlib
import importlib
import re
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tasks.errors import InputError

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment

LASTING = {
    "PREFECT__SERVER_FINAL": "1",
    "PREFECT_UI_ENABLED": "true",
    # A path without a host, so that the UI finds its API on any port and behind any proxy.
    "PREFECT_SERVER_UI_API_URL": "/api",
    # Makes the first UI the default in browsers; flows/server_app.py removes the second one.
    "PREFECT_SERVER_UI_V2_ENABLED": "false",
    # Leases in memory would be lost with the server, and their slots would never be freed.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
        "prefect.server.concurrency.lease_storage.filesystem"
    ),
    # Seconds after which a run that found no free slot asks again.
    "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "10",
    # Removes old events (7 days), and the logs and artifacts of flow runs that were removed.
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,orphans",
}
"""Settings of a long-running server."""
# Intervals are counted from a fixed date, or each start of `serve` would shift them.
ANCHOR = datetime(2024, 1, 1, tzinfo=UTC)
PACKAGES = ("cli", "flows", "modelmint", "registry", "tasks")
OWNER = "Served by `modelmint serve` from "


def deployed_name(name: str, root: Path) -> str:
    """The deployment `name` of the project in `root` as Prefect knows it: `weekly-digits-3f2a`.

    The last part is a hash of the path, because clones of one project may share a Prefect server.
    """
    return f"{name}-{project_tag(root)}"


def project_tag(root: Path) -> str:
    """What tells the project in `root` from others on a Prefect server: `digits-3f2a`."""
    folder = re.sub(r"[^\w.-]+", "-", root.name)
    return f"{folder}-{hashlib.sha256(str(root).encode()).hexdigest()[:4]}"


def owner(root: Path) -> str:
    """The line of a deployment's description that says which folder and machine serve it."""
    return f"{OWNER}{root} on {socket.gethostname()}."


def refuse_shadowing(root: Path) -> None:
    """Raises `InputError` if the project has a folder with the name of one of our packages.

    Prefect puts the project first on `sys.path` of a run, which would then import that folder.
    """
    installed = Path(__file__).parents[1]
    for package in PACKAGES:
        found = [p for p in (root / package, root / f"{package}.py") if p.exists()]
        if found and not (installed / package).samefile(found[0]):
            raise InputError(
                f"scheduled runs would import {found[0]} instead of modelmint's package "
                f"`{package}`; rename it. (`modelmint train` and `dvc repro` are not affected.)"
            )


def deployed_names(path: Path) -> list[str]:
    """The names of the deployments of a `prefect.yaml`, as Prefect knows them if they are served.

    Raises:
        InputError: the file cannot be read, or an entry has no name.
    """
    return [deployed_name(name, path.parent) for name in entry_names(path)]


def entry_names(path: Path) -> list[str]:
    """The names of the deployments as they are in a `prefect.yaml`, which those of a pool keep.

    Raises:
        InputError: the file cannot be read, or an entry has no name.
    """
    try:
        return [str(entry["name"]) for entry in entries(path)]
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: a deployment has no name: {error}") from error


def read_deployments(path: Path) -> list["RunnerDeployment"]:
    """The deployments of a `prefect.yaml`, for the project in its folder.

    Raises:
        InputError: the file cannot be read, or an entry is incomplete.
    """
    found = []
    for number, entry in enumerate(entries(path), start=1):
        try:
            found.append(_deployment(entry, path.parent))
        except (AttributeError, ImportError, KeyError, TypeError, ValueError) as error:
            name = entry.get("name", number) if isinstance(entry, dict) else number
            raise InputError(
                f"{path}, deployment {name}: {type(error).__name__}: {error}. An entry needs "
                "name, description, entrypoint, parameters, tags, schedules and concurrency_limit."
            ) from error
    return found


def entries(path: Path) -> list[Any]:
    """The list `deployments` of a `prefect.yaml`. Raises InputError."""
    try:
        entries = YAML(typ="safe").load(path.read_text(encoding="utf-8"))["deployments"]
    except (OSError, YAMLError, KeyError, TypeError) as error:
        raise InputError(f"{path} must be YAML with a list `deployments`: {error}") from error
    if not isinstance(entries, list):
        raise InputError(f"{path} must be YAML with a list `deployments`, not {entries!r}")
    return entries


def _deployment(entry: dict[str, Any], root: Path) -> "RunnerDeployment":
    from prefect.client.schemas.objects import ConcurrencyLimitConfig
    from prefect.types.entrypoint import EntrypointType

    module, function = entry["entrypoint"].split(":")
    flow: Any = getattr(
        importlib.import_module(module.removesuffix(".py").replace("/", ".")), function
    )
    made: RunnerDeployment = flow.to_deployment(
        name=deployed_name(entry["name"], root),
        description=f"{entry['description']}\n\n{owner(root)}",
        parameters=entry["parameters"],
        tags=entry["tags"],
        concurrency_limit=ConcurrencyLimitConfig(**entry["concurrency_limit"]),
        schedules=[_schedule(schedule) for schedule in entry["schedules"]],
        # By module, because Prefect would look for a file in the project.
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    return made


def _schedule(given: dict[str, Any]) -> Any:
    """A schedule of `prefect.yaml`; an interval is in seconds."""
    from prefect.schedules import Schedule

    if "interval" not in given:
        return Schedule(**given)
    # Counted from midnight in the schedule's time zone, so that 86400 s means daily at midnight.
    anchor = ANCHOR.replace(tzinfo=ZoneInfo(given.get("timezone") or "UTC"))
    interval = timedelta(seconds=given["interval"])
    return Schedule(**{"anchor_date": anchor, **given, "interval": interval})
