"""Networks with the defaults of `modelmint new` against simple models, on public data sets.

`python benchmarks/quality.py [--only NAME,NAME] [--held-out] [--also KEY=VALUE ...]`. Every model
learns from the same training rows and predicts the same test rows. Each `--also` trains one more
network on them, with other parameters. The table has the first headline metric of each model, and
the difference of the network to the best simple one, with its 95 % interval, from the same draws of
test rows for both. PyTorch evaluates the networks; `export` compares ONNX Runtime with it on every
row of a test split.
"""

import argparse
import contextlib
import json
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.pipeline import make_pipeline

from benchmarks.quality_data import CASES, Case
from tasks import baselines
from tasks import params as parameters
from tasks.baselines import Examples, _sample
from tasks.bundle.signature import Signature
from tasks.checkpoint import load
from tasks.columns import Arrays, EncodeContext, SourceLocation
from tasks.config import Params
from tasks.dataset import read_split, read_table
from tasks.encoding import Encoder, one_array
from tasks.evaluate import run_network, with_threshold
from tasks.pipeline import STEPS
from tasks.problems import Metric
from tasks.problems.bootstrap import interval
from tasks.proposal import propose
from tasks.quick_models import KINDS, Budget, Target
from tasks.workspace import Workspace

HEADER = "| data | network | metric | network | majority | linear | quick | difference | seconds |"
MAJORITY, LINEAR = ("most frequent class", "mean"), "linear"


@dataclass(frozen=True)
class Result:
    """One network and the simple models, on the test rows of one data set."""

    case: Case
    network: str
    metric: Metric
    value: float
    simple: dict[str, float]
    """The metric of each simple model, by name."""
    ends: tuple[float, float]
    """The interval of the difference to the best of them; positive if the network is better."""
    seconds: float

    @property
    def difference(self) -> float:
        sign = -1 if self.metric.lower_is_better else 1
        return min(sign * (self.value - other) for other in self.simple.values())

    @property
    def verdict(self) -> str:
        low, high = self.ends
        return "below" if high < 0 else "above" if low > 0 else "equal"

    def __str__(self) -> str:
        ignoring = next(v for name, v in self.simple.items() if name in MAJORITY)
        quick = next(v for n, v in self.simple.items() if n not in (*MAJORITY, LINEAR))
        low, high = self.ends
        numbers = " | ".join(f"{n:.3f}" for n in (self.value, ignoring, self.simple[LINEAR], quick))
        difference = f"{self.difference:+.3f} [{low:+.3f}, {high:+.3f}] {self.verdict}"
        first = f"| {self.case.name} ({self.case.kind}) | {self.network} | {self.metric.name} |"
        return f"{first} {numbers} | {difference} | {self.seconds:.0f} |"


def linear(train: Examples, test: Examples, target: Target, classes: int) -> Arrays:
    """Logistic or ridge regression on scaled numbers and one-hot categories; texts as TF-IDF."""
    columns, kind = train.encoder.signature.columns, KINDS["linear"]

    def features(rows: Examples) -> tuple[Any, Any]:
        values = [(column, one_array(rows.table[column.name])) for column in columns]
        reading, tokenizer = rows.encoder.signature.read_as, rows.encoder.tokenizer
        return kind.features(values, EncodeContext(SourceLocation("rows"), reading, tokenizer))

    transformer, inputs = features(train)
    model = make_pipeline(
        transformer, kind.estimators[target](Budget(0, len(train), columns, 1, 0))
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(inputs, train.targets)
    if target == "number":
        return {"prediction": model.predict(features(test)[1])}
    found = np.zeros((len(test), classes), np.float32)
    found[:, model.classes_] = model.predict_proba(features(test)[1])
    return {"probabilities": found}


Scored = Callable[[Signature, Arrays], Any]


def simple_models(
    params: Params, workspace: Workspace, encoder: Encoder, scored: Scored
) -> dict[str, Any]:
    """What metrics of the baselines of `export` and of a linear model are computed from. Each has
    a threshold of its own, as in `export`."""
    signature = encoder.signature
    table = _sample(read_table(workspace.prepared, "train"), params.evaluate, encoder)
    train = Examples(table, encoder, params.evaluate)
    test = Examples(read_table(workspace.prepared, "test"), encoder, params.evaluate)
    target: Target = "class" if signature.classifies else "number"
    of_linear = partial(linear, train, target=target, classes=len(signature.classes))
    found = {}
    for name, quick, predict in (
        *signature.problem.baselines(signature, train),
        (LINEAR, True, of_linear),
    ):
        given = (params.evaluate, workspace.prepared, encoder, predict)
        found[name] = scored(
            baselines.with_threshold(*given) if quick else signature, predict(test)
        )
    return found


def results(case: Case, root: Path, also: list[list[str]]) -> Iterator[Result]:
    """The network that `modelmint new` proposes, and one for each list of overrides in `also`."""
    raw, workspace = root / "data/raw", Workspace(root)
    raw.mkdir(parents=True)
    proposal = propose(root, f"data/raw/{case.make(raw)}").params
    STEPS["prepare"].run(proposal, workspace)
    encoder = Encoder.read(workspace.prepared)
    signature, problem = encoder.signature, encoder.signature.problem
    test = read_split(workspace.prepared, "test", encoder)
    metric = next(m for m in problem.metrics if m.name == problem.headline[0])
    sign = -1 if metric.lower_is_better else 1

    def scored(own: Signature, outputs: Arrays) -> Any:
        return problem.scored(own, test.targets, outputs, 15)

    simple = simple_models(proposal, workspace, encoder, scored)
    values = {name: float(metric.compute(one) or 0.0) for name, one in simple.items()}
    best = max(values, key=lambda name: sign * values[name])
    for overrides in ([], *also):
        changed = parameters.override(proposal.model_dump(mode="json"), overrides)
        params, started = Params.model_validate(changed), time.monotonic()
        STEPS["train"].run(params, workspace)
        seconds = time.monotonic() - started
        network, _ = load(workspace.checkpoint)
        own = with_threshold(params.evaluate, network, encoder, workspace.prepared)
        ours = scored(own, run_network(network, signature, test.inputs, 1024))
        drawn, others = problem.redrawn([ours, simple[best]], [metric.name], 0)
        ends = interval(sign * (drawn[metric.name] - others[metric.name])) or (np.nan, np.nan)
        name = params.train.architecture.name
        value = float(metric.compute(ours) or 0.0)
        yield Result(case, name, metric, value, values, ends, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="names of data sets, separated by commas")
    parser.add_argument("--held-out", action="store_true", help="the half that chose no default")
    parser.add_argument("--also", nargs="+", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--log", type=Path, default=Path("/dev/null"), help="what the stages print")
    given = parser.parse_args()
    wanted = given.only.split(",") if given.only else []
    chosen = [c for c in CASES if (c.name in wanted if wanted else c.held_out == given.held_out)]
    print(HEADER, "|---" * (HEADER.count("|") - 1) + "|", sep="\n", flush=True)
    proposed: list[Result] = []
    for case in chosen:
        with tempfile.TemporaryDirectory() as folder, given.log.open("a") as log:
            found = results(case, Path(folder), given.also)
            for number in range(1 + len(given.also)):
                with contextlib.redirect_stdout(log):
                    result = next(found)
                print(result, flush=True)
                if number == 0:
                    proposed.append(result)
    verdicts = [result.verdict for result in proposed]
    counts = {name: verdicts.count(name) for name in ("above", "equal", "below")}
    median = float(np.median([result.difference for result in proposed]))
    print(json.dumps({**counts, "median difference": round(median, 4)}))


if __name__ == "__main__":
    main()
