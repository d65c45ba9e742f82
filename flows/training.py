"""The training flow: the stages of `dvc.yaml` as tasks, then registration and promotion."""

import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas import State
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from flows import artifacts, quiet
from flows.alive import be_watched
from flows.candidate import EvaluatedBundle, collect_candidate
from flows.git import Code, code_of
from flows.outcome import Outcome, errors_end, failed_state
from flows.records import Run
from flows.runs import claim_run, has_params, resolve_paths
from flows.settings import Settings
from flows.stages import STATUS_INPUT, StageResult, run_stage, stages_stop_with_this
from flows.training_tasks import (
    ask_for_approval,
    bring_raw_data,
    decide_promotion,
    fill_workspace,
    record_refusal,
    register,
)
from flows.versioning import pipeline, stale_stages
from flows.warm import warm_process
from registry import Registry
from tasks import fingerprint
from tasks import params as parameters
from tasks.bundle.evaluation import spreads
from tasks.bundle.files import Bundle
from tasks.config import Params
from tasks.errors import InputError
from tasks.pipeline import STEPS
from tasks.workspace import Workspace

quiet.install()

# These differ in every run, also if nothing has changed.
OF_THE_RUN = ("lineage.flow_run_id:", "file lineage.json:")


def run_name() -> str:
    """`train cnn on digits`, from the parameters of the current flow run."""
    given = flow_run.parameters
    try:
        root = Settings.from_environment().root
        file, overrides, look = (
            given["params_file"],
            given["overrides"] or [],
            given.get("look", False),
        )
        params = parameters.load(root / file, overrides, look=look)
    except InputError:
        return "train"  # the flow itself reports the mistake
    source = params.prepare.source
    dataset = source.kind if source.kind == "digits" else Path(source.path).stem
    return f"train {params.train.architecture.name} on {dataset}"


@flow(
    name="training",
    flow_run_name=run_name,
    task_runner=ThreadPoolTaskRunner(max_workers=4),  # type: ignore[arg-type]
    persist_result=False,
    validate_parameters=True,
)
def training(
    params_file: str = "params.yaml", overrides: list[str] | None = None, look: bool = False
) -> Outcome | State[Outcome]:
    """Run every stale stage, register the result if it passes its gates, challenge the champion.

    Args:
        params_file: The parameters, relative to the project's folder.
        overrides: Values for this run only, each as section.key=value, such as train.epochs=3.
            The run then gets its own worktree.
        look: Train and show every metric, but register nothing; gates are optional then.
    """
    started = time.monotonic()
    be_watched(str(flow_run.id))
    artifacts.tag_run("training")
    outcome = Outcome(flow_run_id=str(flow_run.id or ""), looked=look)
    with errors_end(outcome), stages_stop_with_this():
        train_and_register(outcome, params_file, overrides or [], look)
    outcome.seconds = time.monotonic() - started
    return outcome if outcome.ended_well else failed_state(outcome)


def train_and_register(
    outcome: Outcome,
    params_file: str,
    overrides: list[str],
    look: bool = False,
    study: Mapping[str, Any] | None = None,
) -> None:
    """What the flow does, inside the current flow run; `outcome` gets the result.

    `study` is what `modelmint tune` has found; the version keeps it.
    """
    settings = Settings.from_environment()
    params = parameters.load(settings.root / params_file, overrides, look=look)
    params = resolve_paths(settings, params)
    # DVC does not see edited code: it would call the stage fresh.
    fingerprint.refuse_changed(settings.root, STEPS)
    outcome.model = params.registration.name
    outcome.architecture = params.train.architecture.name
    # Connect first: an unreachable registry must not be noticed only after the training.
    with settings.open_registry() as registry:
        registry.reach()
        started = time.monotonic()
        bring_raw_data(settings, params)
        with claim_run(settings, params, outcome.flow_run_id) as run:
            outcome.folder = str(run.workspace.root)
            fill_workspace(settings, params, registry, run.workspace)
            outcome.add_step("raw data", time.monotonic() - started)
            code = code_of(settings.root)  # before the stages: it may be edited while they run
            _in_workspace(outcome, params, registry, run.workspace, settings.root, code, study)
            _note_end(run, outcome)
    if run.over and not run.workspace.root.exists():
        outcome.folder = str(run.folder)


