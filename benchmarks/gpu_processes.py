"""Runs what `gpu.py` measures in processes of its own, and collects the rows of its table."""

import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from tasks.warm import LIGHT, TORCH

LIMIT_S = 240.0  # without a word from a process
SHOWN = 15  # lines of a process that failed


class Row(NamedTuple):
    """A line of the table. `passed` is None if nothing could fail."""

    what: str
    case: str
    measured: str
    beside: str = ""
    passed: bool | None = None


class Failed(RuntimeError):
    """A process ended with an error, or hung."""


@dataclass(frozen=True)
class Running:
    """A process, and what it has found so far."""

    process: Any
    receiving: Connection
    log: Path

    def found(self) -> Iterator[Any]:
        """What the function yields, as it comes. Raises `Failed`."""
        try:
            while self.receiving.poll(LIMIT_S):
                yield self.receiving.recv()
            self.kill()
            raise Failed(f"nothing was heard of it for {LIMIT_S:.0f} s")
        except EOFError:
            pass
        self.process.join()
        if self.process.exitcode:
            last = self.log.read_text(errors="replace").splitlines()[-SHOWN:]
            print("\n".join(last), file=sys.stderr, flush=True)
            raise Failed(f"ended with status {self.process.exitcode}: {''.join(last[-1:])}")

    def kill(self) -> None:
        self.process.kill()
        self.process.join()


class Processes:
    """Starts generator functions in processes that have not used the GPU before."""

    def __init__(self, device: str, folder: Path) -> None:
        self._folder, self._number = folder, 0
        # On a GPU only the warm process may depend on a fork: whether it can is a question here.
        # On a CPU forks save the imports of torch.
        method = "spawn" if device == "cuda" else "forkserver"
        self._context: Any = multiprocessing.get_context(method)
        if method == "forkserver":
            self._context.set_forkserver_preload([*LIGHT, *TORCH])

    def start(self, function: Callable[..., Iterator[Any]], *arguments: Any) -> Running:
        self._number += 1
        log = self._folder / f"{self._number:02}-{function.__name__}.log"
        receiving, sending = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_run, args=(sending, log, function, arguments))
        process.start()
        sending.close()
        return Running(process, receiving, log)

    def run(self, function: Callable[..., Iterator[Any]], *arguments: Any) -> Iterator[Any]:
        """What it yields, as it comes. Raises `Failed`."""
        return self.start(function, *arguments).found()


def _run(
    sending: Connection, log: Path, function: Callable[..., Iterator[Any]], arguments: Any
) -> None:
    with log.open("w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    for found in function(*arguments):
        sending.send(found)


def attempted(what: str, case: str, make: Callable[..., Row], *arguments: Any) -> Row:
    """The row, or one that says why there is none: the others are measured all the same."""
    try:
        return make(*arguments)
    except Exception as error:
        return Row(what, case, failure(error), passed=False)


def failure(error: Exception) -> str:
    """The first line of an error; all of it goes to the log of the process."""
    traceback.print_exception(error)
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"[:200]
