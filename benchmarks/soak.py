"""Runs a served project for long, and kills what can be killed: `python benchmarks/soak.py CASE...`

The cases are `kills`, `workers`, `load`, `downtime`, `idle` and `soak`. Each prints what was
measured beside what is wanted. The exit status is 1 if an expectation is broken. Linux only;
`soak` needs PostgreSQL.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.power_cuts import HOLDING, MODELMINT, Failed
from benchmarks.soak_site import Postgres, Served, busy, when

EPOCH = re.compile(r"epoch (\d+)/\d+:")
EPOCHS = 400
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
SETTLE_S = 120.0


def kills(site: Served, given: argparse.Namespace) -> None:
    """Kill the process of a served training at a random epoch; the next run must resume it."""
    site.change("params.yaml", lambda p: p["train"].update(epochs=EPOCHS, patience=EPOCHS))
    site.serve()
    crashed, again, ratios = [], [], []
    for _ in range(given.kills):
        new_seed(site)
        first = len(epochs(site))
        dead = site.start_run("weekly")
        wanted = random.randrange(EPOCHS // 10, EPOCHS * 9 // 10)
        reached = lambda e=wanted, f=first: max(epochs(site)[f:], default=0) >= e  # noqa: E731
        site.until("the epoch to kill at", reached)
        started = time.monotonic()
        site.kill_run(dead["id"])
        site.until("the dead run is Crashed", lambda r=dead: site.state(r) == "Crashed")
        crashed.append(time.monotonic() - started)
        new = site.until("a new run", lambda r=dead: running(site, r))
        again.append(time.monotonic() - started)
        site.until("its end", lambda r=new: site.state(r) not in ("Running", "?"))
        site.expect(
            "the new run ends", site.state(new), "Completed", site.state(new) == "Completed"
        )
        done = epochs(site)[first:]
        ratios.append(len(done) / max(done))
    site.stop()
    site.expect("killed to Crashed", seconds(crashed), "<= 90 s", max(crashed) <= 90)
    site.expect("killed to the new run", seconds(again), "", True)
    worst = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    site.expect("epochs of both runs / of one", worst, "<= 1.2", max(ratios) <= 1.2)


def workers(site: Served, given: argparse.Namespace) -> None:
    """Kill a worker and its run at once, as if their machine lost power; another one resumes it."""
    site.change("params.yaml", lambda p: p["train"].update(epochs=EPOCHS, patience=EPOCHS))
    site.serve()
    site.until("the deployments", lambda: site.deployments().get("on"))
    os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{site.port}/api"
    site.environment["PREFECT_API_URL"] = os.environ["PREFECT_API_URL"]
    site.run(MODELMINT, "prefect", "work-pool", "create", "modelmint", "--type", "process")
    site.run(MODELMINT, "prefect", "--no-prompt", "deploy", "--name", "weekly")
    crashed, again = [], []
    for _ in range(given.kills):
        new_seed(site)
        worker = start_worker(site)
        number = site.until("it", lambda: of_pool(site))["id"]
        body = {"state": {"type": "SCHEDULED"}}
        dead = site.ask(f"deployments/{number}/create_flow_run", body)
        site.until("a training", lambda: site.processes("tasks train"))
        time.sleep(random.uniform(0, 5))
        mine = site.run_processes().get(dead["id"], [])
        started = time.monotonic()
        for process in (worker.pid, *mine):
            subprocess.run(["kill", "-9", str(process)], stderr=subprocess.DEVNULL)
        worker.wait()
        site.until("it is Crashed", lambda r=dead: site.state(r) == "Crashed")
        crashed.append(time.monotonic() - started)
        worker = start_worker(site)
        new = site.until("a new run", lambda r=dead: running(site, r))
        again.append(time.monotonic() - started)
        site.until("its end", lambda r=new: site.state(r) not in ("Running", "?"))
        site.expect(
            "the new run ends", site.state(new), "Completed", site.state(new) == "Completed"
        )
        worker.kill()
        worker.wait()
    del site.environment["PREFECT_API_URL"], os.environ["PREFECT_API_URL"]
    site.stop()
    site.expect("worker killed to Crashed", seconds(crashed), "<= 90 s", max(crashed) <= 90)
    site.expect("worker killed to the new run", seconds(again), "", True)


def load(site: Served, given: argparse.Namespace) -> None:
    """Eight busy processes beside a served training, one of a worker, and jobs."""
    site.change("params.yaml", lambda p: p["train"].update(epochs=EPOCHS, patience=EPOCHS))
    site.schedule(None, 30)
    site.serve()
    site.until("the deployments", lambda: site.deployments().get("on"))
    site.environment["PREFECT_API_URL"] = f"http://127.0.0.1:{site.port}/api"
    site.run(MODELMINT, "prefect", "work-pool", "create", "load", "--type", "process")
    site.run(MODELMINT, "prefect", "--no-prompt", "deploy", "--name", "weekly", "--pool", "load")
    worker = start_worker(site, "load")
    burners = busy(8)
    try:
        deadline = time.monotonic() + 60 * given.load
        number = site.until("it", lambda: of_pool(site))["id"]
        while time.monotonic() < deadline:
            new_seed(site)
            run = site.ask(
                f"deployments/{number}/create_flow_run", {"state": {"type": "SCHEDULED"}}
            )
            for _ in range(INBOX_FILES):
                site.drop_file()
            site.until("its end", lambda r=run: site.state(r) in ("Completed", "Crashed"))
        average = os.getloadavg()[0]
    finally:
        for burner in burners:
            burner.kill()
        worker.kill()
    site.expect("load average", f"{average:.1f}", ">= 8", average >= 8)
    ran = [r for r in site.every_run() if r["state"]["type"] in ENDED]
    false = [r["name"] for r in ran if r["state"]["type"] == "CRASHED"]
    site.expect("false Crashed", f"{len(false)} of {len(ran)} runs", "0", not false)
    gaps = heartbeat_gaps(site)
    longest = max(gaps, default=60.0)
    shown = f"{longest:.1f} s of {len(gaps)}"
    site.expect("longest gap between heartbeats", shown, "< 60 s", longest < 60)
    del site.environment["PREFECT_API_URL"]
    site.stop()


INBOX_FILES = 4


def downtime(site: Served, given: argparse.Namespace) -> None:
    """A power cut, and minutes until the next start: one run of each deployment, not a pile."""
    site.schedule(20, 20)
    site.serve()
    site.until("a run", lambda: site.runs("inference", "COMPLETED"))
    site.until("a training", lambda: site.runs("training", "COMPLETED"))
    time.sleep(30)
    site.kill()
    site.drop_file()
    time.sleep(60 * given.downtime)
    ended = time.time()
    site.serve()
    site.until("the server", lambda: site.ask("health"))
    site.until("a run", lambda: [r for r in site.runs("inference", "COMPLETED") if due(r) > ended])
    time.sleep(30)
    # What waited for its start when the power was cut, and what was due until it came back.
    every = site.every_run()
    missed = [r for r in every if due(r) < ended - 5 and not began(r, before=ended)]
    site.stop()
    for number in sorted({r["deployment_id"] for r in missed}):
        mine = [r for r in every if r["deployment_id"] == number]
        late = Counter(r["state"]["name"] for r in mine if r in missed)
        # A run that was Pending when the power was cut is Crashed, and never began.
        ran = late.total() - late["Skipped"] - late["Crashed"]
        since = sum(bool(r["start_time"]) and not began(r, before=ended) for r in mine)
        site.expect(
            f"late runs of {number[:4]}, and all that began since",
            f"{dict(late)}, {since}",
            "at most one late one ran, and one began",
            ran <= 1 <= since,
        )
    reasons = {r["state"]["message"] or "" for r in missed if r["state"]["name"] == "Skipped"}
    said = all("does the same" in reason for reason in reasons)
    site.expect("a reason is in each", min(reasons, default="none"), "it names the run", said)


def idle(site: Served, given: argparse.Namespace) -> None:
    """The growth of Prefect's database while `serve` waits for a schedule of an hour."""
    site.schedule(7 * 86400, 3600)
    site.serve()
    site.until("the deployments", lambda: site.deployments().get("on"))
    time.sleep(SETTLE_S)  # the scheduler has made the first runs
    before = site.prefect_size()
    time.sleep(60 * given.idle)
    grown = site.prefect_size() - before
    site.stop()
    day = grown * 24 * 60 / given.idle / 1e6
    site.expect("growth in an idle day, without runs", f"{day:.1f} MB", "", True)


