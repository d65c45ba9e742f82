"""A Dask cluster as an executor of batch jobs. The only module that uses Dask, which is an extra.

Dask sends calls as pickle between machines that trust each other; ours name a function of
modelmint, and have text and numbers as arguments.
"""

import logging
import re
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from registry.extras import load
from tasks.errors import InputError
from tasks.serving.remote import Cluster, WorkersFailed, check_site

ADDRESS = re.compile(r"(tcp|tls)://(\[[0-9a-fA-F:.%]+\]|[^\s/:@\[\]]+):(\d{1,5})")
TIMEOUT_S = 10
"""For the connection, and for the first worker."""


def check_address(address: str) -> None:
    """Raises `InputError` if it is not the address of a scheduler."""
    match = ADDRESS.fullmatch(address)
    if not match or not 0 < int(match[3]) < 65_536:
        raise InputError(
            f"--cluster {address}: the address of a Dask scheduler is expected, as in "
            "tcp://scheduler:8786"
        )


@contextmanager
def connected(address: str | None, notice: Callable[[str], None]) -> Iterator[Cluster | None]:
    """The cluster of a scheduler, for `How.executor`; None without an address.

    `notice` gets a line when no worker is left.

    Raises:
        InputError: the address is none, no scheduler answers, or it has no worker.
        RegistryError: the extra is not installed.
    """
    if address is None:
        yield None
        return
    check_address(address)
    distributed = load("distributed", "cluster", "--cluster")
    # What Dask's own thread says of lost connections and of futures that were cancelled as they
    # failed; the job has its own messages.
    for name in ("distributed", "distributed.client", "tornado.application"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # versions: ours are compared by every worker
        try:
            client = distributed.Client(address, timeout=TIMEOUT_S, set_as_default=False)
        except (OSError, ValueError, RuntimeError) as error:  # TimeoutError is an OSError
            raise InputError(
                f"--cluster {address}: no Dask scheduler answered within {TIMEOUT_S} s ({error}). "
                "Start one with `dask scheduler`, or correct the address"
            ) from error
    try:
        _wait_for_a_worker(client, address)
        yield _Dask(client, distributed, address, notice)
    finally:
        client.close(timeout=TIMEOUT_S)


def _wait_for_a_worker(client: Any, address: str) -> None:
    try:
        client.wait_for_workers(1, timeout=TIMEOUT_S)
    except TimeoutError as error:
        raise InputError(
            f"--cluster {address}: the scheduler has no worker. Start some, as in "
            f"`dask worker {address} --nthreads 4`"
        ) from error


class _Dask(Cluster):
    """See `connected`."""

    def __init__(
        self, client: Any, distributed: Any, address: str, notice: Callable[[str], None]
    ) -> None:
        self._client, self._address, self._notice = client, address, notice
        self._executor: Executor = client.get_executor()
        self._died = distributed.scheduler.KilledWorker
        self._workers = len(client.nthreads())

    @property
    def workers(self) -> int:
        # Unlike `nthreads` it raises no error if the scheduler is gone; the futures tell that.
        # Its `workers` may be empty, since Dask's thread asks for the totals alone meanwhile.
        found, before = self._client.scheduler_info(n_workers=0), self._workers
        self._workers = found.get("n_workers", before)
        if before and not self._workers:
            self._notice(f"no worker of {self._address} is left; waiting for one")
        return self._workers

    def check(self, folder: Path, token: str) -> None:
        answers = self._client.run(check_site, str(folder), token, on_error="return")
        problems = [
            f"{worker}: {answer if isinstance(answer, WorkersFailed) else repr(answer)}"
            for worker, answer in sorted(answers.items())
            if answer is not None
        ]
        if problems:
            more = f" {len(problems) - 3} more workers fail as well" if len(problems) > 3 else ""
            raise WorkersFailed(f"{'. '.join(problems[:3])}. Nothing was predicted.{more}")

    def threads(self, chains: int) -> int:
        """One, unless there are fewer chains than threads; then up to all of a worker."""
        threads: list[int] = [*self._client.nthreads().values(), 1]
        return max(1, min(max(threads), (sum(threads) - 1) // max(1, chains)))

    def submit(self, function: Any, /, *arguments: Any, **named: Any) -> Future[Any]:
        inner, outer = self._executor.submit(function, *arguments, **named), Future[Any]()

        def end(future: Future[Any]) -> None:
            if not outer.set_running_or_notify_cancel():
                return
            try:
                outer.set_result(future.result())
            except BaseException as error:
                outer.set_exception(self._explained(error))

        inner.add_done_callback(end)
        outer.add_done_callback(lambda future: future.cancelled() and inner.cancel())
        return outer

    def _explained(self, error: Any) -> Any:
        on = "What is recorded stays, and the same command goes on from there"
        if isinstance(error, self._died):
            return WorkersFailed(
                f"workers died while they predicted the same shards, {error.allowed_failures + 1} "
                f"of them, the last at {error.last_worker.address}. These shards may need more "
                f"memory than a worker has. {on}"
            )
        if isinstance(error, CancelledError):
            return WorkersFailed(
                f"the connection to {self._address} was lost, or somebody cancelled the job "
                f"there. {on}"
            )
        return error
