"""`modelmint predict` compared with a hand-written script and MLflow's pyfunc, Parquet to Parquet.

    python benchmarks/inference.py [--cases NAME...] [--rounds 5] [--rows N] [--folder DIR]

Whole processes, in turns, in rotated order. The README beside this file says what is compared,
what is checked, and how to read what is printed.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

# Before this file's folder, where `registry` would be benchmarks/registry.py.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.inference_data import CASES, place
from benchmarks.inference_rivals import PARTS
from benchmarks.inference_runs import MLFLOW, OURS, SCRIPT, Failed, Run, Setting

TITLES = {SCRIPT: "hand-written script", MLFLOW: "MLflow pyfunc", OURS: "modelmint predict"}
TENTH, TRUSTING = "C, a tenth", "C, trusting"
BATCH_SIZES = (256, 4096, 65_536)
SCORE_WITHIN = 1e-5
AT_LEAST = {"numbers": (1.0, 3.0), "mixed": (1.0, 3.0), "images": (1.2, 1.5), "texts": (1.3, 1.5)}
"""Times as many rows a second as A, and as B."""
START_S, SHARE, MEMORY, COST, SAFETY = 0.6, 0.1, 1.2, 1.1, 0.15
"""At most: seconds of C with one row; share of the start-up in a run; memory, and CPU time a row,
with all rows in multiples of those with a tenth; the cost of safety."""
SHOWN = 8  # functions of C

Round = dict[str, Run]
"""By target, by `TENTH` and `TRUSTING`, and by `one_row` of each target."""


def one_row(target: str) -> str:
    return f"{target}, one row"


def choose(setting: Setting) -> None:
    """The batch sizes with which A and B predict a tenth of the rows soonest."""
    for target in (SCRIPT, MLFLOW):
        seconds = {size: setting.play(target, setting.tenth, size).seconds for size in BATCH_SIZES}
        setting.sizes[target] = min(seconds, key=lambda size: seconds[size])
        tried = ", ".join(f"{size:,}: {s:.2f} s" for size, s in seconds.items())
        say(f"{setting.case.name}: {target} with a tenth of the rows, by batch size: {tried}")


def play(setting: Setting, turn: int) -> Round:
    """One round: every target with all rows, checked; C trusting; C with a tenth; all with one."""
    shift = turn % len(TITLES)
    order = [*TITLES][shift:] + [*TITLES][:shift]
    runs = {}
    for target in order:
        runs[target] = setting.play(target, setting.rows)
        say(f"{setting.case.name}, round {turn}: {target} {runs[target].seconds:.2f} s")
    check(setting)
    runs[TRUSTING] = setting.trusting()
    runs[TENTH] = setting.play(OURS, setting.tenth)
    for target in order:
        runs[one_row(target)] = setting.play(target, 1)
    return runs


def check(setting: Setting) -> None:
    """Raise `Failed` unless all targets wrote the same rows, labels and scores.

    Two classes within rounding of each other, whose probability is then at most a half, may be
    taken for each other, in one row of 100,000.
    """
    script = predictions(setting.out / SCRIPT)
    if len(script) != setting.rows:
        raise Failed(f"{SCRIPT} predicted {len(script)} rows of {setting.rows}")
    for target in (MLFLOW, OURS):
        found = predictions(setting.out / target)
        if found["key"] != script["key"]:
            raise Failed(f"NOT THE SAME ROWS: {target} predicted {len(found)}, or other keys")
        scores, others = (table["score"].to_numpy() for table in (script, found))
        shift = float(np.abs(scores - others).max())
        differ = pc.not_equal(script["prediction"], found["prediction"]).to_numpy()
        clear = int((differ & (scores > 0.5 + SCORE_WITHIN)).sum())
        if not shift <= SCORE_WITHIN or clear or differ.sum() * 100_000 > setting.rows:
            raise Failed(
                f"NOT THE SAME PREDICTIONS: {SCRIPT} and {target} differ in {differ.sum()} labels, "
                f"{clear} of them clear, and in scores by up to {shift:.1e}"
            )


def predictions(output: Path) -> pa.Table:
    """What a target wrote, by key: in one file, or in shards."""
    shards = sorted((output / "predictions").glob("part-*.parquet"))
    columns = ["key", "prediction", "score"]
    parts = [
        pq.read_table(path, columns=columns).replace_schema_metadata()
        for path in shards or [output / "predictions.parquet"]
    ]
    table = pa.concat_tables(parts)
    labels = table["prediction"].cast(pa.string())
    return table.set_column(1, "prediction", labels).sort_by("key")


def report(setting: Setting, rounds: list[Round], sampled: dict[str, int]) -> None:
    """Print what was found of one case."""
    name, source = setting.case.name, setting.inputs[setting.rows]
    started = time.perf_counter()
    with source.open("rb") as stream:
        hashlib.file_digest(stream, "sha256")
    hashing = time.perf_counter() - started
    print(
        f"\n{name}: {setting.rows:,} rows, {source.stat().st_size / 1e6:.0f} MB of Parquet, whose "
        f"SHA-256 takes {hashing:.2f} s"
    )
    print(
        f"{'':<24}{'batch':>7}{'rows/s, median [range]':>32}{'CPU s':>8}{'cores':>7}"
        f"{'peak MB':>9}{'one row, s':>12}  start-up"
    )
    for target, title in TITLES.items():
        print(f"{target}  {title:<21}{line(setting, target, rounds)}")
    print(f"\n{'rows/s of C to':<18}{'median [range]':>18}  at least            without start-up")
    for other, least in zip((SCRIPT, MLFLOW), AT_LEAST[name], strict=True):
        whole = [one[other].seconds / one[OURS].seconds for one in rounds]
        working = [work(one, other) / work(one, OURS) for one in rounds]
        verdict = "met" if median(whole) >= least else "MISSED"
        print(f"{other:<18}{spread(whole):>18}  {least:<5}{verdict:<15}{spread(working)}")
    costs = [one[OURS].seconds / one[TRUSTING].seconds - 1 for one in rounds]
    print(
        f"safety costs C {median(costs):.1%} [{min(costs):.1%}, {max(costs):.1%}] of the time that "
        f"it takes without hashes, syncs, records and checks of values (below {SAFETY:.0%})"
    )
    print(growth(setting, rounds))
    print(where(rounds, sampled), flush=True)


def line(setting: Setting, target: str, rounds: list[Round]) -> str:
    """The figures of one target, medians of the rounds."""
    runs = [one[target] for one in rounds]
    seconds = median(run.seconds for run in runs)
    start = median(one[one_row(target)].seconds for one in rounds)
    speeds = [setting.rows / run.seconds for run in runs]
    shown = f"{median(speeds):,.0f} [{min(speeds):,.0f}-{max(speeds):,.0f}]"
    cpu = median(run.cpu for run in runs)
    size = f"{setting.sizes[target]:,}" if target in setting.sizes else "its own"
    share = f"{start / seconds:.0%}" + (", above 10 %" if start > SHARE * seconds else "")
    peak = median(run.peak for run in runs) / 1e6
    return (
        f"{size:>7}{shown:>32}{cpu:>8.2f}{cpu / seconds:>7.2f}{peak:>9,.0f}{start:>12.2f}  {share}"
    )


def work(one: Round, target: str) -> float:
    """Seconds of a run without those that the target takes for one row; never 0."""
    return max(0.001, one[target].seconds - one[one_row(target)].seconds)


def growth(setting: Setting, rounds: list[Round]) -> str:
    """How memory and cost of C grow with the rows, and how soon it has predicted one."""
    peaks = [median(one[key].peak for one in rounds) / 1e6 for key in (TENTH, OURS)]
    start = median(one[one_row(OURS)].seconds for one in rounds)
    started = [one[one_row(OURS)].cpu for one in rounds]
    ratio = median(
        ((one[OURS].cpu - cpu) / setting.rows) / max(1e-12, (one[TENTH].cpu - cpu) / setting.tenth)
        for one, cpu in zip(rounds, started, strict=True)
    )
    return (
        f"C, {setting.rows:,} rows in place of {setting.tenth:,}: memory {peaks[0]:,.0f} -> "
        f"{peaks[1]:,.0f} MB, {peaks[1] / peaks[0]:.2f} times (at most {MEMORY}); CPU time a row, "
        f"without start-up, {ratio:.2f} times (at most {COST})\n"
        f"C with one row, from start to exit: {start:.2f} s (at most {START_S})"
    )


def where(rounds: list[Round], sampled: dict[str, int]) -> str:
    """Where the time of each target goes."""
    lines = [f"{'seconds, median round':<24}{'start, end':>11}" + "".join(f"{p:>9}" for p in PARTS)]
    for target in (SCRIPT, MLFLOW):
        run = sorted((one[target] for one in rounds), key=lambda r: r.seconds)[len(rounds) // 2]
        spent = json.loads(run.stdout.splitlines()[-1])
        rest = run.seconds - sum(spent.values())
        figures = "".join(f"{spent[part]:>9.2f}" for part in PARTS)
        lines.append(f"{target:<24}{rest:>11.2f}{figures}")
    total = sum(sampled.values()) or 1
    most = sorted(sampled.items(), key=lambda item: -item[1])[:SHOWN]
    lines.append("C, of the moments in which one of its threads did not wait for another:")
    lines += [f"{count / total:>6.0%}  {function}" for function, count in most]
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    return f"{median(values):.2f} [{min(values):.2f}-{max(values):.2f}]"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=[*CASES], metavar="NAME")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, help="of every case; each has its own default")
    parser.add_argument("--folder", type=Path, help="keeps models and inputs for the next time")
    given = parser.parse_args()
    if given.rounds < 1 or (given.rows is not None and given.rows < 1):
        parser.error("--rounds and --rows must be 1 or more")
    return given


def main() -> None:
    given = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    names = ("onnxruntime-gpu", "pyarrow", "tokenizers", "mlflow-skinny", "pandas")
    print(", ".join(f"{name} {version(name)}" for name in names))
    print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, rounds: {given.rounds}")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        root = place(given.folder.absolute() if given.folder else Path(scratch))
        root.mkdir(parents=True, exist_ok=True)
        for name in given.cases:
            setting = Setting(CASES[name], root, given.rows or CASES[name].rows)
            say(f"{name}: training the model and writing the inputs, unless they are there")
            setting.prepare()
            choose(setting)
            play(setting, 0)  # not counted
            rounds = [play(setting, turn + 1) for turn in range(given.rounds)]
            report(setting, rounds, setting.sample())
            shutil.rmtree(setting.out)


if __name__ == "__main__":
    try:
        main()
    except (Failed, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