def soak(site: Served, given: argparse.Namespace) -> None:
    """200 runs or more; one in ten killed, the server twice, the registry's database once."""
    postgres = Postgres(site.root.parent / "postgres")
    site.environment["MODELMINT_DATABASE_URL"] = postgres.url
    site.environment["MODELMINT_ARTIFACTS"] = str(site.root.parent / "artifacts")
    site.run(MODELMINT, "train")
    site.schedule(given.training_every, given.inbox_every)
    site.serve()
    site.until("the deployments", lambda: site.deployments().get("on"))
    before = (site.prefect_size(), postgres.size())
    begun, killed, disturbed = time.time(), Killed(), []
    until, latest = time.monotonic() + 60 * given.minutes, time.monotonic() + 150 * given.minutes
    events = [(0.25, "the server"), (0.5, "the database"), (0.75, "the server")]
    while time.monotonic() < until or (ran(site) < given.runs and time.monotonic() < latest):
        for event in [e for e in events if time.time() - begun > 60 * given.minutes * e[0]]:
            events.remove(event)
            disturbed.append((event[1], time.time()))
            site.kill("uvicorn") if event[1] == "the server" else restart(postgres)
        site.drop_file()
        if site.ask("health") and not site.runs("training", *HOLDING):
            new_seed(site)  # a change while it runs would be its failure
        pause = time.monotonic() + 5
        while time.monotonic() < pause:
            killed.maybe(site)
            time.sleep(0.25)
    settle(site)
    took, after = time.time() - begun, (site.prefect_size(), postgres.size())
    judge(site, killed, disturbed, took)
    site.stop()
    growth(site, before, after, took)
    predicted(site)
    postgres.kill()


