"""The tuning flow: prepare once, search, repeat the best with other seeds, register the winner."""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas import State
from prefect.runtime import flow_run

from flows import artifacts, warm
from flows.alive import be_watched
from flows.outcome import Outcome, errors_end, failed_state
from flows.pretrained import read_start
from flows.runs import claim_run, kept_out, resolve_paths, snapshot_of
from flows.settings import Settings, actor
from flows.stages import STATUS_INPUT, StageResult, run_stage, stages_stop_with_this
from flows.training import train_and_register
from flows.training_tasks import bring_raw_data, fill_workspace
from flows.tuning import repeats, results
from flows.tuning.results import StudyProgress, TuneOutcome
from flows.tuning.search import Ended, Search, suggest_from
from flows.tuning.studies import Claimed, Study, Trial
from flows.tuning.trials import Material, shared_material
from registry import Registry
from tasks import fingerprint, recorded
from tasks import params as parameters
from tasks.config import Params, Tune
from tasks.errors import InputError
from tasks.pipeline import STEPS
from tasks.search_space import Space, assignments
from tasks.workspace import Workspace

PARTS = {
    "data": "the prepared data",
    "space": "the parameters to vary",
    "train": "the other parameters of train",
    "code": "the code of the training",
    "search": "pruner or seed of the search",
    "start": "the weights to start from",
}
"""What a study belongs to, besides the model's name."""


@dataclass(frozen=True)
class Task:
    """What a command was asked to tune."""

    file: str
    overrides: list[str]
    """Without those of `tune`: the defaults, with which trials are compared."""
    data: dict[str, Any]
    params: Params
    tune: Tune
    space: Space
    workers: int

    @classmethod
    def read(cls, settings: Settings, file: str, overrides: list[str], workers: int) -> "Task":
        """Read and check everything before anything starts. Raises InputError."""
        path = settings.root / file
        own = [one for one in overrides if not one.strip().startswith("tune.")]
        tune = parameters.load(path, overrides).tune
        data = parameters.override(parameters.read(path), own)
        space = Space.of(data, tune, path.name)
        params = resolve_paths(settings, parameters.validate(data, path.name))
        return cls(file, own, data, params, tune, space, workers)


@flow(name="tuning", flow_run_name="tune {params_file}", persist_result=False)
def tuning(
    params_file: str = "params.yaml", overrides: list[str] | None = None, workers: int = 1
) -> TuneOutcome | State[TuneOutcome]:
    """Search better parameters of the training; register what is better than the defaults.

    Args:
        params_file: The parameters, relative to the project's folder; its section `tune` says what
            to vary.
        overrides: Values for this study only, each as section.key=value, such as tune.trials=20.
        workers: Trials that run at the same time.
    """
    started = time.monotonic()
    be_watched(str(flow_run.id))
    artifacts.tag_run("tuning")
    outcome = TuneOutcome(flow_run_id=str(flow_run.id or ""))
    with errors_end(outcome), stages_stop_with_this():
        _tune(outcome, params_file, overrides or [], workers)
    outcome.seconds = time.monotonic() - started
    return outcome if outcome.ended_well else failed_state(outcome)


def _tune(outcome: TuneOutcome, file: str, overrides: list[str], workers: int) -> None:
    settings = Settings.from_environment()
    task = Task.read(settings, file, overrides, workers)
    fingerprint.refuse_changed(settings.root, STEPS)
    outcome.proposed = not task.tune.parameters
    outcome.parameters = {n: d.model_dump(mode="json") for n, d in task.space.dimensions.items()}
    with settings.open_registry() as registry:
        registry.reach()
        registry.create()  # its tables come before those of the study
        found = _search_and_decide(outcome, settings, task, registry)
        if found is None or outcome.winner is None:
            return
        outcome.training = Outcome(flow_run_id=outcome.flow_run_id)
        chosen = [*task.overrides, *outcome.overrides]
        train_and_register(outcome.training, task.file, chosen, study=found)
        outcome.end, outcome.message = outcome.training.end, outcome.training.message
        if outcome.training.version:
            _link(registry, outcome)


def _link(registry: Registry, outcome: TuneOutcome) -> None:
    """Tag the version with its study and trial."""
    assert outcome.training is not None
    name, _, number = outcome.training.version.rpartition(":")
    for key, value in (("tune.study", outcome.study), ("tune.trial", str(outcome.winner))):
        registry.tag(name, int(number), key, value, actor=actor())


