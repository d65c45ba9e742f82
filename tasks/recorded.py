"""Compares `dvc.lock` with what the stages read, and with the present content of their outputs.

DVC trusts its records: the hashes taken at the end of a stage, and the files in its cache. This
module reads the files again and reports differences. It knows the formats of DVC's files and the
layout of its cache; `flows/versioning.py` runs DVC's commands.
"""

import configparser
import fcntl
import hmac
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tasks import fingerprint, snapshot
from tasks.errors import InputError
from tasks.words import some
from tasks.workspace import Workspace

FORMAT = 1
SAY_AFTER_S = 2.0
_OUTPUTS = ("outs", "metrics", "plots")


def stages_of(root: Path) -> dict[str, Any]:
    """The stages of `dvc.yaml`, unparsed; empty without the file."""
    found: dict[str, Any] = yaml_mapping(root / "dvc.yaml").get("stages") or {}
    return found


def locked_stages(root: Path) -> dict[str, Any]:
    """The stages of `dvc.lock`; empty without the file."""
    with dvc_at_rest(root):
        found: dict[str, Any] = yaml_mapping(root / "dvc.lock").get("stages") or {}
    return found


@contextmanager
def dvc_at_rest(root: Path) -> Iterator[None]:
    """No DVC command writes `dvc.lock` or a `.dvc` file inside the block.

    DVC writes them in place, in about 0.05 s, and a reader meanwhile finds a part of the stages, or
    none. DVC holds this lock (zc.lockfile) then, but not while the command of a stage runs. Waits
    without a limit, as `dvc --wait-for-lock` does, and says so. Where DVC is told to use
    `core.hardlink_lock`, it has another lock, and nothing waits.
    """
    try:
        file = (dvc_folder(root) / "tmp/lock").open("rb")
    except FileNotFoundError:  # no DVC command has run here
        yield
        return
    with file:
        _wait_for(file)
        yield


def _wait_for(file: IO[bytes]) -> None:
    deadline = time.monotonic() + SAY_AFTER_S
    while time.monotonic() < deadline:
        with suppress(BlockingIOError):
            return fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        time.sleep(0.02)
    print(f"waits for another DVC command, which holds {file.name}", file=sys.stderr, flush=True)
    fcntl.flock(file, fcntl.LOCK_SH)


def dvc_folder(root: Path) -> Path:
    """The .dvc folder of the project or of a folder above it."""
    found = next((p for p in (root, *root.parents) if (p / ".dvc").is_dir()), root)
    return found / ".dvc"


def outputs_of(entry: Mapping[str, Any]) -> list[str]:
    """The paths of all outputs of a stage of `dvc.yaml`; some entries are mappings with options."""
    listed = [out for kind in _OUTPUTS for out in entry.get(kind) or ()]
    return [next(iter(out)) if isinstance(out, dict) else out for out in listed]


def record_path(workspace: Workspace, stage: str) -> Path:
    """The path of the record of what a stage read."""
    return workspace.read / f"{stage}.json"


def write_record(
    workspace: Workspace,
    stage: str,
    *,
    deps: Mapping[str, str | None],
    params: Mapping[str, Any],
    code: str,
    salt: str | None,
) -> None:
    """Write the record of what a stage read: hashes by path, parameters by key, and its code."""
    document = {"format": FORMAT, "stage": stage, "deps": deps, "params": params, "code": code}
    if salt is not None:
        document["salt"] = salt
    path = record_path(workspace, stage)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    text = json.dumps(document, indent=2, sort_keys=True, default=str) + "\n"
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def misrecorded(workspace: Workspace, stage: str) -> list[str]:
    """Inputs of a stage that differ between `dvc.lock` and the stage's own record.

    They differ if an input was edited between the end of the stage and DVC's hashing. The key for
    sensitive columns is compared with the present file, because DVC does not track it.
    """
    path = record_path(workspace, stage)
    entry = locked_stages(workspace.root).get(stage)
    if entry is None or not path.is_file():
        return []
    try:
        record = json.loads(path.read_bytes())
        read, values = record["deps"], record["params"]
    except (ValueError, KeyError, TypeError):
        return [f"{path.relative_to(workspace.root)} (cannot be read)"]
    root = str(workspace.root)
    hashes = [
        {os.path.normpath(os.path.join(root, path)): md5 for path, md5 in found.items()}
        for found in (read, {dep["path"]: dep.get("md5") for dep in entry.get("deps") or ()})
    ]
    params = entry.get("params") or {}
    recorded = params.get("params.yaml") or {}
    names = [
        os.path.relpath(path, root)
        for path in sorted(hashes[0].keys() | hashes[1].keys())
        if hashes[0].get(path) != hashes[1].get(path)
    ]
    names += differences(values, recorded, "{0} was read, {1} is recorded")
    if (code := record.get("code")) != code_of(entry):
        names.append(f"code ({code} was run, {code_of(entry)} is recorded)")
    if (mark := record.get("salt")) and _salt_of(workspace, values) not in (None, mark):
        names.append("the salt file")
    return names


