"""Evaluations, tags, notes, approvals, archiving and policies.

Each change and the event that records it are one transaction, which locks the model's row: two
changes of one model never overlap, and its history has one order.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import Connection

from registry import digests
from registry.errors import Refused
from registry.operations.base import RegistryBase
from registry.queries import aliases, blobs, evaluations, events, jobs, models, states, versions
from registry.queries.models import Locked
from registry.queries.rows import AnyRow
from registry.records import Alias, Json, Policy
from registry.references import CHALLENGER, CHAMPION, check_alias, check_name, person
from registry.validation.arguments import checked


class ApprovalMixin(RegistryBase):
    """Evaluations, tags, notes, approvals, states, policies."""

    @checked
    def evaluate(self, name: str, version: int, evaluation: Json, *, actor: str) -> None:
        """Add an evaluation to a version; it is now the newest one.

        An imported version without an evaluation needs one before it can be approved.

        Raises:
            NotFound: the model or version does not exist.
            InvalidCandidate: the evaluation is not plain JSON.
        """
        with self._changing(name, version) as (c, model, state):
            verdict = {
                "evaluation": digests.seal_json(evaluation),
                "passed": evaluations.has_passed(evaluation),
            }
            # The event first: a trigger accepts an evaluation or a tag only after its event.
            events.add(c, model, "evaluated", actor, version=version, payload=verdict)
            evaluations.add(c, state.version_id, evaluation, actor)

    @checked
    def tag(self, name: str, version: int, key: str, value: str | None, *, actor: str) -> None:
        """Set a tag of a version, or remove it. Raises NotFound."""
        with self._changing(name, version) as (c, model, state):
            events.add(
                c, model, "tagged", actor, version=version, payload={"key": key, "value": value}
            )
            versions.tag(c, state.version_id, key, value)

    @checked
    def note(self, name: str, version: int, text: str, *, actor: str) -> None:
        """Add a remark about a version to the history. It changes nothing else.

        Raises:
            NotFound: the model or version does not exist.
            InvalidCandidate: the text is empty, or cannot be stored.
        """
        with self._changing(name, version) as (c, model, _state):
            events.add(c, model, "noted", actor, version=version, reason=text)

    @checked
    def approve(self, name: str, version: int, *, actor: str, reason: str) -> None:
        """Approve a version. Its newest evaluation must have passed.

        Raises:
            NotFound: the model or version does not exist.
            Refused: it is archived, its newest evaluation has not passed, or its model's policy
                requires the approval of somebody else.
        """
        with self._changing(name, version) as (c, model, state):
            check_not_archived(model, version, state)
            if model.four_eyes and person(actor) == person(state.created_by):
                raise Refused(
                    f"{name}:{version} was registered by {actor}, and the policy of {name!r} "
                    "requires an approval by somebody else."
                )
            self._approve(c, model, state, version, actor=actor, reason=reason)

    @checked
    def archive(self, name: str, version: int, *, actor: str, reason: str) -> None:
        """Archive a version: it cannot predict any more, and `gc --purge` may remove its files.

        Running jobs without a flow run that started over a week ago are marked as lost: they were
        killed.

        Raises:
            NotFound: the model or version does not exist.
            Refused: an alias, a batch job or another version uses it.
        """
        with self._changing(name, version) as (c, model, state):
            if state.status != "archived":
                jobs.lose_dead(c, state.version_id)
                states.change(c, state.version_id, "archived")
                events.add(c, model, "archived", actor, version=version, reason=reason)

    @checked
    def unarchive(self, name: str, version: int, *, actor: str, reason: str) -> None:
        """Make an archived version a candidate again; it must be approved again.

        Raises:
            NotFound: the model or version does not exist.
            Refused: it is not archived, or its files were purged; register them again first.
        """
        with self.database.write() as c:
            # Before the model's row: locks are taken in the same order everywhere.
            complete = blobs.lock_rows(c, blobs.of_version(c, name, version))
            model, state = self._lock_state(c, name, version)
            if state.status != "archived":
                raise Refused(f"{name}:{version} is not archived: it is {state.status}.")
            if not complete:
                raise Refused(
                    f"The files of {name}:{version} were purged. Register the same files again to "
                    "restore them, then unarchive it."
                )
            states.change(c, state.version_id, "candidate")
            events.add(c, model, "unarchived", actor, version=version, reason=reason)

    @checked
    def set_policy(self, name: str, policy: Policy, *, actor: str) -> None:
        """Replace the rules of a model; creates the model if it is new.

        Raises:
            InvalidReference: the name of the model or of a protected alias is not allowed.
            Refused: an alias to protect points to a version that is not approved, or is the
                challenger.
        """
        check_name(name)
        policy = replace(policy, protected=_protected(policy.protected))
        self.create()
        with self.database.write() as c:
            self._set_policy(c, models.lock_or_add(c, name), policy, actor)

    @checked
    def change_policy(
        self,
        name: str,
        *,
        four_eyes: bool | None = None,
        protected: Sequence[str] | None = None,
        keep_last: int | None = None,
        keep_days: int | None = None,
        keep_holders: int | None = None,
        actor: str,
    ) -> Policy:
        """Change some rules of a model; returns the policy after the change.

        None keeps a rule as it is; 0 as `keep_last` or `keep_days` removes that rule.

        Raises:
            NotFound: the model does not exist.
            InvalidReference, Refused: as for `set_policy`.
        """
        given = {
            "four_eyes": four_eyes,
            "protected": None if protected is None else _protected(protected),
            "keep_last": keep_last,
            "keep_days": keep_days,
            "keep_holders": keep_holders,
        }
        changes: dict[str, Any] = {rule: v for rule, v in given.items() if v is not None}
        for rule in ("keep_last", "keep_days"):
            if changes.get(rule) == 0:
                changes[rule] = None
        with self.database.write() as c:
            model = models.lock(c, name)
            before = models.load(c, name).policy
            policy = replace(before, **changes)
            if policy != before:
                self._set_policy(c, model, policy, actor)
            return policy

    @contextmanager
    def _changing(self, name: str, version: int) -> Iterator[tuple[Connection, Locked, AnyRow]]:
        """A transaction with the locked model of a version, and the state of the version."""
        with self.database.write() as c:
            yield c, *self._lock_state(c, name, version)

    def _lock_state(self, c: Connection, name: str, version: int) -> tuple[Locked, AnyRow]:
        model = models.lock(c, name)
        state = states.find(c, model, version)
        if state is None:
            raise versions.missing(c, name, version)
        return model, state

    def _set_policy(self, c: Connection, model: Locked, policy: Policy, actor: str) -> None:
        for held in aliases.of_model(c, model.name):
            if held.name in policy.protected and held.name != CHAMPION:
                self._check_approved(c, model, held)
        models.set_policy(c, model, policy)
        events.add(c, model, "policy", actor, payload=asdict(policy))

    def _check_approved(self, c: Connection, model: Locked, held: Alias) -> None:
        state = states.find(c, model, held.version)
        if state is None or state.status != "approved":
            status = "missing" if state is None else state.status
            raise Refused(
                f"{model.name}@{held.name} cannot be protected now: it points to "
                f"{model.name}:{held.version}, which is {status}, not approved. Approve that "
                f"version, or move or unset the alias, and set the policy again."
            )

    def _approve(
        self,
        c: Connection,
        model: Locked,
        state: AnyRow,
        version: int,
        *,
        actor: str,
        reason: str,
        promoting: bool = False,
    ) -> None:
        """`promoting`: nobody asked for the approval; the promotion that follows needs it."""
        evaluation = evaluations.newest(c, state.version_id)
        if evaluation is None or not evaluation.passed:
            what = "was never evaluated" if evaluation is None else "failed its newest evaluation"
            raise Refused(
                f"{model.name}:{version} {what}; only a version with a passed evaluation can be "
                "approved."
            )
        states.approve(c, state.version_id, evaluation, actor, reason)
        how = {"by": "promotion"} if promoting else None
        events.add(c, model, "approved", actor, version=version, reason=reason, payload=how)


def _protected(named: Iterable[str]) -> tuple[str, ...]:
    """The aliases that a policy protects: always the champion, never the challenger."""
    others = sorted({check_alias(alias) for alias in named} - {CHAMPION})
    if CHALLENGER in others:
        raise Refused(
            f"{CHALLENGER!r} is the alias of a version that waits for its approval, so it "
            "cannot be protected. Give other aliases, as in champion,production."
        )
    return (CHAMPION, *others)


def check_not_archived(model: Locked, version: int, state: AnyRow) -> None:
    """Raises Refused for an archived version: it must be unarchived first."""
    if state.status == "archived":
        raise Refused(f"{model.name}:{version} is archived; unarchive it first.")
