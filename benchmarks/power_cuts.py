"""Kills a served project: `python benchmarks/power_cuts.py [--cuts 10] [--only-cuts]`.

A project with a training and an inference schedule of 20 s is served. `serve`, its Prefect server
and all child processes are killed with SIGKILL: first in four ways with measured recovery times,
then at random moments. Afterwards every due run must have run or be marked, no run may be stuck, no
slot occupied, and no input predicted twice or missed. Otherwise the exit status is 1. Linux only.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
MODELMINT = str(Path(sysconfig.get_path("scripts")) / "modelmint")
EVERY_S = 20
PATIENCE_S = 180.0
HOLDING = ("PENDING", "RUNNING", "CANCELLING")


class Failed(RuntimeError):
    """Something that must not happen after a power cut."""


class Site:
    """A served project in a temporary folder, and all of its processes."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "project"
        self.mark = uuid.uuid4().hex
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        theirs = ("PREFECT", "MODELMINT", "DVC", "PYTHON")
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(theirs)},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.root),
            "PREFECT_HOME": str(folder / "prefect"),
            "OMP_NUM_THREADS": "1",
            "PWD": str(self.root),  # `prefect deploy` reads it
            "POWER_CUTS": self.mark,  # inherited by every child process, at any depth
        }
        self.log = folder / "serve.log"
        self.served: subprocess.Popen[bytes] | None = None
        self._make()

    def _make(self) -> None:
        """Copy the checkout, with short schedules and a network that trains in seconds."""
        names = self.run("git", "ls-files", "-z", "-co", "--exclude-standard", cwd=ROOT)
        for name in filter(None, names.split("\0")):
            if (ROOT / name).is_file():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.root / name)
        self.change(
            "params.yaml",
            lambda p: (
                p["train"].update(architecture={"name": "logistic"}, epochs=300),
                p["evaluate"].update(gates={"accuracy": 0.5}),
            ),
        )

        def often(document: Any) -> None:
            for deployment in document["deployments"]:
                if deployment["schedules"]:
                    deployment["schedules"] = [{"interval": EVERY_S}]

        self.change("prefect.yaml", often)
        self.run("git", "init", "-q", "-b", "main")
        self.run("git", "add", "-A")
        self.run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "project")
        self.run(sys.executable, "-m", "tasks.sources")

    def change(self, name: str, edit: Callable[[Any], Any]) -> None:
        yaml = YAML(typ="safe", pure=True)
        document = yaml.load((self.root / name).read_text())
        edit(document)
        with (self.root / name).open("w") as file:
            yaml.dump(document, file)

    def run(self, *command: str, cwd: Path | None = None) -> str:
        done = subprocess.run(
            command, cwd=cwd or self.root, env=self.environment, capture_output=True, text=True
        )
        if done.returncode:
            raise Failed(f"{' '.join(command)}: {done.stderr[-2000:]}")
        return done.stdout

    def serve(self) -> None:
        with self.log.open("ab") as log:
            self.served = subprocess.Popen(
                [MODELMINT, "serve", "--port", str(self.port)],
                cwd=self.root,
                env=self.environment,
                stdout=log,
                stderr=log,
            )

    def stop(self) -> None:
        assert self.served is not None
        self.served.send_signal(signal.SIGINT)
        self.served.wait(60)

    def processes(self, words: str = "") -> list[int]:
        """Ids of the processes with `words` in their command line."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                mine = (
                    entry.name.isdigit() and self.mark.encode() in (entry / "environ").read_bytes()
                )
                command = (entry / "cmdline").read_text().replace("\0", " ") if mine else ""
            except OSError:
                continue
            if mine and words in command:
                found.append(int(entry.name))
        return found

    def kill(self, words: str = "") -> None:
        for number in self.processes(words):
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        if not words and self.served:
            self.served.wait()
            while self.processes():
                time.sleep(0.01)

    # The Prefect server

    def ask(self, path: str, body: Any = None) -> Any:
        """The answer of Prefect's API; None if there is none."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as reply:
                return json.load(reply)
        except (OSError, ValueError):
            return None

    def runs(self, flow: str, *types: str) -> list[dict[str, Any]]:
        """The newest 200 runs of a flow in one of these states, newest first."""
        body: dict[str, Any] = {"flows": {"name": {"any_": [flow]}}}
        body |= {"sort": "EXPECTED_START_TIME_DESC", "limit": 200}
        if types:
            body["flow_runs"] = {"state": {"type": {"any_": types}}}
        return self.ask("flow_runs/filter", body) or []

    def state(self, run: dict[str, Any]) -> str:
        found = self.ask(f"flow_runs/{run['id']}")
        return found["state"]["name"] if found and found["state"] else "?"

    def deployments(self) -> dict[str, dict[str, Any]]:
        """The deployments by the first word of their names."""
        found = self.ask("deployments/filter", {}) or []
        return {d["name"].split("-")[0]: d for d in found}

    def until(self, what: str, true: Callable[[], Any], limit: float = PATIENCE_S) -> Any:
        """Wait until `true` returns something true. Returns that."""
        deadline = time.monotonic() + limit
        while not (found := true()):
            if time.monotonic() > deadline:
                raise Failed(f"not within {limit:g} s: {what}. See {self.log}")
            time.sleep(0.25)
        return found


