"""The lineage of a version as columns of boxes: data, version, and what used the version."""

from dataclasses import dataclass
from urllib.parse import quote, urlencode

from registry.display.formatting import clip
from registry.records import Job, Trace, Version

MOST = 5
"""Boxes per column; the rest is only counted."""


@dataclass(frozen=True, slots=True)
class Box:
    """One thing in the lineage."""

    kind: str
    """The kind in a word or two."""
    title: str
    href: str | None = None
    detail: str = ""
    hash: str | None = None
    here: bool = False
    """Whether this is the version whose lineage is drawn."""
    state: str | None = None
    """The state of a job."""


@dataclass(frozen=True, slots=True)
class Column:
    """The boxes of one step of the lineage."""

    title: str
    boxes: tuple[Box, ...]
    more: int
    """The number of boxes that are not shown."""
    all: str | None = None
    """The address of the page that lists all of them."""


def draw(trace: Trace) -> tuple[Column, ...]:
    """The columns from left to right, none of them empty."""
    version = trace.version
    lineage = version.lineage
    raw = [
        Box("data file", path, _trace(md5), hash=md5)
        for path, md5 in sorted(lineage.data.items())
        if path not in lineage.weights
    ]
    sources = [Box("dataset", "prepared data", _trace(lineage.dataset), hash=lineage.dataset)]
    if lineage.parent:
        sources.append(Box("parent", lineage.parent, href(lineage.parent), "its weights"))
    sources += [
        Box("weights file", path, _trace(sha256), "its weights", hash=sha256)
        for path, sha256 in lineage.weights.items()
    ]
    outcome = [Box("child", child, href(child), "started from it") for child in trace.children]
    outcome += [_job(job) for job in trace.jobs]
    total = trace.child_count + trace.job_count
    columns = (
        _column("Data files", raw),
        _column("Trained from", sources),
        _column("This version", [_this(version)]),
        _column("Used by", outcome, total, all_=f"{href(version.ref)}/{_longest_list(trace)}"),
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
    page = f"{href(f'{job.model}:{job.version}')}/jobs"
    return Box("job", clip(job.output), page, rows, state=job.state)


def _longest_list(trace: Trace) -> str:
    """The list to link: children fill the column first, so jobs are cut off unless they do."""
    return "children" if trace.child_count > MOST else "jobs"


def _column(
    title: str, boxes: list[Box], count: int | None = None, all_: str | None = None
) -> Column:
    """`count` is the total if only some of the boxes were loaded."""
    count = len(boxes) if count is None else count
    return Column(title, tuple(boxes[:MOST]), max(0, count - MOST), all_)
