"""Evaluates a registered version on labelled rows and adds the result to its history.

Imports no Prefect, as `job.py` does not.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from flows.gates import listed
from registry import CHAMPION, Registry, Resolved, Version
from registry.display import documents
from tasks.bundle.files import Bundle, lacking
from tasks.config import Evaluate
from tasks.encoding import Encoder
from tasks.errors import InputError
from tasks.inputs import find
from tasks.predict import Device


@dataclass(frozen=True)
class EvaluationReport:
    """The metrics of a version, and whether they were recorded."""

    model: str
    digest: str
    passed: bool | None
    """None: there were no gates, as only a dry run may have."""
    recorded: bool
    rows: int
    sha256: str
    """Of the data."""
    provider: str
    metrics: dict[str, float]
    headline: list[str]
    gates: list[dict[str, Any]]
    notices: list[str] = field(default_factory=list)
    """What to know of the rows, and of what follows from the verdict."""


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
    """Compute the metrics of a version on files of labelled rows and add them to the registry.

    A failed evaluation is recorded too, and counts from then on. `target` is the column of the
    answers; without it, the one that the version was trained with.

    Raises:
        InputError: there are no gates, the files do not fit the version, or it holds no model that
            can be evaluated here.
        RegistryError: the bundle is damaged, or the registry cannot be reached.
    """
    if record and not evaluation.gates:
        raise InputError(
            "without a gate no evaluation can pass, so none was made. Give what to reach, as in "
            "--gate 'macro_f1>=0.9', or --params params.yaml for its evaluate.gates; --dry-run "
            "shows the figures alone"
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
            f"evaluated on {split.rows:,} rows of {where}, which are not the test "
            "split that its metrics were registered with",
        )
    before = {(gate.name, gate.condition) for gate in documents.gates(version.evaluation)}
    asked = [(gate.gate, gate.condition) for gate in found.gates]
    if evaluation.gates and before and before != set(asked):
        notices.append(
            f"evaluated by {listed(asked)}; its evaluation before was by {listed(sorted(before))}"
        )
    found = replace(found, data={**found.data, "notices": list(notices)})
    if record:
        registry.evaluate(version.model, version.version, found.as_dict(), actor=actor)
        held = registry.alias(version.model)
        if not found.passed and held and held.version == version.version:
            notices.append(
                f"{version.ref} is {CHAMPION}, and its newest evaluation failed. To go back: "
                f"modelmint models rollback {version.model}"
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
        gates=[asdict(gate) for gate in found.gates] if evaluation.gates else [],
        notices=notices,
    )


def trained_target(params: Mapping[str, Any]) -> str | None:
    """The column to predict, by the parameters of a training; None where they do not say."""
    prepare = params.get("prepare")
    source = prepare.get("source") if isinstance(prepare, Mapping) else None
    if not isinstance(source, Mapping):
        return None
    named = source.get("target") or ("label" if source.get("kind") == "image" else None)
    return named if isinstance(named, str) else None


def _verified(registry: Registry, version: Version) -> dict[str, Path]:
    """The files of a version, every byte checked; all that an evaluation needs is among them."""
    there = {artifact.path for artifact in version.artifacts}
    if lost := lacking(there):
        raise InputError(
            f"{version.ref} has no {' and no '.join(lost)}, which `modelmint models evaluate` "
            "needs: an ONNX model, and the signature that says which columns go in and what comes "
            f"out. It holds {', '.join(sorted(there)[:10])}. An evaluation that was made elsewhere "
            "can be recorded in Python: modelmint.registry().record_evaluation("
            f"{version.ref!r}, {{'passed': True, ...}})"
        )
    return registry.open(version)