def _search_and_decide(
    outcome: TuneOutcome, settings: Settings, task: Task, registry: Registry
) -> dict[str, Any] | None:
    """Run the study and the repetitions; returns what the version keeps, None on a mistake."""
    bring_raw_data(settings, task.params)
    with claim_run(settings, task.params, outcome.flow_run_id) as run:
        fill_workspace(settings, task.params, registry, run.workspace)
        if not _prepare(outcome, run.workspace):
            return None
        snapshot = snapshot_of(settings.root, *kept_out(task.params))
        identity = _identity(settings, task, run.workspace)
        study = _open_study(settings, task, identity)
        outcome.study = study.name
        try:
            prefix = f"tune-{study.name}"
            with (
                _threads_for(task.workers),
                shared_material(settings, snapshot, run.workspace, prefix) as material,
            ):
                _search(task, study, material)
                document = _repeat_and_decide(outcome, settings, task, study, material)
        finally:
            study.close()
        run.state, run.detail = "looked", f"the study {study.name}"  # a worktree is not needed now
    return document


def _prepare(outcome: TuneOutcome, workspace: Workspace) -> bool:
    """Run the stage `prepare`, if it is stale. Returns whether it succeeded."""
    state: Any = run_stage.with_options(name="prepare")("prepare", workspace, return_state=True)
    found = state.result(raise_on_failure=False)
    if state.is_completed():
        return True
    if isinstance(found, StageResult):
        outcome.end = "input" if found.status == STATUS_INPUT else "error"
        outcome.message = f"{found.name}: {found.message}"
    else:
        outcome.end = "input" if isinstance(found, InputError) else "error"
        outcome.message = str(found or state.message)
    return False


def _identity(settings: Settings, task: Task, workspace: Workspace) -> dict[str, Any]:
    """What a study belongs to. Another value of any part is another study."""
    stage = recorded.locked_stages(workspace.root)["prepare"]
    prepared = workspace.prepared.relative_to(workspace.root).as_posix()
    identity = {
        "data": next(str(out["md5"]) for out in stage["outs"] if out["path"] == prepared),
        "space": {n: d.model_dump(mode="json") for n, d in task.space.dimensions.items()},
        "train": task.params.train.model_dump(mode="json", exclude={"device", "checkpoint"}),
        "code": fingerprint.of_stage(workspace.root, "train"),
        "search": [task.tune.pruner, task.tune.seed],
    }
    if task.params.train.init_from:  # the alias may move, and a file may be written anew
        identity["start"] = asdict(read_start(workspace, settings.root))
    return identity


def _open_study(settings: Settings, task: Task, identity: dict[str, Any]) -> Study:
    """The study of this identity, with a line that says whether it is new or goes on."""
    log, model = get_run_logger(), task.params.registration.name
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    study = Study(
        settings.database_url,
        f"{model}-{digest[:10]}",
        identity=identity,
        seed=task.tune.seed,
        pruner=task.tune.pruner,
        trials=task.tune.most_trials,
        minutes=task.tune.minutes,
    )
    earlier = [n for n in study.names() if n.rpartition("-")[0] == model and n != study.name]
    if not study.is_new:
        done = results.counted_by_state(study.trials())
        ended = ", ".join(f"{n} {state}" for state, n in done.items()) or "none so far"
        log.info("the study %s goes on; its trials: %s", study.name, ended)
    elif earlier:
        before = study.identity_of(earlier[-1])
        changed = [words for part, words in PARTS.items() if before.get(part) != identity.get(part)]
        log.info(
            "%s is a new study: %s changed since %s", study.name, " and ".join(changed), earlier[-1]
        )
    else:
        log.info("%s is a new study", study.name)
    for name, dimension in task.space.dimensions.items():
        log.info("varied: %s %s", name, json.dumps(dimension.model_dump(mode="json")))
    return study


