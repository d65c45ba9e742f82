"""Shards that other processes predict, such as the workers of a cluster on several machines.

They must run the same software and see the same files. Each of them is asked before it predicts
its first shard of a job, also one that joins later. `predict_remotely` is what an executor runs:
its arguments are a folder and numbers, and everything else is in the plan.
"""

import json
import os
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from tasks.errors import InputError, SetupError
from tasks.serving.folder import JobFolder, ShardRecord
from tasks.serving.plan import Plan
from tasks.serving.shard import Workers, model_of, plan_of, predict_chain
from tasks.serving.software import software
from tasks.serving.writing import write_whole
from tasks.session import Device

SITE = "site.json"
LOOK_EVERY_S = 2.0


class WorkersFailed(SetupError):
    """The cluster is not as the job needs it. What is done stays, so the job can go on."""


class Cluster(Executor, ABC):
    """An executor whose workers can be asked before the first shard is submitted."""

    @property
    @abstractmethod
    def workers(self) -> int:
        """How many there are now."""

    @abstractmethod
    def check(self, folder: Path, token: str) -> None:
        """Call `check_site` in every worker. Raises `WorkersFailed`, which names those that fail"""

    @abstractmethod
    def threads(self, chains: int) -> int:
        """How many threads a chain should have, of so many that are submitted."""


@contextmanager
def announced(folder: JobFolder, plan: Plan) -> Iterator[str]:
    """Write what workers compare themselves with; yields the token of this attempt.

    The file is removed at the end, which tells workers that still predict for it to stop.
    """
    inputs = [file.hashed[0] for file in plan.files if file.hashed]
    bundle = [(path, os.stat(path).st_size) for path, _ in plan.bundle.values()]
    token, site = uuid4().hex, folder.path / SITE
    document = {
        "token": token,
        "software": software(),
        "files": bundle + [(str(file.path), file.stamp.size) for file in inputs],
    }
    write_whole(site, json.dumps(document))
    try:
        yield token
    finally:
        site.unlink(missing_ok=True)


@lru_cache(maxsize=16)
def check_site(folder: str, token: str) -> None:
    """Check that this process can predict shards of a job. Once for each job: then it is known.

    Raises:
        WorkersFailed: it does not see the folder or a file, cannot write there, or has other
            software.
    """
    site = None
    with suppress(OSError, ValueError):  # such as a folder that this user may not read
        site = _site(folder)
    if site is None or site["token"] != token:
        raise WorkersFailed(
            f"{here()} does not see the folder of the job, {folder}. Input, output and the files "
            "of the registry must lie on storage that all workers share, under the same paths"
        )
    own = software()
    different = [
        f"{name} {own[name]} and not {version}"
        for name, version in site["software"].items()
        if own[name] != version
    ]
    if different:
        raise WorkersFailed(
            f"{here()} has {', '.join(different)}. All workers need the software of the command, "
            "since it decides the predictions; install it there, and restart the worker"
        )
    for path, size in site["files"]:
        with suppress(OSError):
            if os.stat(path).st_size == size:
                continue
        raise WorkersFailed(
            f"{here()} does not see the same {path}. Input and the files of the registry must lie "
            "on shared storage; of a registry in a bucket, MODELMINT_CACHE must"
        )
    probe = Path(folder, f".{uuid4().hex}")
    try:
        write_whole(probe, "")
        probe.unlink()
    except OSError as error:
        raise WorkersFailed(f"{here()} cannot write to {folder}: {error.strerror}") from error


def predict_remotely(
    output: str,
    identity: str,
    numbers: Sequence[int],
    allowed: int,
    token: str,
    threads: int,
) -> list[ShardRecord]:
    """`predict_chain` in a worker, which is checked first.

    Raises:
        WorkersFailed: this worker cannot predict.
        InputError, TooMany: as `predict_chain` does.
        Stopped: the job has ended, or a later attempt has begun.
    """
    folder = JobFolder(Path(output), identity)
    check_site(str(folder.path), token)
    plan = plan_of(folder)
    wanted = plan.runtime["provider"]
    device: Device = "cpu" if wanted == "CPUExecutionProvider" else "cuda"
    try:
        model = model_of(plan, device)
    except InputError as error:
        raise WorkersFailed(f"{here()}: the job was begun on {wanted}. {error}") from error
    with Workers(threads, model, _Ended(folder, token)) as workers:
        return predict_chain(output, identity, numbers, allowed, workers)


def here() -> str:
    """This process, for a message."""
    return f"the worker process {os.getpid()} on {socket.gethostname()}"


class _Ended:
    """Set once the attempt that a token stands for has ended; looks at the disk now and then."""

    def __init__(self, folder: JobFolder, token: str) -> None:
        self._folder, self._token = str(folder.path), token
        self._looked = time.monotonic()
        self._set = False

    def is_set(self) -> bool:
        if time.monotonic() - self._looked >= LOOK_EVERY_S:
            self._looked = time.monotonic()
            with suppress(OSError, ValueError):  # shared storage may fail for a moment
                site = _site(self._folder)
                self._set = site is None or site["token"] != self._token
        return self._set

    def set(self) -> None:
        self._set = True


def _site(folder: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(Path(folder, SITE).read_bytes())
    except FileNotFoundError:
        return None
    return found
