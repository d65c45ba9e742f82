"""The deployments of `prefect.yaml`, served on their schedules from this machine."""

import importlib
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from flows.server import LOCAL_PORT, find_api, start_server

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
    """The deployments that a `prefect.yaml` describes: flow, schedule, parameters, limit."""
    from prefect.client.schemas.objects import ConcurrencyLimitConfig
    from prefect.schedules import Schedule

    found = []
    for entry in YAML(typ="safe").load(path.read_text(encoding="utf-8"))["deployments"]:
        module, function = entry["entrypoint"].split(":")
        flow: Any = getattr(
            importlib.import_module(module.removesuffix(".py").replace("/", ".")), function
        )
        schedules = [
            Schedule(
                **{**s, "interval": timedelta(seconds=s["interval"])} if "interval" in s else s
            )
            for s in entry["schedules"]
        ]
        found.append(
            flow.to_deployment(
                name=entry["name"],
                description=entry["description"],
                parameters=entry["parameters"],
                tags=entry["tags"],
                concurrency_limit=ConcurrencyLimitConfig(**entry["concurrency_limit"]),
                schedules=schedules,
            )
        )
    return found
