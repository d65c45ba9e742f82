"""Processes that are forked from one that has all imports done: a new interpreter takes seconds."""

import multiprocessing
import os
import sys
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext

import pytest

PRELOADED = [
    "cli.main",
    "cli.models.decide",
    "cli.models.look",
    "cli.models.move",
    "cli.models.upkeep",
    "flows.server",
    "pyarrow.parquet",
    "pydantic",
    "zoneinfo",
    "alembic.command",
    "registry.transfer.backup",
    "databases",
    "registry_helpers",
    "stores",
    "frozen",  # last
]


@cache
def fork_context() -> ForkServerContext:
    """The context of `multiprocessing` for all such processes of a worker.

    Each has the variables that this process had at the first call.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    # In CPython 3.11 the server does not get our sys.path, and it ignores what it cannot import.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        forkserver.ensure_running()
    return context
