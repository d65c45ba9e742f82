"""Keeps Prefect's log readable: a mistake of the user's is one line, not a traceback."""

import logging

from prefect.exceptions import FailedRun

from registry import RegistryError
from tasks.errors import InputError

LOGGERS = ("prefect.flow_runs", "prefect.task_runs", "prefect.engine")


class Explained(Exception):
    """What a flow that ended badly leaves in its state, where its message says all there is."""


class OneLine(logging.Filter):
    """Drops the traceback of errors that explain themselves, and Prefect's empty ones."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info:
            error = record.exc_info[1]
            if error is None:  # a state that was returned, not raised; its end is logged as well
                return False
            if isinstance(error, (Explained, FailedRun, InputError, RegistryError)):
                record.msg, record.args, record.exc_info = str(error), None, None
        return True


def install() -> None:
    """Attach the filter to Prefect's run loggers; calling it again changes nothing."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(f, OneLine) for f in logger.filters):
            logger.addFilter(OneLine())
