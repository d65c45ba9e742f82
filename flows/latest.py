"""`latest` in an output folder: a link to the predictions of the job that finished last there."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from tasks.serving.folder import PREDICTIONS

LATEST = "latest"


def point_to(job: Path, notice: Callable[[str], None]) -> None:
    """Replace `latest` beside the folder of a job by a link to its predictions, in one step.

    To the predictions and not to the folder of the job, which the pattern `*/predictions/*` would
    then find twice.

    A link, so that a program which reads files needs to know nothing else. It is relative: the
    output folder may be moved, or seen from another machine under another path. `aws s3 sync`
    follows it. Something else of that name stays as it is, and `notice` hears of it.
    """
    link = job.with_name(LATEST)
    if link.exists() and not link.is_symlink():
        notice(f"{link} is not a link and stays as it is; the newest job is in {job}")
        return
    new = job.with_name(f".{LATEST}-{uuid4().hex}")
    try:
        new.symlink_to(Path(job.name, PREDICTIONS))
        os.replace(new, link)
    except OSError as error:  # such as a file system without links
        notice(f"{link} could not be written: {error.strerror or error}")
        with suppress(OSError):
            new.unlink(missing_ok=True)
