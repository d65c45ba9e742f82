"""Predicts the files of an inbox that nobody has predicted yet, each as a job of its own.

A file is one path with one content. The registry knows which files the finished jobs of a model
have read into this output, with whichever version: a new champion predicts what comes after it.
Imports no Prefect.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from flows.job import JobReport, close_finished_jobs, run_job, signature_of
from registry import Registry, Resolved
from tasks.bundle.signature import Signature
from tasks.errors import InputChanged, InputError, SetupError
from tasks.files import suffixes
from tasks.inputs import InputFile, find, is_readable, pictures
from tasks.predict import How
from tasks.serving.options import Options

SETTLE_S = 10.0
"""A file that changed less than this long ago may still be written."""
DONE, FAILED = "done", "failed"
TEMPORARY = (".part", ".tmp", ".crdownload", ".filepart", ".partial")
"""How names of files end that are still being written; those that begin with a dot are, too."""
After = Literal["leave", "move"]


@dataclass
class NewReport:
    """What became of the files of an inbox."""

    jobs: list[JobReport] = field(default_factory=list)
    known: int = 0
    """Files that were predicted before."""
    waiting: list[str] = field(default_factory=list)
    """Files that are left for the next run, since they may still be written, or changed while they
    were predicted."""
    changed: list[str] = field(default_factory=list)
    """Files that were predicted with another content before, and were predicted again."""
    failed: dict[str, str] = field(default_factory=dict)
    """By file, why it was not predicted; the others were."""

    @property
    def rows(self) -> int:
        return sum(job.rows for job in self.jobs)

    @property
    def remarks(self) -> list[str]:
        """What a person should know of it, in lines."""
        return self.own_remarks + [remark for job in self.jobs for remark in job.remarks]

    @property
    def own_remarks(self) -> list[str]:
        """Those that are of no job."""
        lines = [f"{path} failed: {why}" for path, why in self.failed.items()]
        lines += [
            f"{path} changed since it was predicted; predicted again" for path in self.changed
        ]
        if self.waiting:
            lines.append(f"left for the next run, still being written: {_some(self.waiting)}")
        return lines


def predict_new(
    registry: Registry,
    resolved: Resolved,
    inboxes: Iterable[Path],
    output: Path,
    *,
    flow_run_id: str | None = None,
    options: Options | None = None,
    how: How | None = None,
    again: bool = False,
    after: After = "leave",
    settle_s: float = SETTLE_S,
) -> NewReport:
    """Predict new files into folders of their own below `output`.

    `again` predicts all files, new or not. `after` moves files that are done into `done/` beside
    them, and files that failed into `failed/`. A file stays if something else failed, such as the
    disk of the output, or if it changed meanwhile.

    Raises:
        InputError: an inbox is missing.
        SetupError: the model cannot do what `options` ask for.
        RegistryError: the registry cannot be reached.
    """
    options, how, report = options or Options(), how or How(), NewReport()
    signature = signature_of(resolved.version)
    options.check(signature)
    close_finished_jobs(registry, resolved.version.model)
    # Absolute, also in manifests: another run may read them in another folder.
    for inbox in (inbox.absolute() for inbox in inboxes):
        for paths in _units(inbox, signature, report, settle_s):
            try:
                files = _found(inbox, paths, signature)
                new = files if again else _unknown(registry, resolved, files, output, report)
                if not new:
                    continue
                job = run_job(
                    registry,
                    resolved,
                    new,
                    output / folder_name(resolved, _hash(inbox, new, options), options),
                    flow_run_id=flow_run_id,
                    options=options,
                    how=how,
                )
            except (InputError, OSError) as error:
                left = [path for path in paths if path.exists()]  # else another run has moved it
                if isinstance(error, InputChanged):
                    report.waiting += map(str, left)
                elif left:
                    report.failed[_some(map(str, left))] = str(error)
                    if not isinstance(error, (SetupError, OSError)):
                        _move(inbox, left, FAILED, after)
                continue
            report.jobs.append(job)
            _move(inbox, paths, DONE, after)
    return report


def _units(
    inbox: Path, signature: Signature, report: NewReport, settle_s: float
) -> Iterator[list[Path]]:
    """The files of an inbox, each alone; but image files are rows, so all of them together."""
    if not inbox.is_dir():
        raise InputError(f"{inbox} is missing or not a folder; with --new, name the inbox")
    images: list[Path] = []
    for path in sorted(inbox.rglob("*")):
        inner = path.relative_to(inbox).parts
        if not path.is_file() or inner[0] in (DONE, FAILED) or _is_hidden(inner):
            continue
        finished = path.with_name(_without_ending(path.name))
        if not is_readable(finished, signature):
            continue
        is_image = finished.suffix.lower() in suffixes.IMAGES
        if len(inner) > 1 and not is_image:  # tables lie in the folder itself
            continue
        if finished != path or not _is_settled(path, settle_s):
            report.waiting.append(str(path))
        elif is_image:
            images.append(path)
        else:
            yield [path]
    if images:
        yield images


def _without_ending(name: str) -> str:
    """The name that a file will have when it is complete."""
    return next((name.removesuffix(end) for end in TEMPORARY if name.endswith(end)), name)


def _found(inbox: Path, paths: list[Path], signature: Signature) -> list[InputFile]:
    """A unit as an input; keys of images are their paths in the inbox, whichever are new."""
    if paths[0].suffix.lower() in suffixes.IMAGES:
        return [pictures(inbox, paths)]
    return find(paths, signature)


def _is_hidden(parts: tuple[str, ...]) -> bool:
    return any(part.startswith(".") for part in parts)


def _is_settled(path: Path, settle_s: float) -> bool:
    try:
        return time.time() - os.stat(path).st_mtime >= settle_s
    except OSError:
        return False


def _unknown(
    registry: Registry,
    resolved: Resolved,
    files: list[InputFile],
    output: Path,
    report: NewReport,
) -> list[InputFile]:
    """What no finished job of the model has read into `output`."""
    name, place = resolved.version.model, str(output.absolute())
    contents = {path: sha256 for file in files for path, sha256 in file.contents.items()}
    before = registry.predicted_files(name, place, contents)
    new = {path for path, sha256 in contents.items() if sha256 not in before.get(path, ())}
    report.known += len(contents) - len(new)
    report.changed += sorted(new & before.keys())
    return [part for file in files if (part := file.only(new)) is not None]


def folder_name(resolved: Resolved, content: str, options: Options) -> str:
    """Of the version and a hash: the same input finds the same folder."""
    version = resolved.version
    name = f"{version.model}-{version.version}-{content[:12]}"
    return name + ("-probabilities" if options.probabilities else "")


def _hash(inbox: Path, files: list[InputFile], options: Options) -> str:
    """Of paths in the inbox, contents and options: equal files of two names are two jobs."""
    named = [(os.path.relpath(path, inbox), sha) for f in files for path, sha in f.contents.items()]
    return hashlib.sha256(json.dumps([named, asdict(options)]).encode()).hexdigest()


def _move(inbox: Path, paths: Iterable[Path], folder: str, after: After) -> None:
    """Move files to the same place in a folder of the inbox, under a name that is free."""
    if after == "leave":
        return
    for path in paths:
        target = inbox / folder / path.relative_to(inbox)
        number = 1
        while target.exists():
            number += 1
            target = target.with_name(f"{path.stem}-{number}{path.suffix}")
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)


def _some(names: Iterable[str], most: int = 5) -> str:
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
