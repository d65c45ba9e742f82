"""Which version becomes champion, with real bundles on real test splits."""

from dataclasses import replace
from pathlib import Path

import pytest
from registry_helpers import bundle_candidate

from flows.promotion import challenge_champion
from registry import Candidate, Registry
from tasks import params
from tasks.pipeline import STEPS
from tasks.workspace import Workspace

ROOT = Path(__file__).parents[2]
TINY = ["train.architecture=logistic", "train.epochs=2", "evaluate.gates={accuracy: 0.1}"]


@pytest.fixture(scope="module")
def workspaces(tmp_path_factory) -> dict[int, Workspace]:
    """Two workspaces with exported bundles and different splits."""
    made = {}
    for seed in (1, 2):
        workspace = Workspace(tmp_path_factory.mktemp(f"split-{seed}"))
        source = f"prepare.source.path={ROOT / 'data/raw/digits.csv.gz'}"
        chosen = params.load(ROOT / "params.yaml", [*TINY, source, f"prepare.seed={seed}"])
        for step in STEPS.values():
            step.run(chosen, workspace)
        made[seed] = workspace
    return made


def another(offered: Candidate, dataset: str, **metrics: float) -> Candidate:
    """The same files with another dataset, which makes another version."""
    lineage = replace(offered.lineage, dataset=dataset)
    return replace(offered, lineage=lineage, metrics={**offered.metrics, **metrics})


@pytest.fixture
def registry(tmp_path):
    with Registry(f"sqlite:///{tmp_path / 'registry.db'}", tmp_path / "artifacts") as opened:
        yield opened


def challenge(registry, version, workspace, metric="macro_f1"):
    return challenge_champion(
        registry,
        version,
        metric=metric,
        prepared=workspace.prepared,
        evaluation=params.load(ROOT / "params.yaml").evaluate,
        actor="ada",
    )


def register(registry, offered):
    return registry.register("digits", offered, actor="ada").version


def test_challenge_champion_promotes_the_first_version(registry, workspaces):
    version = register(registry, bundle_candidate(workspaces[1]))
    decision = challenge(registry, version, workspaces[1])
    assert (decision.promoted, decision.champion) == (True, "digits:1")
    assert registry.alias("digits").version == 1


def test_a_tie_keeps_the_champion(registry, workspaces):
    first = bundle_candidate(workspaces[1], macro_f1=0.9)
    challenge(registry, register(registry, first), workspaces[1])
    decision = challenge(registry, register(registry, another(first, "e")), workspaces[1])
    assert (decision.promoted, decision.champion) == (False, "digits:1")
    assert "stays" in decision.reason


def test_a_better_challenger_becomes_champion_with_the_reason_in_the_history(registry, workspaces):
    first = bundle_candidate(workspaces[1], macro_f1=0.9)
    challenge(registry, register(registry, first), workspaces[1])
    better = another(first, "e", macro_f1=0.91)
    decision = challenge(registry, register(registry, better), workspaces[1])
    assert (decision.promoted, decision.champion) == (True, "digits:2")
    newest = registry.history("digits")[0]
    assert (newest.version, newest.previous) == (2, 1)
    assert "0.9100 against 0.9000" in newest.reason


def test_the_lower_log_loss_wins(registry, workspaces):
    first = bundle_candidate(workspaces[1], log_loss=0.5)
    challenge(registry, register(registry, first), workspaces[1], "log_loss")
    worse = register(registry, another(first, "e", log_loss=0.51))
    assert not challenge(registry, worse, workspaces[1], "log_loss").promoted
    better = register(registry, another(first, "f", log_loss=0.49))
    assert challenge(registry, better, workspaces[1], "log_loss").promoted


def test_a_champion_from_another_test_split_is_evaluated_on_this_one(registry, workspaces):
    # Its recorded metric is higher, but from another test split.
    champion = register(registry, bundle_candidate(workspaces[1], macro_f1=0.9999))
    challenge(registry, champion, workspaces[1])
    challenger = register(registry, bundle_candidate(workspaces[2], macro_f1=0.9998))
    decision = challenge(registry, challenger, workspaces[2])
    assert decision.promoted
    assert "0.9999" not in decision.reason.split("against")[1]


def test_a_champion_with_another_signature_stays(registry, workspaces):
    champion = register(registry, bundle_candidate(workspaces[1]))
    challenge(registry, champion, workspaces[1])
    other = bundle_candidate(workspaces[2])
    other = replace(other, signature={**other.signature, "classes": list("abcdefghij")})
    decision = challenge(registry, register(registry, other), workspaces[2])
    assert (decision.promoted, decision.champion) == (False, "digits:1")
    assert "modelmint models promote digits:2" in decision.reason


def test_a_champion_for_another_task_stays(registry, workspaces):
    first = bundle_candidate(workspaces[1])
    challenge(registry, register(registry, first), workspaces[1])
    changed = {**first.signature, "task": "regression"}
    other = replace(another(first, "e", r2=0.9), signature=changed)
    decision = challenge(registry, register(registry, other), workspaces[1], "r2")
    assert (decision.promoted, decision.champion) == (False, "digits:1")


def test_a_former_champion_is_not_promoted_again(registry, workspaces):
    first = bundle_candidate(workspaces[1], macro_f1=0.9)
    challenge(registry, register(registry, first), workspaces[1])
    better = register(registry, another(first, "e", macro_f1=0.95))
    assert challenge(registry, better, workspaces[1]).promoted
    registry.promote("digits", 1, expect_revision=2, actor="ada", reason="2 fails on new data")
    decision = challenge(registry, better, workspaces[1])
    assert (decision.promoted, decision.champion) == (False, "digits:1")
    assert "modelmint models promote digits:2" in decision.reason


def test_challenge_champion_by_the_champion_changes_nothing(registry, workspaces):
    version = register(registry, bundle_candidate(workspaces[1]))
    challenge(registry, version, workspaces[1])
    events = registry.history("digits")
    again = challenge(registry, version, workspaces[1])
    assert (again.promoted, again.champion) == (False, "digits:1")
    assert registry.history("digits") == events


def test_challenge_champion_refuses_another_test_split(registry, workspaces):
    first, second = (register(registry, bundle_candidate(workspaces[n])) for n in (1, 2))
    assert challenge(registry, first, workspaces[1]).promoted
    decision = challenge(registry, second, workspaces[1])
    assert (decision.champion, decision.promoted) == ("digits:1", False)
    assert "does not have the test split that digits:2 was evaluated on" in decision.reason
