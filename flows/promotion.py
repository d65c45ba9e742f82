"""Compares a challenger with the champion on the same test split, and promotes the better one."""

from dataclasses import dataclass
from pathlib import Path

from flows.comparison import Comparison, compare_versions
from registry import CHALLENGER, CHAMPION, Alias, Conflict, Refused, Registry, Version
from tasks.config import Evaluate
from tasks.errors import InputError

ATTEMPTS = 5


@dataclass(frozen=True)
class Decision:
    """Which version is champion now, and why."""

    champion: str
    """A reference; empty if there is no champion."""
    promoted: bool
    reason: str
    needs_approval: bool = False
    """Whether the version stays challenger until somebody approves it."""


def challenge_champion(
    registry: Registry,
    challenger: Version,
    *,
    metric: str,
    confidence: float,
    prepared: Path,
    evaluation: Evaluate,
    actor: str,
) -> Decision:
    """Promote `challenger`, which passed its gates, if it beats the champion in `metric`.

    Both predict the challenger's test split with their verified ONNX files. The challenger must be
    better there, and in a share of at least `confidence` of draws of these rows. If the model's
    policy requires an approval that is missing, it gets the alias challenger instead. A tie does
    not replace the champion. Neither a former champion nor a rejected version is promoted again.

    Raises:
        Conflict: the alias moved during each of five attempts.
    """
    for attempt in range(ATTEMPTS):
        alias = registry.alias(challenger.model)
        better, reason = _is_better(
            registry, alias, challenger, metric, confidence, prepared, evaluation
        )
        if not better:
            return Decision(_champion_ref(alias), False, reason)
        try:
            return _move_alias(registry, alias, challenger, actor=actor, reason=reason)
        except Conflict:  # somebody else has promoted a version: compare with that one
            if attempt == ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def _is_better(
    registry: Registry,
    alias: Alias | None,
    challenger: Version,
    metric: str,
    confidence: float,
    prepared: Path,
    evaluation: Evaluate,
) -> tuple[bool, str]:
    """Whether the challenger should replace the champion, and the reason."""
    if challenger.status == "rejected":
        return False, (
            f"{challenger.ref} was rejected before; to bring it back: "
            f"modelmint models approve {challenger.ref} --promote"
        )
    if alias is None:
        return True, "the first version to pass its gates"
    if alias.version == challenger.version:
        return False, f"{challenger.ref} is already the champion"
    if _was_replaced(registry, challenger):
        return False, (
            f"{challenger.ref} was champion before and was replaced; to bring it back: "
            f"modelmint models promote {challenger.ref}"
        )
    champion = registry.resolve(_champion_ref(alias)).version
    try:
        found = compare_versions(
            registry,
            champion,
            challenger,
            metric=metric,
            prepared=prepared,
            evaluation=evaluation,
        )
    except InputError as error:
        return False, f"{champion.ref} stays: {error}"
    return _decide(found, champion, confidence)


def _decide(found: Comparison, champion: Version, confidence: float) -> tuple[bool, str]:
    """Whether the challenger won, and the figures as text."""
    figures = (
        f"{found.metric} {found.challenger:.4f} against {found.champion:.4f} of {champion.ref} on "
        "the same test split"
    )
    if not found.better:
        return False, f"{champion.ref} stays: {figures}"
    share = f"better in {found.share:.1%} of the draws of these rows"
    if found.share < confidence:
        return False, (
            f"{champion.ref} stays: {figures}, {share}; registration.confidence is {confidence:.0%}"
        )
    return True, f"{figures}, {share}"


def _move_alias(
    registry: Registry, alias: Alias | None, challenger: Version, *, actor: str, reason: str
) -> Decision:
    def promote(alias: str, revision: int | None) -> None:
        registry.promote(
            challenger.model,
            challenger.version,
            alias,
            expect_revision=revision,
            actor=actor,
            reason=reason,
        )

    try:
        promote(CHAMPION, alias.revision if alias else 0)
    except Refused:
        if not registry.model(challenger.model).policy.four_eyes:
            raise
        promote(CHALLENGER, None)
        return Decision(_champion_ref(alias), False, reason, needs_approval=True)
    return Decision(challenger.ref, True, reason)


def _champion_ref(alias: Alias | None) -> str:
    return f"{alias.model}:{alias.version}" if alias else ""


def _was_replaced(registry: Registry, version: Version) -> bool:
    """Whether it was champion before; somebody replaced it for a reason."""
    past = registry.history(version.model, alias=CHAMPION, version=version.version, limit=1)
    return bool(past)
