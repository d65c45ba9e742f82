"""The process that runs what is due: `python -m flows.runner`, below `modelmint serve`.

Killed, it takes the runs it started with it; the next one finds them dead, and starts them anew.
"""

import asyncio
import os
import signal
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, cast
from uuid import UUID

from flows.alive import RUNNER_PID
from flows.deploy import OWNER, deployments, owner, refuse_shadowing
from flows.server import answers
from tasks.errors import InputError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.deployments.runner import RunnerDeployment

    from flows.reconcile import Reconciler

FAILURES = 12
"""So many looks in a row fail before that is reported: a minute's worth, or more."""
NOT_AGAIN = 2
"""Exit status for an error that another start would not change: `serve` ends too."""
SERVED_WITHIN = timedelta(seconds=60)
"""Who serves a deployment asks for its runs every 10 s."""


def run(root: Path) -> None:
    """Serve the project's deployments until interrupted; stopped gently, it pauses them.

    Raises:
        InputError: `prefect.yaml` has a mistake, another folder serves a deployment, or the
            project has a folder with the name of one of our packages.
    """
    from prefect.client.orchestration import get_client
    from prefect.runner import Runner

    from flows.reconcile import Reconciler

    os.environ[RUNNER_PID] = str(os.getpid())
    refuse_shadowing(root)
    sys.path.append(str(root))  # last: for flows of the project's own in its prefect.yaml
    made = deployments(root / "prefect.yaml")
    while not answers(os.environ["PREFECT_API_URL"]):  # `serve` says when it is in vain
        time.sleep(0.1)
    with get_client(sync_client=True) as client:
        refuse_foreign(client, made, root)
        # How many run at a time is up to each deployment.
        runner = Runner(pause_on_shutdown=True, limit=None)
        numbers = [cast(UUID, runner.add_deployment(deployment)) for deployment in made]
        reconciler = Reconciler(client, numbers)
        reconciler.look(nothing_starts=True)
        print("Serving " + ", ".join(f"{d.flow_name}/{d.name}" for d in made), file=sys.stderr)
        stopping = threading.Event()
        watch = threading.Thread(target=_watch, args=(reconciler, stopping), daemon=True)
        watch.start()
        try:
            asyncio.run(runner.start())
        finally:
            stopping.set()
            watch.join()


def refuse_foreign(client: "SyncPrefectClient", made: list["RunnerDeployment"], root: Path) -> None:
    """Check that nobody else serves these deployments just now. Raises `InputError`."""
    from prefect.exceptions import ObjectNotFound

    for deployment in made:
        name = f"{deployment.flow_name}/{deployment.name}"
        try:
            found = client.read_deployment_by_name(name)
        except ObjectNotFound:
            continue
        said = (found.description or "").rpartition("\n")[2]
        asleep = not found.last_polled or datetime.now(UTC) - found.last_polled > SERVED_WITHIN
        if not said.startswith(OWNER) or said == owner(root) or asleep or found.paused:
            continue
        raise InputError(
            f"{name} is served from elsewhere: {said.removeprefix(OWNER)} Stop `modelmint serve` "
            "there, or serve this project from a folder of another name."
        )


def _watch(reconciler: "Reconciler", stopping: threading.Event) -> None:
    from flows.reconcile import EVERY_S, log

    failed = 0
    while not stopping.wait(EVERY_S):
        try:
            reconciler.look()
            failed = 0
        except Exception as error:  # the server restarts, or is busy: look again
            failed += 1
            if failed % FAILURES == 0:
                log.warning("still cannot compare runs with processes: %r", error)


def main() -> None:
    # `serve` stops this process by SIGINT, which a shell's background jobs ignore.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run(Path.cwd())
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(NOT_AGAIN)
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
