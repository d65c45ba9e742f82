"""The progress of training, read from its lines and shown as a Prefect artifact."""

import re
import time
from typing import cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

# Within a long epoch, with the batch.
EPOCH = re.compile(r"^epoch (\d+)/(\d+): (?:batch (\d+)/(\d+), )?(.*)")
EVERY_S = 1.0


class TrainingProgress:
    """Shows the epochs that a stage prints; a stage that prints none gets no artifact."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._artifact: UUID | None = None
        self._updated = 0.0

    def read(self, line: str) -> None:
        """Take one line of the stage's output."""
        if not (match := EPOCH.match(line)):
            return
        epoch, epochs = int(match[1]), int(match[2])
        done = epoch - 1 + int(match[3]) / int(match[4]) if match[3] else epoch
        percent = 100 * done / epochs
        if self._artifact is None:
            self._artifact = cast(
                UUID,  # a coroutine only where it is called from one
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
        """The stage is over; training that stopped early is done, too."""
        if self._artifact is not None:
            update_progress_artifact(self._artifact, 100.0)
