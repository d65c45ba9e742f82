"""Runs the flows in this process, for the command line."""

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from flows import warm
from flows.deploy import LASTING
from flows.errors import ServerDown
from flows.server import be_quiet, find_api, prefect_api
from flows.settings import Settings
from tasks.process import paused_gc

if TYPE_CHECKING:
    from prefect.client.schemas import State

    from flows.job import JobReport
    from flows.outcome import Outcome
    from flows.tuning.results import TuneOutcome


def prepare_prefect(say: Callable[[str], None]) -> None:
    """Find or start a Prefect API and import the flows. Raises `ServerDown`."""
    be_quiet()  # first, because the stages must have the same variables as the warm process
    warm.start_if_stale(Settings.from_environment().root)
    ready = prefect_api(say)
    # Imported while a temporary server and the warm process start; all take a few seconds.
    with paused_gc():
        import flows.inference
        import flows.retrain
        import flows.training  # noqa: F401

    ready()


def train(params_file: str, overrides: list[str], *, look: bool = False) -> "Outcome":
    """Run the training flow once, after `prepare_prefect`. Raises the exception of a crash."""
    from flows.training import training

    return cast("Outcome", _outcome(training(params_file, overrides, look, return_state=True)))


def retrain(output: str) -> "State[Any]":
    """Run the flow of the loop once, after `prepare_prefect`. Returns how it ended."""
    from flows.retrain import retrain

    return cast("State[Any]", retrain(output, return_state=True))


def tune(params_file: str, overrides: list[str], workers: int) -> "TuneOutcome":
    """Run the tuning flow once, after `prepare_prefect`. Raises the exception of a crash."""
    from flows.tuning.flow import tuning

    return cast("TuneOutcome", _outcome(tuning(params_file, overrides, workers, return_state=True)))


def _outcome(state: Any) -> Any:
    """The outcome of a flow. Raises the exception of a crash."""
    from flows.outcome import NotDone

    found = state.result(raise_on_failure=False)
    if isinstance(found, NotDone):
        return found.outcome
    if isinstance(found, Exception):
        raise found
    return found


def predict(model: str, inputs: list[str], output: str) -> "JobReport":
    """Run the inference flow once, after `prepare_prefect`. Raises the flow's exception."""
    from flows.inference import inference

    state = inference(model, inputs, output, return_state=True)
    report = state.result(raise_on_failure=False)
    if isinstance(report, Exception):
        raise report
    return cast("JobReport", report)


def prefect_command(arguments: list[str]) -> None:
    """Replace this process by Prefect's command, using the running server. Raises `ServerDown`.

    `server start` needs none: it is the server of a team, with the settings that we need.
    """
    if arguments[:2] == ["server", "start"]:
        be_quiet()
        for name, value in LASTING.items():
            os.environ.setdefault(name, value)
    elif not find_api() and "--help" not in arguments:
        raise ServerDown("no Prefect server answers; start one with `modelmint serve`")
    os.execv(sys.executable, [sys.executable, "-P", "-m", "prefect", *arguments])
