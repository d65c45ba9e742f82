"""Deployments with a real server that schedules them and a real process that serves them."""

import functools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from datetime import UTC, timedelta
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from projects import AUTHOR, Family, Project
from ruamel.yaml import YAML

from tasks.errors import InputError

ROOT = Path(__file__).parents[2]


def test_prefect_yaml_names_existing_flows_and_limits_scheduled_ones_to_one_run():
    from flows.deploy import read_deployments

    found = _by_entry(read_deployments(ROOT / "prefect.yaml"))
    assert {name: d.flow_name for name, d in found.items()} == {
        "weekly": "training",
        "hourly": "inference",
        "retrain": "retrain",
        "on-request": "approval",
        **dict.fromkeys(("backup", "verify", "gc", "worktrees", "prefect"), "maintenance"),
    }
    assert found["weekly"].schedules[0].schedule.cron == "0 3 * * 1"
    assert found["hourly"].schedules[0].schedule.interval == timedelta(hours=1)
    assert all(d.concurrency_limit == 1 for d in found.values() if d.schedules)
    assert not found["on-request"].schedules
    document = YAML(typ="safe").load((ROOT / "prefect.yaml").read_text())
    assert all(d["work_pool"]["name"] for d in document["deployments"])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (('cron: "0 3 * * 1"', 'cron: "every monday"'), "deployment weekly"),
        (("flows.training:training", "flows.training:trainning"), "trainning"),
        (("    description: Predict", "    descripton: Predict"), "KeyError: 'description'"),
        (("deployments:", "deployment:"), "a list `deployments`"),
    ],
)
def test_read_deployments_names_a_mistake_in_prefect_yaml(tmp_path, change, expected):
    from flows.deploy import read_deployments

    text = (ROOT / "prefect.yaml").read_text()
    assert change[0] in text
    (tmp_path / "prefect.yaml").write_text(text.replace(*change))
    with pytest.raises(InputError, match=expected):
        read_deployments(tmp_path / "prefect.yaml")


def test_a_deployment_with_an_interval_gets_scheduled_runs(api):
    # With some versions of Prefect's dependencies no run is ever created, without any error.
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId

    from flows.inference import inference

    deployment = inference.to_deployment(
        "often", interval=60, parameters={"model": "digits@champion"}
    )
    number = deployment.apply()
    mine = DeploymentFilter(id=DeploymentFilterId(any_=[number]))
    deadline = time.monotonic() + 90
    while not (runs := api.read_flow_runs(deployment_filter=mine)):
        assert time.monotonic() < deadline, "no scheduled run was created"
        time.sleep(1)
    assert {run.state_name for run in runs} == {"Scheduled"}
    api.delete_deployment(number)


def _settle(path: Path) -> None:
    """Make a file a minute old: an inbox leaves files of the last seconds for the next run."""
    os.utime(path, (time.time() - 60,) * 2)


def test_modelmint_serve_runs_its_deployments(trained: Project, api, prefect_server):
    inbox = trained.root / "data/inbox"
    inbox.mkdir(exist_ok=True)
    (inbox / "rows.arrow").write_bytes((trained.root / "data/prepared/test.arrow").read_bytes())
    _settle(inbox / "rows.arrow")
    from flows.deploy import deployed_name

    served = trained.start("modelmint", "serve")
    output: list[str] = []
    reader = threading.Thread(target=lambda: output.extend(served.stdout))
    reader.start()
    try:
        deadline = time.monotonic() + 60
        while True:
            ours = deployed_name("", trained.root)
            found = _by_entry(d for d in api.read_deployments() if d.name.endswith(ours))
            if {"weekly", "hourly"} <= found.keys():
                break
            assert time.monotonic() < deadline
            assert served.poll() is None, output
            time.sleep(0.5)
        run = api.create_flow_run_from_deployment(found["hourly"].id)
        assert _end_of(api, run.id, 90) == ("Completed", "predict with digits@champion")
        gate = {"overrides": ["evaluate.gates.accuracy=0.9999"]}
        refused = api.create_flow_run_from_deployment(found["weekly"].id, parameters=gate)
        assert _end_of(api, refused.id, 120) == ("Refused", "train logistic on digits")
        assert {"training"} <= set(api.read_flow_run(refused.id).tags)
        second = trained.modelmint("serve", status=2).stderr
        assert f"{trained.root} is already served by process {served.pid}" in second
    finally:
        served.send_signal(signal.SIGINT)
        assert served.wait(60) == 0
        reader.join()
        served.stdout.close()
    printed = "".join(output)
    assert "Traceback" not in printed
    assert "refused: accuracy" in printed
    assert all(api.read_deployment(d.id).paused for d in found.values())
    (predictions,) = (trained.root / "predictions").glob("digits-1-*/predictions")
    assert pq.read_table(predictions).num_rows == 360
    jobs = json.loads(trained.modelmint("models", "jobs", "--json").stdout)
    assert str(run.id) in {job["flow_run_id"] for job in jobs}


