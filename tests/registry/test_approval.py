"""Evaluations, approvals, four eyes, promotion to champion and rollback."""

import pytest
from registry_helpers import make_candidate, outcome, promote, register_versions

from registry import Conflict, NotFound, Policy, Refused
from registry.integrity import verify

BY = {"actor": "ada", "reason": "because"}


def status(registry, version):
    return registry.resolve(f"digits:{version}").version.status


def kinds(registry, count):
    return [event.kind for event in registry.history("digits", limit=count)]


# Evaluations and approvals


def admit_unjudged(registry, folder):
    """Version 1, imported without an evaluation."""
    candidate = make_candidate(folder / "bundle", evaluation={})
    return registry.admit("digits", candidate, "imported", actor="ada").version


def test_approve_refuses_a_version_without_a_passed_evaluation(place):
    with place.open() as registry:
        assert admit_unjudged(registry, place.folder).evaluation == {}
        for attempt in (registry.approve, registry.promote):
            asked = BY if attempt == registry.approve else BY | {"expect_revision": None}
            with pytest.raises(Refused, match="digits:1 was never evaluated"):
                attempt("digits", 1, **asked)
        registry.evaluate("digits", 1, {"passed": False, "gates": []}, actor="ada")
        with pytest.raises(Refused, match="digits:1 failed its newest evaluation"):
            registry.approve("digits", 1, **BY)
        registry.evaluate("digits", 1, {"passed": True}, actor="bo")
        registry.approve("digits", 1, **BY)
        version = registry.resolve("digits:1").version
        assert (version.status, version.evaluation) == ("approved", {"passed": True})
        assert kinds(registry, 4) == ["approved", "evaluated", "evaluated", "imported"]
        assert verify(registry).problems == []


def test_approve_uses_the_newest_evaluation(place):
    register_versions(place, 1)
    with place.open() as registry:
        registry.evaluate("digits", 1, {"passed": False}, actor="bo")
        with pytest.raises(Refused, match="failed its newest evaluation"):
            promote(registry, 1)
        assert registry.alias("digits") is None
        assert kinds(registry, 2) == ["evaluated", "registered"]


def test_promote_refuses_a_rejected_version_until_it_is_approved(place):
    register_versions(place, 1)
    with place.open() as registry:
        registry.reject("digits", 1, **BY)
        with pytest.raises(Refused, match=r"was rejected.*modelmint models approve digits:1"):
            promote(registry, 1)
        promote(registry, 1, "canary")  # any other alias may point to it
        registry.approve("digits", 1, **BY)
        assert promote(registry, 1).version == 1


def test_reject_and_archive_refuse_the_champion(place):
    register_versions(place, 1)
    with place.open() as registry:
        promote(registry, 1)
        with pytest.raises(Refused, match="the champion must be an approved version"):
            registry.reject("digits", 1, **BY)
        with pytest.raises(Refused, match="move or unset the alias first"):
            registry.archive("digits", 1, **BY)
        assert status(registry, 1) == "approved"


def test_archived_version_cannot_be_used_until_it_is_unarchived(place):
    register_versions(place, 1)
    with place.open() as registry:
        resolved = registry.resolve("digits:1")
        registry.approve("digits", 1, **BY)
        registry.archive("digits", 1, **BY)
        registry.archive("digits", 1, **BY)  # once is enough
        for attempt in (
            lambda: promote(registry, 1),
            lambda: promote(registry, 1, "canary"),
            lambda: registry.approve("digits", 1, **BY),
            lambda: registry.reject("digits", 1, **BY),
            lambda: registry.start_job(resolved, input_sha256="b" * 64, output="/out"),
        ):
            with pytest.raises(Refused, match=r"archived.*unarchive it first"):
                attempt()
        assert kinds(registry, 2) == ["archived", "approved"]
        registry.unarchive("digits", 1, **BY)
        assert status(registry, 1) == "candidate"  # an approval must be given anew
        with pytest.raises(Refused, match="is not archived: it is candidate"):
            registry.unarchive("digits", 1, **BY)


@pytest.mark.parametrize("change", ["approve", "reject", "archive", "unarchive", "evaluate", "tag"])
def test_changing_a_missing_version_lists_the_existing_ones(place, change):
    register_versions(place, 1)
    given = {"evaluate": ({"passed": True},), "tag": ("key", "value")}.get(change, ())
    by = {"actor": "ada"} if given else BY
    with place.open() as registry:
        with pytest.raises(NotFound, match=r"no version 2\. It has only digits:1\."):
            getattr(registry, change)("digits", 2, *given, **by)
        with pytest.raises(NotFound, match="Did you mean 'digits'"):
            getattr(registry, change)("digts", 1, *given, **by)


