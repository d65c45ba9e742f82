"""What the registry keeps of the drift of a job: a few kB in place of `drift.json`.

Its verdicts, the parts that moved most with their counts, and the counters of all, with which
later jobs are compared. What the training counted is in the model's profile.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tasks import formats
from tasks.drift.comparing import against_jobs, keyed
from tasks.drift.report import Compared, DriftReport, Part
from tasks.errors import InputError

EARLIER = 10
"""Jobs that a job is compared with. Few, so that a change becomes usual after as many jobs."""
SHOWN = 10
"""Parts that are kept with what the training counted, about 700 bytes each."""
LEAST_SHOWN = 3
"""If fewer moved; a person sees that these did not."""

Record = dict[str, Any]


def record_of(report: DriftReport, earlier: Iterable[Record]) -> Record:
    """A JSON document of a job's report, compared with `earlier` ones too, newest first.

    Earlier ones are left out that another model wrote, or a release whose format is unknown.
    """
    parts = report.parts
    return {
        "format": formats.JOB_DRIFT,
        **report.summary(),
        "rows": report.rows,
        "compared": len(parts),
        "most": [_shown(part) for part in _most(report.moved, parts)],
        "earlier": _against(report, earlier),
        "layout": report.layout,
        "counts": {
            "columns": {part.name: _counts(part) for part in report.columns},
            "predictions": report.predictions and _counts(report.predictions),
        },
    }


def _most(moved: Sequence[Part], parts: Sequence[Part]) -> list[Part]:
    others = [part for part in parts if part not in moved]
    return [*moved, *others[: max(0, LEAST_SHOWN - len(moved))]][:SHOWN]


def _shown(part: Part) -> Record:
    """The measures of a part that moved; if none did, the one that differs most."""
    moved = [m for m in part.measures if m.verdict in ("watch", "drifted")]
    measures = [asdict(measure) for measure in moved or part.measures[:1]]
    return {"name": part.name, "verdict": part.verdict, "measures": measures}


def _counts(part: Part) -> dict[str, list[int]]:
    return {measure.name: measure.now for measure in part.measures}


def _against(report: DriftReport, earlier: Iterable[Record]) -> Record | None:
    """The verdict beside earlier jobs; None if there are none to compare with."""
    found: list[DriftReport] = []
    for record in earlier:
        other = _report(record)
        if other is not None and _same_counters(report, other):
            found.append(other)
        if len(found) == EARLIER:
            break
    if not found:
        return None
    rows = sum(other.rows for other in found)
    return {"jobs": len(found), "rows": rows, **against_jobs(report, found).summary()}


def _report(record: Record) -> DriftReport | None:
    """The counters of a record as a report; None if it has none that this release can read."""
    try:
        formats.accept(record, formats.JOB_DRIFT, "a job")
        counts = record["counts"]
        columns = [_part(name, found) for name, found in counts["columns"].items()]
        predictions = _part("predictions", counts["predictions"] or {})
        rows = int(record["rows"])
        layout = str(record["layout"])
    except (InputError, AttributeError, KeyError, TypeError, ValueError):
        return None
    return DriftReport(
        model="",
        digest="",
        layout=layout,
        against="",
        rows=rows,
        verdict=None,
        reason=None,
        columns=columns,
        predictions=predictions,
    )


def _part(name: str, counts: Mapping[str, Sequence[int]]) -> Part:
    return Part(
        name, [Compared(measure, list(map(int, now)), []) for measure, now in counts.items()]
    )


def _same_counters(job: DriftReport, other: DriftReport) -> bool:
    """Whether counters can be added: with the same bins, and as many as there should be."""
    sizes, others = (
        {key: len(measure.now) for key, measure in keyed(report)} for report in (job, other)
    )
    return job.layout == other.layout and sizes.items() >= others.items() and bool(others)