def test_inference_with_an_empty_inbox_ends_idle(trained: Project):
    inbox = trained.root / "data/inbox"
    for path in inbox.glob("*"):
        path.unlink()
    code = (
        "from flows.inference import inference\n"
        "print(inference('digits@champion', return_state=True).name)"
    )
    assert trained.python(code).stdout.strip() == "Idle"


def test_inference_predicts_images_and_ignores_unsupported_files(trained: Project):
    inbox = trained.root / "data/inbox"
    shutil.rmtree(inbox, ignore_errors=True)
    inbox.mkdir()
    (inbox / "README.txt").write_text("what this is for")
    ready = trained.root / "monday"
    ready.mkdir()
    for number in range(3):
        Image.fromarray(np.full((8, 8), number, np.uint8)).save(ready / f"{number}.png")
        _settle(ready / f"{number}.png")
    code = (
        "import os\n"
        "from flows.inference import inference\n"
        "predict = lambda **more: inference('digits@champion', return_state=True, **more).name\n"
        "print(predict())\n"
        "os.rename('monday', 'data/inbox/monday')\n"
        "print(predict(), predict(probabilities=True))"
    )
    printed = trained.python(code).stdout.split()
    shutil.rmtree(inbox)
    assert printed == ["Idle", "Completed", "Completed"]
    tables = [
        (path.parent.name.endswith("-probabilities"), pq.read_table(path))
        for path in trained.root.glob("predictions/*/predictions")
    ]
    keys = [f"monday/{number}.png" for number in range(3)]
    found = {more: table for more, table in tables if table["key"].to_pylist() == keys}
    assert found[False].column_names == ["key", "prediction", "score"]
    assert found[True].column_names[3:] == [f"probability_{digit}" for digit in range(10)]


def test_clones_on_one_server_have_different_deployment_names(tmp_path):
    from flows.deploy import read_deployments

    names = []
    for parent in ("ada", "bob"):
        folder = tmp_path / parent / "digits"
        folder.mkdir(parents=True)
        shutil.copy(ROOT / "prefect.yaml", folder)
        names += [deployment.name for deployment in read_deployments(folder / "prefect.yaml")]
    assert len(set(names)) == len(names) == 18
    assert all("-digits-" in name for name in names)


def test_an_interval_schedule_starts_at_a_fixed_date(tmp_path):
    from flows.deploy import read_deployments

    text = (ROOT / "prefect.yaml").read_text()
    for given, hour in (("3600", 0), ("86400\n        timezone: Asia/Tokyo", 15)):
        (tmp_path / "prefect.yaml").write_text(text.replace("interval: 3600", f"interval: {given}"))
        (schedule,) = read_deployments(tmp_path / "prefect.yaml")[1].schedules
        anchor = schedule.schedule.anchor_date
        assert (anchor.astimezone(UTC).hour, anchor.minute, anchor.second) == (hour, 0, 0)
        assert anchor.year == 2024 or anchor.astimezone(UTC).year == 2023


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (-9, "killed (SIGKILL), probably out of memory"),
        (137, "killed (SIGKILL), probably out of memory"),
        (-15, "stopped by SIGTERM"),
        (143, "stopped by SIGTERM"),
        (-11, "stopped by SIGSEGV"),
        (2, None),
        (1, None),
        (128, None),
        (255, None),
    ],
)
def test_a_stage_killed_by_a_signal_names_the_signal(status, expected):
    from flows.stages import _describe_signal
    from flows.versioning import command_status

    line = f"ERROR: failed to reproduce 'train': failed to run: python, exited with {status}"
    assert _describe_signal(command_status([line], 255)) == expected


