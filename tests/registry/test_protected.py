"""Aliases that a policy protects need an approved version, as the champion does."""

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


def test_promote_to_a_protected_alias_approves_a_candidate(place):
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


def test_promote_refuses_a_protected_alias_for_a_rejected_version(place):
    register_versions(place, 1)
    with place.open() as registry:
        registry.set_policy("digits", PRODUCTION, actor="ada")
        registry.reject("digits", 1, actor="ada", reason="slow")
        with pytest.raises(Refused, match="only an approved version can be production"):
            promote(registry, 1, "production")
        promote(registry, 1, "canary")


def test_four_eyes_applies_to_protected_aliases_only(place):
    register_versions(place, 1)
    with place.open() as registry:
        policy = Policy(four_eyes=True, protected=("production",))
        registry.set_policy("digits", policy, actor="ada")
        promote(registry, 1, "canary")
        with pytest.raises(Refused, match="not approved yet"):
            promote(registry, 1, "production")
        for ada in ("ada", "ada ", " Ada", "ADA", "\uff41da"):  # the last has a wide a
            with pytest.raises(Refused, match="requires an approval by somebody else"):
                registry.approve("digits", 1, actor=ada, reason="it is mine")
        registry.approve("digits", 1, actor="bo", reason="good")
        promote(registry, 1, "production")
        assert verify(registry).problems == []


def test_database_enforces_four_eyes(place):
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


def test_set_policy_refuses_to_protect_an_alias_of_an_unapproved_version(place):
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


def test_set_policy_refuses_invalid_aliases_and_the_challenger(place):
    with place.open() as registry:
        with pytest.raises(InvalidReference, match="an alias"):
            registry.set_policy("digits", Policy(protected=("Production!",)), actor="ada")
        with pytest.raises(Refused, match="waits for its approval"):
            registry.set_policy("digits", Policy(protected=("challenger",)), actor="ada")
        assert registry.models() == []


def test_rollback_of_a_protected_alias_skips_rejected_versions(place):
    register_versions(place, 3)
    with place.open() as registry:
        registry.set_policy("digits", PRODUCTION, actor="ada")
        for number in (1, 2, 3):
            promote(registry, number, "production")
        registry.reject("digits", 2, actor="bo", reason="slow")
        back = registry.rollback("digits", "production", actor="bo", reason="worse")
        assert back.version == 1
        assert verify(registry).problems == []


def test_tag_and_evaluation_are_written_with_their_event(place):
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
def test_person_names_are_compared_without_case_and_spacing(one, other, same):
    assert (person(one) == person(other)) is same


def test_change_policy_keeps_the_other_rules(place):
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


def test_change_policy_without_a_registry_creates_nothing(tmp_path, monkeypatch):
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
def test_approve_refuses_names_with_invisible_characters(tmp_path, character):
    with Place(tmp_path).open() as registry:
        for name in (f"a{character}da", f"ada{character}x"):
            with pytest.raises(InvalidCandidate, match=rf"U\+{ord(character):04X} .*Leave it out"):
                registry.set_policy("digits", Policy(four_eyes=True), actor=name)
        assert person(f"a{character}da") == person("ada") or character.isspace()


def test_actor_accepts_names_in_any_script(tmp_path):
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


def test_trainer_of_an_import_has_invisible_characters_escaped(place):
    with place.open() as registry:
        offered = make_candidate(place.folder / "bundle", evaluation={})
        made = registry.admit("digits", offered, "imported", actor="bo", trainer="a\u200bda\ufeff")
        assert made.version.created_by == "a\\u200bda\\ufeff"


def test_policy_command_shows_and_changes_protected_aliases(tmp_path, monkeypatch):
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
