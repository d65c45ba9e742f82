"""`modelmint models` on a trained project."""

import json
import re
from pathlib import Path

import pytest
from projects import Project
from registry_helpers import make_candidate

from registry import Registry

# Every command talks to the registry of one project; each test has models of its own in it.


@pytest.fixture(scope="module")
def figures(trained: Project) -> Project:
    """Two versions of `figures`, the second trained on from the first, and a batch job."""
    name = ("-S", "registration.name=figures")
    trained.train(*name)
    trained.train(*name, "-S", "train.init_from=figures:1", "-S", "train.seed=5")
    trained.modelmint(
        "predict", "figures:1", "data/prepared/test.arrow", "--output", "traced-predictions"
    )
    return trained


def registered(project: Project, folder: Path, name: str, count: int) -> None:
    """Versions registered without a training."""
    with Registry(f"sqlite:///{project.root}/modelmint.db", project.root / "artifacts") as registry:
        for number in range(count):
            registry.register(name, make_candidate(folder / "b", f"{name} {number}"), actor="ada")


def models(project: Project, *arguments: str, status: int = 0) -> str:
    """What a command printed for people."""
    return project.modelmint("models", *arguments, status=status).stderr


def document(project: Project, *arguments: str):
    return json.loads(project.modelmint("models", *arguments, "--json").stdout)


def as_user(project: Project, name: str) -> Project:
    return Project(project.root, {**project.environment, "LOGNAME": name})


def test_trace_shows_data_code_children_and_jobs(figures):
    found = document(figures, "trace", "figures:1")
    lineage = found["version"]["lineage"]
    assert list(lineage["data"]) == ["data/raw/digits.csv.gz"]
    assert len(lineage["git_commit"]) == 40
    assert lineage["flow_run_id"]
    assert "figures:2" in found["children"]
    assert [job["rows"] for job in found["jobs"]] == [360]
    child = document(figures, "show", "figures:2")
    assert child["lineage"]["parent"] == "figures:1"
    said = models(figures, "trace", "figures:2")
    assert "started from" in said
    assert "figures:1" in said


def test_trace_names_the_cause_of_a_version_that_the_loop_made(trained, tmp_path):
    place = (f"sqlite:///{trained.root}/modelmint.db", trained.root / "artifacts")
    with Registry(*place) as registry:
        registry.register("looped", make_candidate(tmp_path / "one", "one"), actor="ada")

        def entry(expect, text, version, **document):
            document["retraining"] = "id"
            given = {"expect": expect, "text": text, "actor": "loop", "version": version}
            return registry.add_entry("looped", "retraining", document, **given).id

        because = "started because of schedule: 30 days are over"
        started = entry(0, because, 1, phase="started")
        registry.register("looped", make_candidate(tmp_path / "two", "two"), actor="loop")
        entry(started, "ended, looped:2 is champion", 2, phase="ended", made=2)
    said = models(trained, "trace", "looped:2")
    assert re.search(f"^retraining +{because} *$", said, re.M), said
    assert "retraining" not in models(trained, "trace", "looped:1")
    assert document(trained, "trace", "looped:1")["retraining"] is None


def test_trace_of_data_lists_versions_and_predictions(figures):
    lineage = document(figures, "show", "figures:1")["lineage"]
    for md5 in (lineage["dataset"], lineage["data"]["data/raw/digits.csv.gz"]):
        found = document(figures, "trace", f"dvc:{md5}")
        assert {f"{v['model']}:{v['version']}" for v in found["versions"]} >= {
            "figures:1",
            "figures:2",
        }
        assert found["jobs"][0]["output"].endswith("traced-predictions")
    assert models(figures, "trace", "dvc:" + "0" * 32).count("none") == 2


def test_search_finds_versions_by_metric_parameter_and_tag(figures):
    models(figures, "tag", "figures:1", "team=risk", "note=keep")
    tagged = ["search", "figures", "--where", "tag.team=risk", "--where", "metric.accuracy>=0.5"]
    assert [v["version"] for v in document(figures, *tagged)["versions"]] == [1]
    seed = document(figures, "search", "--where", "param.train.seed=5")["versions"]
    assert {v["model"] for v in seed} == {"figures"}
    assert "figures:1" in models(figures, *tagged)
    models(figures, "tag", "figures:1", "team=")
    assert document(figures, *tagged)["versions"] == []


