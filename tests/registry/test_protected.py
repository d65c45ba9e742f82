"""Aliases that a policy protects are held by approved versions only, as the champion's is."""

import json
from functools import partial

import pytest
from databases import execute, fetch
from registry_helpers import Place, make_candidate, promote, register_versions
from sqlalchemy.exc import DBAPIError
from typer.testing import CliRunner

from cli.main import app
from registry import InvalidCandidate, InvalidReference, NoRegistry, NotFound, Policy, Refused
from registry.integrity import verify
from registry.references import person

PRODUCTION = Policy(protected=("champion", "production"))


def test_setting_a_protected_alias_approves_a_candidate(place):
    register_versions(place, 2)
    with place.open() as registry:
        registry.set_policy("digits", PRODUCTION, actor="ada")
        assert registry.model("digits").policy == PRODUCTION
        assert registry.models()[0].policy == PRODUCTION
        promote(registry, 1, "production")
        promote(registry, 2, "canary")
        status = {n: registry.resolve(f"digits:{n}").version.status for n in (1, 2)}
        assert status == {1: "approved", 2: "candidate"}
        assert [e.kind for e in registry.history("digits", version=1)] == [
            "promoted",
            "approved",
            "registered",
        ]
        for change in (registry.reject, registry.archive):
            with pytest.raises(Refused, match=r"move or unset|protects that alias"):
                change("digits", 1, actor="ada", reason="old")
        assert verify(registry).problems == []


def test_a_version_that_was_turned_down_gets_no_protected_alias(place):
    register_versions(place, 1)
    with place.open() as registry:
        registry.set_policy("digits", PRODUCTION, actor="ada")
        registry.reject("digits", 1, actor="ada", reason="slow")
        with pytest.raises(Refused, match="only an approved version can be production"):
            promote(registry, 1, "production")
        promote(registry, 1, "canary")


def test_four_eyes_hold_for_every_protected_alias_and_for_nothing_else(place):
    register_versions(place, 1)
    with place.open() as registry:
        policy = Policy(four_eyes=True, protected=("production",))
        registry.set_policy("digits", policy, actor="ada")
        promote(registry, 1, "canary")
        with pytest.raises(Refused, match="not approved yet"):
            promote(registry, 1, "production")
        for ada in ("ada", "ada ", " Ada", "ADA", "\uff41da"):  # the last has a wide a
            with pytest.raises(Refused, match="asks for an approval by somebody else"):
                registry.approve("digits", 1, actor=ada, reason="it is mine")
        registry.approve("digits", 1, actor="bo", reason="good")
        promote(registry, 1, "production")
        assert verify(registry).problems == []


def test_the_database_asks_for_other_eyes_too(place):
    register_versions(place, 1)
    with place.open() as registry:
        registry.approve("digits", 1, actor=" Ada", reason="before there was a policy")
        policy = Policy(four_eyes=True, protected=("production",))
        registry.set_policy("digits", policy, actor="ada")
        for alias in ("champion", "production"):
            with pytest.raises(Refused, match="somebody other than its trainer"):
                promote(registry, 1, alias)
        registry.approve("digits", 1, actor="bo", reason="good")
        promote(registry, 1, "production")
    own = "SELECT min(id) FROM approvals"  # by ada
    with pytest.raises(DBAPIError, match="keeps an approval by somebody other"):
        execute(place.url, f"UPDATE version_state SET approval_id = ({own})")


def test_an_alias_is_not_protected_while_nobody_approved_what_it_points_to(place):
    register_versions(place, 1)
    with place.open() as registry:
        promote(registry, 1, "production")
        with pytest.raises(Refused, match="digits:1, which is candidate, not approved"):
            registry.set_policy("digits", PRODUCTION, actor="ada")
        assert registry.model("digits").policy == Policy()
        registry.approve("digits", 1, actor="bo", reason="good")
        registry.set_policy("digits", PRODUCTION, actor="ada")
        registry.set_policy("digits", Policy(), actor="ada")
        assert registry.model("digits").policy.protected == ("champion",)
        registry.reject("digits", 1, actor="bo", reason="not protected any more")
        kept = [e.payload for e in registry.history("digits") if e.kind == "policy"]
        assert [json.loads(json.dumps(p))["protected"] for p in kept] == [
            ["champion"],
            ["champion", "production"],
        ]
        assert verify(registry).problems == []
    assert fetch(place.url, "SELECT * FROM protected_aliases") == []


def test_a_policy_protects_aliases_that_may_be_and_not_the_challenger(place):
    with place.open() as registry:
        with pytest.raises(InvalidReference, match="an alias"):
            registry.set_policy("digits", Policy(protected=("Production!",)), actor="ada")
        with pytest.raises(Refused, match="waits for its approval"):
            registry.set_policy("digits", Policy(protected=("challenger",)), actor="ada")
        assert registry.models() == []


def test_rolling_a_protected_alias_back_passes_over_what_was_turned_down(place):
    register_versions(place, 3)
    with place.open() as registry:
        registry.set_policy("digits", PRODUCTION, actor="ada")
        for number in (1, 2, 3):
            promote(registry, number, "production")
        registry.reject("digits", 2, actor="bo", reason="slow")
        back = registry.rollback("digits", "production", actor="bo", reason="worse")
        assert back.version == 1
        assert verify(registry).problems == []


