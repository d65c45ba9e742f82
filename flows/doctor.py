"""`modelmint doctor`: checks what this installation and project depend on, one line for each.

A check that fails says so and does not stop the others. Nothing is changed; a file that is written
to a store or folder is removed again.
"""

import json
import os
import platform
import shutil
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from importlib import metadata
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

from flows.errors import ServerDown
from flows.git import code_of
from flows.serve import find_unfit_settings
from flows.server import find_api, prefect_home
from flows.settings import Settings
from registry import NoRegistry, Registry, RegistryError, SchemaMismatch
from tasks import fingerprint, params
from tasks.errors import InputError
from tasks.pipeline import STEPS

DISTRIBUTION = "modelmint"
MAIN = ("modelmint", "torch", "onnxruntime-gpu", "onnxruntime", "prefect", "dvc", "sqlalchemy")
FREE_GB = 5.0
"""Less free space than this is a problem: a training with its worktree takes up to a few GB."""
APART_S = 5.0
"""Seconds that two clocks may differ: schedules and the order of events depend on them."""
TIMEOUT_S = 5.0
REMOTE_S = 30.0


@dataclass(frozen=True)
class Finding:
    """What a check found. `fix` is the command or the change that solves a problem."""

    check: str
    state: Literal["ok", "note", "problem"]
    found: str
    fix: str = ""


Findings = Iterator[Finding]


def examine(settings: Settings) -> Findings:
    """Run every check, in the order in which a person would look."""
    for name, check in CHECKS.items():
        try:
            yield from check(settings)
        except InputError as error:
            yield Finding(name, "problem", str(error), "correct what the message names")
        except Exception as error:  # a broken installation can raise anything; the others go on
            text = f"{type(error).__name__}: {error}"
            yield Finding(name, "problem", text, "report this, with the output of this command")


def _python(_settings: Settings) -> Findings:
    version = platform.python_version()
    yield Finding("python", "ok", f"{version} on {platform.platform()}, {sys.executable}")


def _libraries(_settings: Settings) -> Findings:
    """The installed versions against those that modelmint asks for."""
    wrong = []
    for text in metadata.requires(DISTRIBUTION) or []:
        wanted = Requirement(text)
        if wanted.marker and not wanted.marker.evaluate({"extra": ""}):
            continue
        installed = _version(wanted.name)
        if installed is None:
            wrong.append(f"{wanted.name} is missing")
        elif installed not in wanted.specifier:
            wrong.append(f"{wanted.name} is {installed}, needed is {wanted.specifier}")
    if wrong:
        fix = "`make setup` in a clone of modelmint, or `pip install --upgrade modelmint`"
        yield Finding("libraries", "problem", "; ".join(wrong), fix)
    else:
        shown = [f"{name} {version}" for name in MAIN if (version := _version(name))]
        yield Finding("libraries", "ok", ", ".join(shown))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _gpu(_settings: Settings) -> Findings:
    """Training uses torch's GPU, predictions ONNX Runtime's: one may see it without the other."""
    import onnxruntime

    from tasks.device import best_gpu
    from tasks.session import cuda_devices

    devices, trains = cuda_devices(), best_gpu()
    predicts = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if not devices:
        text = f"training uses {trains or 'the CPU'}, predictions use the CPU"
        yield Finding("gpu", "note", f"the NVIDIA driver finds no device: {text}")
    elif trains and predicts:
        yield Finding("gpu", "ok", trains)
    else:
        whose = "onnxruntime" if trains else "torch"
        fix = f"install the build of {whose} with CUDA: see requirements-torch.lock"
        text = f"the driver has {devices} devices, and the installed {whose} cannot use them"
        yield Finding("gpu", "problem", text, fix)


def _project(settings: Settings) -> Findings:
    root = settings.root
    try:
        code = code_of(root)
    except InputError as error:
        yield Finding("git", "problem", str(error), "`git init`, and commit the project")
    else:
        if code.commit is None:
            text = f"{root} has no commit, so no version could name its code"
            yield Finding("git", "problem", text, "`git add -A && git commit`")
        else:
            changed = ", with uncommitted changes" if code.dirty else ""
            yield Finding("git", "ok", f"{code.commit[:12]}{changed}")
    try:
        params.load(settings.root / "params.yaml")
    except InputError as error:
        yield Finding(
            "params.yaml", "problem", str(error), "`modelmint params` lists what is valid"
        )
    else:
        yield Finding("params.yaml", "ok", str(root / "params.yaml"))
    if changes := fingerprint.code_changes(root, STEPS):
        stages = ", ".join(change.stage for change in changes)
        text = f"the installed code of {stages} is not the recorded one"
        yield Finding("code.json", "problem", text, "`modelmint code`, then commit code.json")
    else:
        yield Finding("code.json", "ok", "describes the installed code")


