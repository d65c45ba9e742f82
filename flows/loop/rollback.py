"""Whether labels show that the champion is worse than the version before it, and what follows."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.feedback import Predicted, Target
from flows.job import signature_of
from flows.loop.facts import jobs_below, predicted
from flows.loop.measuring import Comparison, Values, compare, newest
from flows.loop.records import ROLLBACK
from registry import CHAMPION, Conflict, Registry, Version
from tasks import feedback
from tasks.added_rows import unchanged
from tasks.bundle.files import IDENTITY
from tasks.config import Retrain
from tasks.errors import InputError
from tasks.inputs import find, fingerprint
from tasks.predict import How, predict
from tasks.serving.options import BadLimit, Options


@dataclass(frozen=True)
class Rollback:
    """A champion that is worse than the version before it."""

    champion: str
    before: str
    done: Literal["proposed", "rolled back", "known"]
    """`known`: it was proposed before."""
    text: str


def check(
    registry: Registry,
    name: str,
    rules: Retrain,
    output: Path,
    actor: str,
    say: Callable[[str], None],
) -> Rollback | None:
    """Compare the champion with its predecessor; propose to roll back, or do it.

    The predecessor predicts the rows of the champion's newest jobs that have labels, so both are
    judged by the same rows. Nothing, unless the champion was promoted over a predecessor that may
    hold the alias again.

    Raises:
        RegistryError: the registry cannot be read, or the alias was moved meanwhile.
    """
    moves = registry.history(name, alias=CHAMPION, limit=1)
    alias = registry.alias(name, CHAMPION)
    if rules.rollback == "off" or not moves or not alias:
        return None
    move = moves[0]
    if move.kind != "promoted" or move.previous is None or move.version != alias.version:
        return None
    before = registry.resolve(f"{name}:{move.previous}").version
    if before.status != "approved":
        return None
    own = [job for job in jobs_below(registry, name, output) if job.version == alias.version]
    chosen = newest(predicted(registry, name, own), rules.labels)
    if chosen is None:
        return None
    found = _compared(registry, before, chosen[0], say)
    if found is None or found.rows < rules.labels or not found.worse:
        return None
    ref = f"{name}:{alias.version}"
    text = (
        f"{ref} has {found.metric} {found.champion:.4f}, and {before.ref} {found.other:.4f} on the "
        f"same {found.rows:,} rows with labels (by chance: {found.chance:.1e})"
    )
    if rules.rollback == "automatic":
        registry.rollback(name, expect_revision=alias.revision, actor=actor, reason=text)
        return Rollback(ref, before.ref, "rolled back", text)
    entries = registry.entries(name, ROLLBACK, limit=1)
    if entries and entries[0].payload.get("revision") == alias.revision:
        return Rollback(ref, before.ref, "known", text)
    document = {"format": 1, "revision": alias.revision, "before": before.version}
    try:
        registry.add_entry(
            name,
            ROLLBACK,
            document,
            expect=entries[0].id if entries else 0,
            expect_revision=alias.revision,
            text=f"proposed: {text}; modelmint models rollback {name}",
            actor=actor,
            version=alias.version,
        )
    except Conflict:  # another run has proposed it, or somebody has just moved the alias
        return None
    return Rollback(ref, before.ref, "proposed", text)


def _compared(
    registry: Registry, before: Version, jobs: Sequence[Predicted], say: Callable[[str], None]
) -> Comparison | None:
    """Both versions on the rows of these jobs with labels; None if no input file is as it was."""
    labels: list[Values] = []
    own: list[Values] = []
    other: list[Values] = []
    for one in jobs:
        its = _predictions(registry, before, one, say)
        given = feedback.newest_labels(one.labels)
        if its is None or given is None:
            continue
        rows = one.table()
        given = feedback.without_repeated(given, rows)
        wanted = given.column(feedback.KEY).combine_chunks()
        place, there = (
            pc.index_in(wanted, value_set=table.column(feedback.KEY).combine_chunks())
            for table in (rows, its)
        )
        both = pc.and_(place.is_valid(), there.is_valid())
        labels.append(_values(given.column(feedback.LABEL).filter(both)))
        own.append(_values(rows.column(feedback.PREDICTION).take(place.filter(both))))
        other.append(_values(its.column(feedback.PREDICTION).take(there.filter(both))))
    if not sum(map(len, labels)):
        return None
    signature = jobs[0].signature
    return compare(
        *(np.concatenate(each) for each in (labels, own, other)),
        classes=bool(signature.classes),
        balanced=bool(signature.threshold or signature_of(before).threshold),
        quantile=signature.quantile,
    )


def _values(column: pa.ChunkedArray) -> Values:
    values: Values = column.combine_chunks().to_numpy(zero_copy_only=False)
    return values


def _predictions(
    registry: Registry, version: Version, one: Predicted, say: Callable[[str], None]
) -> pa.Table | None:
    """What another version says of the input of a job; None if it cannot be asked."""
    if (its := Target.of(version)) != one.target:
        say(f"{version.ref} predicts {its}, and not {one.target}")
        return None
    signature, mine = signature_of(version), one.signature
    same = ("task", "classes", "quantile")
    if any(getattr(signature, name) != getattr(mine, name) for name in same):
        return None
    try:
        files = find([_place(file) for file in one.report.inputs], signature)
        if fingerprint(files) != one.job.input_sha256:
            raise InputError("its input is not as it was predicted")
        opened = registry.open(version)
        with tempfile.TemporaryDirectory() as scratch:
            output = Path(scratch, "out")
            report = predict(
                {name: path for name, path in opened.items() if name in IDENTITY},
                files,
                output=output,
                provenance={"model": version.ref, "digest": version.digest, "job": "comparison"},
                reference=version.ref,
                options=Options(threshold=one.report.asked.threshold),
                how=How(limit=BadLimit.parse("100%")),
            )
            return feedback.predictions(output, report, signature)
    except InputError as error:
        say(f"job {one.job.id} is not compared with {version.ref}: {error}")
        return None


def _place(described: Mapping[str, Any]) -> Path:
    """Where an input of a job is now. Raises `InputError` if it is not as it was."""
    if described.get("members") and Path(described["path"]).is_dir():
        return Path(described["path"])  # of images; its content is compared by the caller
    path, why = unchanged(described)
    if path is None:
        raise InputError(f"{described['path']}: {why}")
    return path
