"""The runs of this project on the workers of a work pool, which `modelmint serve` watches too."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName

from flows.heartbeat import Heartbeats
from flows.reconcile import KILLED_ATTEMPTS, Reconciler

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

LOOK_EVERY_S = 60.0
"""How often to ask which deployments are in a work pool; `prefect deploy` may add some."""
SILENT = (
    "Nothing was heard of it for a minute: it was killed, or its machine is off or has no network."
)


class WorkerRuns:
    """Marks runs of dead workers Crashed, and starts each again once."""

    def __init__(self, client: "SyncPrefectClient", root: Path, names: Sequence[str]) -> None:
        """`names`: the deployments of `prefect.yaml`, as they are written there."""
        self._client, self._root, self._names = client, root, list(names)
        self._deployments: list[UUID] = []
        self._reconciler: Reconciler | None = None
        self._looked = float("-inf")

    def reconcile(self) -> None:
        """Check every deployment; call it every few seconds. Raises what the client raises."""
        if time.monotonic() - self._looked >= LOOK_EVERY_S:
            self._look()
        if self._reconciler and self._deployments:
            self._reconciler.reconcile()

    def _look(self) -> None:
        wanted = DeploymentFilter(name=DeploymentFilterName(any_=self._names))
        found = self._client.read_deployments(deployment_filter=wanted)
        mine = sorted(d.id for d in found if is_of_workers(d, self._root))
        if mine != self._deployments:
            self._deployments = mine
            living = Heartbeats(self._client, mine).living
            self._reconciler = Reconciler(
                self._client, mine, living, gone=SILENT, attempts=KILLED_ATTEMPTS
            )
        self._looked = time.monotonic()


def is_of_workers(deployment: Any, root: Path) -> bool:
    """Whether workers of a pool run this deployment in the folder `root`, the project's."""
    for step in deployment.pull_steps or []:
        for name, given in step.items():
            if name.endswith(".set_working_directory"):
                return bool(deployment.work_pool_name) and Path(given["directory"]).resolve() == (
                    root.resolve()
                )
    return bool(deployment.work_pool_name)
