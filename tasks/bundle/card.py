"""The model card: a bundle's summary in Markdown."""

from pathlib import Path
from typing import Any

from tasks.bundle.evaluation import Evaluation, figure, spread, with_interval
from tasks.bundle.signature import Signature
from tasks.problems import Metrics

AVERAGES = ("precision", "recall", "f1")


def write_card(
    path: Path,
    config: dict[str, Any],
    signature: Signature,
    evaluation: Evaluation,
) -> None:
    """Write the card, after Mitchell et al. 2019, https://arxiv.org/abs/1810.03993.

    `config` is the configuration of the checkpoint.
    """
    metrics = evaluation.metrics
    architecture = dict(config["architecture"])
    name = architecture.pop("name")
    shape = ", ".join(f"{key} {value}" for key, value in architecture.items())
    best = config["results"]["best"]
    sections = [
        f"# {name}",
        f"{signature.task.replace('_', ' ').capitalize()} on {signature.data} data; "
        f"{shape or 'without parameters'}. Trained for {config['results']['epochs']} epochs; the "
        f"weights are those of epoch {best['epoch']} (validation loss "
        f"{best['validation_loss']:.4f}).",
        *(f"**{text}**" for text in evaluation.warnings),
        "## Gates",
        _table(
            ["gate", "value", "condition", "verdict"],
            [
                [g.gate, g.figure, g.condition, g.verdict if g.passed else f"**{g.verdict}**"]
                for g in evaluation.gates
            ],
        ),
        f"P{str(evaluation.parity)[1:]}.",
        *([f"{signature.rule[0].upper()}{signature.rule[1:]}."] if signature.rule else []),
        f"## Metrics on {metrics.rows} test rows, scored by ONNX Runtime",
        _table(
            ["metric", "value"], [[name, with_interval(metrics, name)] for name in metrics.summary]
        ),
        *(["In brackets: 95 % bootstrap intervals."] if metrics.intervals else []),
        *_repeats(evaluation),
        *_classes(signature, metrics),
        *_baselines(evaluation),
        *_data(evaluation.data),
        "## Signature",
        "\n".join(
            [f"- column: `{c.name}`, {c.kind}" for c in signature.columns]
            + [f"- in: `{t}`" for t in signature.inputs]
            + [f"- out: `{t}`" for t in signature.outputs]
        ),
    ]
    path.write_text("\n\n".join(sections) + "\n", encoding="utf-8")


def _data(data: dict[str, Any]) -> list[str]:
    """Lines about notices and about kept and dropped rows; the notices come first."""
    if not data:
        return []
    dropped, in_train = data["dropped"], data["test_rows_also_in_train"]
    splits = ", ".join(f"{name} {rows:,}" for name, rows in data["rows"].items())
    lines = [f"**{text}**" for text in data["notices"]]
    lines += [
        f"{sum(data['rows'].values()):,} of {data['rows_in']:,} rows: {splits}",
        f"dropped: {dropped['missing']:,} incomplete, {dropped['duplicates']:,} duplicate "
        f"(`prepare.duplicates: {data['duplicates']['rule']}`)",
        f"{in_train['equal_features']:,} of {in_train['test_rows']:,} test rows have an equal row "
        f"in training, {in_train['equal_features_and_target']:,} of them with the same target",
    ]
    return ["## Data", "\n".join(f"- {line}" for line in lines)]


def _repeats(evaluation: Evaluation) -> list[str]:
    """The spread of the headline metrics over the seeds."""
    metrics, repeats = evaluation.metrics, evaluation.repeats
    if not repeats:
        return []
    rows = [[name, spread(metrics, repeats, name)] for name in metrics.headline]
    return [
        f"## The same training with {len(repeats) + 1} seeds",
        _table(["metric", "mean ± standard deviation (lowest to highest)"], rows),
    ]


def _baselines(evaluation: Evaluation) -> list[str]:
    """The headline metrics of the model and of its baselines."""
    if not evaluation.baselines:
        return []
    metrics = evaluation.metrics
    rows = [["this model", *(figure(metrics.summary.get(n)) for n in metrics.headline), ""]] + [
        [
            one.name,
            *(figure(one.metrics.get(name)) for name in metrics.headline),
            f"{one.rows:,} of {one.of:,}",
        ]
        for one in evaluation.baselines
    ]
    return [
        "## Baselines on the same test rows",
        _table(["model", *metrics.headline, "training rows"], rows),
    ]


def _classes(signature: Signature, metrics: Metrics) -> list[str]:
    """Metrics of each class and the confusion matrix; empty without classes."""
    if not metrics.per_class:
        return []
    return [
        _table(
            ["class", "precision", "recall", "F1", "rows"],
            [
                [c, *(figure(m[name]) for name in AVERAGES), f"{m['support']:.0f}"]
                for c, m in metrics.per_class.items()
            ],
        ),
        "## Confusion matrix",
        "Rows are actual classes, columns predicted ones.",
        _table(
            ["", *signature.classes],
            [
                [f"**{label}**", *(str(n) if n else "·" for n in row)]
                for label, row in zip(signature.classes, metrics.confusion, strict=True)
            ],
        ),
    ]


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines
    )
