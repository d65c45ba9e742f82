"""Labels that arrive after the predictions: given to jobs, and measured by version and week.

Imports no Prefect, as `job.py` does not.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from flows.evaluation import trained_target
from flows.job import signature_of
from registry import Job, Registry, Version
from tasks import feedback
from tasks.bundle.signature import Signature
from tasks.errors import InputError
from tasks.feedback import Labelled, Labels
from tasks.problems import Problem
from tasks.serving.folder import owned
from tasks.serving.manifest import PredictReport, completed
from tasks.words import counted, some

Say = Callable[[str], None]


@dataclass(frozen=True)
class Measured:
    """The labelled rows of a version in a week."""

    version: str
    week: str
    """ISO 8601, as 2026-W48: that in which the jobs started."""
    jobs: int
    rows: int
    """Rows that these jobs have predicted."""
    labels: int
    """How many of them have a label."""
    metrics: dict[str, float]
    estimate: dict[str, float] | None
    """`accuracy`, `low` and `high`, as they were estimated without labels; None without that."""


@dataclass(frozen=True)
class FeedbackReport:
    """What became of the labels of a file, and all that is measured of the model now."""

    given: int
    """Labels in the file."""
    used: int
    """Those of rows that were predicted."""
    jobs: int
    """Jobs with such rows."""
    known: int
    """Of these jobs, those that had been given this file before."""
    measured: list[Measured] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


class Target(NamedTuple):
    """What a version was trained to predict."""

    column: str | None
    """None if no column of a table names it."""
    problem: Problem

    @classmethod
    def of(cls, version: Version) -> "Target":
        return cls(trained_target(version.params), signature_of(version).problem)

    def __str__(self) -> str:
        return f"{self.column or 'label'} ({self.problem.name})"


@dataclass(frozen=True)
class Predicted:
    """A finished job whose output is there."""

    job: Job
    output: Path
    report: PredictReport
    version: Version
    signature: Signature

    @property
    def labels(self) -> Path:
        return feedback.folder_of(self.output, self.job.id)

    @property
    def target(self) -> Target:
        return Target.of(self.version)

    def table(self) -> pa.Table:
        return feedback.predictions(self.output, self.report, self.signature)


def give(
    registry: Registry,
    name: str,
    file: Path,
    *,
    key: str,
    label: str | None,
    job: str | None,
    actor: str,
    say: Say,
) -> FeedbackReport:
    """Keep the labels of a file beside the predictions with the same keys, and measure them.

    Each version's history gets a note of what was measured with them.

    Raises:
        InputError: the file cannot be read, does not fit the model, or fits rows of which it is not
            clear which are meant.
        RegistryError: there is no such model or job, or the registry cannot be reached.
    """
    notices: list[str] = []
    of = [registry.job(job)] if job else registry.jobs(name)
    jobs = list(finished(registry, name, of, notices))
    if not jobs:
        which = f"job {job} has not finished" if job else f"no job of {name} has finished"
        raise InputError(
            f"{which}, or its output is not in place" + "".join(f" ({one})" for one in notices)
        )
    newest = jobs[0]
    label = label or trained_target(newest.version.params) or "label"
    labels = feedback.read_labels(file, newest.signature, key, label)
    if not job:
        jobs = _without_row_numbers(of_target(jobs, newest.target, notices), notices)
    found: list[tuple[Predicted, pa.Table]] = []
    meant: dict[str, Predicted] = {}
    for one in jobs:
        rows = one.table()  # of one job at a time: a model may have thousands
        hit = feedback.matching(labels, rows)
        if not job:
            _refuse_unclear(one, hit, meant)
        if len(hit := feedback.without_repeated(hit, rows)):
            found.append((one, hit))
    if not found:
        first = labels.rows.column(feedback.KEY)[0].as_py()
        raise InputError(
            f"none of the {len(labels.rows):,} labels is of a predicted row"
            + "".join(f" ({notice})" for notice in notices)
            + f": {file} has keys such as {first!r}. They must be those in the predictions; --key "
            "names their column"
        )
    known = sum(not _keep(registry, one, labels, hit, actor, say) for one, hit in found)
    if known:
        notices.append(
            "what was given before changes nothing; corrections that came later stay as they are"
        )
    used = {value for _, hit in found for value in hit.column(feedback.KEY).to_pylist()}
    return FeedbackReport(
        len(labels.rows), len(used), len(found), known, measured(registry, name), notices
    )


def measured(registry: Registry, name: str) -> list[Measured]:
    """What the labels that were given so far say, by version and week, newest first.

    Rows that a version has predicted twice count once.
    """
    groups: dict[tuple[int, str], list[tuple[Predicted, Labelled]]] = {}
    seen: set[tuple[int, str]] = set()
    for one in finished(registry, name, registry.jobs(name), []):
        if not one.labels.is_dir() or (one.job.version, one.job.input_sha256) in seen:
            continue
        if found := feedback.labelled(one.labels, one.table()):
            seen.add((one.job.version, one.job.input_sha256))
            year, week, _ = one.job.started_at.isocalendar()
            groups.setdefault((one.job.version, f"{year}-W{week:02}"), []).append((one, found))
    newest = sorted(groups.items(), key=lambda item: (item[0][1], item[0][0]), reverse=True)
    return [_summed(name, version, week, parts) for (version, week), parts in newest]


def _summed(
    name: str, version: int, week: str, parts: list[tuple[Predicted, Labelled]]
) -> Measured:
    jobs = [one.job for one, _ in parts]
    return Measured(
        version=f"{name}:{version}",
        week=week,
        jobs=len(parts),
        rows=sum(job.rows or 0 for job in jobs),
        labels=sum(len(found.labels) for _, found in parts),
        metrics=feedback.measure(parts[0][0].signature, [found for _, found in parts]),
        estimate=_estimated(jobs),
    )


def _estimated(jobs: list[Job]) -> dict[str, float] | None:
    """The mean of the estimates of jobs, by rows. So are its ends: most of the error is that of the
    test split, which the jobs share."""
    known: list[tuple[int, dict[str, Any]]] = [
        (job.rows or 0, job.drift["accuracy"])
        for job in jobs
        if job.drift and job.drift.get("accuracy")
    ]
    rows = sum(count for count, _ in known)
    if len(known) < len(jobs) or not rows:
        return None
    return {
        end: sum(count * float(found[end]) for count, found in known) / rows
        for end in ("accuracy", "low", "high")
    }


def finished(
    registry: Registry, name: str, jobs: list[Job], notices: list[str]
) -> Iterator[Predicted]:
    """The completed jobs whose predictions are as they were written, newest first."""
    versions: dict[int, Version] = {}
    gone, partitioned = [], []
    for job in jobs:
        if job.model != name:
            raise InputError(f"job {job.id} is of {job.model}, not of {name}")
        if job.state != "completed":
            continue
        output = Path(job.output)
        report = completed(output)
        if report is None or report.provenance["job"] != job.id:
            gone.append(job.output)
            continue
        if feedback.PREDICTION in report.asked.partition_by:
            partitioned.append(job.output)
            continue
        if job.version not in versions:
            versions[job.version] = registry.resolve(f"{name}:{job.version}").version
        version = versions[job.version]
        yield Predicted(job, output, report, version, signature_of(version))
    if gone:
        notices.append(f"left out, because the predictions are not there any more: {some(gone, 3)}")
    if partitioned:
        notices.append(
            "left out, because --partition-by took the predictions from their files to the names "
            f"of folders: {some(partitioned, 3)}"
        )


def of_target(jobs: Iterable[Predicted], target: Target, notices: list[str]) -> list[Predicted]:
    """The jobs that predict this target: for others its labels would be wrong values.

    `notices` gets a line about the versions of the others.
    """
    fit, others = [], {}
    for one in jobs:
        if one.target == target:
            fit.append(one)
        else:
            others[one.version.ref] = one.target
    if others:
        notices.append(
            f"left out, because they do not predict {target}: the jobs of "
            + ", ".join(f"{ref}, which predicts {other}" for ref, other in others.items())
        )
    return fit


def _without_row_numbers(jobs: list[Predicted], notices: list[str]) -> list[Predicted]:
    """Row 7 of one job is not row 7 of another, so labels could be given to the wrong rows."""
    fit = [one for one in jobs if not feedback.has_row_numbers(one.report)]
    if not fit:
        raise InputError(
            "the keys of the predictions are row numbers, which every job has. Name the job with "
            f"--job, such as {jobs[0].job.id}; or give the input of predictions a column `key`"
        )
    if len(fit) < len(jobs):
        notices.append(
            f"{counted(len(jobs) - len(fit), 'job')} left out, whose keys are row numbers; name "
            "such a job with --job"
        )
    return fit


def _refuse_unclear(one: Predicted, hit: pa.Table, meant: dict[str, Predicted]) -> None:
    """Raises `InputError` if a key is one of two inputs: the label may be of either row.

    `meant` has the job of each key so far.
    """
    both = [
        key
        for key in hit.column(feedback.KEY).to_pylist()
        if meant.setdefault(key, one).job.input_sha256 != one.job.input_sha256
    ]
    if both:
        raise InputError(
            f"{len(both):,} keys are in jobs with different input, such as {both[0]!r} in "
            f"{one.output} and {meant[both[0]].output}; it is not clear which row a label means. "
            f"Give the labels of one job at a time, with --job {one.job.id}"
        )


def _keep(
    registry: Registry, one: Predicted, labels: Labels, hit: pa.Table, actor: str, say: Say
) -> bool:
    """Keep labels, and note in the history what they measure; False if they were given before.

    The note comes first: killed between the two, the same command writes a second note, and not
    none.
    """
    with owned(one.output, lambda: say(f"another command works on {one.output}; waiting for it")):
        if feedback.was_given(one.labels, labels):
            return False
        found = feedback.labelled(one.labels, one.table(), hit)
        assert found is not None, "the labels are those of its rows"
        metrics = feedback.measure(one.signature, [found])
        shown = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        registry.note(
            one.version.model,
            one.version.version,
            f"feedback: {shown} on {counted(len(found.labels), 'label')} for job {one.job.id}, "
            f"with {counted(len(hit), 'label')} of {labels.source} (SHA-256 {labels.sha256})",
            actor=actor,
        )
        feedback.keep(one.labels, labels, hit)
    return True