@contextmanager
def _threads_for(workers: int) -> Iterator[None]:
    """Inside the block, processes share the cores, and find the libraries imported."""
    shared = workers > 1 and "OMP_NUM_THREADS" not in os.environ
    if shared:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        os.environ["OMP_NUM_THREADS"] = str(max(1, (cores or 1) // workers))
        warm.stop()  # it has the variables of before
    warm.start()
    try:
        yield
    finally:
        warm.stop()
        if shared:
            del os.environ["OMP_NUM_THREADS"]


def _search(task: Task, study: Study, material: Material) -> None:
    """Run the trials of the study."""

    def params_of(claimed: Claimed) -> Params:
        return _with_values(task, claimed.values)

    search = Search(study, suggest_from(task.space), params_of, material, "t")
    _follow(search, task, study, task.tune.most_trials, task.tune.minutes, "trial")


def _repeat_and_decide(
    outcome: TuneOutcome, settings: Settings, task: Task, study: Study, material: Material
) -> dict[str, Any]:
    """Repeat the best trials and the defaults with other seeds, and choose."""
    log, trials = get_run_logger(), study.trials()
    outcome.trials = results.counted_by_state(trials)
    best = repeats.best_of(trials)
    values = [{}, *(task.space.decoded(trial.values) for trial in best)]
    again = Study(
        settings.database_url,
        f"{study.name}/repeats-{'-'.join(str(trial.number) for trial in best) or 'none'}",
        identity={"repeats": study.name},
        trials=len(values) * repeats.SEEDS if best else 0,
    )
    try:
        params_of = partial(_repeated_params, task, values)
        search = Search(again, lambda _: {}, params_of, material, "r", keep_metric=True)
        total = len(values) * repeats.SEEDS
        if best:
            _follow(search, task, again, total, None, "repetition")
        repeated = _collected(again, best, values)
        looked_at = sum(max(1, len(one.losses)) for one in [*trials, *again.trials()])
    finally:
        again.close()
    verdict = repeats.decide(repeated, looked_at, material.prepared, task.params)
    for one in repeated:
        log.info("%s, other seeds: validation loss %s", one.name, _figures(one.losses))
    log.info("%s", verdict.reason)
    importances = study.importances()
    found = results.document(study, task.tune, outcome.parameters, repeated, verdict, importances)
    results.show_study(task.params.registration.name, found)
    outcome.repeated = [one.as_dict() for one in repeated]
    outcome.importances, outcome.verdict = importances, verdict.reason
    outcome.winner = verdict.winner
    winner = next((one for one in repeated if one.trial == verdict.winner), None)
    if verdict.winner is not None and winner is not None:
        outcome.overrides = assignments(winner.values)
    return found


def _repeated_params(task: Task, values: list[dict[str, Any]], claimed: Claimed) -> Params:
    which, seed = divmod(claimed.ordinal, repeats.SEEDS)
    other = (task.params.train.seed + 1 + seed) % 2**32
    return _with_values(task, {**values[which], "train.seed": other})


def _collected(
    again: Study, best: list[Trial], values: list[dict[str, Any]]
) -> list[repeats.Repeated]:
    """The losses of each repeated trial, in the order of the seeds."""
    trials = {one.ordinal: one for one in again.trials()}
    found = []
    for which, (trial, own) in enumerate(zip([None, *best], values, strict=True)):
        ran = [trials.get(which * repeats.SEEDS + n) for n in range(repeats.SEEDS)]
        found.append(
            repeats.Repeated(
                None if trial is None else trial.number,
                own,
                [float("inf") if t is None or t.loss is None else t.loss for t in ran],
                [t.metric for t in ran if t is not None and t.metric is not None],
            )
        )
    return found


def _with_values(task: Task, values: Any) -> Params:
    """The parameters of a trial. Raises InputError if they are not valid together."""
    given = parameters.override(task.data, assignments(values))
    return parameters.validate(given, "the values of this trial")


def _follow(
    search: Search, task: Task, study: Study, total: int | None, minutes: float | None, what: str
) -> None:
    """Run a search, with a line for each trial and one progress artifact."""
    log, progress = get_run_logger(), StudyProgress()
    began = time.monotonic()
    for here, ended in enumerate(search.run(task.workers), 1):
        trials = study.trials()
        done = sum(trial.state != "running" for trial in trials)
        shares, left = [], []
        if total is not None:
            shares.append(done / total)
            # Other commands work on the study too, so the pace of this one is a lower bound.
            left.append((time.monotonic() - began) / here * max(0, total - done))
        if minutes is not None:
            used = study.seconds()
            shares.append(min(1.0, used / 60 / minutes))
            left.append(max(0.0, 60 * minutes - used))
        of = f" of {total}" if total is not None else ""
        text = f"{what} {done}{of}"
        if remaining := min(left, default=0.0):
            text += f", {results.left_in_words(remaining)}"
        log.info("%s", _line(what, ended, trials, text))
        progress.tell(100 * max(shares, default=0.0), text)


def _line(what: str, ended: Ended, trials: list[Trial], text: str) -> str:
    lowest = min((t for t in trials if t.loss is not None), key=lambda t: t.loss or 0, default=None)
    best = f"; lowest {lowest.loss:.4f} (trial {lowest.number})" if lowest is not None else ""
    best = best if what == "trial" else ""
    return f"{what} {ended.number}: {ended.text}, {ended.seconds:.1f} s{best}; {text}"


def _figures(losses: list[float]) -> str:
    spread = max(losses) - min(losses)
    return f"{', '.join(f'{loss:.4f}' for loss in losses)} (spread {spread:.4f})"
