"""Keeps Prefect's log readable: a user's mistake is one line, not a traceback."""

import logging

from prefect.exceptions import FailedRun

from registry import RegistryError
from tasks.errors import InputError

LOGGERS = ("prefect.flow_runs", "prefect.task_runs", "prefect.engine")


class Explained(Exception):
    """An error whose message says everything, so that its traceback is not logged."""


class OneLine(logging.Filter):
    """Drops the traceback of errors that explain themselves, and empty records of Prefect."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info:
            error = record.exc_info[1]
            if error is None:  # the flow returned a failed state, which Prefect logs separately
                return False
            if isinstance(error, (Explained, FailedRun, InputError, RegistryError)):
                record.msg, record.args, record.exc_info = str(error), None, None
        return True


def install() -> None:
    """Attach the filter to Prefect's run loggers, once."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(f, OneLine) for f in logger.filters):
            logger.addFilter(OneLine())