def test_noted_api_ignores_the_note_of_a_dead_server(prefect_server, tmp_path, monkeypatch):
    from flows.server import noted_api, remove_note, write_note

    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    assert noted_api() is None
    write_note(prefect_server)
    assert noted_api() == prefect_server
    remove_note("http://127.0.0.1:9/api")  # not the server of the note
    assert noted_api() == prefect_server
    write_note("http://127.0.0.1:9/api")
    assert noted_api() is None


def test_serve_refuses_a_port_if_a_server_runs_at_another_one(trained: Project):
    done = trained.modelmint("serve", "--port", "9", status=2)
    running = trained.environment["PREFECT_API_URL"].removesuffix("/api")
    assert f"a Prefect server runs at {running}, so none is started at 127.0.0.1:9" in done.stderr


def test_serve_refuses_a_port_in_use(trained: Project, tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        site = Project(trained.root, {"PREFECT_HOME": str(tmp_path)})
        done = site.modelmint("serve", "--port", str(port), status=1)
    assert f"another program listens on 127.0.0.1:{port}; choose another --port" in done.stderr
    assert "Traceback" not in done.stderr


def test_serve_warns_about_unfit_server_settings(prefect_home, monkeypatch):
    from flows import serve
    from flows.server import Server

    monkeypatch.setenv("PREFECT_HOME", str(prefect_home))
    monkeypatch.setenv("PREFECT_API_URL", "")
    unfit = {"PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false"}
    server = Server("127.0.0.1", free_port(), unfit)
    try:
        warning = serve.find_unfit_settings(server.wait_until_ready())
    finally:
        server.stop()
    for name in ("LEASE_STORAGE=", "SCHEDULER_ENABLED=true"):
        assert name in warning


def test_serve_does_not_warn_about_a_server_with_its_own_settings(prefect_server):
    from flows import serve

    assert serve.find_unfit_settings(prefect_server) is None  # started with LASTING


def test_the_server_serves_only_the_first_ui(prefect_server):
    ui = prefect_server.removesuffix("/api")
    with urllib.request.urlopen(f"{ui}/ui-settings") as reply:
        assert json.load(reply)["available_uis"] == ["v1"]


def test_serve_after_a_power_cut_crashes_the_dead_run_and_starts_a_new_one(
    trained: Project, family: Family, prefect_home, tmp_path
):
    port = free_port()
    home = {"PREFECT_HOME": str(prefect_home), "MARK": family.mark}
    site = Project(trained.root, home)
    call = functools.partial(_ask, f"http://127.0.0.1:{port}/api")
    log = (tmp_path / "log").open("w")

    def named(state: str, but: str = "") -> list[str]:
        """Ids of the training runs in a state."""
        filters = {"flows": {"name": {"any_": ["training"]}}}
        filters["flow_runs"] = {"state": {"name": {"any_": [state]}}}
        return [run["id"] for run in call("flow_runs/filter", filters) or [] if run["id"] != but]

    served = _start_serving(site, port, log)
    try:
        mine = _until(
            lambda: [d for d in call("deployments/filter", {}) or [] if "weekly" in d["name"]]
        )
        # Prefect's own commands find the server on its port.
        name = f"training/{mine[0]['name']}"
        long = 'overrides=["train.epochs=100000"]'
        site.modelmint("prefect", "deployment", "run", name, "-p", long)
        (dead,) = _until(lambda: named("Running"))
        _until(lambda: any("tasks train" in command for command in family.members()))
        family.kill()
        served.wait()
        served = _start_serving(site, port, log)
        assert _until(lambda: named("Crashed")) == [dead]
        (new,) = _until(lambda: named("Running", but=dead))
        # Its training would use a core until the end of this test.
        _until(lambda: family.send(signal.SIGSTOP, "tasks train"), 240)
        family.kill("uvicorn")
        _until(lambda: call("health") is None)
        _until(lambda: call("health"))
        assert served.poll() is None
        assert _until(lambda: named("Running")) == [new]  # it did not notice
    finally:
        family.send(signal.SIGCONT, "tasks train")
        _interrupt(served, family)
        log.close()


@pytest.mark.release  # above: runs and Ctrl-C; test_workers.py: the deployments of a new project
def test_serve_in_a_new_project_runs_a_deployment_and_leaves_no_process(
    family: Family, prefect_home, tmp_path
):
    """By hand: two commands, no server before, nothing trained yet."""
    port, log_path = free_port(), tmp_path / "log"
    home = {"PREFECT_HOME": str(prefect_home), "MARK": family.mark}
    site = Project(tmp_path / "mine", {**home, **AUTHOR, "PYTHONPATH": str(ROOT)})
    Project(tmp_path, site.environment).modelmint("new", "mine")
    call = functools.partial(_ask, f"http://127.0.0.1:{port}/api")
    with log_path.open("w") as log:
        served = _start_serving(site, port, log)
        try:
            found = _until(
                lambda: (d := call("deployments/filter", {})) and len(d) == 9 and d, seconds=240
            )
            by_flow = {re.split("[.:]", d["entrypoint"])[-1]: d for d in found}
            work = {"training", "inference", "approval", "retrain"}
            upkeep = {"back_up", "verify", "collect", "clean_worktrees", "clean_prefect"}
            assert by_flow.keys() == work | upkeep
            assert not any(d["paused"] for d in found)
            hourly = by_flow["inference"]
            run = call(f"deployments/{hourly['id']}/create_flow_run", {})
            ended = ("COMPLETED", "FAILED", "CRASHED")
            done = _until(
                lambda: (r := call(f"flow_runs/{run['id']}")) and r["state_type"] in ended and r
            )
            assert done["state_name"] == "Idle"
            assert done["state"]["message"].endswith("mine/data/inbox")
        finally:
            _interrupt(served, family)
    printed = log_path.read_text()
    assert f"http://127.0.0.1:{port}" in printed
    assert "Traceback" not in printed
    assert site.run("git", "status", "--porcelain").stdout == ""
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port)).close()