def code_of(entry: Mapping[str, Any]) -> str | None:
    """The code fingerprint in a stage of `dvc.lock`; None if an older release wrote it."""
    params = (entry.get("params") or {}).get(fingerprint.FILE) or {}
    return next(iter(params.values()), None)


def refuse_misrecorded(workspace: Workspace, stage: str) -> None:
    """Raises `InputError` if `dvc.lock` differs from what the stage read."""
    if names := misrecorded(workspace, stage):
        raise InputError(
            f"the stage {stage} did not read what DVC has recorded, or it has changed since: "
            f"{some(names, 3)}. Give the same command again to run the stage on the present "
            "files."
        )


def remove_record(workspace: Workspace, stage: str) -> None:
    """Make a stage stale for DVC: remove its record, also from the cache, so it stays removed."""
    path = record_path(workspace, stage)
    name = path.relative_to(workspace.root).as_posix()
    path.unlink(missing_ok=True)
    for out in locked_stages(workspace.root).get(stage, {}).get("outs") or ():
        if out["path"] == name:
            with suppress(OSError):  # the cache may belong to another user
                _object(_cache(workspace.root), out["md5"]).unlink()


def refuse_damaged(workspace: Workspace, stage: str) -> None:
    """Raises `InputError` if the content of an output differs from `dvc.lock`."""
    ignored = snapshot.ignore_rules(workspace.root)
    for out in locked_stages(workspace.root).get(stage, {}).get("outs") or ():
        found = snapshot.take(workspace.root / out["path"], ignored)
        if "md5" in out and (found is None or found.md5 != out["md5"]):
            raise InputError(_damage(workspace.root, stage, out, found))


def refuse_upstream(workspace: Workspace, stage: str, read: Mapping[str, str | None]) -> None:
    """Check the stages that a stage depends on; `read` has the MD5 of its inputs by path.

    Raises:
        InputError: one of them did not read what DVC has recorded, or its output is damaged.
    """
    stages, lock = stages_of(workspace.root), locked_stages(workspace.root)
    makers = {out: name for name, entry in stages.items() for out in outputs_of(entry)}
    ahead, seen = [stage], set[str]()
    while ahead:
        deps = stages.get(ahead.pop(), {}).get("deps") or ()
        new = {makers[dep] for dep in deps if dep in makers} - seen
        seen |= new
        ahead += new
    for name in sorted(seen, key=list(stages).index):
        try:
            refuse_misrecorded(workspace, name)
        except InputError:
            remove_record(workspace, name)
            raise
        for out in lock.get(name, {}).get("outs") or ():
            if out["path"] in read and "md5" in out and read[out["path"]] != out["md5"]:
                found = snapshot.take(
                    workspace.root / out["path"], snapshot.ignore_rules(workspace.root)
                )
                raise InputError(_damage(workspace.root, name, out, found))