def table_of(said: str) -> list[list[str]]:
    """The cells of a printed table of versions, header first, without folded lines."""
    lines = [line.strip() for line in said.splitlines()]
    return [re.split(" {2,}", line) for line in lines if re.match(r"version |[a-z]\S*:\d+ ", line)]


def test_search_shows_the_headline_and_the_requested_metrics(trained, tmp_path):
    place = (f"sqlite:///{trained.root}/modelmint.db", trained.root / "artifacts")
    figures = {"accuracy": 0.9, "balanced_accuracy": 0.8, "macro_f1": 0.7, "roc_auc": 0.6}
    cases = [
        ({"registration": {"metric": "roc_auc"}}, figures, "roc_auc 0.6000"),
        ({"registration": {"metric": None}}, figures, "macro_f1 0.7000"),
        ({}, {"r2": 0.5, "mae": 2.0}, "r2 0.5000"),
        ({}, {"perplexity": 45.5}, "perplexity 45.5000"),
        ({}, {"their_own": 1.0}, "their_own 1.0000"),
    ]
    with Registry(*place) as registry:
        for number, (params, metrics, _) in enumerate(cases):
            offered = make_candidate(tmp_path, f"of {number}", params=params, metrics=metrics)
            registry.register("searched", offered, actor="ada")
    header, *rows = table_of(models(trained, "search", "searched"))
    assert header == ["version", "status", "aliases", "decides", "registered", "by", "dataset"]
    # An empty cell leaves no trace in such a line: these have no alias.
    assert [row[2] for row in rows[::-1]] == [decides for _, _, decides in cases]
    asked = ["--where", "metric.accuracy>=0.5", "--order", "metric.balanced_accuracy:asc"]
    header, *rows = table_of(models(trained, "search", "searched", *asked))
    assert header[3:6] == ["decides", "accuracy", "balanced_accuracy"]
    assert {tuple(row[2:5]) for row in rows} == {
        ("roc_auc 0.6000", "0.9000", "0.8000"),
        ("macro_f1 0.7000", "0.9000", "0.8000"),
    }
    found = document(trained, "search", "searched")["versions"]
    assert [v["metric"] for v in found[::-1]] == ["roc_auc", None, None, None, None]


def test_show_lists_the_notices_of_prepare(trained, tmp_path):
    said = "prepare.duplicates: drop removed 958 of 1,313 rows (73.0%)"
    found = {"passed": True, "gates": [], "data": {"notices": [said]}}
    place = (f"sqlite:///{trained.root}/modelmint.db", trained.root / "artifacts")
    with Registry(*place) as registry:
        candidate = make_candidate(tmp_path / "b", "few rows", evaluation=found)
        registry.register("fewer", candidate, actor="ada")
    assert re.search(f"^notice +{re.escape(said)} *$", models(trained, "show", "fewer:1"), re.M)


def test_search_prints_the_option_for_the_next_page(figures):
    first = document(figures, "search", "figures", "--limit", "1")
    second = document(figures, "search", "figures", "--limit", "1", "--after", first["after"])
    numbers = [page["versions"][0]["version"] for page in (first, second)]
    assert numbers[0] == numbers[1] + 1


def pages(project: Project, *arguments: str, option: str) -> list[str]:
    """The output of a command page by page, using the option that the previous page named."""
    found, more = [], ()
    while True:
        found.append(models(project, *arguments, *more))
        if (where := re.search(f"More: the same command with {option} (\\S+)", found[-1])) is None:
            return found
        more = (option, where[1])


