"""Versions taken over from an MLflow registry, with their files; `mlflow_source` reads it.

MLflow does not say how a version was judged: each arrives as a candidate without an evaluation.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from registry.errors import Conflict, InvalidCandidate, InvalidReference, Refused
from registry.queries import versions
from registry.references import CHAMPION, check_name
from registry.registry import Registry
from registry.transfer.mlflow_source import Skipped, Source, connect_mlflow
from registry.validation.arguments import checked


@dataclass(frozen=True, slots=True)
class MlflowVersion:
    """What became of one version of an MLflow registry."""

    version: int
    """Its number there."""
    ref: str | None
    """What it is here; None: it was skipped."""
    created: bool
    """False: it was here already, or is the same bytes from the same dataset as one that was."""
    note: str
    """Why it was skipped, or what of it was left out; else empty."""


@dataclass(frozen=True, slots=True)
class MlflowAlias:
    """What became of one alias of an MLflow registry."""

    alias: str
    version: int
    """The number there of the version that it points to."""
    note: str
    """Why it does not point to that version here; empty: it does."""


@dataclass(frozen=True, slots=True)
class MlflowReport:
    """What came of an import: versions oldest first, aliases by name."""

    versions: tuple[MlflowVersion, ...]
    aliases: tuple[MlflowAlias, ...]


def _silent(_done: MlflowVersion) -> None:
    pass


@checked
def import_from_mlflow(
    registry: Registry,
    tracking_uri: str,
    name: str,
    *,
    actor: str,
    to: str | None = None,
    progress: Callable[[MlflowVersion], None] = _silent,
) -> MlflowReport:
    """Register every version of a model of an MLflow registry, oldest first, as `name` or as `to`.

    Every file of a version counts for its digest: MLflow does not say which of them matter. It
    can be repeated: what was imported is passed over, so it goes on where it stopped, and brings
    what was added since. Aliases are set where they were never set here; champion is not, since
    that takes an evaluation and an approval. MLflow's registry is left as it is.

    Raises:
        InvalidReference: a model cannot have that name here; give another one as `to`.
        NotFound: MLflow has no such model.
        Unreachable: MLflow, the database or the store cannot be read or written.
        RegistryError: the extra `mlflow` is not installed.
    """
    target = check_name(to or name)
    done = []
    with connect_mlflow(tracking_uri, name) as source:
        for entry in source.versions():
            done.append(_take(registry, source, entry, target, actor))
            progress(done[-1])
        refs = {one.version: one.ref for one in done}
        aliases = tuple(
            MlflowAlias(alias, number, _set_alias(registry, alias, refs.get(number), actor))
            for alias, number in source.aliases().items()
        )
    return MlflowReport(tuple(done), aliases)


def _take(registry: Registry, source: Source, entry: Any, target: str, actor: str) -> MlflowVersion:
    number, request = int(entry.version), source.request_id(entry)
    if known := _known(registry, target, request):
        return MlflowVersion(number, known, created=False, note="")
    try:
        with TemporaryDirectory(prefix="modelmint-mlflow-") as folder:
            files = source.download(entry, Path(folder))
            candidate, left_out = source.candidate(entry, files)
            made = registry.admit(
                target,
                candidate,
                "imported",
                actor=actor,
                request_id=request,
                payload=source.origin(entry),
            )
    except (Skipped, Conflict, InvalidCandidate) as error:
        return MlflowVersion(number, None, created=False, note=str(error))
    notes = [f"left out, being no finite number: {', '.join(left_out)}"] if left_out else []
    if made.ignored:
        notes.append(f"the same files were here; not changed: {'; '.join(made.ignored)}")
    return MlflowVersion(number, made.version.ref, made.created, ". ".join(notes))


def _known(registry: Registry, target: str, request: str) -> str | None:
    """What an earlier import made of a version."""
    if not registry.database.exists():
        return None  # the first version makes it
    with registry.database.read() as c:
        number = versions.find_request(c, target, request)
        return None if number is None else f"{target}:{number}"


def _set_alias(registry: Registry, alias: str, ref: str | None, actor: str) -> str:
    """Set an alias where it was never set; why it does not point there, or nothing."""
    if ref is None:
        return "the version that it points to was skipped"
    name, _, number = ref.rpartition(":")
    held = registry.alias(name, alias)
    if held is not None:
        same = held.version == int(number)
        return "" if same else f"it was set here, to {name}:{held.version}, and stays there"
    if alias == CHAMPION:
        return _how_to_promote(registry, ref)
    try:
        why = "imported from MLflow"
        registry.promote(name, int(number), alias, expect_revision=0, actor=actor, reason=why)
    except (Conflict, InvalidReference, Refused) as error:
        return str(error)
    return ""


def _how_to_promote(registry: Registry, ref: str) -> str:
    """What makes an import champion; a command can evaluate only what says how it is used."""
    there = {artifact.path for artifact in registry.resolve(ref).version.artifacts}
    lost = [name for name in ("model.onnx", "signature.json") if name not in there]
    then = f"then `modelmint models promote {ref}`"
    if not lost:
        evaluate = f"`modelmint models evaluate {ref} DATA --gate 'METRIC>=NUMBER'`"
        return f"it takes an evaluation and an approval: {evaluate}, {then}"
    return (
        f"it takes an evaluation and an approval. It has no {' and no '.join(lost)}, so "
        "`modelmint models evaluate` cannot make one: evaluate it elsewhere, record that in Python "
        f"with modelmint.registry().record_evaluation({ref!r}, report), {then}"
    )
