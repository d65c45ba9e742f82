"""The weights of a registered version, put where the stage `train` starts from them."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from registry import NotFound, Registry
from tasks.bundle.files import PRETRAINED
from tasks.errors import InputError
from tasks.workspace import Workspace

VERSION = "version.json"


def place_pretrained(registry: Registry, init_from: str | None, workspace: Workspace) -> str:
    """Copy the weights of the version that `init_from` names now into the workspace's `data/base`.

    Without `init_from` that folder is emptied. Returns a line that says what was done. The files
    are verified before they are copied. `version.json` has the hash of each and is written last,
    so where it lies the copy is complete. DVC sees a change: if the alias moved, `train` is stale.

    Raises:
        InvalidReference, NotFound: `init_from` names no version.
        RegistryError: the bundle is damaged, or the registry cannot be reached.
    """
    if init_from is None:
        _clear(workspace.base)
        return "training starts from fresh weights"
    if not registry.database.exists():
        raise NotFound(
            f"There is no version {init_from!r} to start from: nothing was registered yet. Train "
            "without train.init_from first, or set MODELMINT_DATABASE_URL to the registry it is in."
        )
    version = registry.resolve(init_from).version
    document = {
        "ref": version.ref,
        "digest": version.digest,
        "sha256": {a.path: a.sha256 for a in version.artifacts if a.path in PRETRAINED},
    }
    if _read(workspace.base) != document or _changed(workspace.base, document):
        files = registry.open(version)
        _clear(workspace.base)
        workspace.base.mkdir(parents=True, exist_ok=True)
        for name in PRETRAINED:
            if name in files:
                shutil.copyfile(files[name], workspace.base / name)
        text = json.dumps(document, indent=2) + "\n"
        (workspace.base / VERSION).write_text(text, encoding="utf-8")
    return f"training starts from the weights of {version.ref}"


def parent(workspace: Workspace) -> dict[str, Any] | None:
    """Reference and digest of the version whose weights lie in the workspace's `data/base`.

    Raises:
        InputError: a file there is not that version's any more.
    """
    if (document := _read(workspace.base)) is None:
        return None
    if name := _changed(workspace.base, document):
        raise InputError(
            f"{workspace.base / name} is not the file of {document['ref']}: somebody changed it. "
            "Nothing was registered; the same command fetches it and trains again."
        )
    return {"ref": document["ref"], "digest": document["digest"]}


def _read(base: Path) -> dict[str, Any] | None:
    marker = base / VERSION
    document: dict[str, Any] | None = json.loads(marker.read_bytes()) if marker.exists() else None
    return document


def _changed(base: Path, document: dict[str, Any]) -> str:
    """A file that is missing or not the version's; empty where there is none."""
    for name, sha256 in document.get("sha256", {}).items():
        try:
            with (base / name).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() == sha256:
                    continue
        except OSError:
            pass
        return str(name)
    return ""


def _clear(base: Path) -> None:
    for name in (VERSION, *PRETRAINED):
        (base / name).unlink(missing_ok=True)