class Killed:
    """Kills one run in ten, at a random moment of its first 8 s."""

    def __init__(self) -> None:
        self._seen: dict[str, float | None] = {}
        self.at: dict[str, float] = {}
        """When each was killed, by the id of the run."""

    def maybe(self, site: Served) -> None:
        now = time.time()
        for run in site.run_processes():
            if run not in self._seen:
                chosen = random.random() < 0.1
                self._seen[run] = now + random.uniform(0, 8) if chosen else None
        for run, moment in self._seen.items():
            if moment is not None and now >= moment and run not in self.at:
                if site.kill_run(run):
                    self.at[run] = now
                self._seen[run] = None


def restart(postgres: Postgres) -> None:
    postgres.kill()
    time.sleep(5)
    postgres.start()


def settle(site: Served) -> None:
    """Pause every schedule, and wait until nothing runs any more."""
    for deployment in site.deployments().values():
        site.ask(f"deployments/{deployment['id']}/pause_deployment", {})

    def quiet() -> bool:
        holding = [r for f in ("training", "inference") for r in site.runs(f, *HOLDING)]
        late = [r for r in site.runs("inference", "SCHEDULED") if due(r) < time.time()]
        return not holding and not late

    site.until("nothing runs any more", quiet)


def judge(site: Served, killed: Killed, disturbed: list[tuple[str, float]], took: float) -> None:
    """What became of every run."""
    runs = [r for r in site.every_run() if due(r) < time.time()]
    states = Counter(r["state"]["name"] for r in runs)
    worked = [r for r in runs if r["start_time"]]
    site.expect("runs that worked", f"{len(worked)} in {took / 60:.1f} min", ">= 200", True)
    site.expect("how all runs ended", dict(states), "", True)
    stuck = [r["name"] for r in runs if r["state"]["type"] not in ENDED]
    site.expect("lost or stuck runs", len(stuck), "0", not stuck)
    crashed = {r["id"]: r for r in runs if r["state"]["type"] == "CRASHED"}
    # A process that starts while the server is down ends with status 1, and is replaced.
    down = [at for what, at in disturbed if what == "the server"]
    unserved = {i for i, r in crashed.items() if any(overlaps(r, at, 120) for at in down)}
    false = [r for i, r in crashed.items() if i not in killed.at and i not in unserved]
    site.expect("killed runs", len(killed.at), "one in ten", True)
    site.expect("crashed while the server was down", len(unserved - set(killed.at)), "", True)
    site.expect("false Crashed", [r["state"]["message"] for r in false], "none", not false)
    other = [i for i in killed.at if i not in crashed and worked_on(runs, i, killed.at[i])]
    site.expect("killed, but not Crashed", len(other), "0", not other)
    delays = [
        when(crashed[i]["state"]["timestamp"]) - at for i, at in killed.at.items() if i in crashed
    ]
    site.expect("killed to Crashed", seconds(delays), "<= 90 s", max(delays, default=0) <= 90)
    failed = [r for r in runs if r["state"]["type"] == "FAILED"]
    moments = [at for what, at in disturbed if what == "the database"]
    strange = [r for r in failed if not any(overlaps(r, at) for at in moments)]
    texts = sorted({(r["state"]["message"] or "")[:200] for r in strange})
    site.expect("failed, but not while the database was down", texts, "none", not strange)
    site.expect("failed while it was", len(failed) - len(strange), "", True)
    locked = site.logged("database is locked")
    site.expect("lines with `database is locked`", locked, "0", not locked)
    slots = [d["global_concurrency_limit"]["active_slots"] for d in site.deployments().values()]
    site.expect("occupied slots", sum(slots), "0", not sum(slots))


