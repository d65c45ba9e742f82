"""Runs commands of modelmint in separate processes that need not import it again.

Imports take 80 % of the time of a command that only reads the registry, and the tests run hundreds
of them. A server process imports modelmint once and forks for each command; the fork has its own
folder, variables, output and exit status.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from fork_context import fork_context


def run(
    arguments: tuple[str, ...], folder: Path, variables: dict[str, str], seconds: float
) -> "subprocess.CompletedProcess[str]":
    """Run `modelmint` with `arguments` in a folder.

    Raises:
        subprocess.TimeoutExpired: it took longer than `seconds`; it is killed.
    """
    command = ["modelmint", *arguments]
    with tempfile.TemporaryDirectory() as place:
        outputs = [Path(place, "stdout"), Path(place, "stderr")]
        process = fork_context().Process(target=_run, args=(command, folder, variables, outputs))
        process.start()
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(command, seconds)
        texts = [path.read_text() for path in outputs]
        return subprocess.CompletedProcess(command, process.exitcode, *texts)


def _run(command: list[str], folder: Path, variables: dict[str, str], outputs: list[Path]) -> None:
    for number, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    sys.argv = command
    from cli.main import main

    main()
