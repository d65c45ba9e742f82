"""The fingerprint of each stage's code, stored in the project's `code.json`.

The code of a stage is every module of this package that its step imports, directly or indirectly.
Only the syntax counts: a changed comment, docstring or line break makes no stage stale. Modules
that start and supervise a step (`__main__`, `lineage`, `recorded`, ...) do not count either,
because they do not influence its output.

`dvc.yaml` names the fingerprint as a parameter of the stage, so DVC notices when it changes. DVC
does not notice when the code changes, so every command that records a run first compares the code
with the fingerprint. Imports only the standard library: a stage compares its code before it loads
the rest of it.
"""

import hashlib
import importlib.util
import json
import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tasks import snapshot
from tasks.errors import InputError
from tasks.snapshot import Stamp
from tasks.syntax import Parsed, keep_parsed, parsed
from tasks.words import some

FILE = "code.json"
FORMAT = 1
PACKAGE = Path(__file__).parent
# Its path, such as `tasks/train.py`, and what it consists of; None for a module of another package.
Module = tuple[str, Parsed] | None
_ABOUT = "The code that each stage runs. Written by `modelmint code`; after a merge, run it again."


@dataclass(frozen=True)
class Code:
    """Fingerprints of all stages, and of all files that they run."""

    stages: Mapping[str, str]
    files: Mapping[str, str]
    """By path, such as `tasks/train.py`."""


@dataclass(frozen=True)
class Change:
    """A stage whose code differs from the recorded one, and the files that differ."""

    stage: str
    files: tuple[str, ...]

    def __str__(self) -> str:
        return some(self.files, 3)


def installed_code(stages: Iterable[str]) -> Code:
    """The code that this installation runs for `stages`."""
    known: dict[str, Module] = {}
    files = {stage: files_of(stage, known) for stage in stages}
    return Code(
        {stage: _combined(found) for stage, found in files.items()},
        {name: digest for found in files.values() for name, digest in found.items()},
    )


