"""`modelmint doctor` names each problem and what solves it."""

import json
import socket

import pytest
from servers import create_bucket, dying_server, s3_environment

from cli import output
from flows import doctor
from flows.project import new_project
from flows.settings import Settings


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A new project; tests change copies of its settings, or restore what they change."""
    return new_project(tmp_path_factory.mktemp("doctor") / "project", None).root


@pytest.fixture
def project(made, tmp_path, monkeypatch):
    monkeypatch.chdir(made)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    for name in ("PREFECT_API_URL", "MODELMINT_DATABASE_URL", "MODELMINT_ARTIFACTS"):
        monkeypatch.delenv(name, raising=False)
    return made


def found():
    """The findings by check; of the GPU and the libraries only in the test that is about them."""
    left_out = {"gpu", "libraries"}
    settings = Settings.from_environment()
    checks = {name: check for name, check in doctor.CHECKS.items() if name not in left_out}
    return {finding.check: finding for check in checks.values() for finding in check(settings)}


def test_doctor_finds_no_problem_in_a_new_project(project):
    findings = list(doctor.examine(Settings.from_environment()))
    states = {finding.check: finding.state for finding in findings}
    assert "problem" not in states.values(), findings
    assert {"python", "libraries", "git", "params.yaml", "code.json", "disk", "gpu"} <= set(states)
    for check in ("dvc remote", "database", "prefect server"):  # none was set up yet
        assert states[check] == "note"
    assert all(finding.fix for finding in findings if finding.check in ("dvc remote", "database"))


def test_doctor_names_the_stage_whose_code_changed(project):
    path = project / "code.json"
    before = path.read_text()
    document = json.loads(before)
    document["stages"]["evaluate"] = "0" * 64
    path.write_text(json.dumps(document))
    try:
        finding = found()["code.json"]
    finally:
        path.write_text(before)
    assert (finding.state, "evaluate" in finding.found) == ("problem", True)
    assert "`modelmint code`" in finding.fix


def test_doctor_names_invalid_parameters_and_goes_on(project):
    path = project / "params.yaml"
    before = path.read_text()
    path.write_text(before.replace("seed:", "sead:"))
    try:
        findings = found()
    finally:
        path.write_text(before)
    assert findings["params.yaml"].state == "problem"
    assert "sead" in findings["params.yaml"].found
    assert findings["code.json"].state == "ok"


def test_doctor_names_a_database_and_a_server_that_do_not_answer(project, monkeypatch):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("MODELMINT_DATABASE_URL", f"postgresql://ada:secret@127.0.0.1:{port}/db")
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{port}/api")
    findings = found()
    assert findings["database"].state == findings["prefect server"].state == "problem"
    assert "secret" not in findings["database"].found
    assert "MODELMINT_DATABASE_URL" in findings["database"].fix
    assert str(port) in findings["prefect server"].found
    assert findings["disk"].state == "ok"


def test_doctor_names_a_server_that_dies_meanwhile(project, monkeypatch):
    with dying_server() as url:
        monkeypatch.setenv("PREFECT_API_URL", url)
        server = found()["prefect server"]
    assert server.state == "problem"
    assert f"{url} answered, and then did not" in server.found


def test_doctor_writes_to_the_artifact_store_and_leaves_nothing(project, tmp_path, monkeypatch):
    monkeypatch.setenv("MODELMINT_DATABASE_URL", f"sqlite:///{tmp_path}/registry.db")
    monkeypatch.setenv("MODELMINT_ARTIFACTS", str(tmp_path / "artifacts"))
    with Settings.from_environment().open_registry() as registry:
        registry.create()
    findings = found()
    assert findings["database"].state == findings["artifacts"].state == "ok"
    assert findings["clock of the database"].state == "ok"
    assert not [path for path in tmp_path.glob("artifacts/**/*") if path.is_file()]
    (tmp_path / "file").touch()
    monkeypatch.setenv("MODELMINT_ARTIFACTS", str(tmp_path / "file"))
    assert found()["artifacts"].state == "problem"


def test_doctor_names_a_remote_that_is_not_mounted(project, tmp_path):
    config, remote = project / ".dvc/config.local", tmp_path / "remote"
    config.write_text(f"[core]\n remote = disk\n['remote \"disk\"']\n url = {remote}\n")
    try:
        assert found()["dvc remote"].state == "problem"
        remote.mkdir()
        assert found()["dvc remote"].state == "ok"
        config.write_text("[core\n")
        broken = {f.check: f for f in doctor.examine(Settings.from_environment())}
        assert broken["dvc remote"].state == "problem"
        assert "config" in broken["dvc remote"].found
        assert broken["disk"].state == "ok"
    finally:
        config.unlink()


@pytest.mark.parametrize(
    ("url", "state", "says"),
    [
        ("s3://{bucket}/not/pushed/yet", "ok", "s3://"),
        ("s3://no-such-bucket/digits", "problem", "there is no no-such-bucket"),
        ("azure://container/digits", "problem", "requires 'dvc-azure' to be installed"),
    ],
)
def test_doctor_asks_the_remote_whether_it_is_there(
    project, s3, tmp_path, monkeypatch, url, state, says
):
    empty = tmp_path / "aws"  # DVC refuses /dev/null
    empty.touch()
    for name, value in (s3_environment(s3) | {"AWS_CONFIG_FILE": str(empty)}).items():
        monkeypatch.setenv(name, value)
    config, url = project / ".dvc/config.local", url.format(bucket=create_bucket(s3))
    config.write_text(f"[core]\n remote = store\n['remote \"store\"']\n url = {url}\n")
    try:
        finding = found()["dvc remote"]
    finally:
        config.unlink()
    assert (finding.state, says in finding.found) == (state, True), finding


def test_doctor_names_a_library_of_another_version(project, monkeypatch):
    # What the distribution asks for: another release of modelmint may ask for a newer library.
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: ["onnx>=999", "no-such-thing"])
    (finding,) = doctor.CHECKS["libraries"](Settings.from_environment())
    assert finding.state == "problem"
    assert "onnx is " in finding.found
    assert "no-such-thing is missing" in finding.found


def test_doctor_exits_with_1_if_there_is_a_problem(project, monkeypatch, capsys):
    from typer.testing import CliRunner

    from cli.main import app

    monkeypatch.setattr(doctor, "FREE_GB", 1e9)
    monkeypatch.setattr(doctor, "CHECKS", {"disk": doctor.CHECKS["disk"]})
    with output.console.capture() as shown:
        done = CliRunner().invoke(app, ["doctor", "--json"])
    assert done.exit_code == 1
    assert {finding["state"] for finding in json.loads(done.stdout)} == {"problem"}
    assert "modelmint runs clean" in shown.get()