def test_a_tag_and_an_evaluation_are_written_with_their_event(place):
    offered = make_candidate(place.folder / "bundle", tags={"colour": "red"})
    with place.open() as registry:
        registry.register("digits", offered, actor="ada")
        registry.tag("digits", 1, "colour", "blue", actor="ada")
        registry.tag("digits", 1, "colour", None, actor="ada")
        registry.tag("digits", 1, "colour", None, actor="ada")
        registry.evaluate("digits", 1, {"passed": True}, actor="ada")
        assert registry.resolve("digits:1").version.tags == {}
        assert verify(registry).problems == []


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("ada", "ada ", True),
        ("ada", "\tADA\n", True),
        ("ada b", "ada  b", True),
        ("straße", "STRASSE", True),
        ("ada", "a\u200bda", True),
        ("ada", "ada\ufeff", True),
        ("ada b", "ada\u00a0b", True),
        ("ada b", "ada\u3000b", True),
        ("ada", "a\u034fda\u3164", True),
        ("ada", "\uff21da", True),
        ("\u00e5sa", "A\u030aSA", True),
        ("ada", "adam", False),
        ("ada b", "adab", False),
    ],
)
def test_a_person_is_the_same_however_the_name_was_typed(one, other, same):
    assert (person(one) == person(other)) is same


def test_a_rule_that_is_changed_leaves_the_others_as_they_are(place):
    register_versions(place, 1)
    with place.open() as registry:
        change = partial(registry.change_policy, "digits", actor="ada")
        change(four_eyes=True, protected=["production"], keep_days=30)
        assert change(keep_last=5) == Policy(
            four_eyes=True, keep_last=5, keep_days=30, protected=("champion", "production")
        )
        assert change(keep_days=0, keep_holders=0) == registry.model("digits").policy
        assert registry.model("digits").policy == Policy(
            four_eyes=True, keep_last=5, protected=("champion", "production"), keep_holders=0
        )
        before = len(registry.history("digits"))
        change()
        change(keep_last=5, protected=["production", "champion"])
        assert len(registry.history("digits")) == before
        for wrong in ({"four_eyes": "no"}, {"keep_last": -1}, {"keep_days": True}):
            with pytest.raises(InvalidCandidate):
                change(**wrong)
        with pytest.raises(Refused, match="waits for its approval"):
            change(protected=["challenger"])
        with pytest.raises(NotFound, match="Did you mean 'digits'"):
            registry.change_policy("digit", four_eyes=True, actor="ada")
        assert [model.name for model in registry.models()] == ["digits"]
        assert verify(registry).problems == []


def test_rules_of_a_registry_that_is_not_there_are_refused_and_make_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELMINT_DATABASE_URL", f"sqlite:///{tmp_path}/registry.db")
    monkeypatch.setenv("MODELMINT_ARTIFACTS", str(tmp_path / "artifacts"))
    for asked in ([], ["--four-eyes"], ["--keep-last", "3"]):
        ran = CliRunner().invoke(app, ["models", "policy", "digits", *asked])
        assert isinstance(ran.exception, NoRegistry)
    assert list(tmp_path.iterdir()) == []


UNSEEN = [
    "\u00ad",
    "\u200b",
    "\u2060",
    "\ufeff",
    "\u061c",
    "\U000e0041",
    "\ue000",
    "\u0378",
    "\u00a0",
]
UNSEEN += ["\u2003", "\u3000", "\u034f", "\u115f", "\u3164", "\u2800", "\ufe0f", "\U000e0101"]


@pytest.mark.parametrize("character", UNSEEN, ids=ascii)
def test_nobody_approves_as_somebody_else_by_characters_that_nobody_sees(tmp_path, character):
    with Place(tmp_path).open() as registry:
        for name in (f"a{character}da", f"ada{character}x"):
            with pytest.raises(InvalidCandidate, match=rf"U\+{ord(character):04X} .*Leave it out"):
                registry.set_policy("digits", Policy(four_eyes=True), actor=name)
        assert person(f"a{character}da") == person("ada") or character.isspace()


def test_names_of_all_the_world_are_taken(tmp_path):
    with Place(tmp_path).open() as registry:
        for name in (
            "José Ñandú",
            "Jose\u0301",
            "Łukasz O'Neil-Ngọc",
            "王小明",
            "محمد",
            "अनिल",
            "👩",
        ):
            registry.set_policy("digits", Policy(), actor=name)
        events = registry.history("digits")
    assert [e.actor for e in events][-2:] == ["José", "José Ñandú"]


def test_who_trained_elsewhere_is_written_out(place):
    with place.open() as registry:
        offered = make_candidate(place.folder / "bundle", evaluation={})
        made = registry.admit("digits", offered, "imported", actor="bo", trainer="a\u200bda\ufeff")
        assert made.version.created_by == "a\\u200bda\\ufeff"


def test_the_command_shows_and_changes_what_is_protected(tmp_path, monkeypatch):
    here = Place(tmp_path)
    register_versions(here, 1)
    monkeypatch.setenv("MODELMINT_DATABASE_URL", here.url)
    monkeypatch.setenv("MODELMINT_ARTIFACTS", str(tmp_path / "artifacts"))

    def policy(*arguments):
        ran = CliRunner().invoke(app, ["models", "policy", "digits", *arguments])
        assert ran.exit_code == 0, ran.output
        return ran.output

    assert json.loads(policy("--json"))["protected"] == ["champion"]
    changed = json.loads(policy("--protect", "production, champion", "--four-eyes", "--json"))
    assert (changed["protected"], changed["four_eyes"]) == (["champion", "production"], True)
    assert "champion, production" in policy("--keep-last", "3")  # which leaves it as it was
    assert json.loads(policy("--protect", "champion", "--json"))["protected"] == ["champion"]
    ran = CliRunner().invoke(app, ["models", "policy", "digits", "--protect", "challenger"])
    assert ran.exit_code != 0