# Other eyes


def test_four_eyes_requires_an_approval_by_somebody_else(place):
    register_versions(place, 2)  # by ada
    with place.open() as registry:
        registry.set_policy("digits", Policy(four_eyes=True), actor="carol")
        assert registry.model("digits").policy == Policy(four_eyes=True)
        with pytest.raises(Refused, match="is not approved yet"):
            promote(registry, 1)
        with pytest.raises(Refused, match=r"registered by ada.*by somebody else"):
            registry.approve("digits", 1, actor="ada", reason="mine")
        registry.approve("digits", 1, actor="bo", reason="looks good")
        assert promote(registry, 1).version == 1  # whoever does it
        promote(registry, 2, "challenger")  # which needs no approval: it asks for one
        assert verify(registry).problems == []


def test_own_approval_is_void_once_four_eyes_is_required(place):
    register_versions(place, 2)
    with place.open() as registry:
        for version in (1, 2):
            registry.approve("digits", version, actor="ada", reason="mine")
        promote(registry, 1)
        registry.set_policy("digits", Policy(four_eyes=True), actor="carol")
        with pytest.raises(Refused, match="somebody other than its trainer"):
            promote(registry, 2)
        assert registry.alias("digits").version == 1  # which was champion before


def test_revoked_approval_does_not_count(place):
    register_versions(place, 1)
    with place.open() as registry:
        registry.approve("digits", 1, actor="bo", reason="good")
        registry.reject("digits", 1, actor="bo", reason="no, it is not")
        registry.approve("digits", 1, actor="ada", reason="mine")
        registry.set_policy("digits", Policy(four_eyes=True), actor="carol")
        with pytest.raises(Refused, match="somebody other than its trainer"):
            promote(registry, 1)


def test_promote_to_champion_unsets_the_challenger(place):
    register_versions(place, 2)
    with place.open() as registry:
        promote(registry, 1, "challenger")
        promote(registry, 2)
        assert registry.alias("digits", "challenger").version == 1
        promote(registry, 1)
        assert registry.alias("digits", "challenger") is None
        assert verify(registry).problems == []


# The way back


def rolled_back(registry, **asked):
    return registry.rollback("digits", **{**BY, **asked}).version


def test_rollback_is_one_call_and_one_event(place):
    register_versions(place, 2)
    with place.open() as registry:
        promote(registry, 1)
        promote(registry, 2)
        back = registry.rollback("digits", expect_revision=2, **BY)
        assert (back.version, back.revision) == (1, 3)
        event = registry.history("digits", limit=1)[0]
        assert (event.kind, event.version, event.previous) == ("rolled back", 1, 2)
        with pytest.raises(Conflict, match="revision 2 was expected"):
            registry.rollback("digits", expect_revision=2, **BY)
        with pytest.raises(Refused, match="no earlier holder may have it again"):
            registry.rollback("digits", **BY)


def test_rollback_twice_goes_two_champions_back(place):
    register_versions(place, 4)
    with place.open() as registry:
        for version in (1, 2, 1, 3, 2):
            promote(registry, version)
        assert [rolled_back(registry) for _ in range(2)] == [3, 1]
        promote(registry, 4)
        assert [rolled_back(registry) for _ in range(3)] == [1, 2, 1]
        with pytest.raises(Refused):
            rolled_back(registry)
        assert verify(registry).problems == []


def test_rollback_skips_archived_and_rejected_versions(place):
    register_versions(place, 4)
    with place.open() as registry:
        for version in (1, 4, 2, 3, 4):
            promote(registry, version)
        registry.archive("digits", 2, **BY)
        registry.reject("digits", 3, **BY)
        assert rolled_back(registry) == 1  # not 4, which holds it


def test_rollback_does_not_go_back_beyond_an_unset(place):
    register_versions(place, 3)
    with place.open() as registry:
        promote(registry, 1, "canary")
        promote(registry, 2, "canary")
        registry.unset("digits", "canary", **BY)
        with pytest.raises(NotFound, match="no alias 'canary'"):
            rolled_back(registry, alias="canary")
        assert promote(registry, 3, "canary").revision == 4
        with pytest.raises(Refused):
            rolled_back(registry, alias="canary")


def test_rollback_to_a_candidate_approves_it(place):
    register_versions(place, 2)
    with place.open() as registry:
        promote(registry, 1)
        promote(registry, 2)
        registry.archive("digits", 1, **BY)
        registry.unarchive("digits", 1, **BY)
        assert rolled_back(registry) == 1
        assert status(registry, 1) == "approved"
        assert outcome(lambda: rolled_back(registry)) == "Refused"
