"""Promotion: which version an alias points to, above all the champion."""

from sqlalchemy import Connection

from registry.errors import Conflict, Corrupt, Refused
from registry.operations.approvals import ApprovalMixin, check_not_archived
from registry.queries import aliases, events, models, states
from registry.queries.models import Locked
from registry.queries.rows import AnyRow
from registry.records import Alias
from registry.references import CHALLENGER, CHAMPION
from registry.validation.arguments import checked


class PromotionMixin(ApprovalMixin):
    """`promote`, `reject`, `rollback`, `unset`."""

    @checked
    def promote(
        self,
        name: str,
        version: int,
        alias: str = CHAMPION,
        *,
        expect_revision: int | None,
        actor: str,
        reason: str,
    ) -> Alias:
        """Point an alias to a version, provided that nobody has moved it meanwhile.

        `expect_revision` is the alias's revision that the decision was based on, 0 if it was not
        set, None to move it regardless. It is a revision, not a version: an alias that was moved
        away and back has another one. Promoting the version that already holds the alias changes
        nothing. Pointing the champion or another protected alias to a candidate approves it, unless
        the model's policy requires four eyes. The new champion is no longer challenger. If
        somebody moved an alias by SQL without an event, this promotion makes alias and history
        agree again.

        Raises:
            NotFound: the model or version does not exist.
            Conflict: the alias is not at the expected revision.
            InvalidReference: the alias is not an allowed name.
            Refused: the version is archived, or cannot hold a protected alias without an approval.
        """
        with self._changing(name, version) as (c, model, state):
            pointing = {a.name: a for a in aliases.of_model(c, name)}
            held = pointing.get(alias)
            _check_revision(name, alias, held, expect_revision)
            before = events.moves_of(c, model.id, alias)
            if held and held.version == version == _holder(before, held):
                return held
            moved = self._move(
                c,
                model,
                alias,
                held,
                before,
                version,
                state,
                "promoted",
                actor=actor,
                reason=reason,
            )
            asking = pointing.get(CHALLENGER)
            if alias == CHAMPION and asking and asking.version == version:
                self._unset(c, model, CHALLENGER, asking, actor=actor, reason="became champion")
            return moved

    @checked
    def reject(self, name: str, version: int, *, actor: str, reason: str) -> None:
        """Reject a version: it cannot hold a protected alias unless it is approved later.

        It is no longer challenger.

        Raises:
            NotFound: the model or version does not exist.
            Refused: it is the champion, holds another protected alias, or is archived.
        """
        with self._changing(name, version) as (c, model, state):
            if state.status == "rejected":
                return
            check_not_archived(model, version, state)
            states.change(c, state.version_id, "rejected")
            events.add(c, model, "rejected", actor, version=version, reason=reason)
            asking = aliases.find(c, name, CHALLENGER)
            if asking and asking.version == version:
                self._unset(c, model, CHALLENGER, asking, actor=actor, reason="was rejected")

    @checked
    def rollback(
        self,
        name: str,
        alias: str = CHAMPION,
        *,
        expect_revision: int | None = None,
        actor: str,
        reason: str,
    ) -> Alias:
        """Point an alias back to the version that held it before the present one.

        Rolling back again goes further back. Versions that were archived or rejected since are
        skipped.

        Raises:
            NotFound: the model or alias does not exist.
            Conflict: the alias is not at the expected revision.
            Refused: no version that may hold the alias has held it before.
            Corrupt: the alias, or its history, was edited.
        """
        with self.database.write() as c:
            model = models.lock(c, name)
            before = events.moves_of(c, model.id, alias)
            held = aliases.find(c, name, alias)
            _check_follows(name, alias, held, before)
            if held is None:
                raise aliases.unknown(c, name, alias)
            _check_revision(name, alias, held, expect_revision)
            for number in reversed(events.holders(c, model.id, alias)):
                state = states.find(c, model, number)
                if state is None:
                    raise Corrupt(
                        f"The history of {name}@{alias} was edited: {name}:{number}, which held "
                        "it, does not exist. Run `modelmint models verify`."
                    )
                if number != held.version and state.status in ("approved", "candidate"):
                    break
            else:
                raise Refused(
                    f"{name}@{alias} is {name}:{held.version}, and no earlier holder may have it "
                    f"again. See `modelmint models history {name}`."
                )
            return self._move(
                c,
                model,
                alias,
                held,
                before,
                number,
                state,
                "rolled back",
                actor=actor,
                reason=reason,
            )

    @checked
    def unset(self, name: str, alias: str, *, actor: str, reason: str) -> None:
        """Remove an alias. Raises NotFound."""
        with self.database.write() as c:
            model = models.lock(c, name)
            held = aliases.find(c, name, alias)
            # If somebody deleted the alias's row, the history still needs the event.
            if held is None and events.moves_of(c, model.id, alias).holder is None:
                raise aliases.unknown(c, name, alias)
            self._unset(c, model, alias, held, actor=actor, reason=reason)

    def _unset(
        self,
        c: Connection,
        model: Locked,
        alias: str,
        held: Alias | None,
        *,
        actor: str,
        reason: str,
    ) -> None:
        before = events.moves_of(c, model.id, alias)
        aliases.unset(c, model.id, alias)
        previous = _holder(before, held)
        events.add(c, model, "unset", actor, alias=alias, previous=previous, reason=reason)

    def _move(
        self,
        c: Connection,
        model: Locked,
        alias: str,
        held: Alias | None,
        before: events.Moves,
        version: int,
        state: AnyRow,
        kind: str,
        *,
        actor: str,
        reason: str,
    ) -> Alias:
        status = self._status_to_hold(c, model, state, version, alias, actor=actor, reason=reason)
        revision = 1 + max(before.count, held.revision if held else 0)
        aliases.move(
            c,
            model.id,
            alias,
            version=version,
            status=status,
            revision=revision,
            set_yet=held is not None,
        )
        events.add(
            c,
            model,
            kind,
            actor,
            version=version,
            alias=alias,
            previous=_holder(before, held),
            reason=reason,
        )
        return Alias(model.name, alias, version, revision)

    def _status_to_hold(
        self,
        c: Connection,
        model: Locked,
        state: AnyRow,
        version: int,
        alias: str,
        *,
        actor: str,
        reason: str,
    ) -> str:
        """The status of a version that is to hold an alias; a protected alias needs approval."""
        ref = f"{model.name}:{version}"
        check_not_archived(model, version, state)
        if state.status == "approved" or not models.is_protected(c, model, alias):
            status: str = state.status
            return status
        if state.status == "candidate" and not model.four_eyes:
            self._approve(c, model, state, version, actor=actor, reason=reason, promoting=True)
            return "approved"
        why = "was rejected" if state.status == "rejected" else "is not approved yet"
        raise Refused(
            f"{ref} {why}, and only an approved version can be {alias}. Approve it first: "
            f"modelmint models approve {ref}"
        )


def _check_revision(name: str, alias: str, held: Alias | None, expected: int | None) -> None:
    if expected in (None, held.revision if held else 0):
        return
    now = f"at revision {held.revision} (version {held.version})" if held else "not set"
    raise Conflict(
        f"{name}@{alias} is {now}, but revision {expected} was expected: somebody moved it "
        f"meanwhile. See `modelmint models history {name}` and decide again."
    )


def _holder(before: events.Moves, held: Alias | None) -> int | None:
    """The version that held an alias, by its history."""
    # An alias that was set by a release without events has only its row.
    return held.version if held and not before.count else before.holder


def _check_follows(name: str, alias: str, held: Alias | None, before: events.Moves) -> None:
    """Raises Corrupt if an alias does not point where its history says."""
    is_ = held.version if held else None
    if is_ != _holder(before, held):
        points = f"points to {name}:{is_}" if held else "is not set"
        was = f"points to {name}:{before.holder}" if before.holder else "is not set"
        raise Corrupt(
            f"{name}@{alias} {points}, but by its history it {was}: somebody edited it. Nothing "
            "was changed. Run `modelmint models verify`, then promote the version that you want."
        )
