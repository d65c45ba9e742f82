"""Entries: notes that programs write for programs, and the chains that people see of them."""

import pytest
from registry_helpers import make_candidate, open_registry, promote, together, with_champion
from starlette.testclient import TestClient

from registry import Conflict, InvalidCandidate, InvalidReference
from registry.display.describing import kind_of
from registry.display.retraining import chains
from registry.integrity import verify
from registry.web.app import make_app


def add(registry, phase, expect, **given):
    document = {"retraining": "r1", "phase": phase, **given.pop("document", {})}
    given = {"text": f"{phase} <b>", "actor": "loop", **given}
    return registry.add_entry("digits", "retraining", document, expect=expect, **given)


def test_an_entry_is_added_only_after_the_one_that_was_expected(place):
    with place.open() as registry:
        with_champion(registry, place.folder / "one")
        first = add(registry, "started", 0)
        with pytest.raises(Conflict, match="meanwhile"):
            add(registry, "started", 0)
        second = add(registry, "ended", first.id)
        assert registry.entries("digits", "retraining") == [second, first]
        assert registry.entries("digits", "retraining", limit=1) == [second]
        other = registry.add_entry("digits", "other", {}, expect=0, text="x", actor="loop")
        assert registry.entries("digits", "other") == [other]
        found = together(*(lambda: add(registry, "started", second.id) for _ in range(4)))
        assert sorted(map(str, found)).count("Conflict") == 3
        assert verify(registry).problems == []


def test_an_entry_depends_on_the_champion_if_it_says_so(place):
    with place.open() as registry:
        with_champion(registry, place.folder / "one")
        registry.register("digits", make_candidate(place.folder / "two", "b"), actor="ada")
        promote(registry, 2)
        with pytest.raises(Conflict, match="somebody moved digits@champion"):
            add(registry, "started", 0, expect_revision=1)
        assert add(registry, "started", 0, expect_revision=2).kind == "noted"


def test_notes_of_people_are_no_entries_and_bad_documents_are_refused(tmp_path):
    with with_champion(open_registry(tmp_path), tmp_path / "one") as registry:
        registry.note("digits", 1, "retraining: mine", actor="ada")
        assert registry.entries("digits", "retraining") == []
        for bad, error in (
            ({"document": {"x": float("nan")}}, InvalidCandidate),
            ({"text": ""}, InvalidCandidate),
            ({"expect_revision": -1}, InvalidReference),
        ):
            with pytest.raises(error):
                add(registry, "started", 0, **bad)


def test_the_page_of_a_model_shows_the_chain_with_links_to_both_jobs(tmp_path):
    with with_champion(open_registry(tmp_path), tmp_path / "one") as registry:
        jobs = {"cause": "drift", "jobs": ["newest", "job-that-drifted"]}
        started = add(registry, "started", 0, version=1, document=jobs)
        ended = {"outcome": "promoted", "made": 1}
        last = add(registry, "ended", started.id, version=1, document=ended)
        add(registry, "used", last.id, version=1, document={"job": "first-job"})
        (chain,) = chains(registry.entries("digits", "retraining"))
        assert (chain.jobs[-1], chain.outcome, chain.version, chain.used) == (
            "job-that-drifted",
            "promoted",
            1,
            "first-job",
        )
        assert (chain.why, chain.said) == ("started <b>", "ended <b>")
        assert kind_of(last) == "retraining"
        app = make_app(registry, prefect_ui=None, token=None)
        page = TestClient(app, base_url="http://127.0.0.1").get("/models/digits")
        for text in ("Trainings that started by themselves", "/jobs/job-that-drifted"):
            assert text in page.text
        assert "/jobs/first-job" in page.text
        assert "started &lt;b&gt;" in page.text


@pytest.mark.parametrize("document", [{"jobs": 3}, {"jobs": [1], "outcome": 5, "made": 1}])
def test_entries_of_other_forms_make_a_page(tmp_path, document):
    with with_champion(open_registry(tmp_path), tmp_path / "one") as registry:
        for phase in ("used", "ended", "strange"):
            newest = registry.entries("digits", "retraining", limit=1)
            expect = newest[0].id if newest else 0
            add(registry, phase, expect, document={**document, "retraining": [1]})
        app = make_app(registry, prefect_ui=None, token=None)
        page = TestClient(app, base_url="http://127.0.0.1").get("/models/digits")
        assert page.status_code == 200
