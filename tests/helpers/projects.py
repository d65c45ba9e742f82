"""Projects in which tests run commands, and the processes that these commands start."""

import atexit
import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import commands
import pytest
from forks import FORKS, forks, python_code
from ruamel.yaml import YAML

from flows.runs import claim_run
from flows.settings import Settings
from tasks.config import Params
from tasks.workspace import Workspace

ROOT = Path(__file__).parents[2]
PACKAGES = ("cli", "flows", "modelmint", "registry", "tasks")
NOT_NEEDED = ("benchmarks/", "docs/", "tests/")
"""Folders of the checkout that a project of the tests does not have."""
SECONDS = 240  # for one command on a busy machine
AUTHOR = {
    f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
}
"""The author of commits, for git."""

# Trains within a second and passes its gate.
DEBUG = {
    "train": {
        "architecture": {"name": "logistic"},
        "epochs": 3,
        "optimizer": {"learning_rate": 0.02},
    },
    "evaluate": {"gates": {"accuracy": 0.5}},
}


@dataclass
class Project:
    """A git repository with a copy of the checkout's code, and a way to run commands in it."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    outcome: dict = field(default_factory=dict)
    """The result of its training, in the fixture `trained`."""

    @property
    def variables(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if k != "PREFECT_API_URL"}
        return {
            **inherited,
            # The clone's code, not the installed one.
            "PYTHONPATH": str(self.root),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "COLUMNS": "200",
            **self.environment,
        }

    def run(self, *command: str, status: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run to the end; asserts the exit status `status`, unless that is None."""
        return self._run(self._forked(command), status)

    def python(
        self, code: str, *arguments: str, status: int | None = 0
    ) -> subprocess.CompletedProcess[str]:
        """Run Python code to the end, in a process that has imported torch, DVC and Prefect."""
        return self._run(python_code(code, *arguments), status)

    def _forked(self, command: Sequence[str]) -> Sequence[str]:
        """The command in a fork, where it does the same there."""
        # Without a server these start one, which does not work in a fork.
        starts_server = command[1:2] and command[1] in ("train", "run", "serve", "prefect")
        alike = "PREFECT_API_URL" in self.environment or not starts_server
        if FORKS and (command[0] == "dvc" or (command[0] == "modelmint" and alike)):
            return forks.command(*command)
        if FORKS and command[:2] == (sys.executable, "-m"):
            return forks.command(*command[2:])
        return command

    def _run(self, command: Sequence[str], status: int | None) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command,
            cwd=self.root,
            env=self.variables,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        return expect(done, status)

    def modelmint(
        self, *arguments: str, status: int | None = 0
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of modelmint, as `run` does."""
        if arguments[0] in ("models", "predict"):
            return expect(commands.run(arguments, self.root, self.variables, SECONDS), status)
        return self.run("modelmint", *arguments, status=status)

    def train(self, *arguments: str, status: int = 0) -> dict:
        """The document that `modelmint train --json` prints."""
        return json.loads(self.modelmint("train", "--json", *arguments, status=status).stdout)

    def start(self, *command: str, forked: bool = False) -> subprocess.Popen[str]:
        """Start a command whose output can be read line by line.

        With `forked` it costs a fifth of the CPU time; SIGKILL reaches it a moment later.
        """
        return subprocess.Popen(
            self._forked(command) if forked else command,
            cwd=self.root,
            env={**self.variables, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Tests that a script runs in the background ignore SIGINT; their children must not.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def change_params(self, changes: dict) -> None:
        """Merge into params.yaml; `architecture`, `gates` and `source` are replaced, not merged."""
        path = self.root / "params.yaml"
        params = YAML(typ="safe").load(path.read_text())
        for section, values in changes.items():
            params[section] |= values
        # Atomic, as in editors: a run that reads the file now must not see half of it.
        written = path.with_name(".params.yaml.new")
        with written.open("w") as file:
            YAML(typ="safe", pure=True).dump(params, file)
        written.replace(path)

    def commit(self) -> None:
        self.run("git", "add", "-A")
        self.run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "change")


def expect(
    done: subprocess.CompletedProcess[str], status: int | None
) -> subprocess.CompletedProcess[str]:
    """Assert that a command exited with `status`; None allows any. Returns the command."""
    assert status is None or done.returncode == status, (
        f"{' '.join(done.args)} exited with {done.returncode}\n{done.stdout}\n{done.stderr}"
    )
    return done


def make_project(folder: Path, changes: dict | None = None) -> Project:
    """A repository with the tracked and the new files of the checkout, and with its raw data."""
    # 0.2 CPU seconds instead of 2.4, and the first commands would compile the copied modules.
    return copy_project(_template(json.dumps(changes)), folder)


def copy_project(root: Path, to: Path) -> Project:
    """A copy of a project, whose compiled modules count as newer than their sources."""
    shutil.copytree(root, to, symlinks=True)
    for package in PACKAGES:
        for compiled in (to / package).rglob("*.pyc"):
            os.utime(compiled)  # a step removes compiled files that may be older than their source
    return Project(to)


@cache
def _template(changes: str) -> Path:
    """What `make_project` copies; `changes` are JSON."""
    place = tempfile.mkdtemp(prefix="modelmint-project-")
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    folder = Path(place, "project")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "-co", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        # A deleted file may still be in git's index.
        if (ROOT / name).is_file() and not name.startswith(NOT_NEEDED):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    project = Project(folder)
    if changed := json.loads(changes):
        project.change_params(changed)
    project.run("git", "init", "-q", "-b", "main")
    project.commit()
    project.run("git", "gc", "-q")  # one file instead of 600
    project.run(sys.executable, "-m", "tasks.sources")
    project.run(sys.executable, "-m", "compileall", "-q", *PACKAGES)
    return folder


@contextmanager
def made_once(factory: pytest.TempPathFactory, name: str) -> Iterator[Path]:
    """A folder that all workers share. One at a time enters the block; the first fills it."""
    shared = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield shared / name


def enter(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a project the current folder, with a registry of its own for this test."""
    monkeypatch.chdir(root)
    monkeypatch.setenv("MODELMINT_DATABASE_URL", f"sqlite:///{tmp_path}/registry.db")
    monkeypatch.setenv("MODELMINT_ARTIFACTS", str(tmp_path / "artifacts"))


def worktree(settings: Settings, params: Params) -> Workspace:
    """The worktree of a run that was stopped."""
    with claim_run(settings, params) as run:
        return run.workspace


class Family:
    """Finds every process that a test started, at any depth, by an inherited mark."""

    def __init__(self) -> None:
        self.mark = uuid.uuid4().hex

    def members(self) -> list[str]:
        """The command lines of live members."""
        return [command for _, command in self._members()]

    def kill(self, words: str = "") -> None:
        """Send SIGKILL to members with `words` in their command line, to simulate a power cut."""
        self.send(signal.SIGKILL, words)

    def send(self, number: signal.Signals, words: str) -> bool:
        """Send a signal to members with `words` in their command line. Returns if there are any."""
        found = [process for process, command in self._members() if words in command]
        for process in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)
        return bool(found)

    def _members(self) -> list[tuple[int, str]]:
        found = []
        for entry in Path("/proc").iterdir():
            try:
                alive = self.mark.encode() in (entry / "environ").read_bytes()
                if alive and entry.name.isdigit():
                    command = (entry / "cmdline").read_text().replace("\0", " ")
                    found.append((int(entry.name), command))
            except OSError:  # it has ended or belongs to another user
                continue
        return [(number, command) for number, command in found if command.strip()]

    def wait_until_gone(self, seconds: float) -> list[str]:
        """The members that are still alive after so many seconds."""
        deadline = time.monotonic() + seconds
        while (alive := self.members()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return alive
