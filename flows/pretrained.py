"""Copies the weights of a registered version to the folder from which the stage `train` starts."""

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
    """Copy the weights of the version that `init_from` resolves to into `data/base`.

    Without `init_from` that folder is emptied. The files are verified before they are copied.
    `version.json` has their hashes and is written last, so its existence means a complete copy.
    If the alias has moved, the folder changes and DVC finds `train` stale. Returns a log line.

    Raises:
        InvalidReference, NotFound: `init_from` names no version.
        RegistryError: the bundle is damaged, or the registry cannot be reached.
    """
    folder = workspace.base
    if init_from is None:
        _clear(folder)
        return "training starts from fresh weights"
    if not registry.database.exists():
        raise NotFound(
            f"There is no version {init_from!r} to start from: the registry is empty. Train "
            "without train.init_from first, or set MODELMINT_DATABASE_URL to the registry it is in."
        )
    version = registry.resolve(init_from).version
    document = {
        "ref": version.ref,
        "digest": version.digest,
        "sha256": {a.path: a.sha256 for a in version.artifacts if a.path in PRETRAINED},
    }
    if _read_marker(folder) != document or _find_changed(folder, document):
        files = registry.open(version)
        _clear(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name in PRETRAINED:
            if name in files:
                shutil.copyfile(files[name], folder / name)
        text = json.dumps(document, indent=2) + "\n"
        (folder / VERSION).write_text(text, encoding="utf-8")
    return f"training starts from the weights of {version.ref}"


def read_parent(workspace: Workspace) -> dict[str, Any] | None:
    """Reference and digest of the version whose weights are in the workspace's `data/base`.

    Raises:
        InputError: a file there no longer matches that version.
    """
    if (document := _read_marker(workspace.base)) is None:
        return None
    if name := _find_changed(workspace.base, document):
        raise InputError(
            f"{workspace.base / name} was changed: it is not the file of {document['ref']}. "
            "Nothing was registered. Run the same command again; it copies the file and retrains."
        )
    return {"ref": document["ref"], "digest": document["digest"]}


def _read_marker(folder: Path) -> dict[str, Any] | None:
    marker = folder / VERSION
    document: dict[str, Any] | None = json.loads(marker.read_bytes()) if marker.exists() else None
    return document


def _find_changed(folder: Path, document: dict[str, Any]) -> str:
    """Name of a file that is missing or differs from the version's, or an empty string."""
    for name, sha256 in document.get("sha256", {}).items():
        try:
            with (folder / name).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() == sha256:
                    continue
        except OSError:
            pass
        return str(name)
    return ""


def _clear(folder: Path) -> None:
    for name in (VERSION, *PRETRAINED):
        (folder / name).unlink(missing_ok=True)
