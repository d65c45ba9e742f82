"""A study that is killed 30 times during 40 trials, beside one that is not killed.

    python benchmarks/tune_kills.py [--kills 30] [--trials 40] [--url postgresql+psycopg://...]

A worker is a process that works on the study as `modelmint tune` does. A trial computes a loss for
eight epochs instead of training, in 0.2 s, so that a kill hits every moment of it. SIGKILL comes at
a random time after the worker has opened the study. Both studies must have the same trials with the
same states and losses, and so the same best.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

PAUSE_S = 0.025  # of each of the eight epochs
HELPERS = Path(__file__).parents[1] / "tests" / "helpers"
sys.path[:0] = [str(HELPERS.parents[1]), str(HELPERS)]

from study_helpers import open_study, start_worker  # noqa: E402

from registry import Registry  # noqa: E402


def main() -> int:
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--kills", type=int, default=30)
    given.add_argument("--trials", type=int, default=40)
    given.add_argument("--url", help="an empty PostgreSQL database for the study that is killed")
    options = given.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        calm, stormy = f"sqlite:///{folder}/calm.db", options.url or f"sqlite:///{folder}/stormy.db"
        for url in (calm, stormy):
            with Registry(url, f"{folder}/{len(url)}") as registry:
                registry.create()
        seconds = finish(calm, options.trials)
        began = time.monotonic()
        # So that the kills are spread over the study. A killed worker begins its trial again.
        kills = kill_again_and_again(stormy, options, 2 * seconds / options.kills)
        finish(stormy, options.trials)
        print(f"{seconds:.0f} s without kills, {time.monotonic() - began:.0f} s with them")
        return compare(calm, stormy, options.trials, kills)


def kill_again_and_again(url: str, options: argparse.Namespace, longest: float) -> int:
    """Start workers, and kill each within `longest` seconds of its work; returns how many were
    killed before the study was complete."""
    drawn, kills = random.Random(0), 0
    while kills < options.kills:
        worker = start_worker(url, options.trials, PAUSE_S)
        assert worker.stdout is not None
        worker.stdout.readline()  # it has opened the study
        time.sleep(drawn.uniform(0, longest))
        alive = worker.poll() is None
        worker.kill()
        worker.wait()
        if not alive:
            break
        kills += 1
    return kills


def finish(url: str, trials: int) -> float:
    """Complete the study. Returns the seconds of its work."""
    worker = start_worker(url, trials, PAUSE_S)
    assert worker.stdout is not None
    worker.stdout.readline()
    began = time.monotonic()
    _, errors = worker.communicate()
    if worker.returncode:
        raise SystemExit(errors)
    return time.monotonic() - began


def compare(calm: str, stormy: str, trials: int, kills: int) -> int:
    found = {url: open_study(url, trials).trials() for url in (calm, stormy)}
    for url, words in ((calm, "not killed"), (stormy, f"killed {kills} times")):
        own = found[url]
        states = [one.state for one in own]
        best = min((one for one in own if one.loss is not None), key=lambda one: one.loss or 0)
        counted = ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states))
        repeated = sum(one.attempts - 1 for one in own)
        print(f"{words}: {len(own)} trials ({counted}), {repeated} repeated attempts; ", end="")
        print(f"best is trial {best.ordinal} with {best.loss:.6f}")
    same = [
        (a.state, a.loss) == (b.state, b.loss)
        for a, b in zip(found[calm], found[stormy], strict=False)
    ]
    equal = all(same) and len(found[calm]) == len(found[stormy]) == trials
    print("the same trials" if equal else "DIFFERENT TRIALS")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