def recorded_code(root: Path) -> Code | None:
    """The content of `code.json`; None if missing or unreadable, as after a merge conflict."""
    try:
        document = json.loads((root / FILE).read_bytes())
        if type(document["format"]) is not int or document["format"] != FORMAT:
            return None
        return Code(dict(document["stages"]), dict(document["files"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def of_stage(root: Path, stage: str) -> str | None:
    """The fingerprint of a stage in `code.json`; None if it has none."""
    return found.stages.get(stage) if (found := recorded_code(root)) else None


def record_code(root: Path, code: Code) -> None:
    """Write `code.json` atomically."""
    document = {
        "about": _ABOUT,
        "format": FORMAT,
        "stages": dict(code.stages),
        "files": dict(sorted(code.files.items())),
    }
    part = root / f".{FILE}.{os.getpid()}.part"
    part.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    part.replace(root / FILE)


def code_changes(root: Path, stages: Iterable[str]) -> list[Change]:
    """The stages whose code differs from the project's `code.json`."""
    if (before := recorded_code(root)) is None:
        return [Change(stage, (f"{FILE} is missing or cannot be read",)) for stage in stages]
    found = []
    known: dict[str, Module] = {}
    for stage in stages:
        files = files_of(stage, known)
        if before.stages.get(stage) != _combined(files):
            # Removed files need no check: a file that no longer imports them has changed too.
            names = [name for name, digest in files.items() if before.files.get(name) != digest]
            found.append(Change(stage, tuple(sorted(names)) or (FILE,)))
    return found


def refuse_changed(root: Path, stages: Iterable[str]) -> None:
    """Raises `InputError` if the code of a stage differs from `code.json`."""
    if found := code_changes(root, stages):
        reasons = "; ".join(f"{change.stage}: {change}" for change in found)
        raise InputError(
            f"{FILE} does not describe the code that would run ({reasons}), so nothing was run. "
            "Run `modelmint code`: it updates the file and says which stages become stale."
        )


class RunningCode:
    """Detects edits of the code that this process runs, from before the imports to the end."""

    def __init__(self) -> None:
        """Create it before any module but this one and its imports is loaded."""
        self._stamps = snapshot.python_stamps(PACKAGE)
        _remove_old_bytecode(self._stamps)
        self._files: dict[str, str] = {}
        self._loaded = set(sys.modules)

    def read(self, stage: str) -> str:
        """The fingerprint of the stage's code as it is now."""
        self._files = files_of(stage)
        return _combined(self._files)

    def rewritten(self) -> list[str]:
        """Files of the stage that were written since this object was created."""
        self._loaded = set(sys.modules)
        return [name for name in self._files if self._written(PACKAGE.parent / name)]

    def changed(self, stage: str) -> list[str]:
        """Files of the stage whose syntax changed, or that were edited before a late import."""
        names = set[str]()
        if any(self._written(path) for path in self._stamps):
            now = files_of(stage)
            names = {name for name, digest in now.items() if self._files.get(name) != digest}
            # Only files that are gone: `now` also lacks what only a missing file imports.
            names |= {name for name in self._files if not (PACKAGE.parent / name).exists()}
        late = [sys.modules[name] for name in set(sys.modules) - self._loaded]
        paths = [Path(str(getattr(module, "__file__", None))) for module in late]
        names |= {p.relative_to(PACKAGE.parent).as_posix() for p in paths if self._written(p)}
        return sorted(names)

    def _written(self, path: Path) -> bool:
        """Whether a file of the package was written or replaced since the beginning."""
        try:
            return path in self._stamps and Stamp.of(path) != self._stamps[path]
        except OSError:
            return True


def _remove_old_bytecode(stamps: Mapping[Path, Stamp]) -> None:
    """Remove compiled files that may be older than their source.

    Python runs a compiled file if the source still has the same size and modification time (in
    whole seconds). Both can be equal after an edit within the second, or after an edit that set
    the time back. This compares with the time of the last status change, which cannot be set.
    """
    for path, stamp in stamps.items():
        compiled = Path(importlib.util.cache_from_source(str(path)))
        # OSError: the folder is not writable, so its sources are not edited either.
        with suppress(OSError):
            if compiled.stat().st_mtime_ns <= stamp.changed:
                compiled.unlink()


def files_of(stage: str, known: dict[str, Module] | None = None) -> dict[str, str]:
    """All files that the stage's step imports, each with its fingerprint.

    `known` are the modules found a moment ago, for another stage, which imports mostly the same.
    """
    known = {} if known is None else known
    # `pipeline` and `params` decide which parameters and paths a step gets.
    ahead = [f"{PACKAGE.name}.{module}" for module in (stage, "pipeline", "params")]
    files: dict[str, str] = {}
    seen = set[str]()
    while ahead:
        module = ahead.pop()
        if module in seen:
            continue
        seen.add(module)
        if module not in known:
            known[module] = _module(module)
        if found := known[module]:
            path, (digest, imports) = found
            files[path] = digest
            ahead += imports
    keep_parsed()
    return files


def _module(name: str) -> Module:
    if path := _path_of(name):
        return path.relative_to(PACKAGE.parent).as_posix(), _parsed(name, path, Stamp.of(path))
    return None


# Cached, because one training compares several times. A written file has another stamp.
@lru_cache(maxsize=1024)
def _parsed(module: str, path: Path, stamp: Stamp) -> Parsed:
    """The fingerprint of a file, and the names that it imports."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return parsed(path.read_bytes(), package)


@lru_cache(maxsize=1)
def installed_digest() -> str:
    """SHA-256 of all source files of this package, 16 hex digits: 10 ms, where their syntax takes
    half a second. A changed comment counts, which costs a batch job that was killed its shards.
    Kept from the first call on: an update of the files does not change a process that runs.
    """
    found = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        content = path.read_bytes()
        found.update(f"{path.relative_to(PACKAGE).as_posix()} {len(content)}\n".encode() + content)
    return found.hexdigest()[:16]


def _path_of(module: str) -> Path | None:
    """The file of a module of this package; None for other modules."""
    first, *rest = module.split(".")
    stem = PACKAGE.joinpath(*rest)
    if first != PACKAGE.name:
        return None
    return next((p for p in (stem / "__init__.py", stem.with_suffix(".py")) if p.is_file()), None)


def _combined(files: Mapping[str, str]) -> str:
    text = "\n".join(f"{name} {digest}" for name, digest in sorted(files.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
