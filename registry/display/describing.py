"""A version as lines of text, the same on the command line and in Python."""

from datetime import datetime

from registry.display import documents, formatting
from registry.records import Event, Json, Version
from registry.values import SHA256

Facts = list[tuple[str, str]]
"""Names and values, in the order in which to show them."""


def facts(version: Version) -> Facts:
    """Everything about a version except its parameters and its signature."""
    return [
        ("version", version.ref),
        ("status", version.status),
        ("aliases", ", ".join(version.aliases) or "none"),
        ("digest", version.digest),
        ("registered", f"{local(version.created_at)} by {version.created_by}"),
        *(("warning", text) for text in documents.warnings(version.evaluation)),
        *([("predicts", rule)] if (rule := documents.rule(version.signature)) else []),
        *measurements(version),
        *(
            (f"interval of {name}", f"{number(low)} to {number(high)} (95 %, bootstrap)")
            for name, (low, high) in documents.intervals(version.evaluation).items()
        ),
        *baselines(version),
        *evidence(version.evaluation),
        *origin(version),
        *((f"tag {key}", value) for key, value in version.tags.items()),
        *((f"file {a.path}", f"{a.sha256}  {a.size:,} bytes") for a in version.artifacts),
    ]


def measurements(version: Version) -> Facts:
    """The metrics of the evaluation whose gates are shown, and the rows it was computed on."""
    found = documents.measurement(version)
    metrics = [(name, number(value)) for name, value in found.metrics.items()]
    if found.registered:
        return [*metrics, *([("measured on", found.where)] if metrics else [])]
    before = ", ".join(f"{name} {number(value)}" for name, value in version.metrics.items())
    return [*metrics, ("measured on", found.where), ("registered with", before or "no metrics")]


def baselines(version: Version) -> Facts:
    """The headline metrics of the simple models that the version was compared with, and of the same
    training with other seeds."""
    names = documents.headline(version.metrics, version.evaluation)
    found = []
    for label, compared in (
        ("repeated", documents.repeats(version.evaluation)),
        ("baseline", documents.baselines(version.evaluation)),
    ):
        for one in compared:
            metrics = ", ".join(f"{name} {number(one.metrics.get(name))}" for name in names)
            rows = f" ({one.rows} training rows)" if one.rows else ""
            found.append((label, f"{one.name}: {metrics}{rows}"))
    return found


def evidence(evaluation: Json) -> Facts:
    """Gates, parity and notices; an import from MLflow has none of these."""
    found = [(f"gate {gate.name}", gate.verdict) for gate in documents.gates(evaluation)]
    if parity := documents.parity(evaluation):
        error = "not measured" if parity.max_error is None else f"{parity.max_error:.1e}"
        flips = "" if parity.flipped is None else f", {parity.flipped:.0f} labels flipped"
        found.append(("parity", f"max error {error}{flips}"))
    found += [("notice", text) for text in documents.notices(evaluation)]
    return found or [("evaluation", "none yet")]


def failed(version: Version) -> str | None:
    """The warning about a version that failed its newest evaluation; None if it passed.

    Its approval, based on an earlier evaluation, stays valid, so the user must be warned.
    """
    if not version.evaluation or version.evaluation.get("passed") is True:
        return None
    refused = [gate for gate in documents.gates(version.evaluation) if not gate.passed]
    gates = "; ".join(f"{gate.name} {number(gate.value)} {gate.verdict}" for gate in refused)
    return (
        f"{version.ref} failed its newest evaluation{': ' if gates else ''}{gates}. "
        f"See modelmint models show {version.ref}"
    )


def origin(version: Version) -> Facts:
    """Data, code and run that a version came from."""
    lineage = version.lineage
    commit = lineage.git_commit or "none"
    weights = [f"{path}  {SHA256}{sha256}" for path, sha256 in lineage.weights.items()]
    data = {path: md5 for path, md5 in lineage.data.items() if path not in lineage.weights}
    return [
        *((f"data {path}", f"dvc:{md5}") for path, md5 in data.items()),
        ("dataset", f"dvc:{lineage.dataset}"),
        ("started from", lineage.parent or "".join(weights) or "fresh weights"),
        ("commit", commit + " with uncommitted changes" * lineage.git_dirty),
        ("flow run", lineage.flow_run_id or "none"),
        ("libraries", ", ".join(f"{n} {v}" for n, v in lineage.libraries.items())),
    ]


def kind_of(event: Event) -> str:
    """The kind of an event; of an entry, its topic. A promotion approves a candidate where no
    second person has to."""
    topic = event.payload.get("topic") if event.kind == "noted" else None
    if isinstance(topic, str):
        return topic
    by_promotion = event.kind == "approved" and event.payload.get("by") == "promotion"
    return "approved by promotion" if by_promotion else event.kind


def why(event: Event) -> str:
    """The reason of an event; without a reason, a description of its content."""
    given = event.payload
    if "malformed" in given:
        return f"(edited: {given['malformed']}; see modelmint models verify)"
    if event.kind == "evaluated" and isinstance(passed := given.get("passed"), bool):
        verdict = "passed" if passed else "failed"
        return f"{verdict}; {event.reason}" if event.reason else verdict
    if event.reason:
        return event.reason
    if event.kind == "tagged":
        return f"{given.get('key')}={given.get('value') or ''}"
    if event.kind == "policy":
        return ", ".join(f"{name}: {_listed(value)}" for name, value in given.items())
    if event.kind == "imported":
        return f"from {given.get('imported_from', 'elsewhere')}"
    return ""


def champion_moved(event: Event) -> str:
    """What an event that moves the alias `champion` changes."""
    new = f"{event.model}:{event.version}"
    old = f"{event.model}:{event.previous}" if event.previous else "no champion"
    return {
        "promoted": f"{new} is champion now, before it was {old}",
        "rolled back": f"{new} is champion again, {old} was rolled back",
        "unset": f"{event.model} has no champion any more, before it was {old}",
    }[event.kind]


def _listed(value: object) -> str:
    return " and ".join(map(str, value)) if isinstance(value, list) else str(value)


def number(value: float | None) -> str:
    """A metric with four decimals; empty if it was not measured."""
    return "" if value is None else f"{value:.4f}"


def difference(value: float | None) -> str:
    """A difference with its sign; empty if one side was not measured."""
    return "" if value is None else formatting.signed(value)


def measured(gate: documents.Gate | None) -> str:
    """The value of a gate and its verdict."""
    return "none" if gate is None else f"{number(gate.value)} ({gate.verdict})".strip()


def local(time: datetime) -> str:
    """A time in the time zone of this machine, to the second."""
    return time.astimezone().strftime("%Y-%m-%d %H:%M:%S")