def _data(settings: Settings) -> Findings:
    from flows.versioning import default_remote, reach_remote

    remote = default_remote(settings.root)
    if remote is None:
        text = "DVC has no remote: the data exist on this machine only"
        yield Finding("dvc remote", "note", text, "`dvc remote add -d NAME URL`, then `dvc push`")
    elif "://" not in remote and not os.access(remote, os.W_OK):
        text = f"the folder {remote} is missing, or cannot be written"
        yield Finding(
            "dvc remote", "problem", text, "mount it, or `dvc remote modify NAME url URL`"
        )
    elif why := _within(REMOTE_S, lambda: reach_remote(settings.root)):
        text = f"DVC cannot use {remote}: {why}"
        yield Finding("dvc remote", "problem", text, "`dvc remote modify NAME ...`; `dvc push -v`")
    else:
        yield Finding("dvc remote", "ok", remote)


def _within(seconds: float, ask: Callable[[], str]) -> str:
    """What `ask` returns, or that it took longer: some clients try for minutes."""
    answers: list[str] = []
    asking = threading.Thread(target=lambda: answers.append(ask()), daemon=True)
    asking.start()
    asking.join(seconds)
    return answers[0] if answers else f"no answer within {seconds:g} s"


def _registry(settings: Settings) -> Findings:
    shown, fix = "database", "see MODELMINT_DATABASE_URL in `modelmint config`"
    try:
        with settings.open_registry() as registry:
            shown = registry.database.shown
            yield Finding("database", "ok", f"{shown}, {len(registry.models())} models")
            yield _store(settings, registry)
            yield _clock("clock of the database", registry.clock_ahead())
    except NoRegistry as error:
        yield Finding("database", "note", str(error), "`modelmint models init`")
    except SchemaMismatch as error:
        yield Finding("database", "problem", str(error), "`modelmint models upgrade`")
    except RegistryError as error:
        yield Finding("database", "problem", str(error), fix)


def _store(settings: Settings, registry: Registry) -> Finding:
    """Write a file to the artifact store as a registration does, and remove it."""
    fix = "see MODELMINT_ARTIFACTS in `modelmint config`"
    try:
        registry.reach()
        with tempfile.TemporaryDirectory() as scratch:
            probe = Path(scratch, "probe")
            probe.write_bytes(os.urandom(64))
            registry.files.discard(registry.files.stage(probe))
    except (RegistryError, OSError) as error:
        return Finding("artifacts", "problem", str(error), fix)
    return Finding("artifacts", "ok", f"{settings.artifacts}, written and removed a file")


def _clock(name: str, ahead_s: float) -> Finding:
    apart = abs(ahead_s)
    if apart > APART_S:
        fix = "synchronise both clocks, for example with chrony"
        return Finding(name, "problem", f"differs from this machine's by {apart:,.0f} s", fix)
    return Finding(name, "ok", f"differs from this machine's by less than {APART_S:g} s")


def _server(_settings: Settings) -> Findings:
    try:
        api = find_api()
    except ServerDown as error:
        fix = "start it, or unset PREFECT_API_URL"
        yield Finding("prefect server", "problem", str(error), fix)
        return
    if api is None:
        text = "none runs, so nothing is scheduled; commands start a temporary one"
        yield Finding("prefect server", "note", text, "`modelmint serve`")
        return
    try:
        with urllib.request.urlopen(f"{api}/admin/version", timeout=TIMEOUT_S) as reply:
            version, date = str(json.load(reply)), reply.headers["date"]
        unfit = find_unfit_settings(api)
    except (OSError, HTTPException, ValueError) as error:
        text = f"{api} answered, and then did not: {error or type(error).__name__}"
        yield Finding("prefect server", "problem", text, "look at its log, and start it again")
        return
    ours = metadata.version("prefect")
    if version != ours:
        text = f"{api} is Prefect {version}, and this client is {ours}"
        yield Finding("prefect server", "problem", text, "install one version on both machines")
    elif unfit:
        yield Finding("prefect server", "problem", unfit, "restart it with these settings")
    else:
        yield Finding("prefect server", "ok", f"{api}, Prefect {version}")
    if date:
        ahead = parsedate_to_datetime(date).timestamp() - time.time()
        yield _clock("clock of the server", ahead)


def disks(settings: Settings) -> Findings:
    """Free space where data grow. Folders of one disk are one line."""
    places = {"project": settings.root, "cache": settings.cache, "prefect": prefect_home()}
    places |= {"runs": settings.runs, "temporary": Path(tempfile.gettempdir())}
    if "://" not in settings.artifacts:
        places["artifacts"] = Path(settings.artifacts)
    disks: dict[int, list[str]] = {}
    free: dict[int, float] = {}
    for name, path in places.items():
        there = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
        disk = there.stat().st_dev
        disks.setdefault(disk, []).append(name)
        free[disk] = shutil.disk_usage(there).free / 1e9
    for disk, names in disks.items():
        text = f"{free[disk]:,.1f} GB free for {', '.join(names)}"
        if free[disk] < FREE_GB:
            fix = "`modelmint runs clean`, `modelmint models gc`, `dvc gc --workspace`"
            yield Finding("disk", "problem", f"{text}; needed are {FREE_GB:g} GB", fix)
        else:
            yield Finding("disk", "ok", text)


CHECKS: dict[str, Callable[[Settings], Findings]] = {
    "python": _python,
    "libraries": _libraries,
    "project": _project,
    "dvc remote": _data,
    "database": _registry,
    "prefect server": _server,
    "disk": disks,
    "gpu": _gpu,  # the last one: it imports torch
}
