"""A registry that an earlier release wrote (tests/data/registry_NNNN): opened, checked, continued.

Imports of the project only `registry`, so that a changed copy of that package can run it, too:

    python -m kept_registry FOLDER    # a copy of tests/data/registry_NNNN; prints `Continued`
"""

import contextlib
import json
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import registry
from registry import Candidate, JobInput, Lineage, Registry, upgrade
from registry.display import drift
from registry.integrity import verify
from registry.signing import check_signatures
from registry.transfer.backup import backup, restore, verify_backup
from registry.transfer.oci import import_version

KEPT = sorted((Path(__file__).parents[1] / "data").glob("registry_[0-9]*/"))
"""One folder for each schema of a release, oldest first."""

BY = {"actor": "cy", "reason": "continued"}


@dataclass(frozen=True)
class Continued:
    """What was found in a kept registry, and after its history had been continued."""

    code: str
    """The folder of the package `registry` that did it."""
    revision: str
    """Its schema's revision before the upgrade."""
    problems: list[str]
    """All that `verify`, `verify_backup` and `check_signatures` reported."""
    champions: list[int]
    """Versions of homes@champion: kept, after the rollback, after the promotion."""
    registered: str
    drift: list[tuple[str | None, str | None]]
    """Verdicts of the kept jobs that measured drift, oldest first: beside the training, and beside
    the jobs before it."""
    restored: int
    """Versions in the registry that was restored from the new backup."""


def load(folder: Path) -> str:
    """Make the SQLite database of a copied folder; returns its URL."""
    database = folder / "registry.db"
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.executescript((folder / "registry.sql").read_text(encoding="utf-8"))
    return f"sqlite:///{database}"


def continue_kept(folder: Path, url: str) -> Continued:
    """Verify a kept registry and its backup, continue every part of it, verify them again."""
    revision = upgrade(url)
    problems = []
    with Registry(url, folder / "artifacts") as kept:
        problems += [f"kept: {text}" for text in check(kept, folder)]
        champions = list(move(kept))
        drifted = list(drift_verdicts(kept))
        added = register_next(kept, folder)
        finish_jobs(kept)
        exchange(kept, folder)
        backup(kept, folder / "backup")  # on top of the kept one
        problems += [f"continued: {text}" for text in check(kept, folder)]
    copy = f"sqlite:///{folder}/restored.db"
    found = restore(folder / "backup", copy, folder / "restored")
    problems += [f"restored: {problem}" for problem in found.problems]
    with Registry(copy, folder / "restored") as again:
        restored = sum(len(again.search(model.name).versions) for model in again.models())
    code = str(Path(registry.__file__).parent)
    return Continued(code, revision, problems, champions, added, drifted, restored)


def check(kept: Registry, folder: Path) -> list[str]:
    found = [str(problem) for problem in verify(kept).problems]
    found += verify_backup(folder / "backup", kept).problems
    return found + signature_problems(kept, folder)


def signature_problems(where: Registry, folder: Path) -> list[str]:
    """Problems of the signature of homes:1; the other versions are not signed."""
    found = check_signatures(where, folder / "signer.pub.pem", "homes")
    return [str(problem) for problem in found if problem.ref == "homes:1"]


def move(kept: Registry) -> Iterator[int]:
    """Roll the champion back and promote another; a rejected version is approved again."""
    resolved = kept.resolve("homes@champion")
    yield resolved.version.version
    yield kept.rollback("homes", expect_revision=resolved.revision, **BY).version
    kept.approve("homes", 3, **BY)
    yield kept.promote("homes", 3, expect_revision=None, **BY).version
    kept.unarchive("homes", 5, **BY)
    kept.tag("homes", 5, "later", "yes", actor="cy")
    kept.note("homes", 5, "later", actor="cy")
    kept.change_policy("homes", keep_last=9, actor="cy")
    kept.unset("homes", "eu", **BY)


def drift_verdicts(kept: Registry) -> Iterator[tuple[str | None, str | None]]:
    """As the registry's page shows them, with the rows of every bin."""
    for job in reversed(kept.jobs("homes")):
        if found := drift.drift(job.drift):
            assert all(measure.now and measure.then for p in found.parts for measure in p.measures)
            yield found.training.verdict, found.earlier and found.earlier.verdict


def register_next(kept: Registry, folder: Path) -> str:
    """Restore the purged files of version 4, and register a child of version 1."""
    first = kept.resolve("homes:1").version
    files = kept.open(first)
    changed = folder / "signature.json"
    given = Candidate(
        files={**files, "signature.json": changed},
        identity=frozenset(a.path for a in first.artifacts if a.identity),
        signature=first.signature,
        metrics=first.metrics,
        params=first.params,
        evaluation=first.evaluation,
        lineage=Lineage(**{**asdict(first.lineage), "parent": "homes:1"}),
    )
    changed.write_bytes(files["signature.json"].read_bytes() + b"\n" * 3)
    purged = replace(given, lineage=kept.resolve("homes:4").version.lineage)
    assert not kept.register("homes", purged, actor="ada").created
    kept.unarchive("homes", 4, **BY)
    assert not kept.register("homes", replace(given, files=files), actor="ada").created
    changed.write_bytes(files["signature.json"].read_bytes() + b"\n" * 9)
    return kept.register("homes", given, actor="ada").version.ref


def finish_jobs(kept: Registry) -> None:
    """Complete the running job, and find the file that the completed one has read."""
    (running,) = kept.running_jobs("homes")
    read = [JobInput("2" * 64, "/srv/homes/late.csv", 5)]
    ran = {"rows": 4, "quarantined": 1, "provider": "CPU", "onnxruntime": "1.31.1"}
    drift = {"verdict": "watch", "rows": 4}
    assert kept.finish_job(running, **ran, inputs=read, drift=drift).drift == drift
    paths = ["/srv/homes/homes.csv", "/srv/homes/late.csv", "/srv/homes/other.csv"]
    assert set(kept.predicted_files("homes", "/srv/homes", paths)) == set(paths[:2])


def exchange(kept: Registry, folder: Path) -> None:
    """The archive is of homes:1: known here, new in an empty registry."""
    archive = folder / "homes-1.tar"
    assert not import_version(kept, archive, actor="cy").created
    with Registry(f"sqlite:///{folder}/empty.db", folder / "empty") as empty:
        assert import_version(empty, archive, actor="cy").created
        assert verify(empty).problems == []
        assert signature_problems(empty, folder) == []


if __name__ == "__main__":
    place = Path(sys.argv[1])
    print(json.dumps(asdict(continue_kept(place, load(place)))))
