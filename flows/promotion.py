"""Compares a challenger with the champion on the same test split, and promotes the better one."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from registry import CHALLENGER, CHAMPION, Alias, Conflict, Refused, Registry, Version
from tasks.bundle.files import Bundle
from tasks.bundle.signature import Signature
from tasks.config import Evaluate
from tasks.dataset import read_split
from tasks.encoding import Encoder
from tasks.errors import InputError
from tasks.problems import METRICS
from tasks.session import open_session
from tasks.snapshot import Stamp

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
    prepared: Path,
    evaluation: Evaluate,
    actor: str,
) -> Decision:
    """Promote `challenger`, which passed its gates, if it beats the champion in `metric`.

    If the model's policy requires an approval that is missing, it gets the alias challenger
    instead. A tie does not replace the champion, and a former champion is not promoted again. A
    champion with another test split is evaluated on this one, with its verified ONNX file.

    Raises:
        Conflict: the alias moved during each of five attempts.
    """
    for attempt in range(ATTEMPTS):
        alias = registry.alias(challenger.model)
        better, reason = _is_better(registry, alias, challenger, metric, prepared, evaluation)
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
    prepared: Path,
    evaluation: Evaluate,
) -> tuple[bool, str]:
    """Whether the challenger should replace the champion, and the reason."""
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
        found = _champion_metric(registry, champion, challenger, metric, prepared, evaluation)
    except InputError as error:
        return False, f"{champion.ref} stays: {error}"
    value = challenger.metrics[metric]
    figures = f"{metric} {value:.4f} against {found:.4f} of {champion.ref} on the same test split"
    better = value < found if METRICS[metric].lower_is_better else value > found
    return better, figures if better else f"{champion.ref} stays: {figures}"


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


def _champion_metric(
    registry: Registry,
    champion: Version,
    challenger: Version,
    metric: str,
    prepared: Path,
    evaluation: Evaluate,
) -> float:
    """The champion's metric on the challenger's test split."""
    bundle = Bundle(registry.open(champion))
    encoder = Encoder.of(bundle.files)
    signature = encoder.signature
    _check_comparable(signature, Signature.model_validate(challenger.signature), challenger)
    if signature.problem.token_bound:
        tokenizer = Bundle(registry.open(challenger)).tokenizer.read_bytes()
        if bundle.tokenizer.read_bytes() != tokenizer:
            raise _incomparable("its tokens differ", challenger)
    same = champion.lineage.test_split == challenger.lineage.test_split
    if same and metric in champion.metrics:
        return champion.metrics[metric]
    stamp = _stamp_of_split(prepared, challenger)
    test = read_split(prepared, "test", encoder)
    session = open_session(bundle.model, "cpu")
    problem = signature.problem
    outputs = session.run_all(signature, test.inputs, problem.evaluated, evaluation.batch_size)
    if stamp != _stamp_of_split(prepared, challenger):
        raise _other_split(prepared, challenger)
    result = problem.compute_metrics(signature, test.targets, outputs, evaluation.calibration_bins)
    return result.summary[metric]


def _stamp_of_split(prepared: Path, challenger: Version) -> Stamp:
    """Stamp of the test split on which the challenger was evaluated.

    Raises:
        InputError: the data was prepared again since, with another test split.
    """
    path = prepared / "test.arrow"
    try:
        stamp = Stamp.of(path)
        if hashlib.sha256(path.read_bytes()).hexdigest() == challenger.lineage.test_split:
            return stamp
    except OSError:
        pass
    raise _other_split(prepared, challenger)


def _other_split(prepared: Path, challenger: Version) -> InputError:
    return InputError(
        f"{prepared} does not have the test split that {challenger.ref} was evaluated on, so the "
        f"two cannot be compared. To promote it anyway: modelmint models promote {challenger.ref}"
    )


def _check_comparable(champion: Signature, challenger: Signature, version: Version) -> None:
    """Check that both can be evaluated on one test split; vocabularies and fills may differ."""

    def interface(signature: Signature) -> object:
        columns = [(column.name, column.kind) for column in signature.columns]
        return signature.task, signature.classes, columns, signature.inputs

    if interface(champion) != interface(challenger):
        raise _incomparable("its inputs or classes differ from the challenger's", version)


def _incomparable(why: str, challenger: Version) -> InputError:
    return InputError(
        f"{why}, so the two cannot be evaluated on one test split. To promote {challenger.ref} "
        f"anyway: modelmint models promote {challenger.ref}"
    )
