"""`modelmint serve --install`: a unit by which systemd keeps `serve` of this project running.

A unit of the user, because `serve` needs no rights of root, and all that it starts belongs to the
user. https://www.freedesktop.org/software/systemd/man/252/systemd.service.html
"""

import hashlib
import os
import re
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.deploy import deployed_names
from tasks.errors import InputError

UNIT = """\
# Written by `modelmint serve --install`. Settings of your own: systemctl --user edit {name}
[Unit]
Description=modelmint serve in {description}
# `serve` restarts its server and its runner itself. It ends only if they keep ending.
StartLimitIntervalSec=0

[Service]
WorkingDirectory={folder}
ExecStart={command}
# VARIABLE=value in each line; it need not exist.
EnvironmentFile=-{environment}
Restart=on-failure
RestartSec=30
# A mistake in prefect.yaml or in a setting, or another process serves this folder.
RestartPreventExitStatus=2
# `serve` stops its processes in order; systemd kills what is left.
KillMode=mixed
TimeoutStopSec=60

[Install]
WantedBy=default.target
"""
OURS = ("MODELMINT_", "PREFECT_", "AWS_")
"""Variables with these prefixes change what `serve` does."""


@dataclass(frozen=True)
class Installed:
    """A unit that is in place."""

    path: Path
    written: bool
    """Whether it was written now; otherwise it was there already."""
    environment: Path
    """The file for its variables."""
    missing: list[str]
    """Variables of this shell that the unit will not see."""


def install(root: Path, arguments: Sequence[str]) -> Installed:
    """Write the unit for `modelmint serve ARGUMENTS` in the project `root`, with this Python.

    Raises:
        InputError: there is no systemd, another unit is in its place, a path cannot be written into
            a unit, or the project has no list of deployments.
    """
    deployed_names(root / "prefect.yaml")  # `serve` would refuse it later, in a log
    if sys.platform != "linux" or not shutil.which("systemctl"):
        raise InputError(
            "serve --install writes a unit for systemd, and there is none here. Have another "
            f"supervisor run `{_program()} serve` in {root}, and not restart it after exit status 2"
        )
    name = unit_name(root)
    config = _config_folder()
    path, environment = config / f"systemd/user/{name}", config / f"modelmint/{Path(name).stem}.env"
    text = unit_text(root, [str(_program()), "serve", *arguments], environment)
    missing = [v for v in sorted(os.environ) if v.startswith(OURS)]
    if environment.exists():
        known = re.findall(r"^\s*(\w+)=", environment.read_text(encoding="utf-8"), re.M)
        missing = [variable for variable in missing if variable not in known]
    if path.exists():
        if path.read_text(encoding="utf-8") == text:
            return Installed(path, False, environment, missing)
        raise InputError(
            f"{path} is another unit than would be written: it was edited, or other options, "
            "another Python or another release wrote it. Remove it and run this again; for "
            f"settings of your own use `systemctl --user edit {name}`, which keeps them"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
    return Installed(path, True, environment, missing)


def unit_name(root: Path) -> str:
    """`modelmint-digits-3f2a.service`: like its deployments, so clones have different ones."""
    folder = re.sub(r"[^A-Za-z0-9.-]+", "-", root.name).strip("-") or "project"
    return f"modelmint-{folder[:80]}-{hashlib.sha256(str(root).encode()).hexdigest()[:4]}.service"


def unit_text(root: Path, command: Sequence[str], environment: Path) -> str:
    """The unit. Raises `InputError` if a path cannot be written into one."""
    for path in (str(root), command[0], str(environment)):
        # systemd strips spaces, reads on in the next line after a backslash, and refuses quotes and
        # backslashes in the name of a program.
        unfit = path != path.strip() or path.endswith("\\") or not path.isprintable()
        if unfit or (path == command[0] and set(path) & set("\"'\\")):
            raise InputError(
                f"{path!r} cannot be in a unit of systemd: it ends with a space or a backslash, "
                "has a character that cannot be printed, or is a program with a quote or a "
                "backslash in its path. Rename the folder"
            )
    program, *arguments = command
    words = [_quoted(program), *(_quoted(word).replace("$", "$$") for word in arguments)]
    return UNIT.format(
        name=unit_name(root),
        description=_escaped(root),
        folder=_escaped(root),
        command=" ".join(words),
        environment=_escaped(environment),
    )


def _escaped(path: Path) -> str:
    """A path where a setting takes a single one: not quoted, but with specifiers like %h."""
    return str(path).replace("%", "%%")


def _quoted(word: str) -> str:
    """A word of a command line."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return word if re.fullmatch(r"[\w./:@+=-]+", word, re.ASCII) else f'"{escaped}"'


def _program() -> Path:
    """The command `modelmint` of this Python."""
    found = Path(sysconfig.get_path("scripts")) / "modelmint"
    if not found.exists():
        raise InputError(f"{found} does not exist: install modelmint with {sys.executable} -m pip")
    return found


def _config_folder() -> Path:
    """https://specifications.freedesktop.org/basedir-spec: a relative path is ignored."""
    given = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    return given if given.is_absolute() else Path.home() / ".config"