def growth(site: Served, before: tuple[int, int], after: tuple[int, int], took: float) -> None:
    """How much both databases grew per run and job."""
    runs = ran(site, stopped=True)
    jobs = len(all_jobs(site))
    each = (after[0] - before[0]) / runs
    site.expect("Prefect's database per run", f"{each / 1000:.1f} kB ({runs} runs)", "", True)
    each = (after[1] - before[1]) / max(jobs, 1)
    site.expect("the registry's per job", f"{each / 1000:.1f} kB ({jobs} jobs)", "", True)


def predicted(site: Served) -> None:
    """Every file that was dropped was predicted in exactly one completed job."""
    done: Counter[str] = Counter()
    for path in site.root.glob("predictions-*/**/manifest.json"):
        for file in json.loads(path.read_text())["inputs"]:
            done[Path(file["path"]).name] += 1
    wanted = {f"rows-{number:04}.arrow" for number in range(site.dropped)}
    missed, twice = wanted - set(done), [name for name, times in done.items() if times > 1]
    site.expect("files", f"{len(done)} of {site.dropped} predicted", "all", not missed)
    site.expect("predicted twice", len(twice), "0", not twice)
    running = [job["id"] for job in all_jobs(site) if job["state"] == "running"]
    site.expect("jobs that the registry calls running", len(running), "0", not running)
    site.run(MODELMINT, "models", "verify")


def all_jobs(site: Served) -> list[dict[str, Any]]:
    found: list[dict[str, Any]]
    found = json.loads(site.run(MODELMINT, "models", "jobs", "--limit", "1000", "--json"))
    return found


RAN: dict[str, int] = {}


def ran(site: Served, stopped: bool = False) -> int:
    """How many runs have ended and had a process."""
    if not stopped:
        ended = [r for r in site.every_run() if r["start_time"] and r["state"]["type"] in ENDED]
        RAN["runs"] = len(ended)
    return RAN["runs"]


def epochs(site: Served) -> list[int]:
    """The epochs that all trainings printed, in their order."""
    return [int(number) for number in EPOCH.findall(site.log.read_text(errors="replace"))]


def running(site: Served, dead: dict[str, Any]) -> dict[str, Any] | None:
    """The training that runs, other than a dead one."""
    found = [r for r in site.runs("training", "RUNNING") if r["id"] != dead["id"]]
    return found[0] if found else None


def new_seed(site: Served) -> None:
    """Make the stage `train` stale."""
    site.change("params.yaml", lambda p: p["train"].update(seed=random.randrange(10**6)))


