"""The training flow: the stages of `dvc.yaml` as tasks, then registration and promotion."""

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State
from prefect.runtime import flow_run
from prefect.states import Failed
from prefect.task_runners import ThreadPoolTaskRunner

from flows import artifacts, quiet
from flows.alive import be_watched
from flows.approval import request_approval
from flows.candidate import EvaluatedBundle, collect_candidate
from flows.git import Code, code_of
from flows.pretrained import place_pretrained
from flows.promotion import Decision, challenge_champion
from flows.raw import copy_salt, version_raw_data
from flows.records import Run
from flows.retries import RETRY
from flows.runs import claim_run, has_params, resolve_paths
from flows.settings import Settings, actor
from flows.stages import STATUS_INPUT, StageResult, run_stage, stages_stop_with_this
from flows.versioning import WorkspaceBusy, pipeline, stale_stages
from flows.warm import warm_process
from registry import InvalidReference, NotFound, Registration, Registry, RegistryError, Version
from tasks import fingerprint
from tasks import params as parameters
from tasks.bundle.evaluation import spreads
from tasks.config import Params
from tasks.errors import InputError
from tasks.pipeline import STEPS
from tasks.workspace import Workspace

quiet.install()

# These differ in every run, also if nothing has changed.
OF_THE_RUN = ("lineage.flow_run_id:", "file lineage.json:")
End = Literal["done", "input", "refused", "error"]


