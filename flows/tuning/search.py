"""The workers of one command: each runs one trial of a study after the other."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from flows.stages import Stopped
from flows.tuning.studies import Claimed, Heart, Study, Suggest
from flows.tuning.trials import Material, TrialFailed, run_trial
from tasks.config import Params
from tasks.errors import InputError
from tasks.search_space import Space

POLL_S = 0.5
"""Between two looks at the trials of other workers, when this one has nothing to do."""


@dataclass(frozen=True)
class Ended:
    """A trial that a worker of this command has ended."""

    number: int
    loss: float | None
    """The lowest validation loss; None unless the trial is complete."""
    epochs: int
    text: str
    """How it ended, in words."""
    seconds: float


@dataclass(frozen=True)
class Search:
    """What the workers do: where values come from, and how a trial trains with them."""

    study: Study
    suggest: Suggest
    params_of: Callable[[Claimed], Params]
    """The parameters of a trial. Raises InputError if its values make them invalid."""
    material: Material
    kind: str
    """For the names of the worktrees."""
    keep_metric: bool = False

    def run(self, workers: int) -> Iterator[Ended]:
        """Run trials until the budget of the study is used up, also by other commands.

        Yields each trial that ended here. If the caller stops, running trainings are ended by
        `stages_stop_with_this`, and other commands repeat them.
        """
        ended: queue.SimpleQueue[Ended] = queue.SimpleQueue()
        stop = threading.Event()
        with Heart(self.study), ThreadPoolExecutor(workers, "tune") as pool:
            futures = [pool.submit(self._work, ended.put, stop) for _ in range(workers)]
            try:
                while not all(future.done() for future in futures) or not ended.empty():
                    try:
                        yield ended.get(timeout=POLL_S)
                    except queue.Empty:
                        if any(f.done() and f.exception() for f in futures):
                            break
            finally:
                stop.set()
        for future in futures:
            future.result()

    def _work(self, tell: Callable[[Ended], None], stop: threading.Event) -> None:
        while not stop.is_set():
            claimed = self.study.ask(self.suggest)
            if claimed is not None:
                tell(self._train(claimed))
            elif any(trial.state == "running" for trial in self.study.trials()):
                stop.wait(POLL_S)  # its worker may die, and then it is repeated
            else:
                return

    def _train(self, claimed: Claimed) -> Ended:
        began = time.monotonic()
        epochs = 0

        def watch(epoch: int, loss: float) -> bool:
            nonlocal epochs
            epochs = epoch
            return self.study.report(claimed, epoch, loss)

        def ended(loss: float | None, text: str) -> Ended:
            return Ended(claimed.number, loss, epochs, text, time.monotonic() - began)

        try:
            params = self.params_of(claimed)
            name = f"{self.kind}{claimed.handle.number}"
            trained = run_trial(self.material, name, params, watch)
        except (TrialFailed, InputError) as error:
            self.study.failed(claimed, str(error))
            return ended(None, f"failed: {error}")
        except Stopped:
            raise  # the process is about to end: the trial is repeated
        except BaseException as error:
            self.study.failed(claimed, f"{type(error).__name__}: {error}")
            raise
        if trained is None:
            self.study.pruned(claimed)
            return ended(None, f"stopped early, after epoch {epochs}")
        if self.keep_metric:
            claimed.handle.set_user_attr("metric", trained.metric)
        self.study.complete(claimed, trained.loss)
        return ended(trained.loss, f"validation loss {trained.loss:.4f}")


def suggest_from(space: Space) -> Suggest:
    """Values of a search space, from an Optuna trial."""

    def suggest(trial: Any) -> dict[str, Any]:
        def choose(name: str, dimension: Any) -> Any:
            if dimension.choices is not None:
                labels = dimension.labels
                return dimension.choices[labels.index(trial.suggest_categorical(name, labels))]
            low, high, step = dimension.low, dimension.high, dimension.step
            if name in space.whole:
                whole = {"step": int(step)} if step else {}
                return trial.suggest_int(name, int(low), int(high), log=dimension.log, **whole)
            return trial.suggest_float(name, low, high, log=dimension.log, step=step)

        return space.values(choose)

    return suggest
