"""The deployments of `prefect.yaml`, served on their schedules from this machine."""

import importlib
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from flows.server import LOCAL_PORT, find_api, start_server
from tasks.errors import InputError

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment

LASTING = {
    "PREFECT__SERVER_FINAL": "1",
    "PREFECT_UI_ENABLED": "true",
    # A path, so that the UI finds its API on any port and behind any proxy.
    "PREFECT_SERVER_UI_API_URL": "/api",
    # The second UI fetches its settings from a third party, even with analytics off.
    "PREFECT_SERVER_UI_V2_ENABLED": "false",
}


def serve_deployments(root: Path, say: Callable[[str], None]) -> None:
    """Serve until interrupted; starts a Prefect server with its UI where none answers.

    Raises:
        ServerDown: the server named by PREFECT_API_URL does not answer, or none could be started.
    """
    os.chdir(root)  # runs are processes of their own, and start where their flows' files lie
    api = find_api()
    if not api:
        say("Starting a Prefect server with its UI ...")
        api = start_server(LOCAL_PORT, LASTING)()
    from prefect import serve

    say(f"Prefect UI: {api.removesuffix('/api')} (Ctrl-C ends it, and pauses the schedules)")
    serve(*deployments(root / "prefect.yaml"))


def deployments(path: Path) -> list["RunnerDeployment"]:
    """The deployments that a `prefect.yaml` describes.

    Raises:
        InputError: the file cannot be read, or an entry lacks something; names it.
    """
    try:
        entries = YAML(typ="safe").load(path.read_text(encoding="utf-8"))["deployments"]
    except (OSError, YAMLError, KeyError, TypeError) as error:
        raise InputError(f"{path} must be YAML with a list `deployments`: {error}") from error
    found = []
    for number, entry in enumerate(entries, start=1):
        try:
            found.append(_deployment(entry))
        except (AttributeError, ImportError, KeyError, TypeError, ValueError) as error:
            name = entry.get("name", number) if isinstance(entry, dict) else number
            raise InputError(
                f"{path}, deployment {name}: {type(error).__name__}: {error}. It needs name, "
                "description, entrypoint, parameters, tags, schedules and concurrency_limit."
            ) from error
    return found


def _deployment(entry: dict[str, Any]) -> "RunnerDeployment":
    from prefect.client.schemas.objects import ConcurrencyLimitConfig
    from prefect.schedules import Schedule

    module, function = entry["entrypoint"].split(":")
    flow: Any = getattr(
        importlib.import_module(module.removesuffix(".py").replace("/", ".")), function
    )
    schedules = [
        Schedule(**{**s, "interval": timedelta(seconds=s["interval"])} if "interval" in s else s)
        for s in entry["schedules"]
    ]
    made: RunnerDeployment = flow.to_deployment(
        name=entry["name"],
        description=entry["description"],
        parameters=entry["parameters"],
        tags=entry["tags"],
        concurrency_limit=ConcurrencyLimitConfig(**entry["concurrency_limit"]),
        schedules=schedules,
    )
    return made
