"""The tasks of the training flow around its stages, which are tasks in `stages.py`."""

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows.approval import request_approval
from flows.candidate import EvaluatedBundle
from flows.pretrained import place_pretrained
from flows.promotion import Decision, challenge_champion
from flows.raw import copy_salt, version_raw_data
from flows.retries import RETRY
from flows.runs import has_params
from flows.settings import Settings, actor
from registry import Registration, Registry, Version
from tasks import params as parameters
from tasks.config import Params
from tasks.workspace import Workspace


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
    log.info(place_pretrained(registry, params.train.init_from, workspace, settings.root))


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
