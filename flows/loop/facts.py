"""Reads what a decision of the loop is based on: jobs, labels, raw data, history."""

from collections.abc import Sequence
from pathlib import Path

from flows import versioning
from flows.evaluation import trained_target
from flows.feedback import Predicted, Target, finished, of_target
from flows.loop import records
from flows.loop.decision import Facts
from flows.loop.measuring import below_gates
from registry import CHAMPION, Job, Registry
from tasks import feedback
from tasks.added_rows import LabelledJob
from tasks.config import Params, Prepare
from tasks.problems import PROBLEMS


def gather(registry: Registry, params: Params, root: Path, output: Path) -> Facts:
    """Read what is known now. Only jobs below the folder `output` count: those of the deployment,
    and not what somebody tries elsewhere.

    Raises:
        NotFound: there is no such model yet.
        InputError: raw data or labels cannot be read.
    """
    name, rules = params.registration.name, params.retrain
    alias = registry.alias(name, CHAMPION)
    jobs = jobs_below(registry, name, output)
    own = [job for job in jobs if alias and job.version == alias.version]
    path = Path(params.prepare.source.path)
    lineage = registry.resolve(f"{name}@{CHAMPION}").version.lineage if alias else None
    below = ""
    if "labels" in rules.triggers and alias:
        below = below_gates(predicted(registry, name, own), params.evaluate, rules.labels)
    return Facts(
        champion=alias.version if alias else None,
        revision=alias.revision if alias else 0,
        champion_data=lineage.data.get(path.as_posix()) if lineage else None,
        data=versioning.data_hash(root, root / path),
        labels={job.id: feedback.labels_given(labels_of(job)) for job in with_labels(jobs)},
        jobs=tuple(own),
        below=below,
        log=records.read(registry, name),
    )


def jobs_below(registry: Registry, name: str, output: Path) -> list[Job]:
    """The finished jobs of a model whose output is in this folder, newest first."""
    return [
        job
        for job in registry.jobs(name)
        if job.state == "completed" and Path(job.output).is_relative_to(output)
    ]


def labels_of(job: Job) -> Path:
    """Where the labels of a job are."""
    return feedback.folder_of(Path(job.output), job.id)


def with_labels(jobs: Sequence[Job]) -> list[Job]:
    """The jobs that were given labels."""
    return [job for job in jobs if labels_of(job).is_dir()]


def predicted(
    registry: Registry, name: str, jobs: Sequence[Job], notices: list[str] | None = None
) -> list[Predicted]:
    """Those jobs that have labels, with their predictions as they were written.

    `notices` gets a line about jobs whose predictions cannot be read any more.
    """
    notices = [] if notices is None else notices
    return list(finished(registry, name, with_labels(jobs), notices))


def labelled(found: Sequence[Predicted], prepare: Prepare, notices: list[str]) -> list[LabelledJob]:
    """Jobs with their labels, for `tasks.added_rows`, that are labels of the target in
    `params.yaml`."""
    now = Target(trained_target({"prepare": prepare.model_dump()}), PROBLEMS[prepare.task])
    return [
        LabelledJob(one.report, one.signature, labels)
        for one in of_target(found, now, notices)
        if (labels := feedback.newest_labels(one.labels)) is not None
    ]
