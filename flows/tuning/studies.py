"""A study in the registry's database. The only module that uses Optuna, which is an extra.

Every command that tunes the same model on the same data works on one study. It asks for a trial,
reports the loss of each epoch, and tells the end. If its process dies, its trial is marked as
failed, and repeated with the same values. These rules need no lock between commands:

- A trial that failed without a reason is one whose worker died. A trial that repeats it has its
  number in the attribute `repeats`. If two commands make the same repeat at once, the one with the
  lower number counts, and the other fails with a reason.
- A trial that begins after the last one of the budget fails with a reason.
- The values of a trial depend on the study's seed and on how many different trials came before,
  not on how often a process was killed.

Optuna stores values, attributes and distributions as JSON; nothing is pickled.
"""

import hashlib
import math
import os
import socket
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from registry import extras
from registry.databases import studies as database

BEAT_S = 10
GRACE_S = 60
"""A worker on another machine without a sign of life for so long is taken for dead. One on this
machine is known to be dead as soon as it is."""
ATTEMPTS = 10
"""A trial whose worker died so often is not repeated any more."""
EXTRA = "tune", "`modelmint tune`"

Suggest = Callable[[Any], dict[str, Any]]


@dataclass(frozen=True)
class Trial:
    """A trial as the study has it. Its number is that of the first attempt."""

    number: int
    ordinal: int
    """How many different trials came before."""
    state: str
    """`running`, `complete`, `pruned` or `failed`."""
    values: Mapping[str, Any]
    """The value of each parameter that was varied; choices as `Dimension.labels`."""
    loss: float | None
    """The lowest validation loss; None unless it is complete."""
    losses: Mapping[int, float]
    """The validation loss by epoch."""
    metric: float | None
    """The validation metric of the best epoch, if it was asked for."""
    seconds: float
    why: str
    """Why it failed."""
    attempts: int


@dataclass
class Claimed:
    """A trial that this process runs."""

    number: int
    ordinal: int
    values: Mapping[str, Any]
    handle: Any
    """Optuna's trial."""


