"""Runs scheduled flows: `python -m flows.runner`, a child process of `modelmint serve`.

If it is killed, the runs it started die too; the next runner finds and restarts them.
"""

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, cast
from uuid import UUID

from flows.alive import RUNNER_PID
from flows.deploy import OWNER, entry_names, owner, read_deployments, refuse_shadowing
from flows.server import answers
from tasks.errors import InputError
from tasks.process import paused_gc

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.deployments.runner import RunnerDeployment

    from flows.reconcile import Reconciler
    from flows.workers import WorkerRuns

FAILURES = 12
"""Failed checks in a row before a warning: at one every 5 s, a minute or more."""
WORKERS = "--workers"
DO_NOT_RESTART = 2
"""Exit status for an error that a restart cannot fix; `serve` ends too."""
SERVED_WITHIN = timedelta(seconds=60)
"""A deployment counts as served if it was polled this recently; runners poll every 10 s."""


def run(root: Path, workers: bool = False) -> None:
    """Serve the project's deployments until interrupted, then pause them.

    `workers`: start no runs, since workers of a work pool do; only watch theirs.

    Raises:
        InputError: `prefect.yaml` has a mistake, another folder serves a deployment, or the
            project has a folder with the name of one of our packages.
    """
    with paused_gc():
        from prefect.client.orchestration import get_client
        from prefect.runner import Runner

        from flows.reconcile import Reconciler
        from flows.workers import WorkerRuns

    os.environ[RUNNER_PID] = str(os.getpid())
    refuse_shadowing(root)
    sys.path.append(str(root))  # last; prefect.yaml may name flows of the project's own
    made = read_deployments(root / "prefect.yaml")
    while not answers(os.environ["PREFECT_API_URL"]):  # `serve` stops us if it never answers
        time.sleep(0.1)
    names = entry_names(root / "prefect.yaml")
    with get_client(sync_client=True) as client:
        of_workers = WorkerRuns(client, root, names)
        if workers:
            return _watch((of_workers,), threading.Event())
        refuse_foreign(client, made, root)
        # No limit here: each deployment has its own concurrency limit.
        runner = Runner(pause_on_shutdown=True, limit=None)
        numbers = [cast(UUID, runner.add_deployment(deployment)) for deployment in made]
        reconciler = Reconciler(client, numbers)
        reconciler.reconcile(nothing_starts=True)
        print("Serving " + ", ".join(f"{d.flow_name}/{d.name}" for d in made), file=sys.stderr)
        stopping = threading.Event()
        sweeps = (reconciler, of_workers)
        watch = threading.Thread(target=_watch, args=(sweeps, stopping), daemon=True)
        watch.start()
        try:
            asyncio.run(runner.start())
        finally:
            stopping.set()
            watch.join()


def refuse_foreign(client: "SyncPrefectClient", made: list["RunnerDeployment"], root: Path) -> None:
    """Raises `InputError` if another folder or machine is serving one of these deployments."""
    from prefect.exceptions import ObjectNotFound

    for deployment in made:
        name = f"{deployment.flow_name}/{deployment.name}"
        try:
            found = client.read_deployment_by_name(name)
        except ObjectNotFound:
            continue
        line = (found.description or "").rpartition("\n")[2]
        idle = not found.last_polled or datetime.now(UTC) - found.last_polled > SERVED_WITHIN
        if not line.startswith(OWNER) or line == owner(root) or idle or found.paused:
            continue
        raise InputError(
            f"{name} is already served from {line.removeprefix(OWNER)} Stop `modelmint serve` "
            "there, or rename the folder of this project."
        )


def _watch(sweeps: "Sequence[Reconciler | WorkerRuns]", stopping: threading.Event) -> None:
    from flows.reconcile import EVERY_S, log

    failed = 0
    while not stopping.wait(EVERY_S):
        try:
            for sweep in sweeps:
                sweep.reconcile()
            failed = 0
        except Exception as error:  # the server restarts or is busy: try again
            failed += 1
            if failed % FAILURES == 0:
                log.warning("cannot compare runs with processes: %r", error)


def main() -> None:
    # `serve` stops this process by SIGINT, which background jobs of a shell ignore by default.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run(Path.cwd(), workers=WORKERS in sys.argv)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(DO_NOT_RESTART)
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
