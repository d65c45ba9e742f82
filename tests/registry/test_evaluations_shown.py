"""Warnings, baselines and intervals of an evaluation, on the command line and on the page."""

import pytest
from registry_helpers import make_candidate, open_registry
from starlette.testclient import TestClient

from registry.display import documents
from registry.display.describing import facts
from registry.web.app import make_app

WARNING = "macro F1 0.8000 is worse than that of a baseline: boosted trees, 0.9000"
EVALUATION = {
    "format": 2,
    "passed": True,
    "gates": [],
    "metrics": {
        "rows": 9,
        "headline": ["macro_f1"],
        "summary": {"macro_f1": 0.8},
        "intervals": {"macro_f1": [0.7123, 0.8765]},
    },
    "baselines": [
        {"name": "mean", "quick": False, "rows": 9, "of": 1200, "metrics": {"macro_f1": 0.3}},
        {"name": "<b>trees", "quick": True, "rows": 9, "of": 1200, "metrics": {}},
    ],
    "repeats": [{"seed": 7, "metrics": {"macro_f1": 0.7931}}],
    "warnings": [WARNING],
}


@pytest.fixture
def registry(tmp_path):
    with open_registry(tmp_path) as opened:
        given = make_candidate(
            tmp_path / "b", evaluation=EVALUATION, metrics={"macro_f1": 0.8, "accuracy": 0.9}
        )
        opened.register("digits", given, actor="ada")
        yield opened


def test_a_version_is_described_with_warnings_first_then_intervals_and_baselines(registry):
    found = facts(registry.resolve("digits:1").version)
    names = [name for name, _ in found]
    assert names.index("warning") < names.index("macro_f1") < names.index("baseline")
    assert ("warning", WARNING) in found
    assert ("interval of macro_f1", "0.7123 to 0.8765 (95 %, bootstrap)") in found
    assert ("repeated", "seed 7: macro_f1 0.7931, accuracy ") in found
    assert ("baseline", "mean: macro_f1 0.3000, accuracy  (9 of 1,200 training rows)") in found


def test_the_page_of_a_version_has_warnings_intervals_and_escaped_baselines(registry):
    app = make_app(registry, prefect_ui=None, token=None)
    page = TestClient(app, base_url="http://127.0.0.1").get("/models/digits/versions/1")
    assert page.status_code == 200
    for text in (
        f"Warning: {WARNING}",
        "Other seeds and baselines",
        "seed 7",
        "0.7931",
        "&lt;b&gt;trees",
        "9 of 1,200",
        "0.7123",
        "0.8765",
    ):
        assert text in page.text
    assert "<b>trees" not in page.text


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"repeats": [3, {"seed": None}, {"metrics": 4}]},
        {"baselines": None, "warnings": "x", "metrics": 3},
        {"baselines": [3, {"name": 1}], "warnings": [1], "metrics": {"intervals": [1]}},
        {"metrics": {"intervals": {"a": [1], "b": ["x", "y"], "c": None}}},
    ],
)
def test_documents_of_other_forms_have_no_warnings_baselines_and_intervals(document):
    assert documents.baselines(document) == []
    assert documents.warnings(document) == ()
    assert documents.intervals(document) == {}
