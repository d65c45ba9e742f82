"""Evaluates a registered version on labelled rows and adds the result to its history.

Imports no Prefect, as `job.py` does not.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flows.gates import format_gates
from registry import CHAMPION, Registry, Resolved, Version
from registry.display import documents
from tasks.bundle.files import Bundle, lacking
from tasks.config import Evaluate
from tasks.encoding import Encoder
from tasks.errors import InputError
from tasks.inputs import find
from tasks.session import Device


@dataclass(frozen=True)
class EvaluationReport:
    """The metrics of a version, and whether they were recorded."""

    model: str
    digest: str
    passed: bool | None
    """None if there were no gates, which only a dry run allows."""
    recorded: bool
    rows: int
    sha256: str
    """SHA-256 of the data."""
    provider: str
    metrics: dict[str, float]
    headline: list[str]
    gates: list[dict[str, Any]]
    notices: list[str] = field(default_factory=list)
    """Notes about the rows and the consequences of the verdict."""


def evaluate_version(
    registry: Registry,
    resolved: Resolved,
    data: list[Path],
    evaluation: Evaluate,
    *,
    actor: str,
    target: str | None = None,
    device: Device = "auto",
    record: bool = True,
    progress: Callable[[int], None] = lambda rows: None,
) -> EvaluationReport:
    """Compute the metrics of a version on labelled rows and add them to the registry.

    A failed evaluation is recorded too and replaces an earlier passed one. `target` is the column
    of labels, by default the target of the training.

    Raises:
        InputError: there are no gates, the files do not match the version's signature, or the
            version has no model that can be evaluated here.
        RegistryError: the bundle is damaged, or the registry cannot be reached.
    """
    if record and not evaluation.gates:
        raise InputError(
            "without a gate no evaluation can pass, so none was made. Give a gate, as in "
            "--gate 'macro_f1>=0.9', or --params params.yaml for its evaluate.gates; --dry-run "
            "shows the metrics without gates"
        )
    from tasks.reevaluate import reevaluate  # scikit-learn, 1 s

    version = resolved.version
    files = _verified(registry, version)
    encoder = Encoder.of(files)
    found = reevaluate(
        Bundle(files).model,
        encoder,
        find(data, encoder.signature),
        evaluation,
        target=target or trained_target(version.params),
        device=device,
        progress=progress,
    )
    notices, split = list(found.data["notices"]), found.test_split
    if split.sha256 != version.lineage.test_split:
        where = ", ".join(str(path) for path in data)
        notices.insert(
            0,
            f"evaluated on {split.rows:,} rows of {where}, not on the test split of the metrics "
            "that it was registered with",
        )
    before = {(gate.name, gate.condition) for gate in documents.gates(version.evaluation)}
    now = [(gate.gate, gate.condition) for gate in found.gates]
    if evaluation.gates and before and before != set(now):
        notices.append(
            f"the gates were {format_gates(now)}; those of the evaluation before were "
            f"{format_gates(sorted(before))}"
        )
    found = replace(found, data={**found.data, "notices": list(notices)})
    if record:
        registry.evaluate(version.model, version.version, found.as_dict(), actor=actor)
        champion = registry.alias(version.model)
        if not found.passed and champion and champion.version == version.version:
            notices.append(
                f"{version.ref} is {CHAMPION}, and its newest evaluation failed. To replace it "
                f"with the previous champion: modelmint models rollback {version.model}"
            )
    return EvaluationReport(
        model=version.ref,
        digest=version.digest,
        passed=found.passed if evaluation.gates else None,
        recorded=record,
        rows=found.metrics.rows,
        sha256=split.sha256,
        provider=(found.evaluated_on or {})["provider"],
        metrics=found.metrics.summary,
        headline=found.metrics.headline,
        gates=[gate.as_dict() for gate in found.gates] if evaluation.gates else [],
        notices=notices,
    )


def trained_target(params: Mapping[str, Any]) -> str | None:
    """The target column in the parameters of a training; None if they do not name one."""
    prepare = params.get("prepare")
    source = prepare.get("source") if isinstance(prepare, Mapping) else None
    if not isinstance(source, Mapping):
        return None
    named = source.get("target") or ("label" if source.get("kind") == "image" else None)
    return named if isinstance(named, str) else None


def _verified(registry: Registry, version: Version) -> dict[str, Path]:
    """The verified files of a version. Raises `InputError` if a file for evaluation is missing."""
    names = {artifact.path for artifact in version.artifacts}
    if missing := lacking(names):
        raise InputError(
            f"{version.ref} has no {' and no '.join(missing)}. `modelmint models evaluate` needs "
            "an ONNX model and the signature with its input and output columns. The files of the "
            f"version: {', '.join(sorted(names)[:10])}. To record an evaluation made elsewhere, "
            "use Python: modelmint.registry().record_evaluation("
            f"{version.ref!r}, {{'passed': True, ...}})"
        )
    return registry.open(version)
