"""Compares the counters of a job with its model's reference, or with those of earlier jobs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.counts import Substituted
from tasks.drift.reference import OLDER, Counted, Reference
from tasks.drift.report import VERDICTS, Compared, DriftReport, Part, Verdict
from tasks.drift.statistics import distances, holm

LEVEL = 0.01
"""Of 100 models whose data does not change, about one gives a job a verdict other than `none`."""
WATCH, DRIFTED = 0.01, 0.05
"""The least PSI beyond chance. A normal column has them if its mean moves by 0.1 and 0.23 standard
deviations. The usual 0.1 and 0.25 (Siddiqi 2006) are higher since they also have to be above
chance: of 200 rows in ten bins, PSI without any change is above 0.05 in a third of the jobs."""
LEAST_ROWS = 200
SHARES_MOVED = (
    "unknown without labels: the predicted classes have other shares. The estimate holds if other "
    "rows came, and not if the classes themselves have other shares or another meaning"
)
SHARES = ("filled", "unknown", "outside", "truncated")
"""Of `tasks.counts.WORDS`, those that count rows. A share is compared as two bins."""


def compare(
    reference: Reference,
    counts: NDArray[np.int64],
    substituted: Substituted,
    *,
    rows: int,
    provenance: Mapping[str, Any],
) -> DriftReport:
    """Compare a job with what its model was trained on.

    `counts` are those of a `Tally` of all `rows`, `substituted` those of `tasks.counts`.
    """
    columns = []
    for name, measures in reference.columns.items():
        found = [_measured(counted, counts) for counted in measures]
        now, then = substituted.get(name, {}), reference.seen.get(name, {})
        found += [_share(key, now, then) for key in SHARES if _known(now, key, then)]
        columns.append(Part(name, found))
    predictions = [_measured(counted, counts) for counted in reference.predictions]
    missing = dict(reference.missing)
    if reference.no_predictions:
        missing[""] = reference.no_predictions
    report = DriftReport(
        model=str(provenance["model"]),
        digest=str(provenance["digest"]),
        layout=reference.layout,
        against="the rows that the model was trained and tested on",
        rows=rows,
        verdict=None,
        reason=None,
        columns=columns,
        predictions=Part("predictions", predictions) if predictions else None,
        not_compared=missing,
    )
    return _judged(report)


def against_jobs(job: DriftReport, earlier: Sequence[DriftReport]) -> DriftReport:
    """Compare a job with the rows of `earlier` ones together, instead of with the training.

    Jobs of other models whose bins differ are left out. The rows are taken as one sample: that the
    jobs differ among each other, as Sunday does from Monday, does not count as chance.
    """
    same = [other for other in earlier if other.layout == job.layout]
    then: dict[tuple[int, str, str], NDArray[np.int64]] = {}
    for other in same:
        for key, measure in keyed(other):
            rows = np.array(measure.now, np.int64)
            then[key] = then[key] + rows if key in then else rows

    def compared(kind: int, part: Part) -> Part:
        found = []
        for measure in part.measures:
            before = then.get((kind, part.name, measure.name), np.zeros(len(measure.now), np.int64))
            found.append(replace(measure, then=before.tolist()))
        return replace(part, measures=found)

    names = f"the last {len(same)} jobs with {sum(other.rows for other in same):,} rows"
    report = replace(
        job,
        against=names,
        columns=[compared(0, part) for part in job.columns],
        predictions=job.predictions and compared(1, job.predictions),
    )
    return _judged(report, then_rows=sum(other.rows for other in same))


def keyed(report: DriftReport) -> Iterable[tuple[tuple[int, str, str], Compared]]:
    """The measures of a report by kind (0 a column, 1 the predictions), part and name."""
    for part in report.columns:
        for measure in part.measures:
            yield (0, part.name, measure.name), measure
    for measure in report.predictions.measures if report.predictions else ():
        yield (1, "predictions", measure.name), measure


def _measured(counted: Counted, counts: NDArray[np.int64]) -> Compared:
    bins = counted.bins
    return Compared(
        name=counted.measure.name,
        now=counts[counted.place].tolist(),
        then=counted.counts.tolist(),
        edges=list(bins.edges) if bins.labels is None else None,
        offset=counted.measure.offset,
        labels=None if bins.labels is None else list(bins.labels),
    )


def _known(now: Mapping[str, int | None], key: str, then: Mapping[str, int | None]) -> bool:
    """Whether a share was counted on both sides: an older model records no training range."""
    return now.get(key) is not None and then.get(key) is not None


def _share(key: str, now: Mapping[str, Any], then: Mapping[str, Any]) -> Compared:
    """Rows without and with something that was substituted."""
    return Compared(
        name=key,
        now=[now["rows"] - now[key], now[key]],
        then=[then["rows"] - then[key], then[key]],
    )


def _judged(report: DriftReport, then_rows: int | None = None) -> DriftReport:
    """The report with distances and verdicts, and what moved most first."""
    parts = report.parts
    measures = [_with_distances(measure) for part in parts for measure in part.measures]
    corrected = holm(np.array([measure.p for measure in measures])).tolist()
    reason = _why_not(report, measures, then_rows)
    left = iter(
        replace(
            measure,
            p=float(f"{p:.4g}"),
            verdict=None if reason else _verdict(measure.excess, p),
        )
        for measure, p in zip(measures, corrected, strict=True)
    )
    judged = [_part(part, [next(left) for _ in part.measures], bool(reason)) for part in parts]
    predictions = judged.pop() if report.predictions else None
    every = [*judged, *([predictions] if predictions else [])]
    return replace(
        report,
        columns=sorted(judged, key=_most),
        predictions=predictions,
        verdict=None if reason else _worst(part.verdict for part in every),
        reason=reason,
        limits={"level": LEVEL, "watch": WATCH, "drifted": DRIFTED, "least_rows": LEAST_ROWS},
    )


def _why_not(
    report: DriftReport, measures: Sequence[Compared], then_rows: int | None
) -> str | None:
    """Why a job gets no verdict; None if it gets one."""
    if not measures:
        reasons = set(report.not_compared.values())
        return "; ".join(sorted(reasons)) or "the model has no reference"
    rows, what = report.rows, "the job has"
    if then_rows is not None and then_rows < rows:
        rows, what = then_rows, "the earlier jobs have"
    if rows < LEAST_ROWS:
        return (
            f"{what} {rows:,} rows, and with fewer than {LEAST_ROWS} only a large change could be "
            "told from chance"
        )
    return None


def _with_distances(measure: Compared) -> Compared:
    if measure.edges is None and measure.labels is None and not measure.now[1] + measure.then[1]:
        return replace(measure, psi=0.0, excess=0.0, js=0.0, ks=None, p=1.0, verdict=None)
    now, then = np.array(measure.now, np.int64), np.array(measure.then, np.int64)
    found = distances(now, then, ordered=measure.edges is not None)
    psi, excess, js, p = (float(f"{v:.4g}") for v in (found.psi, found.excess, found.js, found.p))
    ks = None if found.ks is None else float(f"{found.ks:.4g}")
    return replace(measure, psi=psi, excess=excess, js=js, ks=ks, p=p, verdict=None)


def _verdict(excess: float, p: float) -> Verdict:
    """Small changes are not reported, however many rows make them certain."""
    if p > LEVEL or excess < WATCH:
        return "none"
    return "drifted" if excess >= DRIFTED else "watch"


def _part(part: Part, measures: list[Compared], unjudged: bool) -> Part:
    verdict = _worst(measure.verdict for measure in measures)
    measures = sorted(measures, key=lambda m: (_place(m.verdict), -m.excess))
    return Part(part.name, measures, None if unjudged else verdict)


def _worst(verdicts: Iterable[Verdict | None]) -> Verdict:
    return max((verdict or VERDICTS[0] for verdict in verdicts), key=VERDICTS.index, default="none")


def _most(part: Part) -> tuple[int, float]:
    """Sorts the parts that moved most first; equal ones stay in the order of the signature."""
    return _place(part.verdict), -max((m.excess for m in part.measures), default=0.0)


def _place(verdict: Verdict | None) -> int:
    return -VERDICTS.index(verdict or "none")


def with_accuracy(
    report: DriftReport, reference: Reference, counts: NDArray[np.int64]
) -> DriftReport:
    """The report with the accuracy of the job as it is estimated without labels."""
    if reference.calibration is None:
        why = OLDER if reference.certainty else "the predictions have no probability"
        return replace(report, no_accuracy=why)
    shares = report.predictions.measures if report.predictions else []
    moved = any(m.labels is not None and m.verdict in ("watch", "drifted") for m in shares)
    caution = SHARES_MOVED if moved else None
    return replace(
        report, accuracy=reference.calibration.estimate(counts[reference.compared :], caution)
    )
