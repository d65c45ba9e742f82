"""Predicts the files of an inbox that nobody has predicted yet, each as a job of its own.

A file is one path with one content. The registry knows which files the finished jobs of a model
have read into this output, with whichever version: a new champion predicts what comes after it.
Imports no Prefect.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from flows.broken import Broken
from flows.inbox import DONE, FAILED, After, Inbox, opened
from flows.job import JobReport, close_finished_jobs, run_job, signature_of
from flows.latest import point_to
from registry import Registry, Resolved
from tasks.bundle.signature import Signature
from tasks.errors import InputChanged, InputError, SetupError
from tasks.files import suffixes
from tasks.inputs import InputFile, is_readable
from tasks.predict import How
from tasks.serving.options import Options
from tasks.serving.quarantine import TooManyBad
from tasks.words import some

SETTLE_S = 10.0
"""A file that changed less than this long ago may still be written."""
TEMPORARY = (".part", ".tmp", ".crdownload", ".filepart", ".partial")
"""How names of files end that are still being written; those that begin with a dot are, too."""


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
    failed_before: dict[str, str] = field(default_factory=dict)
    """By file, why it failed in an earlier run; it has not changed, and was not tried again."""

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
        lines += [f"{path} failed before: {why}" for path, why in self.failed_before.items()]
        lines += [
            f"{path} changed since it was predicted; predicted again" for path in self.changed
        ]
        if self.waiting:
            lines.append(f"left for the next run, still being written: {some(self.waiting)}")
        return lines


def predict_new(
    registry: Registry,
    resolved: Resolved,
    inboxes: Iterable[str | Path],
    output: Path,
    *,
    flow_run_id: str | None = None,
    options: Options | None = None,
    how: How | None = None,
    again: bool = False,
    after: After = "leave",
    settle_s: float = SETTLE_S,
) -> NewReport:
    """Predict new files of folders, or below s3:// URLs, into folders of their own below `output`.

    `again` predicts all files, new or not. Otherwise a file that failed before is left out, until
    it changes, or another version or other options might predict it. `after` moves files that are
    done into `done/` beside them, and files that failed into `failed/`. A file stays if something
    else failed, such as the disk of the output, or if it changed meanwhile.

    Raises:
        InputError: an inbox is missing, or is in S3 and `after` would move its files.
        SetupError: the model cannot do what `options` ask for.
        RegistryError: the registry cannot be reached.
        Unreachable: an inbox in S3 cannot be reached.
    """
    options, how, report = options or Options(), how or How(), NewReport()
    signature = signature_of(resolved.version)
    options.check(signature)
    close_finished_jobs(registry, resolved.version.model)
    known = _Known(registry, resolved, output, report, again)
    broken = Broken(output, resolved.version, options, how.limit)
    names_files = any(column.names_files for column in signature.columns)
    opened_inboxes = [opened(given, output, how, after) for given in inboxes]
    for inbox in opened_inboxes:
        for names in _units(inbox, signature, report, settle_s):
            place = some(map(inbox.place, names))
            try:
                stamp = inbox.stamp(names)
                why = None if again else broken.why(place, stamp)
                if why is not None:
                    report.failed_before[place] = why
                    continue
                with inbox.files(names, signature, known.before) as found:
                    new = known.unknown(found.files)
                    if not new:
                        continue
                    found.job = output / folder_name(resolved, _hash(inbox, new, options), options)
                    job = run_job(
                        registry,
                        resolved,
                        new,
                        found.job,
                        flow_run_id=flow_run_id,
                        options=options,
                        how=found.how,
                    )
            except (InputError, OSError) as error:
                left = inbox.left(names)  # another run may have moved it
                if isinstance(error, InputChanged):
                    report.waiting += map(inbox.place, left)
                elif left:
                    report.failed[some(map(inbox.place, left))] = str(error)
                    if not isinstance(error, (SetupError, OSError)):
                        inbox.move(left, FAILED)
                        # Rows may be bad since files that they name have not come yet.
                        if not (names_files and isinstance(error, TooManyBad)):
                            broken.add(place, stamp, str(error))
                continue
            report.jobs.append(job)
            point_to(found.job, how.notice)
            inbox.move(names, DONE)
    broken.save(lambda place: any(inbox.holds(place) for inbox in opened_inboxes))
    return report


def _units(
    inbox: Inbox, signature: Signature, report: NewReport, settle_s: float
) -> Iterator[list[str]]:
    """The files of an inbox, each alone; but image files are rows, so all of them together."""
    images: list[str] = []
    for name in inbox.names():
        inner = name.split("/")
        if inner[0] in (DONE, FAILED) or any(part.startswith(".") for part in inner):
            continue
        finished = _without_ending(name)
        if not is_readable(Path(inbox.place(finished)), signature):
            continue
        is_image = finished.lower().endswith(suffixes.IMAGES)
        if len(inner) > 1 and not is_image:  # tables lie in the folder itself
            continue
        if finished != name or not inbox.is_settled(name, settle_s):
            report.waiting.append(inbox.place(name))
        elif is_image:
            images.append(name)
        else:
            yield [name]
    if images:
        yield images


def _without_ending(name: str) -> str:
    """The name that a file will have when it is complete."""
    return next((name.removesuffix(end) for end in TEMPORARY if name.endswith(end)), name)


@dataclass
class _Known:
    """What finished jobs of the model have read into an output."""

    registry: Registry
    resolved: Resolved
    output: Path
    report: NewReport
    again: bool
    """Everything counts as unknown."""

    def before(self, contents: dict[str, str]) -> set[str]:
        """Those of the files, SHA-256 by path or URL, that were predicted; they are counted."""
        return self._compared(contents)[0]

    def unknown(self, files: list[InputFile]) -> list[InputFile]:
        """What of the files was not predicted."""
        contents = {path: sha256 for file in files for path, sha256 in file.contents.items()}
        known, changed = self._compared(contents)
        self.report.changed += sorted(changed)
        new = contents.keys() - known
        return [part for file in files if (part := file.only(new)) is not None]

    def _compared(self, contents: dict[str, str]) -> tuple[set[str], set[str]]:
        """Those that were predicted, and those that were with another content."""
        if self.again or not contents:
            return set(), set()
        name, place = self.resolved.version.model, str(self.output.absolute())
        before = self.registry.predicted_files(name, place, contents)
        known = {path for path, sha256 in contents.items() if sha256 in before.get(path, ())}
        self.report.known += len(known)
        return known, before.keys() - known


def folder_name(resolved: Resolved, content: str, options: Options) -> str:
    """Of the version and a hash: the same input finds the same folder."""
    version = resolved.version
    name = f"{version.model}-{version.version}-{content[:12]}"
    return name + ("-probabilities" if options.probabilities else "")


def _hash(inbox: Inbox, files: list[InputFile], options: Options) -> str:
    """Of paths in the inbox, contents and options: equal files of two names are two jobs."""
    named = [(inbox.name_of(path), sha) for file in files for path, sha in file.contents.items()]
    return hashlib.sha256(json.dumps([named, asdict(options)]).encode()).hexdigest()
