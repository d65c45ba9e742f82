"""One look of the loop: what is recorded, whether a training starts, and who may start it."""

import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from flows import versioning
from flows.loop import records, rollback
from flows.loop.decision import Decision, Facts, decide
from flows.loop.facts import gather, jobs_below, labelled, predicted
from flows.loop.records import ATTEMPTS, FAILED, Log, Retraining
from registry import CHAMPION, Event, Registry
from registry.display.drift import said
from tasks import added_rows, fingerprint
from tasks import params as parameters
from tasks.config import Params
from tasks.errors import InputError
from tasks.pipeline import STEPS

EndOfRun = Callable[[str], str | None]
"""How the flow run of an id ended; None while it goes on, and for one of another server."""
GONE = timedelta(days=1)
"""After so long, and after the cool-down, a training on another machine counts as dead."""


@dataclass(frozen=True)
class Loop:
    """The loop of one project, for one look."""

    registry: Registry
    params: Params
    root: Path
    output: Path
    """The folder below which jobs count."""
    actor: str
    flow_run_id: str
    now: datetime
    say: Callable[[str], None]

    @property
    def name(self) -> str:
        return self.params.registration.name

    def log(self) -> Log:
        return records.read(self.registry, self.name)

    def rolled_back(self) -> rollback.Rollback | None:
        """See `rollback.check`."""
        rules = self.params.retrain
        return rollback.check(self.registry, self.name, rules, self.output, self.actor, self.say)

    def decide(self) -> tuple[Facts, Decision]:
        """Whether a training is to start. Raises `InputError` as `gather` does, and if the training
        could only fail: it would use up its attempts and the cool-down."""
        facts = gather(self.registry, self.params, self.root, self.output)
        decision = decide(facts, self.params.retrain, self.now)
        if decision.cause:
            fingerprint.refuse_changed(self.root, STEPS)
            if self.params.retrain.data != "raw":
                prepare = self.params.prepare
                added_rows.check(prepare, self.root / prepare.source.path)
        elif not facts.jobs and facts.champion is not None:
            decision = replace(decision, text=decision.text + self._elsewhere(facts.champion))
        return facts, decision

    def _elsewhere(self, champion: int) -> str:
        """Where the champion's jobs wrote, if not below `output`: its name may have a mistake."""
        jobs = [job for job in self.registry.jobs(self.name) if job.state == "completed"]
        outputs = [job.output for job in jobs if job.version == champion]
        if not outputs:
            return ""
        ref = f"{self.name}:{champion}"
        return f"; no job of {ref} wrote below {self.output}, the newest one wrote to {outputs[0]}"

    def unfinished(self, log: Log) -> Retraining | None:
        """The training that has not ended, or failed and may be tried again."""
        last = log.last
        if last is None or (last.ended and last.outcome != FAILED):
            return None
        return None if last.ended and last.attempts >= ATTEMPTS else last

    def is_alive(self, training: Retraining, end_of_run: EndOfRun) -> bool:
        """Whether a flow run works on it. In this folder there is no other: this one has the lock.

        Elsewhere its Prefect server may know; if nobody does, it counts as alive for a while.
        """
        holder = training.holder.payload
        if training.ended:
            return False
        if (holder.get("host"), holder.get("root")) == (socket.gethostname(), str(self.root)):
            return False
        if end_of_run(str(holder.get("flow_run_id"))):
            return False
        patience = max(GONE, timedelta(days=self.params.retrain.cool_down))
        return self.now - training.holder.at < patience

    def claim(self, facts: Facts, decision: Decision) -> Retraining | None:
        """Record that a training starts; None if another run has done so meanwhile."""
        assert decision.cause is not None
        assert facts.champion is not None
        text = f"started because of {decision.cause}: {decision.text}"
        text += self._changed(facts.champion)
        return records.start(
            self.registry,
            self.name,
            facts.log,
            champion=facts.champion,
            revision=facts.revision,
            text=text,
            facts={
                "cause": decision.cause,
                "jobs": list(decision.jobs[:100]),
                "data": facts.data,
                "labels": sum(facts.labels.values()),
            },
            root=self.root,
            flow_run_id=self.flow_run_id,
            actor=self.actor,
        )

    def resume(self, log: Log, training: Retraining) -> Retraining | None:
        """Record that this run goes on with a training; None if another run has done so."""
        text = f"begun again, attempt {training.attempts + 1} of {ATTEMPTS}"
        return records.resume(
            self.registry,
            self.name,
            log,
            training,
            text=text + (self._changed(training.champion) if training.champion else ""),
            root=self.root,
            flow_run_id=self.flow_run_id,
            actor=self.actor,
        )

    def _changed(self, champion: int) -> str:
        """The end of an entry's sentence, if `params.yaml` is not that of the champion."""
        differs = self._differs(champion)
        return (
            f". Since {self.name}:{champion} params.yaml has changed: {differs}" if differs else ""
        )

    def _differs(self, champion: int) -> str:
        """The values of `params.yaml` that are others than the champion's, of the sections that a
        version keeps: `retrain` and `tune` decide nothing about it."""
        then = self.registry.resolve(f"{self.name}:{champion}").version.params
        try:
            before = parameters.validate(then, "champion")
        except InputError:  # those of an older release
            return ""
        changed = parameters.differences(self.params, before)
        changed = {k: v for k, v in changed.items() if k.partition(".")[0] in then}
        pattern = getattr(before.prepare.source, "pattern", None) or ""
        if pattern.startswith(added_rows.NAME):  # set by `add_rows`, not by a person
            changed.pop("prepare.source.pattern", None)
        return ", ".join([f"{k}={v}" for k, v in changed.items()][:20])

    def add_rows(self) -> tuple[added_rows.Added, list[str], str]:
        """Write the labelled rows beside the raw data. Returns what was written, the overrides with
        which the training reads them, and DVC's hash of the raw data with them.

        The hash is that of before the training: what comes while it runs is new to the next look.

        Raises:
            InputError: the source cannot take them, or there are none where there should be some.
        """
        rules, source = self.params.retrain, self.params.prepare.source
        folder = self.root / source.path
        if rules.data == "raw":
            return added_rows.Added(0), [], versioning.data_hash(self.root, folder)
        form = added_rows.check(self.params.prepare, folder)
        jobs = jobs_below(self.registry, self.name, self.output)
        if rules.data == "window":
            since = self.now - timedelta(days=rules.window)
            jobs = [job for job in jobs if job.started_at >= since]
        notices: list[str] = []
        found = labelled(
            predicted(self.registry, self.name, jobs, notices), self.params.prepare, notices
        )
        for notice in notices:
            self.say(notice)
        added = added_rows.add(self.params.prepare, folder, found)
        for notice in added.notices:
            self.say(notice)
        if not added.rows:
            why = "; ".join((*notices, *added.notices)[:3])
            self._refuse_no_rows(folder / f"{added_rows.NAME}{form}", why)
        pattern = [f"prepare.source.pattern={added_rows.NAME}{form}"]
        overrides = pattern if rules.data == "window" else []
        return added, overrides, versioning.data_hash(self.root, folder)

    def _refuse_no_rows(self, written: Path, why: str) -> None:
        """Raises `InputError` if a training would have no rows, or only those of an earlier one.

        `why` says which labelled rows could not be read.
        """
        rules = self.params.retrain
        if rules.data == "window":
            raise InputError(
                f"no row of the last {rules.window:g} days has a label, so there is nothing to "
                "train on; see retrain.window"
            )
        if written.exists():  # nobody knows whether these rows are still right
            raise InputError(
                f"{written} has the labelled rows of an earlier training, and none of them can be "
                f"read again. Restore the predictions and their files, or remove {written.name}; "
                "or set retrain.data: raw to train on it as it is"
            )
        champion = self.registry.resolve(f"{self.name}@{CHAMPION}").version
        path = Path(self.params.prepare.source.path)
        data = versioning.data_hash(self.root, self.root / path)
        if champion.lineage.data.get(path.as_posix()) == data:
            raise InputError(
                f"a training would have the rows of {champion.ref}: the raw data is the same, and "
                f"no labelled row can be read: {why or 'no job has labels'}"
            )

    def promotion(self, training: Retraining, version: int) -> Event | None:
        """How the champion became champion since a training was started, if it is this version.

        An attempt that is killed may have promoted what the next attempt finds to be champion.
        """
        move = next(iter(self.registry.history(self.name, alias=CHAMPION, limit=1)), None)
        if move is None or (move.kind, move.version) != ("promoted", version):
            return None
        return move if move.id > training.entries[-1].id else None

    def note_first_job(self) -> None:
        """Record the first job of the champion that the last training made: its chain ends."""
        log = self.log()
        training = log.last
        if training is None or training.version is None or training.used:
            return
        if training.version == training.champion:  # it has made the same model again
            return
        alias = self.registry.alias(self.name, CHAMPION)
        if alias is None or alias.version != training.version:
            return
        jobs = jobs_below(self.registry, self.name, self.output)
        own = [
            job
            for job in jobs
            if (job.version, job.alias) == (alias.version, CHAMPION)
            and job.started_at > training.at
        ]
        if not own:
            return
        first, ref = own[-1], f"{self.name}:{alias.version}"
        text = f"job {first.id} is the first with {ref}: {first.rows:,} rows"
        drift = said(first)
        text += f", drift {drift}" if drift else ""
        records.use(self.registry, self.name, log, training, first.id, text, self.actor)

    def end(
        self, training: Retraining, outcome: str, text: str, version: int | None, **facts: Any
    ) -> None:
        """Record how a training ended."""
        records.end(
            self.registry,
            self.name,
            training,
            outcome,
            text,
            version=version,
            facts=facts,
            actor=self.actor,
        )
