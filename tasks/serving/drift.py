"""Writes `drift.json` of a finished job, from the counters of its shards."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tasks.drift.comparing import compare, with_accuracy
from tasks.drift.reference import Reference
from tasks.drift.report import DRIFT, DriftReport
from tasks.serving.folder import JobFolder, ShardRecord
from tasks.serving.manifest import PredictReport


def with_drift(
    report: PredictReport, records: Sequence[ShardRecord], reference: Reference, folder: JobFolder
) -> PredictReport:
    """Write `drift.json`; the manifest's content with its place and summary."""
    found = _drift_of(records, reference, report)
    text = found.as_json()
    folder.place(DRIFT, text)
    content = text.encode()
    file = {"path": DRIFT, "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    return replace(report, drift={**file, "summary": found.summary()})


def _drift_of(
    records: Sequence[ShardRecord], reference: Reference, report: PredictReport
) -> DriftReport:
    rows = sum(record.rows - record.quarantined for record in records)
    each = [record.counters for record in records]
    if any(counters is None or len(counters) != reference.size for counters in each):
        older = "an older release predicted some of the rows, and did not count them"
        reference = Reference(missing=dict.fromkeys(reference.columns, older), no_predictions=older)
        each = []
    total = np.zeros(reference.size, np.int64)
    for counters in each:
        total += np.array(counters, np.int64)
    found = compare(
        reference, total, report.substituted or {}, rows=rows, provenance=report.provenance
    )
    if report.asked.threshold:
        return replace(found, no_accuracy="the predictions have a threshold")
    return with_accuracy(found, reference, total)
