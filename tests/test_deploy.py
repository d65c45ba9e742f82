"""The files in deploy/: linters look at them, and their commands, settings and versions exist."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pages import ROOT, check_command, commands_of
from projects import SECONDS
from ruamel.yaml import YAML

DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").iterdir())
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return YAML(typ="safe").load((DEPLOY / "compose.yaml").read_text())


def lint(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_compose_follows_the_schema_of_compose(tmp_path):
    schema = (BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec")
    lint(*schema, DEPLOY / "compose.yaml")
    wrong = tmp_path / "compose.yaml"
    text = (DEPLOY / "compose.yaml").read_text()
    wrong.write_text(text.replace("depends_on:", "depend_on:"))
    with pytest.raises(AssertionError, match="depend_on"):
        lint(*schema, wrong)


def test_hadolint_finds_nothing_in_the_dockerfile(tmp_path):
    lint(BIN / "hadolint", DEPLOY / "Dockerfile")
    wrong = tmp_path / "Dockerfile"
    wrong.write_text((DEPLOY / "Dockerfile").read_text().replace("--no-install-recommends", ""))
    with pytest.raises(AssertionError, match="DL3015"):
        lint(BIN / "hadolint", wrong)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_accepts_the_units(unit, tmp_path):
    text = unit.read_text().replace("/opt/modelmint/bin/", f"{BIN}/")
    (tmp_path / unit.name).write_text(text)
    lint("systemd-analyze", "verify", "--recursive-errors=no", tmp_path / unit.name)
    (tmp_path / unit.name).write_text(text.replace("ExecStart=", "ExecStarts="))
    with pytest.raises(AssertionError, match=r"ExecStart|no service"):
        lint("systemd-analyze", "verify", "--recursive-errors=no", tmp_path / unit.name)


def commands(compose: dict[str, Any]) -> list[str]:
    """Every command of modelmint in these files."""
    found = [c for c in commands_of(DEPLOY / "README.md") if "modelmint serve" not in c]
    for unit in UNITS:
        started = re.findall(r"^ExecStart=/opt/modelmint/bin/(.+)$", unit.read_text(), re.M)
        found += [text.replace("%i", "gpu") for text in started]
    for service in compose["services"].values():
        words = service.get("command", [])
        found += [shlex.join(words)] if words[:1] == ["modelmint"] else []
    text = (DEPLOY / "Dockerfile").read_text()
    (started,) = re.findall(r"^CMD \[(.+)\]$", text, re.M)
    found.append(started.replace('"', "").replace(",", ""))
    found += re.findall(r"^modelmint .+$", (DEPLOY / "setup.sh").read_text(), re.M)
    return found


@pytest.mark.whole  # it imports Prefect's own commands
def test_every_command_in_these_files_exists(compose):
    found = commands(compose)
    assert len(found) >= 8
    for command in found:
        check_command(command)


def test_versions_and_copied_files_are_those_of_the_project(compose):
    text = (DEPLOY / "Dockerfile").read_text()
    (python,) = re.findall(r"^FROM python:(\d+\.\d+)\.\d+-slim-trixie$", text, re.M)
    project = (ROOT / "pyproject.toml").read_text()
    assert f'requires-python = ">={python}"' in project
    copied = [w for line in re.findall(r"^COPY (.+) \S+$", text, re.M) for w in line.split()]
    for name in copied:
        assert (ROOT / name).exists()
        assert f"!{name}" in (DEPLOY / "Dockerfile.dockerignore").read_text()
    (packages,) = re.findall(r'^include = (\[.+"modelmint\*".+\])$', project, re.M)
    assert set(re.findall(r'"(\w+)\*"', packages)) <= set(copied)
    lock = (ROOT / "requirements.lock").read_text()
    for extra in ("psycopg", "s3fs", "jinja2"):  # compose uses postgres, s3 and ui
        assert re.search(rf"^{extra}(\[.*\])?==", lock, re.M)
    for name, service in compose["services"].items():
        ours = service["image"] == "modelmint"
        assert ours or re.fullmatch(r"\S+:v?\d+\.\d+\S*", service["image"]), name


def test_each_variable_of_compose_is_explained_and_no_secret_has_a_value(compose):
    text = (DEPLOY / "compose.yaml").read_text()
    example = (DEPLOY / ".env.example").read_text()
    given = dict(re.findall(r"^(\w+)=(.*)$", example, re.M))
    assert given.keys() == set(re.findall(r"\$\{(\w+)", text))
    assert not [name for name in given if re.search("PASSWORD|KEY|TOKEN", name) and given[name]]
    operations = (ROOT / "docs/operations.md").read_text()
    for name in set(re.findall(r"\bMODELMINT_\w+", text)):
        assert f"`{name}`" in operations
    ignored = subprocess.run(["git", "check-ignore", "-q", "deploy/.env"], cwd=ROOT)
    assert ignored.returncode == 0


def test_prefect_server_start_has_the_settings_of_serve(tmp_path):
    # Run in a process of its own, which becomes Prefect's command: only its settings are printed.
    code = """if True:
        import os, sys
        from flows import launch
        from flows.deploy import LASTING
        os.execv = lambda *_: print({n: os.environ.get(n) for n in LASTING} == LASTING)
        launch.prefect_command(["server", "start"])
    """
    environment = {**os.environ, "PREFECT_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip() == "True", done.stderr
