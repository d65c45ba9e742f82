"""`modelmint models` as a person uses it, on a trained project."""

import json

import pytest
from conftest import Project

# Every command talks to the registry of one project; each test has models of its own in it.


SECOND = ("-S", "train.init_from=digits:1", "-S", "train.seed=5")


@pytest.fixture(scope="module")
def digits(trained: Project) -> Project:
    """Two versions of `digits`, the second trained on from the first, and a batch job."""
    trained.train(*SECOND)
    trained.modelmint(
        "predict", "digits:1", "data/prepared/test.arrow", "--output", "traced-predictions"
    )
    return trained


def models(project: Project, *arguments: str, status: int = 0) -> str:
    """What a command told a person."""
    return project.modelmint("models", *arguments, status=status).stderr


def document(project: Project, *arguments: str):
    return json.loads(project.modelmint("models", *arguments, "--json").stdout)


def as_user(project: Project, name: str) -> Project:
    return Project(project.root, {**project.environment, "LOGNAME": name})


def test_a_trace_goes_back_to_data_and_code_and_on_to_children_and_jobs(digits):
    found = document(digits, "trace", "digits:1")
    lineage = found["version"]["lineage"]
    assert list(lineage["data"]) == ["data/raw/digits.csv.gz"]
    assert len(lineage["git_commit"]) == 40
    assert lineage["flow_run_id"]
    assert "digits:2" in found["children"]
    assert [job["rows"] for job in found["jobs"]] == [360]
    child = document(digits, "show", "digits:2")
    assert child["lineage"]["parent"] == "digits:1"
    said = models(digits, "trace", "digits:2")
    assert "started from" in said
    assert "digits:1" in said


def test_a_trace_of_data_names_every_version_and_prediction_built_on_it(digits):
    lineage = document(digits, "show", "digits:1")["lineage"]
    for md5 in (lineage["dataset"], lineage["data"]["data/raw/digits.csv.gz"]):
        found = document(digits, "trace", f"dvc:{md5}")
        assert {f"{v['model']}:{v['version']}" for v in found["versions"]} >= {
            "digits:1",
            "digits:2",
        }
        assert found["jobs"][0]["output"].endswith("traced-predictions")
    assert models(digits, "trace", "dvc:" + "0" * 32).count("none") == 2


def test_versions_are_found_by_metric_parameter_and_tag(digits):
    models(digits, "tag", "digits:1", "team=risk", "note=keep")
    tagged = ["search", "digits", "--where", "tag.team=risk", "--where", "metric.accuracy>=0.5"]
    assert [v["version"] for v in document(digits, *tagged)["versions"]] == [1]
    seed = document(digits, "search", "--where", "param.train.seed=5")["versions"]
    assert {v["model"] for v in seed} == {"digits"}
    assert "digits:1" in models(digits, *tagged)
    models(digits, "tag", "digits:1", "team=")
    assert document(digits, *tagged)["versions"] == []


def test_pages_of_a_search_follow_each_other(digits):
    first = document(digits, "search", "digits", "--limit", "1")
    second = document(digits, "search", "digits", "--limit", "1", "--after", first["after"])
    numbers = [page["versions"][0]["version"] for page in (first, second)]
    assert numbers[0] == numbers[1] + 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["search", "--where", "accuracy"], "is no condition. Give any of: metric.NAME"),
        (["search", "--order", "best"], "is no order"),
        (["search", "--after", "there"], "is no place to go on from"),
        (["trace", "digits:999"], "has no version 999"),
        (["unset", "digits"], "names no alias"),
        (["tag", "digits:1", "risk"], "is no tag. Give KEY=VALUE"),
        (["rollback", "digitz"], "Did you mean 'digits'"),
        (["policy", "none-such"], "There is no model"),
    ],
)
def test_wrong_input_is_one_message_and_status_2(digits, arguments, says):
    said = models(digits, *arguments, status=2)
    assert says in said
    assert "Traceback" not in said


def test_a_rule_of_the_registry_refuses_with_status_3(digits):
    said = models(digits, "archive", "digits:1", status=3)
    assert "cannot be archived" in said
    assert "Traceback" not in said


def test_a_rollback_brings_the_champion_before_back(digits):
    models(digits, "promote", "digits:1", "--alias", "blue")
    models(digits, "promote", "digits:2", "--alias", "blue", "--reason", "newer")
    assert "digits@blue is digits:1" in models(
        digits, "rollback", "digits", "--alias", "blue", "--reason", "worse on Monday"
    )
    said = models(digits, "rollback", "digits", "--alias", "blue", status=3)
    assert "held it before" in said
    assert "worse on Monday" in models(digits, "history", "digits")
    models(digits, "unset", "digits@blue")
    assert "blue" not in models(digits, "list")


