"""The maintenance flows: each does one chore, and shows what it did as an artifact.

Their schedules, and the switch of each, are in `prefect.yaml`. A chore that finds a problem ends
its run as Failed, which notifications report as they do any other failure.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.client.schemas import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from prefect.variables import Variable
from pydantic import Field

from flows import quiet
from flows.alive import be_watched
from flows.artifacts import show_facts
from flows.prefect_history import compact_database, remove_old_runs
from flows.settings import BACKUP, Settings
from flows.upkeep import clean_runs
from registry import NoRegistry, NotFound, Registry, RegistryError, integrity, upkeep
from registry.transfer.backup import backup as copy_registry
from registry.transfer.backup import verify_backup
from tasks.errors import InputError

quiet.install()

Days = Annotated[int, Field(ge=1)]
HEADS = 50
"""Models whose newest hash the artifact of a backup lists."""
PROBLEMS = 20
"""Problems that an artifact lists; `modelmint models verify` prints all."""


@dataclass
class Done:
    """What a chore did. With a problem its run fails."""

    summary: str
    facts: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


@flow(name="maintenance", flow_run_name="back up the registry", persist_result=False)
def back_up() -> State[Any]:
    """Bring the backup of the registry in the folder of MODELMINT_BACKUP up to date."""
    return _chore("backup", _back_up)


@flow(name="maintenance", flow_run_name="verify the registry", persist_result=False)
def verify(full_every_days: Days = 30) -> State[Any]:
    """Check what was added to the registry since the last verification without a problem.

    Args:
        full_every_days: Days after which every file is read again, those of the backup too.
    """
    return _chore("verify", lambda settings: _verify(settings, timedelta(days=full_every_days)))


@flow(name="maintenance", flow_run_name="remove files of no version", persist_result=False)
def collect() -> State[Any]:
    """Remove files that killed registrations left in the artifact store a day ago or earlier."""
    return _chore("gc", _collect)


@flow(name="maintenance", flow_run_name="remove old worktrees", persist_result=False)
def clean_worktrees(keep_days: Days = 30) -> State[Any]:
    """Remove worktrees and records of old runs on this machine.

    Args:
        keep_days: Days that they are kept. A training that failed or was stopped before cannot be
            resumed any more; registered versions stay.
    """
    return _chore("worktrees", lambda settings: _clean(settings, keep_days))


@flow(name="maintenance", flow_run_name="remove old flow runs", persist_result=False)
def clean_prefect(keep_days: Days = 90) -> State[Any]:
    """Remove old flow runs of this project from the Prefect server, and compact its database.

    Args:
        keep_days: Days that flow runs are kept after their end. What they registered and predicted
            stays; active runs stay too.
    """
    return _chore("prefect", lambda settings: _clean_prefect(settings, keep_days))


def _chore(name: str, work: Callable[[Settings], Done]) -> State[Any]:
    """Do the chore, show its facts and problems, and end the run accordingly."""
    be_watched(str(flow_run.id))
    try:
        done = work(Settings.from_environment())
    except NoRegistry:
        return Completed(name="Idle", message="there is no registry yet: `modelmint train`")
    except (InputError, RegistryError) as error:
        done = Done("it failed", problems=[str(error)])
    show_facts(f"maintenance-{name}", done.summary, done.facts, done.problems[:PROBLEMS])
    if done.problems:
        more = f" (and {len(done.problems) - 1} more)" if len(done.problems) > 1 else ""
        return Failed(message=done.problems[0] + more)
    get_run_logger().info(done.summary)
    return Completed(message=done.summary)


def _back_up(settings: Settings) -> Done:
    folder = os.environ.get(BACKUP)
    with settings.open_registry() as registry:
        if not registry.models():  # raises NoRegistry if there is none
            return Done("nothing was backed up: the registry is empty")
        if not folder:
            return Done(
                "nothing was backed up",
                problems=[
                    f"Nothing was backed up: {BACKUP} is not set where the flows run. Set it to a "
                    "folder on another disk or machine and start `modelmint serve` or the worker "
                    "again; or set `active: false` for this deployment in prefect.yaml."
                ],
            )
        made = copy_registry(registry, Path(folder).absolute())
    facts = {
        "folder": f"`{Path(folder).absolute()}`",
        "models": f"{made.models:,}",
        "versions": f"{made.versions:,}",
        "rows": f"{made.rows:,}",
        "files": f"{made.files:,} ({made.bytes:,} bytes)",
        "new files": f"{made.copied:,}",
        "repaired files": f"{made.repaired:,}",
    }
    heads = list(made.heads.items())[:HEADS]
    facts |= {f"newest hash of {model}": f"`{head}`" for model, head in heads}
    return Done(f"{made.versions:,} versions and {made.files:,} files are in {folder}", facts)


@dataclass(frozen=True)
class Verified:
    """What the last verification without a problem reached; a variable of the Prefect server.

    `event` is the newest event then; `everything` is when every file was last read.
    """

    event: int
    everything: datetime

    @classmethod
    def load(cls, registry: Registry) -> "Verified | None":
        kept: Any = Variable.get(_variable(registry))
        try:
            return cls(int(kept["event"]), datetime.fromisoformat(kept["everything"]))
        except (KeyError, TypeError, ValueError):  # there is none, or somebody edited it
            return None

    def save(self, registry: Registry) -> None:
        value = {"event": self.event, "everything": self.everything.isoformat()}
        Variable.set(_variable(registry), value, overwrite=True)


def _variable(registry: Registry) -> str:
    return f"modelmint_verified_{registry.id.replace('-', '_').lower()}"


def _verify(settings: Settings, full_every: timedelta) -> Done:
    now = datetime.now(UTC)
    with settings.open_registry() as registry:
        registry.models()  # raises NoRegistry
        last = Verified.load(registry)
        since = last.event if last and now - last.everything < full_every else None
        try:
            found = integrity.verify(registry, since=since)
        except NotFound:  # the database was restored from a backup that is older than the event
            since = None
            found = integrity.verify(registry)
        problems = [f"{p.ref} {p.path}".rstrip() + f": {p.what}" for p in found.problems]
        facts = {
            "checked": "everything" if since is None else f"what came after event {since}",
            "versions": f"{found.versions:,}",
            "files": f"{found.files:,} ({found.bytes:,} bytes)",
            "events": f"{found.events:,}",
        }
        if since is None and (folder := os.environ.get(BACKUP)):
            backup = verify_backup(Path(folder).absolute(), registry)
            problems += backup.problems
            facts["backup"] = f"{backup.files:,} files in `{folder}`"
        if not problems and found.newest is not None:
            everything = last.everything if last and since is not None else now
            Verified(found.newest, everything).save(registry)
    facts["problems"] = f"{len(problems):,}"
    done = f"no problem in {facts['checked']}: {found.versions:,} versions, {found.files:,} files"
    return Done(f"{len(problems):,} problems" if problems else done, facts, problems)


def _collect(settings: Settings) -> Done:
    with settings.open_registry() as registry:
        registry.models()  # raises NoRegistry
        strays = upkeep.gc(registry, dry_run=False)
    removed = [stray for stray in strays if stray.removable]
    size = sum(stray.size for stray in removed)
    foreign = sum(stray.perhaps_foreign for stray in strays)
    facts = {
        "removed files": f"{len(removed):,} ({size:,} bytes)",
        "kept, younger than a day": f"{len(strays) - len(removed) - foreign:,}",
        "kept, perhaps of another registry": f"{foreign:,}",
    }
    return Done(f"removed {len(removed):,} files ({size:,} bytes)", facts)


def _clean(settings: Settings, keep_days: int) -> Done:
    before = datetime.now(UTC) - timedelta(days=keep_days)
    removed = clean_runs(settings, [], before=before)
    size = sum(run.size for run in removed)
    facts = {
        "removed runs": f"{len(removed):,}, older than {keep_days} days",
        "freed": f"{size:,} bytes",
        "folder": f"`{settings.runs}`",
    }
    return Done(f"removed {len(removed):,} runs ({size:,} bytes)", facts)


def _clean_prefect(settings: Settings, keep_days: int) -> Done:
    removed = remove_old_runs(settings.root, datetime.now(UTC) - timedelta(days=keep_days))
    compacted = compact_database(str(flow_run.id))
    facts = {
        "removed flow runs": f"{removed.runs:,}, ended more than {keep_days} days ago",
        "their logs": "removed with them",
        "their artifacts": removed.artifacts,
        "events": removed.events,
        "database": compacted,
    }
    return Done(f"removed {removed.runs:,} flow runs; {compacted}", facts)
