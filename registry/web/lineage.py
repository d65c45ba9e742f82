"""The lineage of a version as columns of boxes: from data to version to what came of it."""

from dataclasses import dataclass
from urllib.parse import quote, urlencode

from registry.records import Job, Trace, Version

MOST = 5
"""Boxes of a column; what is more is counted."""


@dataclass(frozen=True, slots=True)
class Box:
    """One thing in the lineage."""

    kind: str
    """What it is, in a word or two."""
    title: str
    href: str | None = None
    detail: str = ""
    hash: str | None = None
    here: bool = False
    """Whether this is the version whose lineage it is."""
    state: str | None = None
    """Of a job."""


@dataclass(frozen=True, slots=True)
class Column:
    """What lies one step from the next column."""

    title: str
    boxes: tuple[Box, ...]
    more: int
    """How many boxes there was no room for."""


def draw(trace: Trace) -> tuple[Column, ...]:
    """The columns from left to right, none of them empty."""
    version = trace.version
    lineage = version.lineage
    raw = [
        Box("data file", path, _trace(md5), hash=md5) for path, md5 in sorted(lineage.data.items())
    ]
    sources = [Box("dataset", "prepared data", _trace(lineage.dataset), hash=lineage.dataset)]
    if lineage.parent:
        sources.append(Box("parent", lineage.parent, href(lineage.parent), "its weights"))
    outcome = [Box("child", child, href(child), "started from it") for child in trace.children]
    outcome += [_job(job) for job in trace.jobs]
    columns = (
        _column("Data files", raw),
        _column("Trained from", sources),
        _column("This version", [_this(version)]),
        _column("What came of it", outcome),
    )
    return tuple(column for column in columns if column.boxes)


def href(reference: str) -> str:
    """The page of a version: `digits:3`."""
    name, _, number = reference.partition(":")
    return f"/models/{quote(name, safe='')}/versions/{quote(number, safe='')}"


def _trace(md5: str) -> str:
    return f"/trace?{urlencode({'hash': md5})}"


def _this(version: Version) -> Box:
    commit = version.lineage.git_commit
    code = f"commit {commit[:10]}" if commit else "no commit"
    if version.lineage.git_dirty:
        code += " with uncommitted changes"
    return Box("version", version.ref, detail=code, hash=version.digest, here=True)


def _job(job: Job) -> Box:
    rows = "" if job.rows is None else f"{job.rows:,} rows"
    return Box("job", job.output, f"/models/{quote(job.model)}/jobs", rows, state=job.state)


def _column(title: str, boxes: list[Box]) -> Column:
    return Column(title, tuple(boxes[:MOST]), max(0, len(boxes) - MOST))