def test_each_list_prints_the_option_for_the_next_page(trained, tmp_path):
    registered(trained, tmp_path, "paged", 3)
    with Registry(f"sqlite:///{trained.root}/modelmint.db", trained.root / "artifacts") as registry:
        for number in range(3):
            resolved = registry.resolve(f"paged:{1 + number % 2}")
            registry.start_job(resolved, input_sha256="7" * 64, output=f"/out-{number}")
        names = [model.name for model in registry.models()]
    found = pages(trained, "history", "paged", "--limit", "2", option="--before")
    assert [page.count("registered") for page in found] == [2, 1]
    found = pages(trained, "jobs", "paged", "--limit", "2", option="--before")
    assert [re.findall(r"out-(\d)", page) for page in found] == [["2", "1"], ["0"]]
    found = pages(trained, "trace", "paged:1", "--limit", "1", option="--before")
    assert [re.findall(r"out-(\d)", page) for page in found] == [["2"], ["0"]]
    assert "2 in all" in found[0]
    found = pages(trained, "trace", "dvc:" + "d" * 32, "--limit", "2", option="--after")
    refs = [ref for page in found for ref in re.findall(r"paged:\d(?= +candidate)", page)]
    assert refs == ["paged:3", "paged:2", "paged:1"]
    found = pages(trained, "list", "--limit", str(len(names) - 1), option="--after")
    assert len(found) == 2
    assert names[-1] in found[1]
    assert names[0] not in found[1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["search", "--where", "accuracy"], "is not a condition. Give any of: metric.NAME"),
        (["search", "--order", "best"], "is not an order"),
        (["search", "--after", "there"], "is not the end of a page"),
        (["trace", "figures:999"], "has no version 999"),
        (["trace", "figures:1", "--after", "figures"], "is not the end of a page"),
        (["trace", "figures:1", "--before", "x"], "There is no job 'x'"),
        (["trace", "dvc:abc", "--after", "x"], "is not the end of a page"),
        (["jobs", "--before", "x"], "There is no job 'x'"),
        (["unset", "figures"], "does not name an alias"),
        (["tag", "figures:1", "risk"], "is not a tag. Give KEY=VALUE"),
        (["rollback", "figurez"], "Did you mean 'figures'"),
        (["policy", "none-such"], "There is no model"),
    ],
)
def test_invalid_models_input_is_one_message_and_status_2(figures, arguments, says):
    said = models(figures, *arguments, status=2)
    assert says in said
    assert "Traceback" not in said


def test_refused_change_exits_with_status_3(figures):
    said = models(figures, "archive", "figures:1", status=3)
    assert "cannot be archived" in said
    assert "Traceback" not in said


def test_rollback_command_restores_the_previous_champion(figures):
    models(figures, "promote", "figures:1", "--alias", "blue")
    models(figures, "promote", "figures:2", "--alias", "blue", "--reason", "newer")
    assert "figures@blue is figures:1" in models(
        figures, "rollback", "figures", "--alias", "blue", "--reason", "worse on Monday"
    )
    said = models(figures, "rollback", "figures", "--alias", "blue", status=3)
    assert "no earlier holder may have it again" in said
    assert "worse on Monday" in models(figures, "history", "figures")
    models(figures, "unset", "figures@blue")
    assert "blue" not in models(figures, "list")


@pytest.mark.release  # registry/test_store.py: what a second registration ignores
def test_training_summary_lists_ignored_differences(trained):
    name = ("-S", "registration.name=again")
    trained.train(*name)
    again = trained.train(*name, "-S", "evaluate.gates.accuracy=0.4")
    assert (again["version"], again["created"], again["evaluated"]) == ("again:1", False, True)
    first, *files = again["ignored"]
    assert first == "params.evaluate.gates.accuracy: 0.5 is kept, 0.4 was offered"
    assert {line.partition(":")[0] for line in files} == {"file card.md", "file evaluation.json"}
    shown = document(trained, "show", "again:1")
    assert "0.4" in shown["evaluation"]["gates"][0]["condition"]
    assert document(trained, "history", "again")[0]["kind"] == "evaluated"


def test_retain_archives_and_gc_purge_removes_files(trained, tmp_path):
    registered(trained, tmp_path, "kept", 3)
    models(trained, "promote", "kept:1")
    models(trained, "policy", "kept", "--keep-last", "1")
    assert [v["version"] for v in document(trained, "retain", "kept", "--dry-run")] == [2]
    assert document(trained, "show", "kept:2")["status"] == "candidate"
    assert [v["version"] for v in document(trained, "retain", "kept")] == [2]
    assert document(trained, "show", "kept:2")["status"] == "archived"
    assert document(trained, "retain", "kept") == []
    (removed,) = document(trained, "gc", "--purge", "--dry-run")
    (own,) = (
        a["sha256"]
        for a in document(trained, "show", "kept:2")["artifacts"]
        if a["path"] == "model.onnx"  # the other files are those of its neighbours, too
    )
    assert removed["path"].endswith(own)
    models(trained, "gc", "--purge")
    assert "1 files were purged" in models(trained, "verify")
    said = models(trained, "unarchive", "kept:2", status=3)
    assert "Register the same files again" in said


