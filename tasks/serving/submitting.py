"""Chains of shards as futures: submitted, waited for, and stopped on an error."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import Any

from tasks.serving.folder import JobFolder
from tasks.serving.plan import Plan
from tasks.serving.remote import Cluster, announced, predict_remotely
from tasks.serving.status import EVERY_S


@contextmanager
def elsewhere(
    executor: Executor, plan: Plan, folder: JobFolder, allowed: int, threads: int | None
) -> Iterator[list[Future[Any]]]:
    """The chains of a plan in other processes, with so many threads each, None: as suits them.

    Raises:
        WorkersFailed: a worker of a cluster does not see the files, or has other software.
    """
    with announced(folder, plan) as token, stopping(lambda: None) as pending:
        if isinstance(executor, Cluster):
            executor.check(folder.path.absolute(), token)
            threads = threads or executor.threads(len(plan.chains))
        where = (str(folder.output.absolute()), plan.identity)
        for chain in plan.chains:
            arguments = (*where, chain, allowed, token, threads or 1)
            pending.append(executor.submit(predict_remotely, *arguments))
        yield pending


@contextmanager
def stopping(stop: Callable[[], None]) -> Iterator[list[Future[Any]]]:
    """Futures of which none goes on after the block was left by an error."""
    pending: list[Future[Any]] = []
    try:
        yield pending
    except BaseException:
        stop()
        for future in pending:
            future.cancel()
        raise


def ended(pending: Sequence[Future[Any]], meanwhile: Callable[[], None]) -> Iterator[Future[Any]]:
    """Futures in the order in which they end; calls `meanwhile` now and then, while it waits.

    In the thread of the caller, unlike the callbacks of futures: there a flow run is known.
    """
    finished: SimpleQueue[Future[Any]] = SimpleQueue()
    for future in pending:
        future.add_done_callback(finished.put)
    due = time.monotonic() + EVERY_S
    for _ in pending:
        found = None
        while found is None:
            with suppress(Empty):
                found = finished.get(timeout=max(0.0, due - time.monotonic()))
            if time.monotonic() >= due:
                meanwhile()
                due = time.monotonic() + EVERY_S
        yield found