def test_rules_of_retention_archive_what_they_no_longer_keep_and_gc_removes_its_files(digits):
    digits.train("-S", "registration.name=kept")
    digits.train("-S", "registration.name=kept", *SECOND)
    models(digits, "promote", "kept:2")
    models(digits, "policy", "kept", "--keep-last", "1")
    assert [v["version"] for v in document(digits, "retain", "kept", "--dry-run")] == [1]
    assert document(digits, "show", "kept:1")["status"] != "archived"
    assert [v["version"] for v in document(digits, "retain", "kept")] == [1]
    assert document(digits, "show", "kept:1")["status"] == "archived"
    assert document(digits, "retain", "kept") == []
    # Its weights are those of digits:1, which stays; its lineage is its own.
    removed = document(digits, "gc", "--purge", "--dry-run")
    own = {a["sha256"] for a in document(digits, "show", "kept:1")["artifacts"]}
    assert own > {path.rpartition("/")[2] for path in (s["path"] for s in removed)} > set()
    models(digits, "gc", "--purge")
    assert f"{len(removed)} files were purged" in models(digits, "verify")
    said = models(digits, "unarchive", "kept:1", status=3)
    assert "Register the same files again" in said


def test_a_champion_under_four_eyes_waits_for_somebody_else(trained):
    models(trained, "policy", "reviewed", "--four-eyes")
    outcome = trained.train("-S", "registration.name=reviewed")
    assert (outcome["champion"], outcome["promoted"]) == ("", False)
    assert "modelmint models approve reviewed:1 --promote" in outcome["waits"]
    assert "challenger -> reviewed:1" in models(trained, "list")
    trainer = document(trained, "show", "reviewed:1")["created_by"]
    said = models(trained, "approve", "reviewed:1", status=3)
    assert f"was registered by {trainer}" in said
    assert "not approved yet" in models(trained, "promote", "reviewed:1", status=3)
    bob = as_user(trained, "bob")
    said = models(bob, "approve", "reviewed:1", "--promote", "--reason", "looks right")
    assert "reviewed@champion is reviewed:1" in said
    events = document(trained, "history", "reviewed")
    assert [(e["kind"], e["alias"], e["actor"]) for e in events[:3]] == [
        ("unset", "challenger", "bob"),
        ("promoted", "champion", "bob"),
        ("approved", None, "bob"),
    ]


def test_a_rejected_version_is_no_champion_until_it_is_approved_after_all(trained):
    trained.train("-S", "registration.name=doubted", "-S", "evaluate.batch_size=512")
    models(trained, "unset", "doubted@champion")
    models(trained, "reject", "doubted:1", "--reason", "labels look wrong")
    assert "was rejected" in models(trained, "promote", "doubted:1", status=3)
    models(trained, "approve", "doubted:1", "--promote")
    assert document(trained, "show", "doubted")["status"] == "approved"


def test_a_backup_is_restored_into_an_empty_place_where_predictions_go_on(digits, tmp_path):
    assert "are in" in models(digits, "backup", str(tmp_path / "backup"))
    assert "the backup is whole" in models(digits, "verify", "--backup", str(tmp_path / "backup"))
    elsewhere = Project(
        digits.root,
        {
            **digits.environment,
            "MODELMINT_DATABASE_URL": f"sqlite:///{tmp_path}/restored.db",
            "MODELMINT_ARTIFACTS": str(tmp_path / "restored"),
        },
    )
    assert "restored" in models(elsewhere, "restore", str(tmp_path / "backup"))
    assert document(elsewhere, "history", "digits") == document(digits, "history", "digits")
    assert "all is what was registered" in models(elsewhere, "verify")
    elsewhere.modelmint(
        "predict", "digits:1", "data/prepared/test.arrow", "--output", str(tmp_path / "out")
    )
    said = models(elsewhere, "restore", str(tmp_path / "backup"), status=1)
    assert "Traceback" not in said


def test_a_version_goes_to_another_registry_and_keeps_its_digest(digits, tmp_path):
    archive = str(tmp_path / "digits.tar")
    assert "manifest" in models(digits, "export", "digits:1", archive)
    elsewhere = Project(
        digits.root,
        {
            **digits.environment,
            "MODELMINT_DATABASE_URL": f"sqlite:///{tmp_path}/other.db",
            "MODELMINT_ARTIFACTS": str(tmp_path / "other"),
        },
    )
    assert "digits:1 is imported, as candidate" in models(elsewhere, "import", archive)
    assert "digits:1 is here already" in models(elsewhere, "import", archive)
    there, here = (document(project, "show", "digits:1") for project in (elsewhere, digits))
    assert (there["digest"], there["uid"]) == (here["digest"], here["uid"])
    assert "from digits:1" in models(elsewhere, "history", "digits")


def test_roles_are_postgresqls_and_the_page_needs_a_token_beyond_this_machine(digits):
    assert "PostgreSQL" in models(digits, "roles", status=3)
    said = models(digits, "ui", "--host", "0.0.0.0", status=2)
    assert "MODELMINT_UI_TOKEN" in said
    assert "Traceback" not in said
