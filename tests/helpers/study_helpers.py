"""A worker of a study whose trials take no training: a process that tests start and kill."""

import json
import os
import subprocess
import sys
import time
from typing import Any

from forks import python_code

from flows.tuning.studies import Study

CODE = "import json, sys; from study_helpers import work; work(*json.loads(sys.argv[1]))"
IDENTITY = {"data": "d", "space": {}, "train": {}, "code": "c", "search": []}


def loss_of(x: float, y: float, epoch: int) -> float:
    """A loss that falls with the epochs; lowest at x = 3, y = 0.01."""
    return (x - 3) ** 2 + abs(y - 0.01) + 5 / epoch


def suggest(trial: Any) -> dict[str, Any]:
    return {
        "x": trial.suggest_float("x", -10, 10),
        "y": trial.suggest_float("y", 1e-4, 1, log=True),
    }


def open_study(url: str, trials: int, name: str = "m-1") -> Study:
    return Study(url, name, identity=IDENTITY, seed=7, pruner="median", trials=trials)


def work(url: str, trials: int, pause: float) -> None:
    """Work on a study until its budget is used up."""
    study = open_study(url, trials)
    print("ready", flush=True)
    while True:
        claimed = study.ask(suggest)
        if claimed is None:
            if all(trial.state != "running" for trial in study.trials()):
                return
            time.sleep(0.05)
            continue
        for epoch in range(1, 9):
            time.sleep(pause)
            loss = loss_of(claimed.values["x"], claimed.values["y"], epoch)
            if study.report(claimed, epoch, loss):
                study.pruned(claimed)
                break
        else:
            study.complete(claimed, loss)


def start_worker(url: str, trials: int, pause: float = 0.0) -> "subprocess.Popen[str]":
    """A process that works on a study."""
    return subprocess.Popen(
        python_code(CODE, json.dumps([url, trials, pause])),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