class Study:
    """One study. May be used by several threads.

    Raises:
        RegistryError: Optuna is not installed, or the database cannot be opened.
    """

    def __init__(
        self,
        database_url: str,
        name: str,
        *,
        identity: Mapping[str, Any],
        seed: int = 0,
        pruner: str = "none",
        trials: int | None = None,
        minutes: float | None = None,
    ) -> None:
        self.name, self._seed, self._pruner = name, seed, pruner
        self._trials, self._minutes = trials, minutes
        self._optuna = extras.load("optuna", *EXTRA)
        # It would print a line for each trial, and warn of what we use on purpose.
        self._optuna.logging.set_verbosity(self._optuna.logging.ERROR)
        warnings.filterwarnings("ignore", category=self._optuna.exceptions.ExperimentalWarning)
        warnings.filterwarnings("ignore", "Heartbeat of storage is supposed", UserWarning)
        url, how = database.options(database_url)
        with database.one_at_a_time(database_url):
            self._backend = self._optuna.storages.RDBStorage(
                url, engine_kwargs=how, heartbeat_interval=BEAT_S, grace_period=GRACE_S
            )
        database.begin_explicitly(self._backend.engine)
        self._storage = self._optuna.storages.get_storage(self._backend)  # with a cache
        # Raised if another command has marked a trial of ours as failed, and repeats it.
        self._taken_for_dead = (ValueError, self._optuna.exceptions.UpdateFinishedTrialError)
        self._one_thread = threading.Lock()
        self._mine: dict[int, Any] = {}
        self.is_new = name not in self.names()
        study = self._optuna.create_study(
            study_name=name, storage=self._storage, direction="minimize", load_if_exists=True
        )
        if self.is_new:
            study.set_user_attr("identity", dict(identity))

    def close(self) -> None:
        """Close the connections to the database."""
        self._backend.engine.dispose()

    def names(self) -> list[str]:
        """The names of all studies in the database."""
        return list(self._optuna.study.get_all_study_names(self._storage))

    def identity_of(self, name: str) -> dict[str, Any]:
        """What a study of the database belongs to; empty if it does not say."""
        id_ = self._storage.get_study_id_from_name(name)
        found = self._storage.get_study_user_attrs(id_).get("identity")
        return found if isinstance(found, dict) else {}

    def ask(self, suggest: Suggest) -> Claimed | None:
        """The next trial with its values; None if there is none to begin now.

        `suggest` asks the given Optuna trial for values.
        """
        with self._one_thread:
            while True:
                self._repeat_the_dead()
                study = self._study()
                if not self._waiting() and self._is_used_up():
                    return None
                handle = self._claim(study)
                root = int(handle.user_attrs.get("repeats", handle.number))
                if why := self._surplus(handle.number, root):
                    handle.set_user_attr("surplus", True)
                    self._fail(handle, why)
                    continue
                self._backend.record_heartbeat(handle._trial_id)
                self._mine[handle.number] = handle
                ordinal = self._ordinals()[root]
                study.sampler = self._sampler(ordinal)
                values = suggest(handle)
                handle.set_user_attr("chosen", True)
                return Claimed(root, ordinal, values, handle)

    def report(self, claimed: Claimed, epoch: int, loss: float) -> bool:
        """Report the validation loss of an epoch. Returns whether to stop the trial."""
        claimed.handle.report(loss, epoch)
        return bool(claimed.handle.should_prune())

    def complete(self, claimed: Claimed, loss: float) -> None:
        """Tell that a trial ended with this lowest validation loss."""
        self._tell(claimed, loss)

    def pruned(self, claimed: Claimed) -> None:
        """Tell that a trial was stopped early."""
        self._tell(claimed, None, self._optuna.trial.TrialState.PRUNED)

    def failed(self, claimed: Claimed, why: str) -> None:
        """Tell that a trial has no result; it is not repeated."""
        with self._one_thread:
            self._fail(claimed.handle, why)

    def beat(self) -> None:
        """Show the other commands that the trials of this one go on."""
        with self._one_thread:
            for handle in self._mine.values():
                self._backend.record_heartbeat(handle._trial_id)

    def trials(self) -> list[Trial]:
        """All different trials, in their order, each in its last attempt."""
        ordinals, found = self._ordinals(), []
        for root, attempts in sorted(self._by_root().items()):
            if root in ordinals:
                found.append(_record(attempts, root, ordinals[root]))
        return found

    def seconds(self) -> float:
        """How long trials have run: times in which several ran count once, pauses never."""
        now, total, until = datetime.now(), timedelta(), datetime.min
        ran = [t for t in self._all() if t.state.name in ("RUNNING", "COMPLETE", "PRUNED")]
        for begin, end in sorted(
            (t.datetime_start or now, t.datetime_complete or now) for t in ran
        ):
            total += max(end - max(begin, until), timedelta())
            until = max(until, end)
        return total.total_seconds()

    def importances(self) -> dict[str, float]:
        """How much of the loss's variance each parameter explains (fANOVA), the largest first.

        Empty if too few trials are complete.
        """
        importance = self._optuna.importance
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                evaluator = importance.FanovaImportanceEvaluator(seed=self._seed)
                found = importance.get_param_importances(self._study(), evaluator=evaluator)
        except (ValueError, RuntimeError):
            return {}
        return {name: float(share) for name, share in found.items() if math.isfinite(share)}

    def _study(self) -> Any:
        """Optuna's study; a new object each time, since its sampler belongs to one trial."""
        return self._optuna.load_study(
            study_name=self.name, storage=self._storage, pruner=self._make_pruner()
        )

    def _sampler(self, ordinal: int) -> Any:
        text = f"{self._seed} {ordinal}".encode()
        seed = int.from_bytes(hashlib.sha256(text).digest()[:4], "big")
        return self._optuna.samplers.TPESampler(seed=seed)

    def _make_pruner(self) -> Any:
        pruners = self._optuna.pruners
        if self._pruner == "hyperband":
            return pruners.HyperbandPruner(min_resource=3, max_resource="auto")
        if self._pruner == "median":
            # The first trials, and the first epochs of each, say little.
            return pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=3)
        return pruners.NopPruner()

    def _all(self) -> list[Any]:
        id_ = self._storage.get_study_id_from_name(self.name)
        found: list[Any] = self._storage.get_all_trials(id_, deepcopy=False)
        return sorted(found, key=lambda trial: trial.number)

    def _by_root(self) -> dict[int, list[Any]]:
        """All attempts by the number of the first one, without those that do not count."""
        found: dict[int, list[Any]] = {}
        for trial in self._all():
            if not trial.user_attrs.get("surplus"):
                root = int(trial.user_attrs.get("repeats", trial.number))
                found.setdefault(root, []).append(trial)
        return found

    def _ordinals(self) -> dict[int, int]:
        """By number, how many different trials came before."""
        return {root: n for n, root in enumerate(sorted(self._by_root()))}

    def _surplus(self, number: int, root: int) -> str:
        """Why a trial that was just asked for does not count; empty if it does."""
        twins = [t for t in self._by_root()[root] if t.number < number and not _is_dead(t)]
        if twins:
            return f"trial {twins[0].number} is the same"
        if self._trials is not None and self._ordinals()[root] >= self._trials:
            return "the budget is used up"
        return ""

    def _claim(self, study: Any) -> Any:
        """A trial that waits to be repeated, or a new one, with this process as its worker.

        In one statement: else a trial whose worker is killed at once would seem to have none.
        """
        make, running = self._optuna.trial, self._optuna.trial.TrialState.RUNNING
        for waiting in self._waiting():
            with suppress(*self._taken_for_dead):
                if self._storage.set_trial_state_values(waiting._trial_id, state=running):
                    handle = make.Trial(study, waiting._trial_id)
                    handle.set_user_attr("worker", worker())
                    return handle
        begun = make.create_trial(state=running, user_attrs={"worker": worker()})
        id_ = self._storage.get_study_id_from_name(self.name)
        return make.Trial(study, self._storage.create_new_trial(id_, template_trial=begun))

    def _is_used_up(self) -> bool:
        if self._trials is not None and len(self._by_root()) >= self._trials:
            return True
        return self._minutes is not None and self.seconds() >= 60 * self._minutes

    def _waiting(self) -> list[Any]:
        return [trial for trial in self._all() if trial.state.name == "WAITING"]

    def _repeat_the_dead(self) -> None:
        """Mark trials of dead workers as failed, and have each repeated once."""
        study = self._study()
        self._optuna.storages.fail_stale_trials(study)
        for trial in self._all():
            if trial.state.name == "RUNNING" and trial.number not in self._mine and _lost(trial):
                self._end(trial._trial_id)
        for root, attempts in self._by_root().items():
            if all(map(_is_dead, attempts)) and len(attempts) < ATTEMPTS:
                last = attempts[-1]
                # Before all values were chosen, the same ones are chosen again.
                values = last.params if last.user_attrs.get("chosen") else {}
                # With a worker: who takes it writes its own name only afterwards.
                attributes = {"repeats": root, "worker": worker()}
                study.enqueue_trial(values, user_attrs=attributes)

    def _end(self, trial_id: int) -> None:
        """Mark a trial as failed without a reason, unless it has ended."""
        failed = self._optuna.trial.TrialState.FAIL
        with suppress(self._optuna.exceptions.UpdateFinishedTrialError):  # another command did so
            self._storage.set_trial_state_values(trial_id, state=failed)

    def _fail(self, handle: Any, why: str) -> None:
        self._mine.pop(handle.number, None)
        with suppress(*self._taken_for_dead):
            handle.set_user_attr("why", why[:2000])
            self._study().tell(handle.number, state=self._optuna.trial.TrialState.FAIL)

    def _tell(self, claimed: Claimed, loss: float | None, state: Any = None) -> None:
        with self._one_thread:
            self._mine.pop(claimed.handle.number, None)
            with suppress(*self._taken_for_dead):
                self._study().tell(claimed.handle.number, loss, state=state)