def _in_workspace(
    outcome: Outcome,
    params: Params,
    registry: Registry,
    workspace: Workspace,
    checkout: Path,
    code: Code,
    study: Mapping[str, Any] | None,
) -> None:
    """Train in a workspace, then evaluate, register and challenge the champion."""
    with warm_process(workspace.root):
        succeeded = _run_stages(outcome, workspace)
    if not succeeded:
        return
    with tempfile.TemporaryDirectory() as scratch:
        flow_run_id = outcome.flow_run_id or None
        bundle = collect_candidate(
            params, workspace, checkout, code, flow_run_id, Path(scratch), study
        )
        if not _is_unchanged(workspace, params):
            raise InputError(
                f"{workspace.root} changed during this run, so nothing was registered. "
                "Run the same command again to evaluate the present files."
            )
        _report(outcome, bundle)
        if outcome.looked:
            outcome.decision = "a look: nothing was registered"
            return
        metric = _metric_to_compare(params, outcome)
        if not bundle.passed:
            reason = "; ".join(bundle.refusals)
            record_refusal(registry, outcome.model, bundle, reason)
            outcome.end, outcome.message = "refused", f"refused: {reason}"
            return
        with _timed(outcome, "register"):
            found = register(registry, outcome.model, bundle)
        version, outcome.created = found.version, found.created
        outcome.evaluated = found.evaluated
        outcome.ignored = [line for line in found.ignored if not line.startswith(OF_THE_RUN)]
        outcome.version, outcome.digest = version.ref, version.digest
    with _timed(outcome, "challenge"):
        decision = decide_promotion(registry, version, metric, params, workspace)
    outcome.champion, outcome.promoted = decision.champion, decision.promoted
    outcome.decision = decision.reason
    if decision.needs_approval:
        outcome.approval_hint = ask_for_approval(version, decision)
    artifacts.link_version(version, decision)


def _note_end(run: Run, outcome: Outcome) -> None:
    """Set how the run ended; this also decides whether its worktree is removed."""
    done = ("looked", outcome.decision) if outcome.looked else ("registered", outcome.version)
    ends = {"done": done, "refused": ("refused", outcome.message)}
    run.state, run.detail = ends.get(outcome.end, ("failed", outcome.message))


def _metric_to_compare(params: Params, outcome: Outcome) -> str:
    """The metric to compare versions by. Raises `InputError` if it was not computed."""
    metric = params.registration.metric or outcome.headline[0]
    if metric not in outcome.metrics:
        raise InputError(
            f"registration.metric: {metric} was not computed for these classes, so nothing was "
            f"registered. Choose one of {', '.join(outcome.metrics)}"
        )
    return metric


def _is_unchanged(workspace: Workspace, params: Params) -> bool:
    """Whether the workspace still matches these parameters; other programs may write to it."""
    root = workspace.root
    fresh = not stale_stages(root)
    return fresh and has_params(workspace, params) and not fingerprint.code_changes(root, STEPS)


@contextmanager
def _timed(outcome: Outcome, name: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    outcome.add_step(name, time.monotonic() - started)


def _run_stages(outcome: Outcome, workspace: Workspace) -> bool:
    """Submit a task for each stage, in order of the graph. Returns whether all succeeded."""
    futures: dict[str, Any] = {}
    for name, needs in pipeline(workspace.root).items():
        before = [futures[need] for need in needs]
        named = run_stage.with_options(name=name)  # else its name is stage-1dc until it begins
        futures[name] = named.submit(name, workspace, return_state=False, wait_for=before)
    for future in futures.values():
        future.wait()
    states = [future.state for future in futures.values()]
    outcome.steps += [s.result() for s in states if s.is_completed()]
    if all(state.is_completed() for state in states):
        return True
    # The first stage that failed; those that depend on it never started.
    failed = next(state for state in states if not state.is_completed())
    result = failed.result(raise_on_failure=False)
    if isinstance(result, StageResult):
        outcome.end = "input" if result.status == STATUS_INPUT else "error"
        outcome.message = f"{result.name}: {result.message}"
    elif isinstance(result, InputError):
        outcome.end, outcome.message = "input", str(result)
    else:
        outcome.end, outcome.message = "error", str(failed.message)
    return False


def _report(outcome: Outcome, bundle: EvaluatedBundle) -> None:
    candidate = bundle.candidate
    outcome.dataset = candidate.lineage.dataset
    network = json.loads(Bundle(candidate.files).architecture.read_bytes())
    outcome.architecture = network["name"]  # which one `auto` is
    outcome.metrics = candidate.metrics
    evaluation = bundle.evaluation
    outcome.headline = evaluation.metrics.headline
    outcome.gates = [gate.as_dict() for gate in evaluation.gates]
    outcome.parity = evaluation.parity.as_dict() if evaluation.parity else {}
    outcome.intervals = evaluation.metrics.intervals
    outcome.baselines = [asdict(baseline) for baseline in evaluation.baselines]
    outcome.repeats = spreads(evaluation.metrics, evaluation.repeats)
    outcome.warnings = evaluation.warnings
    outcome.per_class = evaluation.metrics.per_class
    outcome.rows = evaluation.data.get("rows", {})
    outcome.notices = evaluation.data.get("notices", [])
    artifacts.show_verdicts(outcome.model, bundle)
