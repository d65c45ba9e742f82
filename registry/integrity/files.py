"""Checks that the files in the store match their SHA-256, after the rows were read."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sqlalchemy import Connection, and_, select

from registry import schema
from registry.errors import Corrupt
from registry.records import Problem
from registry.registry import Registry

File = tuple[str, int]
"""SHA-256 and size, as a version records them."""

_AT_ONCE = 4096  # files


def find_damaged(
    registry: Registry, files: list[File], done: Callable[[File], None]
) -> dict[File, str]:
    """Read files on all cores; returns what is wrong. Calls `done` with each file that was read."""
    found: dict[File, str] = {}

    def problem(file: File) -> str | None:
        try:
            registry.files.verify(*file)
        except Corrupt as corrupt:
            return str(corrupt)
        return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(files), _AT_ONCE):
            some = files[start : start + _AT_ONCE]
            for file, what in zip(some, pool.map(problem, some), strict=True):
                done(file)
                if what:
                    found[file] = what
    return found


def report_damaged(
    registry: Registry, found: dict[File, str], about: Callable[[str, int], bool]
) -> Iterator[Problem]:
    """The versions that need damaged files, unless they were purged since the rows were read.

    A purge marks files in the database before it removes them. `about` selects the versions to
    report.
    """
    if not found:
        return
    with registry.database.read() as c:
        uses = {file: _uses(c, file) for file in found}
    found = {file: what for file, what in found.items() if not all(u.purged for u in uses[file])}
    # Again: a registration may have restored a file meanwhile.
    found = find_damaged(registry, list(found), lambda _file: None)
    problems = [
        (use.name, use.version, use.path, what)
        for file, what in found.items()
        for use in uses[file]
        if not use.purged and about(use.name, use.version)
    ]
    for name, version, path, what in sorted(problems):
        yield Problem(f"{name}:{version}", path, what)


def _uses(c: Connection, file: File) -> list[Any]:
    """name, version, path and purged of each version that needs a file."""
    models, versions = schema.models.c, schema.versions.c
    files, state, blobs = schema.version_artifacts.c, schema.version_state.c, schema.blobs.c
    gone = and_(blobs.purged_at.is_not(None), state.status == "archived").label("purged")
    query = (
        select(models.name, versions.version, files.path, gone)
        .join_from(schema.version_artifacts, schema.versions, versions.id == files.version_id)
        .join(schema.models, models.id == versions.model_id)
        .outerjoin(schema.version_state, state.version_id == versions.id)
        .outerjoin(schema.blobs, blobs.sha256 == files.sha256)
        .where(files.sha256 == file[0], files.size == file[1])
    )
    return list(c.execute(query))