def test_four_eyes_policy_needs_approve_by_somebody_else(trained, tmp_path):
    registered(trained, tmp_path, "reviewed", 1)
    models(trained, "policy", "reviewed", "--four-eyes")
    outcome = trained.train("-S", "registration.name=reviewed")
    assert (outcome["champion"], outcome["promoted"]) == ("", False)
    assert "modelmint models approve reviewed:2 --promote" in outcome["approval_hint"]
    assert "challenger -> reviewed:2" in models(trained, "list")
    trainer = document(trained, "show", "reviewed:2")["created_by"]
    said = models(trained, "approve", "reviewed:2", status=3)
    assert f"was registered by {trainer}" in said
    assert "not approved yet" in models(trained, "promote", "reviewed:2", status=3)
    bob = as_user(trained, "bob")
    said = models(bob, "approve", "reviewed:2", "--promote", "--reason", "looks right")
    assert "reviewed@champion is reviewed:2" in said
    events = document(trained, "history", "reviewed")
    assert [(e["kind"], e["alias"], e["actor"]) for e in events[:3]] == [
        ("unset", "challenger", "bob"),
        ("promoted", "champion", "bob"),
        ("approved", None, "bob"),
    ]


def test_rejected_version_becomes_champion_after_approve(trained, tmp_path):
    registered(trained, tmp_path, "doubted", 1)
    models(trained, "reject", "doubted:1", "--reason", "labels look wrong")
    assert "was rejected" in models(trained, "promote", "doubted:1", status=3)
    models(trained, "approve", "doubted:1", "--promote")
    assert document(trained, "show", "doubted")["status"] == "approved"


def test_restored_registry_can_predict(figures, tmp_path):
    assert "are in" in models(figures, "backup", str(tmp_path / "backup"))
    said = models(figures, "verify", "--backup", str(tmp_path / "backup"))
    assert "the backup is complete" in said
    elsewhere = Project(
        figures.root,
        {
            **figures.environment,
            "MODELMINT_DATABASE_URL": f"sqlite:///{tmp_path}/restored.db",
            "MODELMINT_ARTIFACTS": str(tmp_path / "restored"),
        },
    )
    assert "restored" in models(elsewhere, "restore", str(tmp_path / "backup"))
    assert document(elsewhere, "history", "figures") == document(figures, "history", "figures")
    assert "no problems: " in models(elsewhere, "verify")
    elsewhere.modelmint(
        "predict", "figures:1", "data/prepared/test.arrow", "--output", str(tmp_path / "out")
    )
    said = models(elsewhere, "restore", str(tmp_path / "backup"), status=1)
    assert "Traceback" not in said


def test_export_and_import_keep_the_digest(figures, tmp_path):
    archive = str(tmp_path / "figures.tar")
    assert "manifest" in models(figures, "export", "figures:1", archive)
    elsewhere = Project(
        figures.root,
        {
            **figures.environment,
            "MODELMINT_DATABASE_URL": f"sqlite:///{tmp_path}/other.db",
            "MODELMINT_ARTIFACTS": str(tmp_path / "other"),
        },
    )
    assert "figures:1 is imported, as candidate" in models(elsewhere, "import", archive)
    assert "figures:1 is already registered" in models(elsewhere, "import", archive)
    there, here = (document(project, "show", "figures:1") for project in (elsewhere, figures))
    assert (there["digest"], there["uid"]) == (here["digest"], here["uid"])
    assert "from figures:1" in models(elsewhere, "history", "figures")


def test_roles_need_postgresql_and_an_open_page_needs_a_token(figures):
    assert "PostgreSQL" in models(figures, "roles", status=3)
    said = models(figures, "ui", "--host", "0.0.0.0", status=2)
    assert "MODELMINT_UI_TOKEN" in said
    assert "Traceback" not in said


def test_policy_keep_holders_sets_the_number_of_former_champions(trained, tmp_path):
    registered(trained, tmp_path, "served", 5)
    for number in (1, 2, 3, 4):
        models(trained, "promote", f"served:{number}")
    assert "2 earlier holders" in models(trained, "policy", "served", "--keep-last", "1")
    assert [v["version"] for v in document(trained, "retain", "served", "--dry-run")] == [1]
    models(trained, "policy", "served", "--keep-holders", "1")
    rules = document(trained, "policy", "served")
    assert (rules["keep_holders"], rules["keep_last"]) == (1, 1)
    assert [v["version"] for v in document(trained, "retain", "served")] == [1, 2]
    assert "served:3" in models(trained, "rollback", "served")
    models(trained, "verify", "served")
