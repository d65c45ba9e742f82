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


@pytest.mark.parametrize(
    ("signature", "shown"),
    [
        (
            {"classes": ["no", "<i>yes"], "threshold": 0.21},
            "'<i>yes' where its probability is 0.21 or more",
        ),
        ({"task": "regression", "quantile": 0.9}, "the quantile 0.9"),
        ({"classes": ["no", "yes"]}, ""),
        ({"classes": ["a", "b", "c"], "threshold": 0.2}, ""),
        ({"classes": 3, "threshold": "high", "quantile": None}, ""),
    ],
)
def test_a_threshold_and_a_quantile_are_shown(signature, shown):
    assert documents.rule(signature) == shown


def test_the_page_and_the_description_say_what_a_version_predicts(tmp_path):
    signature = {
        "task": "binary",
        "columns": [{"name": "x", "kind": "number"}],
        "classes": ["no", "<i>yes"],
        "threshold": 0.21,
    }
    with open_registry(tmp_path) as opened:
        opened.register("rare", make_candidate(tmp_path / "b", signature=signature), actor="ada")
        said = "'<i>yes' where its probability is 0.21 or more"
        assert ("predicts", said) in facts(opened.resolve("rare:1").version)
        app = make_app(opened, prefect_ui=None, token=None)
        page = TestClient(app, base_url="http://127.0.0.1").get("/models/rare/versions/1").text
    assert "predicts &#39;&lt;i&gt;yes&#39; where its probability is 0.21 or more" in page