def while_training(site: Site) -> dict[str, Any]:
    """Wait for a training in its stage `train`. Returns its flow run."""
    site.change("params.yaml", lambda p: p["train"].update(seed=random.randrange(10**6)))
    site.until("a training", lambda: site.processes("tasks train"))
    return site.until("its flow run", lambda: site.runs("training", "RUNNING"))[0]


def timed(site: Site, case: str, cut: Callable[[], None]) -> None:
    """Kill during a training; print the seconds until it is Crashed and until the next one runs."""
    dead = while_training(site)
    cut()
    started = time.monotonic()
    if not site.processes("serve"):
        site.serve()
    site.until("the dead run is Crashed", lambda: site.state(dead) == "Crashed")
    marked = time.monotonic() - started
    site.until(
        "a new training runs",
        lambda: [r for r in site.runs("training", "RUNNING") if r["id"] != dead["id"]],
    )
    print(f"{case:<28} Crashed after {marked:5.1f} s, next runs after", end=" ")
    print(f"{time.monotonic() - started:5.1f} s", flush=True)


def timed_server(site: Site) -> None:
    """Kill only the server: the active training must continue and succeed."""
    living = while_training(site)
    site.kill("uvicorn")
    started = time.monotonic()
    site.until("the server answers", lambda: site.ask("health"))
    back = time.monotonic() - started
    site.until("the training ends", lambda: site.state(living) not in ("Running", "?"))
    how = site.state(living)
    if how != "Completed":
        raise Failed(f"the training that ran while the server was killed ended as {how}")
    print(f"{'the server alone killed':<28} it answers after {back:5.1f} s, the run goes on")


def timed_approvals(site: Site) -> None:
    """Kill five running approvals, which is their limit; the sixth must start."""
    for _ in range(5):
        run = ask_approval(site)
        site.until("the approval runs", lambda r=run: site.state(r) in ("Running", "Suspended"))
        site.kill()
        started = time.monotonic()
        site.serve()
    run = ask_approval(site)
    site.until("the sixth is asked", lambda: site.state(run) == "Suspended")
    print(f"{'five approvals killed':<28} the next is asked after", end=" ")
    print(f"{time.monotonic() - started:5.1f} s", flush=True)


def ask_approval(site: Site) -> dict[str, Any]:
    """Start a run of the approval deployment."""
    number = site.until("the deployment", lambda: site.deployments().get("on"))["id"]
    body = {"parameters": {"version": "digits:2"}, "state": {"type": "SCHEDULED"}}
    create = f"deployments/{number}/create_flow_run"
    return site.until("a run of the approval", lambda: site.ask(create, body))


def power_cuts(site: Site, cuts: int) -> None:
    """Kill at random moments; each time there is a new file to predict and a new training."""
    test = (site.root / "data/prepared/test.arrow").read_bytes()
    inbox = site.root / "data/inbox"
    inbox.mkdir(exist_ok=True)
    for number in range(cuts):
        (inbox / f"rows-{number}.arrow.part").write_bytes(test)
        (inbox / f"rows-{number}.arrow.part").rename(inbox / f"rows-{number}.arrow")
        wait = random.uniform(5, 50)
        time.sleep(wait)
        site.kill()
        site.change("params.yaml", lambda p: p["train"].update(seed=random.randrange(10**6)))
        site.serve()
        print(f"cut {number + 1} of {cuts}, {wait:4.1f} s after the last", flush=True)


