"""The drift of a job in the registry: what is recorded, and what a person reads of it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from registry import Job, Registry
from tasks.drift.record import Record, record_of
from tasks.drift.report import DriftReport, sentence
from tasks.serving.manifest import PredictReport

LOOKED_AT = 50
"""Jobs among which those are found that a job is compared with; some have failed, or are of a
model with other bins."""


def drift_record(
    registry: Registry, job: Job, report: PredictReport, output: Path
) -> Record | None:
    """What the registry keeps of the drift of a job in `output`; None if it was not measured.

    Raises:
        InputError: `drift.json` cannot be read.
    """
    if report.drift is None:
        return None
    found = DriftReport.read(output / report.drift["path"])
    return record_of(found, _earlier(registry, job))


def _earlier(registry: Registry, job: Job) -> Iterator[Record]:
    """Of jobs before this one, newest first. The same rows predicted again are no other sample:
    counted ten times, 300 rows would make chance look like drift."""
    seen = {job.input_sha256}
    for other in registry.jobs(job.model, limit=LOOKED_AT, before=job.id):
        if other.drift and other.input_sha256 not in seen:
            seen.add(other.input_sha256)
            yield other.drift


def drift_summary(report: PredictReport, job: Job | None) -> dict[str, Any] | None:
    """The summary in a manifest, and under `earlier` that of the comparison with earlier jobs."""
    if report.drift is None:
        return None
    recorded = job.drift if job and job.drift else {}
    return {**report.drift["summary"], "earlier": recorded.get("earlier")}


def drift_lines(drift: Mapping[str, Any] | None) -> list[str]:
    """What a person should know of it, in lines."""
    earlier = drift and drift.get("earlier")
    if not drift or not (drift["moved"] or (earlier and earlier["moved"])):
        return []
    lines = [f"drift: {sentence(drift)}"]
    if earlier:
        number = earlier["jobs"]
        jobs = f"the last {f'{number} jobs' if number > 1 else 'job'} with {earlier['rows']:,} rows"
        lines.append(f"drift against {jobs}: {sentence(earlier)}")
    return lines


def estimated(drift: Mapping[str, Any] | None) -> str:
    """The accuracy of a job as it was estimated without labels, in words; empty if it was not."""
    found = drift and drift.get("accuracy")
    return str(found["text"]) if found else ""
