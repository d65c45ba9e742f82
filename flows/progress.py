"""Progress as a Prefect artifact: of training, read from its output, and of batch jobs."""

import re
import time
from typing import cast
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact

from tasks.serving.status import Status

# Long epochs also print the batch.
EPOCH = re.compile(r"^epoch (\d+)/(\d+): (?:batch (\d+)/(\d+), )?(.*)")
EVERY_S = 1.0
JOB_EVERY_S = 5.0
"""Each update is a row that Prefect's server writes; a job may take hours."""


class TrainingProgress:
    """Shows the epochs that a stage prints. Without any, no artifact is made."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._artifact: UUID | None = None
        self._updated = 0.0

    def read(self, line: str) -> None:
        """Update the artifact from one line of the stage's output."""
        if not (match := EPOCH.match(line)):
            return
        epoch, epochs = int(match[1]), int(match[2])
        done = epoch - 1 + int(match[3]) / int(match[4]) if match[3] else epoch
        percent = 100 * done / epochs
        if self._artifact is None:
            self._artifact = cast(
                UUID,  # Prefect returns a coroutine only inside a coroutine
                create_progress_artifact(
                    percent, key=f"{self._stage}-progress", description="Epochs trained"
                ),
            )
        elif time.monotonic() - self._updated >= EVERY_S:
            update_progress_artifact(self._artifact, percent, description=match[5])
        else:
            return
        self._updated = time.monotonic()

    def finish(self) -> None:
        """Set the progress to 100 %, also for training that stopped early."""
        if self._artifact is not None:
            update_progress_artifact(self._artifact, 100.0)


class JobProgress:
    """Shows how far the batch jobs of a flow run are, one after the other, in one artifact."""

    def __init__(self) -> None:
        self._artifact: UUID | None = None
        self._updated = 0.0

    def tell(self, status: Status) -> None:
        """Update the artifact; in the thread of the task, where Prefect knows the flow run."""
        done = status.rows == status.all_rows
        if not done and time.monotonic() - self._updated < JOB_EVERY_S:
            return
        self._updated = time.monotonic()
        try:
            self._show(status.percent, str(status))
        except httpx.HTTPError as error:  # no reason to end the job
            get_run_logger().warning("the progress is not shown: %s", error)

    def _show(self, percent: float, text: str) -> None:
        if self._artifact is None:
            self._artifact = cast(
                UUID,  # as above
                create_progress_artifact(percent, key="inference-progress", description=text),
            )
        else:
            update_progress_artifact(self._artifact, percent, description=text)
