"""Import of versions and files from an MLflow registry; `mlflow_source` reads it.

MLflow has no gates, so each version is imported as a candidate without an evaluation.
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
from registry.transfer.mlflow_source import MlflowModel, Skipped, connect_mlflow
from registry.validation.arguments import checked


@dataclass(frozen=True, slots=True)
class MlflowVersion:
    """The result of importing one version."""

    version: int
    """Its number in MLflow."""
    ref: str | None
    """Its reference in this registry; None: it was skipped."""
    created: bool
    """False: this version, or the same bytes from the same dataset, had been registered before."""
    note: str
    """Why it was skipped, or what was left out; else empty."""


@dataclass(frozen=True, slots=True)
class MlflowAlias:
    """The result of importing one alias."""

    alias: str
    version: int
    """The MLflow number of the version that it points to."""
    note: str
    """Why it does not point to that version in this registry; empty: it does."""


@dataclass(frozen=True, slots=True)
class MlflowReport:
    """The result of an import: versions oldest first, aliases by name."""

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

    Every file of a version counts for its digest, since MLflow does not say which files matter.
    Versions that were imported before are skipped, so a repeated import resumes and adds new
    versions. Aliases are set if they were never set here, except champion, which needs an
    evaluation and an approval. The MLflow registry is not changed.

    Raises:
        InvalidReference: the name is not allowed in this registry; give another one as `to`.
        NotFound: MLflow has no such model.
        Unreachable: MLflow, the database or the store cannot be read or written.
        RegistryError: the extra `mlflow` is not installed.
    """
    target = check_name(to or name)
    done = []
    with connect_mlflow(tracking_uri, name) as source:
        for entry in source.versions():
            done.append(_import_one(registry, source, entry, target, actor))
            progress(done[-1])
        refs = {one.version: one.ref for one in done}
        aliases = tuple(
            MlflowAlias(alias, number, _set_alias(registry, alias, refs.get(number), actor))
            for alias, number in source.aliases().items()
        )
    return MlflowReport(tuple(done), aliases)


def _import_one(
    registry: Registry, source: MlflowModel, entry: Any, target: str, actor: str
) -> MlflowVersion:
    number, request = int(entry.version), source.request_id(entry)
    if known := _find_imported(registry, target, request):
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
    notes = [f"left out, not a finite number: {', '.join(left_out)}"] if left_out else []
    if made.ignored:
        notes.append(f"these files were registered before: {'; '.join(made.ignored)}")
    return MlflowVersion(number, made.version.ref, made.created, ". ".join(notes))


def _find_imported(registry: Registry, target: str, request: str) -> str | None:
    """The reference of a version that was imported before; None if it was not."""
    if not registry.database.exists():
        return None  # the first version creates the registry
    with registry.database.read() as c:
        number = versions.find_request(c, target, request)
        return None if number is None else f"{target}:{number}"


def _set_alias(registry: Registry, alias: str, ref: str | None, actor: str) -> str:
    """Set an alias if it was never set; returns why it does not point there, or an empty text."""
    if ref is None:
        return "the version that it points to was skipped"
    name, _, number = ref.rpartition(":")
    current = registry.alias(name, alias)
    if current is not None:
        same = current.version == int(number)
        return "" if same else f"it already points to {name}:{current.version} here"
    if alias == CHAMPION:
        return _how_to_promote(registry, ref)
    try:
        why = "imported from MLflow"
        registry.promote(name, int(number), alias, expect_revision=0, actor=actor, reason=why)
    except (Conflict, InvalidReference, Refused) as error:
        return str(error)
    return ""


def _how_to_promote(registry: Registry, ref: str) -> str:
    """How to make an import champion; `evaluate` needs the files of a bundle of modelmint."""
    there = {artifact.path for artifact in registry.resolve(ref).version.artifacts}
    lost = [name for name in ("model.onnx", "signature.json") if name not in there]
    then = f"then `modelmint models promote {ref}`"
    if not lost:
        evaluate = f"`modelmint models evaluate {ref} DATA --gate 'METRIC>=NUMBER'`"
        return f"a champion needs an evaluation and an approval: {evaluate}, {then}"
    return (
        "a champion needs an evaluation and an approval. This version has no "
        f"{' and no '.join(lost)}, so `modelmint models evaluate` cannot evaluate it: evaluate it "
        "elsewhere, record the result in Python with "
        f"modelmint.registry().record_evaluation({ref!r}, report), {then}"
    )