@dataclass
class Outcome:
    """The result of a training flow."""

    end: End = "done"
    """`input`: the user's input is wrong. `refused`: a gate failed. `error`: any other failure."""
    message: str = ""
    model: str = ""
    architecture: str = ""
    dataset: str = ""
    folder: str = ""
    """The run's workspace, or its record under runs/records/ if the worktree was removed."""
    flow_run_id: str = ""
    steps: list[StageResult] = field(default_factory=list)
    """The stages and the steps before and after them, in order."""
    metrics: dict[str, float] = field(default_factory=dict)
    headline: list[str] = field(default_factory=list)
    """The metrics to show first; by default versions are compared by the first one."""
    gates: list[dict[str, Any]] = field(default_factory=list)
    parity: dict[str, Any] = field(default_factory=dict)
    intervals: dict[str, list[float]] = field(default_factory=dict)
    """Of the headline metrics, the ends of the 95 % bootstrap interval."""
    baselines: list[dict[str, Any]] = field(default_factory=list)
    repeats: str = ""
    """The spread of the headline metrics over the seeds of `evaluate.repeat`."""
    warnings: list[str] = field(default_factory=list)
    """What to know before the model is used, such as a baseline that is better."""
    notices: list[str] = field(default_factory=list)
    """Changes that `prepare` made to the data and that a user should see."""
    digest: str = ""
    version: str = ""
    created: bool = False
    evaluated: bool = False
    """Whether the evaluation was added to an existing version."""
    ignored: list[str] = field(default_factory=list)
    """What differs between this run and the existing version, which stays as it is."""
    looked: bool = False
    """Whether this run had --look: it shows every metric and registers nothing."""
    rows: dict[str, int] = field(default_factory=dict)
    """Rows of each split."""
    per_class: dict[str, dict[str, float]] = field(default_factory=dict)
    champion: str = ""
    promoted: bool = False
    decision: str = ""
    approval_hint: str = ""
    """How to give the approval that the model's policy requires; empty if none is needed."""
    seconds: float = 0.0

    @property
    def ended_well(self) -> bool:
        return self.end == "done"

    def add_step(self, name: str, seconds: float) -> None:
        """Add the duration of a step that is not a stage."""
        self.steps.append(StageResult(name, "Completed", seconds))

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class NotTrained(quiet.Explained):
    """Carries the outcome of a failed training flow; a failed state needs an exception."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.message)
        self.outcome = outcome


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
    try:
        with stages_stop_with_this():
            train_and_register(outcome, params_file, overrides or [], look)
    except WorkspaceBusy as error:  # an InputError, but not the user's mistake
        outcome.end, outcome.message = "error", str(error)
    except (InputError, InvalidReference, NotFound) as error:
        outcome.end, outcome.message = "input", str(error)
    except RegistryError as error:
        outcome.end, outcome.message = "error", str(error)
    outcome.seconds = time.monotonic() - started
    if not outcome.ended_well:
        name = "Refused" if outcome.end == "refused" else "Failed"
        return Failed(name=name, message=outcome.message, data=NotTrained(outcome))
    return outcome


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
            _in_workspace(outcome, params, registry, run.workspace, code, study)
            _note_end(run, outcome)
    if run.over and not run.workspace.root.exists():
        outcome.folder = str(run.folder)


def _in_workspace(
    outcome: Outcome,
    params: Params,
    registry: Registry,
    workspace: Workspace,
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
        bundle = collect_candidate(params, workspace, code, flow_run_id, Path(scratch), study)
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
    try:
        fresh = not stale_stages(root)
        return fresh and has_params(workspace, params) and not fingerprint.code_changes(root, STEPS)
    except WorkspaceBusy:  # another run is changing it
        return False


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


@task(task_run_name="bring the raw data under DVC", cache_policy=NO_CACHE, persist_result=False)
def bring_raw_data(settings: Settings, params: Params) -> None:
    """Make the raw data of the checkout present and versioned; every run starts from there.

    Also add missing parameters to the checkout's params.yaml, if the run uses that file.
    """
    log = get_run_logger()
    log.info(version_raw_data(params.prepare.source, settings.root))
    checkout = Workspace(settings.root)
    if has_params(checkout, params) and (added := parameters.add_missing_sections(checkout.params)):
        log.warning(added)


@task(task_run_name="open the workspace", cache_policy=NO_CACHE, persist_result=False)
def fill_workspace(
    settings: Settings, params: Params, registry: Registry, workspace: Workspace
) -> None:
    """Copy raw data to a worktree, and to any workspace the weights that training starts from."""
    log = get_run_logger()
    if workspace.root != settings.root:
        log.info("the run has its own worktree: %s", workspace.root)
        version_raw_data(params.prepare.source, workspace.root, settings.root)
        copy_salt(settings.root, workspace.root, params.prepare.salt_file)
    log.info(place_pretrained(registry, params.train.init_from, workspace))


@task(task_run_name="register {model}", **RETRY)
def register(registry: Registry, model: str, bundle: EvaluatedBundle) -> Registration:
    """Register the bundle, or find the version that already has it."""
    found = registry.register(
        model,
        bundle.candidate,
        actor=actor(),
        # Makes a retry harmless: the registry returns the same version.
        request_id=bundle.candidate.lineage.flow_run_id,
    )
    log = get_run_logger()
    log.info("%s %s", "registered" if found.created else "already registered as", found.version.ref)
    if found.evaluated:
        log.info("the new evaluation was added to %s", found.version.ref)
    for line in found.ignored:
        log.info("%s keeps its own %s", found.version.ref, line)
    return found


@task(task_run_name="refuse {model}", **RETRY)
def record_refusal(registry: Registry, model: str, bundle: EvaluatedBundle, reason: str) -> None:
    """Add the verdict to the model's history without registering a version."""
    registry.refuse(
        model,
        bundle.candidate,
        actor=actor(),
        reason=reason,
    )


@task(task_run_name="challenge the champion", **RETRY)
def decide_promotion(
    registry: Registry, version: Version, metric: str, params: Params, workspace: Workspace
) -> Decision:
    """Promote the version if it beats the champion."""
    decision = challenge_champion(
        registry,
        version,
        metric=metric,
        confidence=params.registration.confidence,
        prepared=workspace.prepared,
        evaluation=params.evaluate,
        actor=actor(),
    )
    log = get_run_logger()
    if decision.needs_approval:
        log.info("%s is challenger: %s", version.ref, decision.reason)
    else:
        log.info("champion is %s: %s", decision.champion, decision.reason)
    return decision


def ask_for_approval(version: Version, decision: Decision) -> str:
    """Ask for the approval that the model's policy requires. Returns where to give it."""
    command = f"modelmint models approve {version.ref} --promote"
    url = request_approval(version.ref, decision.reason)
    return f"{url}, or by somebody else: {command}" if url else f"by somebody else: {command}"
