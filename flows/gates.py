"""Parses the gates of an evaluation: `macro_f1>=0.9` on the command line, a mapping in Python, a
file of parameters.
"""

import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tasks import params as parameters
from tasks.config import Bounds, Evaluate
from tasks.errors import InputError
from tasks.problems import METRICS

_GATE = re.compile(r"\s*([A-Za-z0-9_]+)\s*(>=|<=)\s*(\S+)\s*")


def read_gates(texts: Sequence[str], params: Path | None = None) -> tuple[Evaluate, list[str]]:
    """The gates of the file and those of `texts`, which take precedence.

    Also returns a line for each gate of the file that was replaced or that needs a baseline, which
    only a training has. Raises `InputError`, also if a gate needs nothing else.
    """
    given: dict[str, float] = {}
    for text in texts:
        metric, bound = parse_gate(text)
        if metric in given:
            raise InputError(
                f"{text!r}: {metric} already has a gate, {given[metric]:g}. Give one --gate for "
                "each metric"
            )
        given[metric] = bound
    if params is None:
        return Evaluate(gates={**given}), []
    found = parameters.load(params).evaluate
    of_file = {name: _number_of(gate) for name, gate in found.gates.items()}
    notes = []
    for name, gate in found.gates.items():
        before, now = of_file[name], given.get(name, of_file[name])
        if now is None:
            raise InputError(
                f"{params}: evaluate.gates.{name} has only above_baseline, but only trainings have "
                f"baselines. Give --gate '{name}{sign_of(name)}NUMBER'"
            )
        if now != before:
            old = "above_baseline" if before is None else f"{before:g}"
            notes.append(
                f"--gate takes precedence: {name} {sign_of(name)} {now:g}, not {old} as in {params}"
            )
        elif isinstance(gate, Bounds) and gate.above_baseline is not None:
            notes.append(f"above_baseline of {name} is checked in trainings only")
    return found.model_copy(update={"gates": {**of_file, **given}}), notes


def _number_of(gate: float | Bounds) -> float | None:
    """The bound that needs no baseline."""
    if isinstance(gate, Bounds):
        return gate.at_least if gate.at_most is None else gate.at_most
    return gate


def gates_from(mapping: object) -> Evaluate:
    """Gates as in `{"macro_f1": 0.9}`. Raises `InputError`."""
    if not isinstance(mapping, Mapping):
        raise InputError(
            f"the gates are {mapping!r}; give a bound for each metric, as in {{'macro_f1': 0.9}}"
        )
    return Evaluate(
        gates={find_metric(n): _parse_bound(n, bound, f"{n}: ") for n, bound in mapping.items()}
    )


def parse_gate(text: str) -> tuple[str, float]:
    """`macro_f1>=0.9` as a metric and its bound. Raises `InputError`."""
    found = _GATE.fullmatch(text)
    if found is None:
        raise InputError(
            f"{text!r} is not a gate. Give METRIC>=NUMBER, or METRIC<=NUMBER where lower is "
            "better, as in 'macro_f1>=0.9' or 'log_loss<=0.3'"
        )
    name, given, number = found.groups()
    metric = find_metric(name, f"{text!r}: ")
    if given != sign_of(metric):
        better = "lower" if METRICS[metric].lower_is_better else "higher"
        raise InputError(
            f"{text!r}: for {metric}, {better} is better. Give {metric}{sign_of(metric)}{number}"
        )
    return metric, _parse_bound(metric, number, f"{text!r}: ")


def sign_of(metric: str) -> str:
    """The sign of the metric's gate: `>=`, or `<=` if lower is better."""
    return METRICS[metric].sign


def format_gates(gates: Iterable[tuple[str, str]]) -> str:
    """Gates, each a metric and its condition, in one line."""
    return ", ".join(f"{name} {condition}" for name, condition in gates)


def find_metric(name: object, where: str = "") -> str:
    """`name`, if it is a metric. Raises `InputError` that suggests the closest one."""
    if isinstance(name, str) and name in METRICS:
        return name
    close = difflib.get_close_matches(str(name).lower(), METRICS, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    raise InputError(f"{where}there is no metric {name!r}{hint}; allowed: {', '.join(METRICS)}")


def _parse_bound(metric: str, given: object, where: str) -> float:
    try:
        bound = math.nan if isinstance(given, bool) else float(given)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        bound = math.nan
    if not math.isfinite(bound):
        raise InputError(f"{where}{given!r} is not a finite number")
    low, high = METRICS[metric].low, METRICS[metric].high
    if not low <= bound <= high:
        allowed = f"{low:g} or more" if high == math.inf else f"{high:g} or less"
        allowed = f"from {low:g} to {high:g}" if math.isfinite(high - low) else allowed
        raise InputError(f"{where}{bound:g} cannot be a bound: {metric} is {allowed}")
    return bound
