"""Random operations on a registry, compared with a small model made of dicts."""

import itertools
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from registry_helpers import Place, make_candidate, outcome

from registry.integrity import verify

BY = {"actor": "ada", "reason": "because"}
REFUSED, CONFLICT, MISSING = "Refused", "Conflict", "NotFound"
INVALID = "InvalidReference"

BECOMES = {
    "approve": "approved",
    "reject": "rejected",
    "archive": "archived",
    "unarchive": "candidate",
}

numbers = st.integers(1, 4)
aliases = st.sampled_from(["champion", "canary"])


@dataclass
class Modelled:
    """The expected state of a model in the registry."""

    status: dict[int, str] = field(default_factory=dict)
    content: dict[int, int] = field(default_factory=dict)
    tags: dict[int, dict[str, str]] = field(default_factory=dict)
    held: dict[str, list[int]] = field(default_factory=dict)
    """The versions that an alias can be rolled back to; the last one holds it."""
    moves: dict[str, int] = field(default_factory=dict)

    def holders(self) -> dict[str, int]:
        return {alias: versions[-1] for alias, versions in self.held.items()}


class Operations(RuleBasedStateMachine):
    """Operations on a registry and on its dict model; their outcomes must be equal."""

    place: Place
    names = itertools.count()

    @initialize()
    def begin(self):
        self.registry = self.place.open()
        # One database for all runs, and in it a model for each: to make databases takes long.
        self.name = f"model-{next(self.names)}"
        self.model = Modelled()
        self.register(0)
        self.register(1)

    def teardown(self):
        if hasattr(self, "registry"):
            assert verify(self.registry, self.name).problems == []
            self.registry.close()

    def expect(self, expected, change, *given, **by):
        assert outcome(lambda: change(self.name, *given, **(by or BY)) and None) == expected

    @rule(content=st.integers(0, 3))
    def register(self, content):
        candidate = make_candidate(self.place.folder / "bundle", f"{self.name} {content}")
        made = self.registry.register(self.name, candidate, actor="ada")
        number = made.version.version
        assert made.created == (content not in self.model.content.values())
        if made.created:
            assert number == len(self.model.status) + 1
            self.model.content[number] = content
            self.model.status[number] = "candidate"
            self.model.tags[number] = {}
        assert self.model.content[number] == content

    def may_hold(self, number, alias):
        status = self.model.status[number]
        return status != "archived" and not (alias == "champion" and status == "rejected")

    def move(self, number, alias):
        if alias == "champion":
            self.model.status[number] = "approved"
        self.model.moves[alias] = self.model.moves.get(alias, 0) + 1

    @rule(number=numbers, alias=aliases, behind=st.sampled_from([None, 0, 1]))
    def promote(self, number, alias, behind):
        revision = self.model.moves.get(alias, 0) if alias in self.model.held else 0
        asked = None if behind is None else revision - behind
        held = self.model.held.get(alias, [])
        if asked is not None and asked < 0:
            expected = INVALID
        elif number not in self.model.status:
            expected = MISSING
        elif behind == 1:
            expected = CONFLICT
        elif held and held[-1] == number:
            expected = None
        elif not self.may_hold(number, alias):
            expected = REFUSED
        else:
            expected = None
            self.move(number, alias)
            self.model.held[alias] = [*held, number]
        by = BY | {"alias": alias, "expect_revision": asked}
        self.expect(expected, self.registry.promote, number, **by)

    @rule(alias=aliases)
    def rollback(self, alias):
        if alias not in self.model.held:
            return self.expect(MISSING, self.registry.rollback, alias)
        *before, held = self.model.held[alias]
        for index in reversed(range(len(before))):
            usable = self.model.status[before[index]] in ("approved", "candidate")
            if usable and before[index] != held:
                self.move(before[index], alias)
                self.model.held[alias] = before[: index + 1]
                return self.expect(None, self.registry.rollback, alias)
        return self.expect(REFUSED, self.registry.rollback, alias)

    @rule(alias=aliases)
    def unset(self, alias):
        known = self.model.held.pop(alias, None)
        if known:
            self.model.moves[alias] += 1
        self.expect(None if known else MISSING, self.registry.unset, alias)

    @rule(number=numbers, change=st.sampled_from(["approve", "reject", "archive", "unarchive"]))
    def change(self, number, change):
        before, holders = self.model.status.get(number), self.model.holders()
        refused = {
            "approve": before == "archived",
            "reject": before == "archived" or holders.get("champion") == number,
            "archive": number in holders.values(),
            "unarchive": before != "archived",
        }[change]
        expected = MISSING if before is None else REFUSED if refused else None
        if expected is None:
            self.model.status[number] = BECOMES[change]
        self.expect(expected, getattr(self.registry, change), number)

    @rule(number=numbers, value=st.sampled_from(["red", "blue", None]))
    def tag(self, number, value):
        known = number in self.model.status
        expected = None if known else MISSING
        self.expect(expected, self.registry.tag, number, "colour", value, actor="ada")
        if known:
            self.model.tags[number] = {} if value is None else {"colour": value}

    @invariant()
    def the_registry_is_as_modelled(self):
        if not hasattr(self, "model"):
            return
        present = {alias.name: alias for alias in self.registry.model(self.name).aliases}
        assert {name: alias.version for name, alias in present.items()} == self.model.holders()
        assert all(alias.revision == self.model.moves[name] for name, alias in present.items())
        found = {found.version: found for found in self.registry.search(self.name).versions}
        assert {number: one.status for number, one in found.items()} == self.model.status
        assert all(one.tags == self.model.tags[number] for number, one in found.items())


def test_registry_agrees_with_a_dict_model(place):
    class Here(Operations):
        pass

    Here.place = place
    bounded = settings(
        max_examples=12,
        stateful_step_count=25,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Here, settings=bounded)