def _start_serving(site: Project, port: int, log: IO[str]) -> subprocess.Popen[bytes]:
    """Start `modelmint serve` with a server of its own."""
    return subprocess.Popen(
        ["modelmint", "serve", "--port", str(port)],
        cwd=site.root,
        env=site.variables,
        stdout=log,
        stderr=log,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def _interrupt(served: subprocess.Popen[bytes], family: Family) -> None:
    """Press Ctrl-C: `serve` ends with status 0, and every process that it started ends with it."""
    served.send_signal(signal.SIGINT)
    try:
        assert served.wait(60) == 0
        assert family.wait_until_gone(20) == []
    finally:
        family.kill()


def _ask(api: str, path: str, body=None):
    """The answer of Prefect's API; None if there is none."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    try:
        request = urllib.request.Request(f"{api}/{path}", data, headers)
        with urllib.request.urlopen(request, timeout=20) as reply:
            return json.load(reply)
    except (OSError, ValueError):
        return None


def _until(true, seconds: float = 240.0):
    """Wait until a function returns something true. Returns that."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline
        time.sleep(0.25)
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _by_entry(found) -> dict:
    """Deployments by their names in prefect.yaml."""
    return {d.name.removesuffix("-" + "-".join(d.name.split("-")[-2:])): d for d in found}


def _end_of(api, number, seconds: float) -> tuple[str, str]:
    """The final state and name of a flow run."""
    deadline = time.monotonic() + seconds
    while not (run := api.read_flow_run(number)).state.is_final():
        assert time.monotonic() < deadline, f"{run.name} is still {run.state_name}"
        time.sleep(0.5)
    return run.state_name, run.name