def start_worker(site: Served, pool: str = "modelmint") -> subprocess.Popen[bytes]:
    command = [MODELMINT, "prefect", "worker", "start", "--pool", pool]
    with site.log.open("ab") as log:
        return subprocess.Popen(
            command, cwd=site.root, env=site.environment, stdout=log, stderr=log
        )


def of_pool(site: Served) -> dict[str, Any] | None:
    """The training's deployment in a work pool."""
    found = [d for d in site.ask("deployments/filter", {}) or [] if d["work_pool_name"]]
    return found[0] if found else None


def heartbeat_gaps(site: Served) -> list[float]:
    """Seconds between two heartbeats of one run, of all runs."""
    name = {"name": ["modelmint.flow-run.heartbeat"]}
    body = {"filter": {"event": name, "order": "ASC"}, "limit": 50}  # the server accepts no more
    page = site.until("the heartbeats", lambda: site.ask("events/filter", body))
    gaps, last = [], {}
    while page:
        for event in page["events"]:
            run, at = event["resource"]["prefect.resource.id"], when(event["received"])
            if run in last:
                gaps.append(at - last[run])
            last[run] = at
        following = (page["next_page"] or "").partition("/api/")[2]
        page = site.ask(following) if following else None
    return gaps


def due(run: dict[str, Any]) -> float:
    return when(run["expected_start_time"])


def began(run: dict[str, Any], before: float) -> bool:
    return bool(run["start_time"]) and when(run["start_time"]) < before


def overlaps(run: dict[str, Any], moment: float, down: float = 15) -> bool:
    """Whether a run was under way within `down` seconds after a moment."""
    begin = when(run["start_time"]) if run["start_time"] else due(run)
    end = when(run["end_time"]) if run["end_time"] else begin
    return begin < moment + down and end > moment - 5


def worked_on(runs: list[dict[str, Any]], number: str, moment: float) -> bool:
    """Whether a run went on for more than 2 s after a moment: it was not in its last lines."""
    ends = [when(r["end_time"]) for r in runs if r["id"] == number and r["end_time"]]
    return any(end > moment + 2 for end in ends)


def seconds(values: list[float]) -> str:
    """Median, lowest and highest."""
    if not values:
        return "none"
    return f"{statistics.median(values):.1f} [{min(values):.1f}-{max(values):.1f}] s"


CASES: dict[str, Callable[[Served, argparse.Namespace], None]] = {
    "kills": kills,
    "workers": workers,
    "load": load,
    "downtime": downtime,
    "idle": idle,
    "soak": soak,
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "cases", nargs="*", metavar="CASE", default=list(CASES), help=str(list(CASES))
    )
    parser.add_argument("--kills", type=int, default=3, help="of kills and workers: how many")
    parser.add_argument("--load", type=float, default=4, help="minutes under load")
    parser.add_argument("--downtime", type=float, default=10, help="minutes without serve")
    parser.add_argument("--idle", type=float, default=10, help="minutes without runs")
    parser.add_argument("--minutes", type=float, default=10, help="of soak: minutes, at least")
    parser.add_argument("--runs", type=int, default=200, help="of soak: runs, at least")
    parser.add_argument("--inbox-every", type=float, default=10, help="of soak: seconds")
    parser.add_argument("--training-every", type=float, default=60, help="of soak: seconds")
    parser.add_argument("--seed", type=int, default=1, help="seed of the random moments")
    return parser.parse_args()


def main() -> None:
    given = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started ends, too
    random.seed(given.seed)
    broken = False
    for case in given.cases:
        folder = Path(tempfile.mkdtemp(prefix=f"modelmint-{case}-"))
        print(f"== {case} ({folder})", flush=True)
        site = Served(folder)
        folder.chmod(0o755)  # PostgreSQL runs as another user
        try:
            CASES[case](site, given)
        except Failed as failed:
            site.expect("FAILED", failed, "", False)
        finally:
            site.kill()
        missed = [line for line in site.table if not line[3]]
        broken = broken or bool(missed)
        if not missed:
            shutil.rmtree(folder)
    sys.exit(broken)


if __name__ == "__main__":
    main()
