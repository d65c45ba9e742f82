"""The unit that `modelmint serve --install` writes, read by systemd itself."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from flows.unit import install, unit_text
from tasks.errors import InputError

ROOT = Path(__file__).parents[2]
needs_systemd = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="systemd is not installed"
)


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in [
        name for name in os.environ if name.startswith(("MODELMINT_", "PREFECT_", "AWS_"))
    ]:
        monkeypatch.delenv(name)
    return tmp_path / "config"


def project(folder: Path) -> Path:
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "prefect.yaml", folder)
    return folder


def as_systemd_reads(unit: Path, runtime: Path) -> dict[str, str]:
    """The settings of a unit, which must be valid, from what `verify` prints while it reads it."""
    more = {"XDG_RUNTIME_DIR": str(runtime), "SYSTEMD_LOG_LEVEL": "debug"}
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", str(unit)],
        env={**os.environ, **more},
        capture_output=True,
        text=True,
        timeout=60,
    )
    printed = done.stderr + done.stdout
    assert done.returncode == 0, printed
    complaints = [line for line in printed.splitlines() if line.startswith(str(unit))]
    assert complaints == []
    dump = printed.split(f"-> Unit {unit.name}:")[1].split("-> Unit ")[0]
    return dict(re.findall(r"^\s*([\w ]+): (.+)$", dump, re.M))


@needs_systemd
@pytest.mark.parametrize(
    "name",
    ["digits", "with a space", "100%h %% sure", "$HOME ${x}", 'a "quoted" back\\slash; x', "ü"],
)
def test_systemd_reads_the_paths_of_the_unit_as_they_are(tmp_path, config, name):
    root = project(tmp_path / name)
    program = (root if '"' not in name else tmp_path) / "modelmint"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    environment = config / name / "x.env"
    unit = tmp_path / "units" / "modelmint-x.service"
    unit.parent.mkdir()
    command = [str(program), "serve", "--host", "0.0.0.0", "--metrics", "[::1]:9464"]
    unit.write_text(unit_text(root, command, environment))
    found = as_systemd_reads(unit, tmp_path)
    assert found["WorkingDirectory"] == str(root)
    assert found["EnvironmentFile"] == f"-{environment}"
    # The dump escapes words as a shell would read them.
    assert shlex.split(found["Command Line"].replace("\\$", "$")) == command
    assert found["KillMode"] == "mixed"
    assert found["Restart"] == "on-failure"


@pytest.mark.parametrize("name", ["trailing ", "backslash\\", "new\nline"])
def test_a_folder_that_no_unit_can_name_is_refused(tmp_path, name):
    with pytest.raises(InputError, match="cannot be in a unit of systemd"):
        unit_text(tmp_path / name, ["/usr/bin/modelmint", "serve"], tmp_path / "x.env")


@needs_systemd
@pytest.mark.parametrize("name", ['a "quoted" one', "back\\slash", "it's"])
def test_a_program_that_systemd_would_not_start_is_refused(tmp_path, config, name):
    program = tmp_path / name / "modelmint"
    with pytest.raises(InputError, match="cannot be in a unit of systemd"):
        unit_text(tmp_path, [str(program), "serve"], tmp_path / "x.env")


@needs_systemd
def test_install_is_repeatable_and_keeps_a_unit_that_differs(tmp_path, config, monkeypatch):
    root = project(tmp_path / "digits")
    monkeypatch.setenv("MODELMINT_DATABASE_URL", "postgresql://u:secret@host/db")
    monkeypatch.setenv("MODELMINT_RUNS", "/runs")
    first = install(root, ["--port", "4300"])
    assert first.written
    assert first.path.parent == config / "systemd/user"
    assert re.fullmatch(r"modelmint-digits-[0-9a-f]{4}\.service", first.path.name)
    text = first.path.read_text()
    assert "secret" not in text
    assert "serve --port 4300\n" in text
    assert first.missing == ["MODELMINT_DATABASE_URL", "MODELMINT_RUNS"]
    first.environment.parent.mkdir()
    first.environment.write_text("MODELMINT_DATABASE_URL=postgresql://u:secret@host/db\n")
    again = install(root, ["--port", "4300"])
    assert (again.written, again.missing) == (False, ["MODELMINT_RUNS"])
    with pytest.raises(InputError, match=r"is another unit than would be written.*Remove it"):
        install(root, [])
    assert first.path.read_text() == text
    clone = install(project(tmp_path / "other" / "digits"), [])
    assert clone.path != first.path


@pytest.mark.parametrize("place", ["relative", ""])
def test_a_relative_config_folder_is_ignored(tmp_path, monkeypatch, place):
    from flows.unit import _config_folder

    monkeypatch.setenv("XDG_CONFIG_HOME", place)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert _config_folder() == tmp_path / ".config"


def test_install_without_systemd_says_so_and_writes_nothing(tmp_path, config, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"there is none here.*not restart it after exit status 2"):
        install(project(tmp_path / "digits"), [])
    assert not config.exists()


def test_install_in_a_folder_without_deployments_writes_nothing(tmp_path, config):
    with pytest.raises(InputError, match=r"prefect.yaml must be YAML"):
        install(tmp_path, [])
    assert not config.exists()
