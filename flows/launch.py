"""Runs the flows from this process, for the command line."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from flows.server import prefect_api

if TYPE_CHECKING:
    from flows.job import JobReport
    from flows.training import Outcome


@contextmanager
def prefect_ready(say: Callable[[str], None]) -> Iterator[None]:
    """A Prefect API that answers, and the flows imported. Raises `ServerDown`."""
    with prefect_api(say) as ready:
        # Takes as long as a temporary server needs to wake up, so it happens meanwhile.
        import flows.inference
        import flows.training  # noqa: F401

        ready()
        yield


def train(params_file: str, overrides: list[str]) -> "Outcome":
    """One run of the training flow; call it inside `prefect_ready`."""
    from prefect import tags

    from flows.training import training

    with tags("training"):
        state = training(params_file, overrides, return_state=True)
    return state.result()  # type: ignore[no-any-return]


def predict(model: str, inputs: list[str], output: str) -> "JobReport":
    """One run of the inference flow; call it inside `prefect_ready`. Raises what stopped it."""
    from prefect import tags

    from flows.inference import inference

    with tags("inference"):
        return inference(model, inputs, output)  # type: ignore[return-value]