def differences(first: Any, second: Any, words: str, name: str = "") -> list[str]:
    """Keys of nested mappings whose values differ, with both values formatted by `words`."""
    if isinstance(first, dict) and isinstance(second, dict):
        texts = [{str(key): value for key, value in one.items()} for one in (first, second)]
        keys = sorted(texts[0].keys() | texts[1].keys())
        return [
            found
            for key in keys
            for found in differences(
                texts[0].get(key), texts[1].get(key), words, f"{name}.{key}".lstrip(".")
            )
        ]
    one, other = (json.dumps(value, sort_keys=True, default=str) for value in (first, second))
    return [] if one == other else [f"{name} ({words.format(one, other)})"]


def salt_mark(path: Path) -> str:
    """Identifies a key without revealing it. Raises `OSError`."""
    return hmac.digest(path.read_bytes().strip(), b"modelmint: which key", "sha256").hex()


def _salt_of(workspace: Workspace, values: Mapping[str, Any]) -> str | None:
    """The mark of the present key; None if the file is missing, as on a colleague's machine."""
    given = (values.get("prepare") or {}).get("salt_file")
    try:
        return salt_mark(workspace.root / given) if given else None
    except OSError:
        return None


def _damage(root: Path, stage: str, out: Mapping[str, Any], found: snapshot.Snapshot | None) -> str:
    """What is wrong with an output, and how to repair it."""
    names, broken = wrong_files(root, out, found)
    what = f"{some(names, 3)}: the content differs from the one in dvc.lock (stage {stage}). "
    if broken:
        files = " ".join(broken)
        return what + f"The DVC cache is damaged; repair it: rm -f {files} && dvc repro -sf {stage}"
    path = out["path"]
    return what + f"It was changed by hand; restore it: rm -r {path} && dvc repro -s {stage}"


def wrong_files(
    root: Path, out: Mapping[str, Any], found: snapshot.Snapshot | None
) -> tuple[list[str], list[str]]:
    """Which files of an output differ from DVC's record, and which files in the cache are broken.

    `out` is an entry of `dvc.lock` or of a `.dvc` file. If the listing of a folder is not in the
    cache, only the folder is named.
    """
    path, cache = out["path"], _cache(root)
    objects = {"": out["md5"]}
    if out["md5"].endswith(".dir"):
        try:
            listed = json.loads(_object(cache, out["md5"]).read_bytes())
            objects = {entry["relpath"]: entry["md5"] for entry in listed}
        except (OSError, ValueError, KeyError, TypeError):
            return [path], []
    present = {name: file.md5 for name, file in found.files.items()} if found else {}
    wrong = sorted(n for n in present.keys() | objects.keys() if present.get(n) != objects.get(n))
    cached = [(_object(cache, objects[name]), objects[name]) for name in wrong if name in objects]
    broken = [file for file, md5 in cached if file.is_file() and snapshot.file_md5(file) != md5]
    return (
        [f"{path}/{name}".rstrip("/") for name in wrong],
        [os.path.relpath(file, root) if _within(file, root) else str(file) for file in broken],
    )


def _within(path: Path, root: Path) -> bool:
    return path.resolve().is_relative_to(root.resolve())


def _object(cache: Path, md5: str) -> Path:
    return cache / "files/md5" / md5[:2] / md5[2:]


def _cache(root: Path) -> Path:
    """The DVC cache of a project, by its configuration files."""
    config = configparser.ConfigParser(interpolation=None, strict=False)
    folder = dvc_folder(root)
    try:
        config.read([folder / "config", folder / "config.local"], encoding="utf-8")
        given = config.get("cache", "dir", fallback="cache")
    except (configparser.Error, OSError):
        given = "cache"
    return folder / given.strip('"')


def yaml_mapping(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; empty if there is no such file."""
    try:
        found = deepcopy(_parsed(path.read_bytes()))
    except FileNotFoundError:
        return {}
    except (OSError, YAMLError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
    return found if isinstance(found, dict) else {}


@lru_cache(maxsize=16)
def _parsed(content: bytes) -> Any:
    """A flow reads the same `dvc.lock` about ten times, and parsing it takes 15 ms."""
    return YAML(typ="safe").load(content)