def verdict(site: Site, cuts: int, begun: datetime) -> None:
    """Wait for the next successful runs, then check all runs. Raises `Failed`."""
    for flow in ("training", "inference"):
        done = datetime.now(UTC)
        site.until(
            f"a run of {flow} that was due after the last cut ends well",
            lambda f=flow, d=done: [
                r for r in site.runs(f, "COMPLETED") if datetime.fromisoformat(r["start_time"]) > d
            ],
        )
    problems = []
    now = datetime.now(UTC)
    states: Counter[str] = Counter()
    living = set(site.processes())
    for flow in ("training", "inference", "approval"):
        for run in site.runs(flow):
            due = datetime.fromisoformat(run["expected_start_time"])
            if due > now:
                continue
            name = run["state"]["name"]
            states[f"{flow} {name}"] += 1
            if run["state"]["type"] == "SCHEDULED" and now - due > timedelta(seconds=90):
                problems.append(f"{flow} due at {due:%H:%M:%S} is {name}")
            if run["state"]["type"] in HOLDING and not living:
                problems.append(f"{flow} due at {due:%H:%M:%S} is {name}, and nothing runs")
    site.stop()
    problems += after(site, cuts)
    print(
        f"runs since {begun:%H:%M:%S}: " + ", ".join(f"{v} {k}" for k, v in sorted(states.items()))
    )
    if problems:
        raise Failed("; ".join(problems))


def after(site: Site, cuts: int) -> list[str]:
    """Problems after everything has ended: slots, states, predictions, the registry."""
    problems = []
    site.serve()
    site.until("serve", lambda: site.deployments().get("on"))
    for name, deployment in site.deployments().items():
        site.ask(f"deployments/{deployment['id']}/pause_deployment", {})
        site.until(
            f"no slot of {name} is occupied",
            lambda n=name: site.deployments()[n]["global_concurrency_limit"]["active_slots"] == 0,
        )
    for flow in ("training", "inference", "approval"):
        stuck = [run["name"] for run in site.runs(flow, *HOLDING)]
        problems += [f"stuck: {name} of {flow}" for name in stuck]
    site.stop()
    jobs = json.loads(site.run(MODELMINT, "models", "jobs", "--limit", "1000", "--json"))
    done = Counter((j["model"], j["version"], j["input_sha256"]) for j in jobs if j["rows"])
    problems += [f"job {j['id']} still runs" for j in jobs if j["state"] == "running"]
    problems += [f"predicted {n} times: {key}" for key, n in done.items() if n > 1]
    every = {f"rows-{number}.arrow" for number in range(cuts)}
    manifests = [json.loads(p.read_text()) for p in site.root.glob("predictions/*/manifest.json")]
    seen = [{Path(file["path"]).name for file in m["inputs"]} for m in manifests]
    if every and every not in seen:
        problems.append(f"missed: no predictions of all of {sorted(every)}")
    site.run(MODELMINT, "models", "verify")
    return problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cuts", type=int, default=10, help="number of cuts at random moments")
    parser.add_argument("--only-cuts", action="store_true", help="skip the four timed cases")
    parser.add_argument("--seed", type=int, default=1, help="seed of the random moments")
    given = parser.parse_args()
    random.seed(given.seed)
    begun = datetime.now(UTC)
    folder = Path(tempfile.mkdtemp(prefix="modelmint-power-cuts-"))
    site = Site(folder)
    try:
        site.run(MODELMINT, "train")
        site.run(MODELMINT, "models", "policy", "digits", "--four-eyes")
        site.run(MODELMINT, "train", "-S", "train.seed=5")
        site.serve()
        if not given.only_cuts:
            timed(site, "all killed", site.kill)
            timed(site, "the runner alone killed", lambda: site.kill("flows.runner"))
            timed_server(site)
            timed_approvals(site)
        power_cuts(site, given.cuts)
        verdict(site, given.cuts, begun)
    except Failed as failed:
        print(f"FAILED: {failed}")
        sys.exit(1)
    finally:
        site.kill()
    print(
        "every due run has run or is marked, none is stuck, no slot is occupied, no input was "
        "predicted twice or missed"
    )
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
