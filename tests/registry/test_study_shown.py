"""The page of a version whose parameters `modelmint tune` has found."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from registry_helpers import make_candidate, open_registry
from starlette.testclient import TestClient

from registry.web.app import make_app

STUDY = {
    "format": 1,
    "study": "digits-<b>0a1b",
    "trial": 2,
    "verdict": "trial 2 is better than the defaults with every seed",
    "importances": {"train.batch_size": 0.25, "train.optimizer.learning_rate": 0.75},
    "trials": [
        {"number": 0, "state": "complete", "loss": 0.5, "values": {}},
        {"number": 1, "state": "pruned", "loss": None, "values": {}},
        {"number": 2, "state": "complete", "loss": 0.25, "values": {}},
    ],
}


def page_with(study: str, tmp_path: Path) -> str:
    """The page of a version with this `study.json`."""
    with open_registry(tmp_path) as registry:
        candidate = make_candidate(tmp_path / "bundle")
        path = tmp_path / "bundle" / "study.json"
        path.write_text(study)
        files = {**candidate.files, "study.json": path}
        registry.register("digits", replace(candidate, files=files), actor="ada")
        app = make_app(registry, prefect_ui=None, token=None)
        page = TestClient(app, base_url="http://127.0.0.1").get("/models/digits/versions/1")
    assert page.status_code == 200
    return page.text


def test_a_version_shows_its_study_with_history_and_importances(tmp_path: Path):
    page = page_with(json.dumps(STUDY), tmp_path)
    for text in (
        "trial 2 is better than the defaults with every seed",
        "digits-&lt;b&gt;0a1b, trial 2",
        "Of 3 trials 2 are complete; the lowest validation loss is 0.25",
        "75 %",
    ):
        assert text in page


@pytest.mark.parametrize(
    "study", ["", "[]", "{", '{"trials": 3}', '{"trials": [1, {"loss": "x"}], "trial": []}']
)
def test_a_study_of_another_form_does_not_break_the_page(study: str, tmp_path: Path):
    assert "digits:1" in page_with(study or " ", tmp_path)
