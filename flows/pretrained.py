"""Copies the weights of a version or a file to the folder from which the stage `train` starts."""

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry import NotFound, Registry
from tasks.bundle.files import PRETRAINED, WEIGHTS
from tasks.config.start import is_weights_file
from tasks.errors import InputError
from tasks.recorded import outputs_of, stages_of
from tasks.training.base import MARKER, find_changed, marker_of, sha256_of
from tasks.weights_file import read_header
from tasks.workspace import Workspace


@dataclass(frozen=True)
class Start:
    """The weights that a training started from; both None: fresh ones."""

    parent: dict[str, str] | None = None
    """`ref` and `digest` of a registered version."""
    weights: dict[str, str] | None = None
    """Path and SHA-256 of a file: `file`, `sha256`."""


def place_pretrained(
    registry: Registry, init_from: str | None, workspace: Workspace, checkout: Path
) -> str:
    """Copy the weights that `init_from` names into `data/base` of the workspace.

    They are those of a registered version, or a file, whose path is relative to the `checkout`.
    Without `init_from` that folder is emptied. The files are verified before they are copied.
    `version.json` has their hashes and is written last, so its existence means a complete copy.
    If the alias has moved, or the file was changed, the folder changes and DVC finds `train` stale.
    Returns a log line.

    Raises:
        InputError: the file is missing, is not a whole safetensors file or is written by the run
            itself; or the weights cannot be copied.
        InvalidReference, NotFound: `init_from` names no version.
        RegistryError: the bundle is damaged, or the registry cannot be reached.
    """
    folder = workspace.base
    if init_from is None:
        _clear(folder)
        return "training starts from fresh weights"
    if is_weights_file(init_from):
        _refuse_outputs(init_from, workspace, checkout)
        return _place_file(init_from, folder, checkout)
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
    if not _is_there(folder, document):
        _copy(registry.open(version), folder, document)
    return f"training starts from the weights of {version.ref}"


def _refuse_outputs(name: str, workspace: Workspace, checkout: Path) -> None:
    """Raises `InputError` if a file of weights would be removed or rewritten by the run itself."""
    outputs = [out for entry in stages_of(workspace.root).values() for out in outputs_of(entry)]
    given = checkout / name
    # DVC may have put a link in place of the file, and the user may have made one to it.
    places = {Path(os.path.abspath(given)), given.resolve()}
    for out in [workspace.base, *(workspace.root / out for out in outputs)]:
        if any(p.is_relative_to(q) for p in places for q in (out, out.resolve())):
            raise InputError(
                f"train.init_from: {name} is in {out}, which a training writes anew. Copy the file "
                "to another folder, such as weights/, and name the copy"
            )


def _place_file(name: str, folder: Path, checkout: Path) -> str:
    path = checkout / name
    tensors = read_header(path, name)
    sha256 = sha256_of(path)
    document = {"file": name, "sha256": {WEIGHTS: sha256}}
    if not _is_there(folder, document):
        _copy({WEIGHTS: path}, folder, document)
        if find_changed(folder, document):
            _clear(folder)
            raise InputError(
                f"train.init_from: {name} was changed while it was copied. Run the same command "
                "again when it is complete."
            )
    return f"training starts from the {len(tensors)} tensors of {name} (SHA-256 {sha256})"


def read_start(workspace: Workspace, checkout: Path) -> Start:
    """What the workspace's `data/base` holds.

    Raises:
        InputError: a file there no longer matches its version, or the file in the checkout has
            changed since it was copied.
    """
    if (document := marker_of(workspace.base)) is None:
        return Start()
    origin = document["file"] if "file" in document else document["ref"]
    if name := find_changed(workspace.base, document):
        raise InputError(
            f"{workspace.base / name} was changed: it is not the file of {origin}. "
            "Nothing was registered. Run the same command again; it copies the file and retrains."
        )
    if "file" not in document:
        return Start(parent={"ref": origin, "digest": document["digest"]})
    sha256 = document["sha256"][WEIGHTS]
    if sha256_of(checkout / origin) != sha256:
        raise InputError(
            f"train.init_from: {origin} changed during this run, which started from the weights "
            "that it had before. Nothing was registered. Run the same command again to start from "
            "the present ones."
        )
    return Start(weights={"file": origin, "sha256": sha256})


def _copy(files: Mapping[str, Path], folder: Path, document: dict[str, Any]) -> None:
    """Replace the files in `folder`; the marker comes last.

    Raises:
        InputError: there is no room, for instance. Then the folder is empty.
    """
    try:
        _clear(folder)
        for name in PRETRAINED:
            if name in files:
                shutil.copyfile(files[name], folder / name)
        text = json.dumps(document, indent=2) + "\n"
        (folder / MARKER).write_text(text, encoding="utf-8")
    except OSError as error:
        with contextlib.suppress(OSError):
            _clear(folder)
        raise InputError(
            f"train.init_from: the weights cannot be copied to {folder} ({error.strerror}). Run "
            "the same command again when they can"
        ) from error


def _is_there(folder: Path, document: Mapping[str, Any]) -> bool:
    """Whether a folder has these files, and the marker says so."""
    try:
        return marker_of(folder) == document and not find_changed(folder, document)
    except InputError:  # damaged
        return False


def _clear(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)  # DVC demands it, and git keeps no empty folder
    for name in (MARKER, *PRETRAINED):
        (folder / name).unlink(missing_ok=True)
