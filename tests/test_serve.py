"""Deployments: scheduled by a real server, served by a real process."""

import json
import signal
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from conftest import Project
from ruamel.yaml import YAML

from tasks.errors import InputError

ROOT = Path(__file__).parents[1]


@pytest.fixture
def api(prefect_server: str):
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with (
        temporary_settings({PREFECT_API_URL: prefect_server}),
        get_client(sync_client=True) as client,
    ):
        yield client


def test_prefect_yaml_names_flows_that_exist_and_limits_each_on_a_schedule_to_one_run():
    from flows.deploy import deployments

    found = _by_entry(deployments(ROOT / "prefect.yaml"))
    assert {name: d.flow_name for name, d in found.items()} == {
        "weekly": "training",
        "hourly": "inference",
        "on-request": "approval",
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
        (("training.py:training", "training.py:trainning"), "trainning"),
        (("    description: Predict", "    descripton: Predict"), "KeyError: 'description'"),
        (("deployments:", "deployment:"), "a list `deployments`"),
    ],
)
def test_a_mistake_in_prefect_yaml_is_named(tmp_path, change, expected):
    from flows.deploy import deployments

    text = (ROOT / "prefect.yaml").read_text()
    assert change[0] in text
    (tmp_path / "prefect.yaml").write_text(text.replace(*change))
    with pytest.raises(InputError, match=expected):
        deployments(tmp_path / "prefect.yaml")


def test_a_deployment_with_an_interval_gets_scheduled_runs(api):
    # With some versions of Prefect's dependencies no run is ever created, and all looks healthy.
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


def test_modelmint_serve_runs_its_deployments(trained: Project, api, prefect_server):
    inbox = trained.root / "data/inbox"
    inbox.mkdir(exist_ok=True)
    (inbox / "rows.arrow").write_bytes((trained.root / "data/prepared/test.arrow").read_bytes())
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
        weekly = api.create_flow_run_from_deployment(found["weekly"].id)
        assert _end_of(api, weekly.id, 120) == ("Completed", "train logistic on digits")
        assert {"training"} <= set(api.read_flow_run(weekly.id).tags)
        gate = {"overrides": ["evaluate.gates.accuracy=0.9999"]}
        refused = api.create_flow_run_from_deployment(found["weekly"].id, parameters=gate)
        assert _end_of(api, refused.id, 120) == ("Refused", "train logistic on digits")
        second = trained.modelmint("serve", status=2).stderr
        assert f"{trained.root} is served already, by process {served.pid}" in second
    finally:
        served.send_signal(signal.SIGINT)
        assert served.wait(60) == 0
        reader.join()
        served.stdout.close()
    said = "".join(output)
    assert "Traceback" not in said
    assert "refused: accuracy" in said
    assert all(api.read_deployment(d.id).paused for d in found.values())
    (predictions,) = (trained.root / "predictions").glob("digits-1-*/predictions.parquet")
    assert pa.parquet.read_table(predictions).num_rows == 360
    jobs = json.loads(trained.modelmint("models", "jobs", "--json").stdout)
    assert str(run.id) in {job["flow_run_id"] for job in jobs}


def test_an_empty_inbox_is_no_error(trained: Project):
    inbox = trained.root / "data/inbox"
    for path in inbox.glob("*"):
        path.unlink()
    code = (
        "from flows.inference import inference\n"
        "print(inference('digits@champion', return_state=True).name)"
    )
    assert trained.run(sys.executable, "-c", code).stdout.strip() == "Idle"


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
