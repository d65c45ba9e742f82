"""Examples for missing keys of `params.yaml`, suited to its data and task."""

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from tasks.problems import PROBLEMS

SOURCES: dict[str, dict[str, str]] = {
    "tabular": {"kind": "tabular", "path": "data/raw/mine.csv", "target": "price"},
    "text": {"kind": "text", "path": "data/raw/mine.csv", "column": "text", "target": "label"},
    "image": {"kind": "image", "path": "data/raw/mine"},
    "sequence": {"kind": "sequence", "path": "data/raw/mine.parquet"},
    "digits": {"kind": "digits"},
}
NETWORKS = {"tabular": "mlp", "text": "gru", "image": "cnn", "sequence": "conv1d", "digits": "cnn"}
# The keys that have an example.
KNOWN = (
    ("prepare",),
    ("prepare", "source"),
    ("train",),
    ("train", "architecture"),
    ("evaluate",),
    ("evaluate", "gates"),
    ("registration",),
    ("registration", "name"),
)


def example_yaml(data: Mapping[str, Any], missing: Iterable[tuple[int | str, ...]]) -> str:
    """Lines of YAML for the keys `missing` in `data`; empty if none of them has an example.

    `data` is the content of `params.yaml`, valid or not.
    """
    chosen = [path for path in KNOWN if path in set(missing)]
    parts = {path[0]: _section(path[0], data) for path in chosen}
    return "\n".join(line for lines in parts.values() for line in lines)


def _section(name: str, data: Mapping[str, Any]) -> list[str]:
    source = _mapping(_mapping(data.get("prepare")).get("source"))
    kind = source.get("kind") if source.get("kind") in NETWORKS else "tabular"
    task = _task(data)
    untargeted = PROBLEMS[task].target is None
    if name == "prepare":
        shown = task if untargeted else "classification"
        found = SOURCES["text" if untargeted else str(kind)]
        lines = [f"    {key}: {value}" for key, value in found.items()]
        *others, last = PROBLEMS
        tasks = f"{', '.join(others)} or {last}"
        return ["prepare:", "  source:", *lines, f"  task: {shown}    # {tasks}"]
    if name == "train":
        network = "transformer_lm" if untargeted else NETWORKS[str(kind)]
        return ["train:", f"  architecture: {network}"]
    if name == "evaluate":
        metrics = [metric for metric in PROBLEMS[task].metrics if metric.example is not None]
        bound = "most" if metrics[0].lower_is_better else "least"
        gates = [f"    {metric.name}: {metric.example:g}" for metric in metrics]
        gates[0] += f"    # at {bound} this value on the test split"
        return ["evaluate:", "  gates:", *gates]
    stem = PurePosixPath(str(source.get("path", ""))).name.partition(".")[0].lower()
    model = re.sub(r"[^a-z0-9_-]+", "-", stem).strip("-_")[:63] or "mine"
    return ["registration:", f"  name: {model}"]


def _task(data: Mapping[str, Any]) -> str:
    network = _mapping(data.get("train")).get("architecture")
    if "transformer_lm" in (network, _mapping(network).get("name")):
        return "language_model"
    task = _mapping(data.get("prepare")).get("task")
    return task if isinstance(task, str) and task in PROBLEMS else "classification"


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
