"""Ten days of a model whose world changes on day 5: drift, labels two days late, a new champion.

    make loop

A shop predicts which parcels come late. From day 5 on it also delivers abroad: other distances, and
another meaning of them. Everything is as in production: a project of `modelmint new`, the flows of
the deployments `hourly` and `retrain` on a temporary Prefect server, `feedback` with the labels of
the day before yesterday. Days are files. Ends with 1 if the story did not happen.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from ruamel.yaml import YAML

NAME, DAYS, ABROAD, LATE = "parcels", 10, 5, 2
ROWS, RAW = 400, 1_000
ENOUGH = 2
"""Days of labels after the change that a training waits for."""
CARRIERS = np.array(["bike", "van", "rail"])
# Fast on two cores, and as good as these data allow.
CHANGED = {
    "train": {"epochs": 40, "patience": 10, "optimizer": {"learning_rate": 0.01}},
    "evaluate": {"gates": {"accuracy": 0.8}},
    "registration": {"metric": "accuracy"},
    "retrain": {"triggers": ["drift"], "labels": ENOUGH * ROWS, "rollback": "propose"},
}


def parcels(day: int, number: int) -> pa.Table:
    """The parcels of a day with what became of them; day 0 is the past."""
    draw = np.random.default_rng(day)
    abroad = day >= ABROAD
    distance = draw.gamma(3, 20, number) + (150 if abroad else 0)
    weight = draw.gamma(2, 2, number)
    carrier = draw.choice(3, number)
    # Abroad the vans wait at the border, and the trains do not.
    slow = np.array([25, -5, 35])[carrier] if not abroad else np.array([40, 110, -60])[carrier]
    late = distance + 3 * weight + slow + draw.normal(0, 6, number) > (90 if not abroad else 270)
    return pa.table(
        {
            "key": [f"{day:02}-{place:04}" for place in range(number)],
            "distance_km": np.round(distance, 1),
            "weight_kg": np.round(weight, 2),
            "carrier": CARRIERS[carrier],
            "late": np.where(late, "yes", "no"),
        }
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, help="where to make the project; default: temporary")
    folder = parser.parse_args().folder or Path(tempfile.mkdtemp(prefix="modelmint-loop-"))
    root = folder / NAME
    make_project(folder, root)
    os.chdir(root)
    os.environ.setdefault("PREFECT_HOME", str(folder / "prefect"))
    os.environ["PREFECT_LOGGING_LEVEL"] = "ERROR"
    from flows import launch

    launch.prepare_prefect(lambda text: None)
    outcome = launch.train("params.yaml", [])
    print(
        f"day  0  trained {outcome.version}, accuracy {outcome.metrics['accuracy']:.3f}", flush=True
    )
    days = [live(day) for day in range(1, DAYS + 1)]
    return judge(days)


def make_project(folder: Path, root: Path) -> None:
    """Make a project whose raw data is a folder with the table of the past."""
    from flows.project import new_project

    (folder / "past").mkdir(parents=True)
    pa.csv.write_csv(parcels(0, RAW).drop_columns(["key"]), folder / "past/parcels.csv")
    who = {
        f"GIT_{w}_{k}": "loop@example.org"
        for w in ("AUTHOR", "COMMITTER")
        for k in ("NAME", "EMAIL")
    }
    os.environ.update(who)
    new_project(root, folder / "past")
    yaml = YAML()
    path = root / "params.yaml"
    params = yaml.load(path)
    for section, values in CHANGED.items():
        params[section].update(values)
    params["registration"]["name"] = NAME
    params["prepare"]["source"]["target"] = "late"
    yaml.dump(params, path)
    subprocess.run(["git", "commit", "-qam", "Gates, and the loop"], cwd=root, check=True)


def live(day: int) -> dict[str, object]:
    """What the schedules and people do in a day."""
    from flows import launch
    from flows.inference import inference
    from flows.settings import Settings

    rows = parcels(day, ROWS)
    inbox = Path("data/inbox", f"day-{day:02}.csv")
    pa.csv.write_csv(rows.drop_columns(["late"]), inbox)
    hour_ago = time.time() - 3600
    os.utime(inbox, (hour_ago, hour_ago))  # it is complete
    report = inference(f"{NAME}@champion", new=True)
    (job,) = report.jobs
    predicted = pa.concat_tables(
        [pa.parquet.read_table(path) for path in sorted(Path(job.output).glob("*.parquet"))]
    )
    right = np.mean(np.array(predicted["prediction"]) == np.array(rows["late"]))
    found = {
        "day": day,
        "version": job.model,
        "accuracy": float(right),
        "drift": job.drift["verdict"],
    }
    line = f"day {day:2}  {job.model}  accuracy {right:.3f}  drift {found['drift']:<8}"
    if day > LATE:
        labels = parcels(day - LATE, ROWS).select(["key", "late"])
        pa.csv.write_csv(labels, "labels.csv")
        give(Settings.from_environment())
    state = launch.retrain("predictions")
    found["state"], found["message"] = state.name, state.message or ""
    print(f"{line}  {shortened(found['message'])}", flush=True)
    return found


def give(settings: object) -> None:
    from flows.feedback import give as give_labels

    with settings.open_registry() as registry:
        given = {"key": "key", "label": None, "job": None, "actor": "shop", "say": print}
        give_labels(registry, NAME, Path("labels.csv"), **given)


def shortened(text: str) -> str:
    return text if len(text) < 150 else f"{text[:147]}..."


def judge(days: list[dict[str, object]]) -> int:
    """Print the chain of the history. Returns 0 if drift led to one training, and that to a better
    champion."""
    from flows.settings import Settings

    with Settings.from_environment().open_registry() as registry:
        events = list(reversed(registry.history(NAME)))
    print("\nmodelmint models history parcels")
    for event in events:
        if event.payload.get("topic") or event.kind in ("registered", "promoted"):
            print(f"  {event.kind:<10} {event.version or '':<2} {shortened(event.reason or '')}")
    accuracy = {day["day"]: day["accuracy"] for day in days}
    started = [e for e in events if e.payload.get("phase") == "started"]
    before = np.mean([accuracy[day] for day in range(1, ABROAD)])
    new = ABROAD + LATE + ENOUGH  # the first day with the new champion
    worst = np.mean([accuracy[day] for day in range(ABROAD, new)])
    after = np.mean([accuracy[day] for day in range(new, DAYS + 1)])
    print(f"\naccuracy {before:.3f} before, {worst:.3f} abroad, {after:.3f} with the new champion")
    happened: dict[str, bool] = {
        "no drift before day 5": all(d["drift"] == "none" for d in days[: ABROAD - 1]),
        "drift on day 5": days[ABROAD - 1]["drift"] == "drifted",
        "one training": len(started) == 1,
        "promoted": days[-1]["version"] == f"{NAME}:2",
        "used": any(e.payload.get("phase") == "used" for e in events),
        "accuracy fell": worst < before - 0.1,
        "accuracy recovered": after > worst + 0.1,
    }
    for what, did in happened.items():
        if not did:
            print(f"did not happen: {what}", file=sys.stderr)
    return 0 if all(happened.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
