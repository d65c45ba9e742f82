"""The search space of `modelmint tune`: checks it, and proposes one. Knows nothing of Optuna."""

import json
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import islice, product
from math import prod
from typing import Any

from tasks import params as parameters
from tasks.config import Dimension, Params, Tune
from tasks.errors import InputError
from tasks.problems import PROBLEMS

NOT_TUNED = {
    "train.seed": "the best of many seeds is luck; the best trials are repeated with other seeds",
    "train.imbalance": "it changes what the validation loss measures, so trials cannot be compared",
    "train.loss": "trials with another loss cannot be compared",
    "train.quantile": "trials with another loss cannot be compared",
    "train.target_transform": "it changes what the validation loss measures",
    "train.init_from": "trials share the data that was prepared once; set it in train",
    "train.init_keys": "it belongs to train.init_from; set it in train",
    "train.device": "it decides where a trial runs, not how good it is",
    "train.checkpoint": "it does not change the result",
}
"""Parameters of `train` that no study varies, and why."""
CHECKED = 64
"""Combinations of ends of ranges and of choices that are validated before anything starts. Of more,
so many are drawn: each takes 5 ms."""
SHOWN = 5

Choose = Callable[[str, Dimension], Any]


@dataclass(frozen=True)
class Space:
    """The parameters to vary, in an order in which each comes after those that its `when` names."""

    dimensions: Mapping[str, Dimension]
    whole: frozenset[str]
    """The parameters that are whole numbers."""
    base: Mapping[str, Any]
    """The values of all parameters where nothing is varied, by name."""

    @classmethod
    def of(cls, data: Mapping[str, Any], tune: Tune, where: str) -> "Space":
        """The space of `tune` around the parameters `data`, a valid params.yaml.

        Raises:
            InputError: a parameter does not exist or is not tuned, a condition is never met, or a
                value makes other parameters invalid. One line for each mistake; `where` is their
                origin.
        """
        params = parameters.validate(data, where)
        given = tune.parameters or proposed(params)
        problems = [line for name in given for line in _refused(name, given[name])]
        _raise(problems, where)
        order = _in_order(given, where)
        base = parameters.flat(params.model_dump(mode="json"))
        whole = frozenset(n for n, d in given.items() if _is_whole(data, given, n, d))
        space = cls({name: given[name] for name in order}, whole, base)
        _raise(space._faults(data), where)
        return space

    def values(self, choose: Choose) -> dict[str, Any]:
        """A value for each parameter whose conditions are met; `choose` gives one."""
        chosen: dict[str, Any] = {}
        for name, dimension in self.dimensions.items():
            if all(dimension.meets(n, chosen.get(n, self.base.get(n))) for n in dimension.when):
                chosen[name] = choose(name, dimension)
        return chosen

    def decoded(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Values as the parameters take them, from those that a study stores."""

        def choose(name: str, dimension: Dimension) -> Any:
            if dimension.choices is None:
                return self.number(name, stored[name])
            return dimension.choices[dimension.labels.index(stored[name])]

        return self.values(choose)

    def number(self, name: str, value: float) -> int | float:
        """A number as the parameter takes it."""
        return round(value) if name in self.whole else value

    def _faults(self, data: Mapping[str, Any]) -> list[str]:
        """What is wrong with ranges, choices and conditions; a line each."""
        found: dict[str, None] = {}
        met = set[str]()
        for values in self._extremes():
            met |= values.keys()
            try:
                parameters.validate(parameters.override(data, assignments(values)), "")
            except InputError as error:
                lines = [line.removeprefix(": ") for line in str(error).splitlines()]
                found |= dict.fromkeys(f"{_shown(values, line)}: {line}" for line in lines)
                if len(found) >= SHOWN:
                    break
        never = [name for name in self.dimensions if name not in met]
        never = never if len(found) < SHOWN else []
        return [*found, *(f"tune.parameters.{name}: `when` is never met" for name in never)]

    def _extremes(self) -> Iterable[dict[str, Any]]:
        """Assignments of ends of ranges and of choices: all of them, or `CHECKED` drawn ones.

        Whatever is drawn, each end and each choice is there, where its conditions can be met.
        """
        options = {name: self._options(name, d) for name, d in self.dimensions.items()}
        if prod(map(len, options.values())) <= CHECKED:
            for combination in product(*options.values()):
                yield self.values(_picked(dict(zip(options, combination, strict=True))))
            return
        for name, own in options.items():
            for one in own:
                yield self.values(self._towards(name, one, options))
        drawn = random.Random(0)
        for _ in range(CHECKED):
            yield self.values(lambda name, _: drawn.choice(options[name]))

    def _options(self, name: str, dimension: Dimension) -> list[Any]:
        if dimension.choices is not None:
            return dimension.choices
        assert dimension.low is not None
        assert dimension.high is not None
        return [self.number(name, dimension.low), self.number(name, dimension.high)]

    def _towards(self, name: str, value: Any, options: Mapping[str, list[Any]]) -> Choose:
        """Chooses `value` for a parameter, and for those of its conditions what meets them."""
        wanted = {name: [value]}
        waiting = [name]
        while waiting:
            dimension = self.dimensions[waiting.pop()]
            for parent in dimension.when:
                if parent in options:
                    fitting = [o for o in options[parent] if dimension.meets(parent, o)]
                    wanted[parent] = fitting or options[parent]
                    waiting.append(parent)
        return lambda name, _: wanted.get(name, options[name])[0]


def _picked(values: Mapping[str, Any]) -> Choose:
    return lambda name, _: values[name]


def assignments(values: Mapping[str, Any]) -> list[str]:
    """Values as `-S` takes them: sections first, then names of a choice, which clear the others."""
    order = sorted(
        values, key=lambda n: (n.count("."), n.rpartition(".")[2] not in parameters.TAGS)
    )
    return [f"{name}={json.dumps(values[name])}" for name in order]


def proposed(params: Params) -> dict[str, Dimension]:
    """Parameters worth varying for these: optimizer and batch size, regularisation, size."""
    train, network = params.train, params.train.architecture
    rate, batch = train.optimizer.learning_rate, train.batch_size
    found = {
        "train.optimizer.learning_rate": Dimension(
            low=_rounded(rate / 8), high=_rounded(rate * 8), log=True
        ),
        "train.optimizer.weight_decay": Dimension(low=0.0001, high=0.3, log=True),
        "train.batch_size": Dimension(choices=[max(2, batch // 2), batch, 2 * batch]),
    }
    if hasattr(network, "dropout"):
        found["train.architecture.dropout"] = Dimension(low=0.0, high=0.6)
    for name in ("widths", "hidden"):
        if size := getattr(network, name, None):
            sizes = [_scaled(size, factor) for factor in (0.5, 1, 2)]
            found[f"train.architecture.{name}"] = Dimension(choices=sizes)
    classes = PROBLEMS[params.prepare.task].loss == "cross_entropy"
    if classes and network.name != "transformer_lm":
        found["train.label_smoothing"] = Dimension(low=0.0, high=0.15)
    return found


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")


def _scaled(size: Any, factor: float) -> Any:
    if isinstance(size, list):
        return [_scaled(one, factor) for one in size]
    return max(1, round(size * factor))


def _refused(name: str, dimension: Dimension) -> Iterable[str]:
    at = f"tune.parameters.{name}"
    if not name.startswith("train.") or name.endswith(".") or ".." in name:
        yield (
            f"{at}: only parameters of train can be varied, such as train.batch_size: the data are "
            "prepared once for all trials, and what follows the training does not change the "
            "validation loss"
        )
    for refused, why in NOT_TUNED.items():
        if name == refused or name.startswith(f"{refused}."):
            yield f"{at} cannot be varied: {why}"
    if name in dimension.when:
        yield f"{at}: `when` names the parameter itself"


def _in_order(given: Mapping[str, Dimension], where: str) -> list[str]:
    needs = {name: [n for n in d.when if n in given] for name, d in given.items()}
    try:
        return list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        circle = " needs ".join(error.args[1])
        raise InputError(f"{where}: tune.parameters: `when` goes in a circle: {circle}") from error


def _is_whole(
    data: Mapping[str, Any], given: Mapping[str, Dimension], name: str, dimension: Dimension
) -> bool:
    """Whether the parameter takes the ends of its range only as whole numbers."""
    low, high = dimension.low, dimension.high
    if low is None or high is None or not (low.is_integer() and high.is_integer()):
        return False
    conditions = {
        parent: value[0] if isinstance(value, list) and value else value
        for parent, value in dimension.when.items()
    }

    def valid(value: float) -> bool:
        tried = assignments({**conditions, name: value})
        try:
            parameters.validate(parameters.override(data, tried), "")
        except InputError:
            return False
        return True

    between = low + (high - low) / 2
    between = between + 0.25 if between.is_integer() else between
    return valid(int(low)) and not valid(between)


def _shown(values: Mapping[str, Any], line: str) -> str:
    """The values that a message is about: those that it names, else all."""
    named = {n: v for n, v in values.items() if line.startswith(n)} or values
    text = ", ".join(islice((f"{n}={json.dumps(v)}" for n, v in named.items()), 4))
    return f"tune.parameters: with {text}"


def _raise(problems: list[str], where: str) -> None:
    if problems:
        more = [f"{where}: and more"] if len(problems) > SHOWN else []
        raise InputError("\n".join([*(f"{where}: {p}" for p in problems[:SHOWN]), *more]))
