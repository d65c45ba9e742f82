"""The folder with the weights to start from, which the flow fills."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.config.start import is_weights_file
from tasks.errors import InputError

MARKER = "version.json"
"""Where the weights come from, `ref` and `digest` of a version or the `file`, and their hashes."""
# Buffers that always come from the new dataset.
_SCALES = {
    *("mean", "std", "rarity"),
    *("target_mean", "target_std", "target_scores", "target_values"),
}


def is_scale(name: str) -> bool:
    """Whether a tensor is a scale of the dataset, and not a weight."""
    return name.rpartition(".")[2] in _SCALES


def marker_of(base: Path) -> dict[str, Any] | None:
    """What the marker in `base` says; None without one.

    Raises:
        InputError: it is damaged, as after a full disk.
    """
    path = base / MARKER
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
        hashes: dict[str, Any] = document.get("sha256", {})
        named = ("file",) if "file" in document else ("ref", "digest")
        texts = [*(document[name] for name in named), *hashes.values()]
        if not all(isinstance(text, str) for text in texts) or ("file" in document and not hashes):
            raise ValueError(document)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"train.init_from: {path} is damaged. Run `modelmint train`, which writes it anew"
        ) from error
    return document


def read_marker(base: Path, init_from: str) -> str:
    """What the weights in `base` are: `NAME:NUMBER`, or the path of a file.

    Raises:
        InputError: they are not those of `init_from`, or were changed.
    """
    if (document := marker_of(base)) is None:
        raise InputError(
            f"train.init_from is {init_from}, but its weights are not in {base}. Run `modelmint "
            "train`, which fetches them"
        )
    origin: str = document["file"] if "file" in document else document["ref"]
    kept = "file of" if "file" in document else "registered file of"
    if name := find_changed(base, document):
        raise InputError(
            f"train.init_from: {base / name} differs from the {kept} {origin}. "
            "Run `modelmint train`, which fetches it again"
        )
    if is_weights_file(init_from):
        asked, found = init_from, origin
    else:
        asked = init_from.partition("@")[0]
        found = origin if ":" in init_from else origin.partition(":")[0]
    if found != asked:
        raise InputError(
            f"train.init_from is {init_from}, but the weights in {base} are those of {origin}. Run "
            "`modelmint train`, which fetches the right ones"
        )
    return origin


def find_changed(base: Path, document: Mapping[str, Any]) -> str:
    """Name of a file that is missing or differs from the marker's hashes, or an empty string."""
    hashes: dict[str, str] = document.get("sha256", {})
    return next((name for name, sha256 in hashes.items() if sha256_of(base / name) != sha256), "")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file; empty if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
