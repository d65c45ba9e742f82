"""The model card: what a person wants to know of a bundle, in Markdown."""

from pathlib import Path
from typing import Any

from tasks.bundle.signature import Signature
from tasks.metrics import AVERAGES, Metrics, Verdict
from tasks.parity import Parity


def write_card(
    path: Path,
    config: dict[str, Any],
    signature: Signature,
    metrics: Metrics,
    verdicts: list[Verdict],
    parity: Parity,
    data: dict[str, Any],
) -> None:
    """Write the card. After Mitchell et al. 2019, https://arxiv.org/abs/1810.03993.

    Figures are those of ONNX Runtime on the test split; `data` is of the report of `prepare`.
    """
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
        "## Gates",
        _table(
            ["gate", "value", "condition", "verdict"],
            [
                [
                    v.gate,
                    "not measured" if v.value is None else f"{v.value:.4f}",
                    v.condition,
                    "passed" if v.passed else "**refused**",
                ]
                for v in verdicts
            ],
        ),
        f"P{str(parity)[1:]}.",
        f"## Metrics on {metrics.rows} test rows, scored by ONNX Runtime",
        _table(["metric", "value"], [[n, f"{v:.4f}"] for n, v in metrics.summary.items()]),
        *_classes(signature, metrics),
        *_data(data),
        "## Signature",
        "\n".join(
            [f"- column: `{c.name}`, {c.kind}" for c in signature.columns]
            + [f"- in: `{t}`" for t in signature.inputs]
            + [f"- out: `{t}`" for t in signature.outputs]
        ),
    ]
    path.write_text("\n\n".join(sections) + "\n", encoding="utf-8")


def _data(data: dict[str, Any]) -> list[str]:
    """Rows and what became of them, a line each; what must not be overlooked stands first."""
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


def _classes(signature: Signature, metrics: Metrics) -> list[str]:
    """What there is to say of each class, where there are classes."""
    if not metrics.per_class:
        return []
    return [
        _table(
            ["class", "precision", "recall", "F1", "rows"],
            [
                [c, *(f"{m[name]:.4f}" for name in AVERAGES), f"{m['support']:.0f}"]
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