def worker() -> list[Any]:
    """Identifies this process: its machine, its numbering of processes, its number and start."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        numbering = os.stat("/proc/self/ns/pid").st_ino
    except OSError:  # not Linux
        return [socket.gethostname(), 0, os.getpid(), 0]
    return [boot, numbering, os.getpid(), _start_of(os.getpid())]


def _start_of(pid: int) -> int | None:
    """When a process of this machine began, in ticks of the kernel; None if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else int(fields[19])


def _lost(trial: Any) -> bool:
    """Whether the worker of a running trial is known to be dead."""
    found, me = trial.user_attrs.get("worker"), worker()
    if found[:2] != me[:2] or not me[1]:  # another machine: its heartbeat decides
        began = trial.datetime_start
        # Unless it was killed before the first one; values are chosen within a second.
        old = began is not None and datetime.now() - began > timedelta(seconds=GRACE_S)
        return bool(old and not trial.user_attrs.get("chosen"))
    return bool(found[2:] == me[2:] or _start_of(int(found[2])) != found[3])


def _is_dead(trial: Any) -> bool:
    return bool(trial.state.name == "FAIL" and not trial.user_attrs.get("why"))


def _record(attempts: list[Any], root: int, ordinal: int) -> Trial:
    alive = [trial for trial in attempts if not _is_dead(trial)]
    last = alive[0] if alive else attempts[-1]
    states = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
    state = states.get(last.state.name, "running")
    gave_up = not alive and len(attempts) >= ATTEMPTS
    if not alive and not gave_up:
        state = "running"  # it will be repeated
    began, ended = last.datetime_start, last.datetime_complete
    return Trial(
        number=root,
        ordinal=ordinal,
        state=state,
        values=dict(last.params),
        loss=last.value if state == "complete" else None,
        losses=dict(last.intermediate_values),
        metric=last.user_attrs.get("metric"),
        seconds=(ended - began).total_seconds() if began and ended else 0.0,
        why="its worker died each time" if gave_up else str(last.user_attrs.get("why", "")),
        attempts=len(attempts),
    )


class Heart:
    """Beats for a study while its block runs."""

    def __init__(self, study: Study) -> None:
        self._study, self._end = study, threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._end.wait(BEAT_S):
            try:
                self._study.beat()
            except Exception:  # the database is away for a moment; the grace is six beats long
                time.sleep(1)
