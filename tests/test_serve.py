"""Deployments: scheduled by a real server, served by a real process."""

import json
import shutil
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from conftest import Project
from PIL import Image
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

    found = {d.name: d for d in deployments(ROOT / "prefect.yaml")}
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
    served = trained.start("modelmint", "serve")
    try:
        deadline = time.monotonic() + 60
        while True:
            found = {d.name: d for d in api.read_deployments()}
            if {"weekly", "hourly"} <= found.keys():
                break
            assert time.monotonic() < deadline
            assert served.poll() is None, served.stdout.read()
            time.sleep(0.5)
        run = api.create_flow_run_from_deployment(found["hourly"].id)
        assert _end_of(api, run.id, 90) == ("Completed", "predict with digits@champion")
        weekly = api.create_flow_run_from_deployment(found["weekly"].id)
        assert _end_of(api, weekly.id, 120) == ("Completed", "train logistic on digits")
        assert {"training"} <= set(api.read_flow_run(weekly.id).tags)
    finally:
        served.send_signal(signal.SIGINT)
        served.wait(30)
        served.stdout.close()
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


def test_images_in_the_inbox_are_predicted_and_what_the_model_cannot_take_is_not(trained: Project):
    inbox = trained.root / "data/inbox"
    shutil.rmtree(inbox, ignore_errors=True)
    inbox.mkdir()
    (inbox / "README.txt").write_text("what this is for")
    ready = trained.root / "monday"
    ready.mkdir()
    for number in range(3):
        Image.fromarray(np.full((8, 8), number, np.uint8)).save(ready / f"{number}.png")
    code = (
        "import os\n"
        "from flows.inference import inference\n"
        "predict = lambda **more: inference('digits@champion', return_state=True, **more).name\n"
        "print(predict())\n"
        "os.rename('monday', 'data/inbox/monday')\n"
        "print(predict(), predict(probabilities=True))"
    )
    said = trained.run(sys.executable, "-c", code).stdout.split()
    shutil.rmtree(inbox)
    assert said == ["Idle", "Completed", "Completed"]
    tables = [
        (path.parent.name.endswith("-probabilities"), pa.parquet.read_table(path))
        for path in trained.root.glob("predictions/*/predictions.parquet")
    ]
    keys = [f"monday/{number}.png" for number in range(3)]
    found = {more: table for more, table in tables if table["key"].to_pylist() == keys}
    assert found[False].column_names == ["key", "prediction", "score"]
    assert found[True].column_names[3:] == [f"probability_{digit}" for digit in range(10)]


def _end_of(api, number, seconds: float) -> tuple[str, str]:
    """The final state and name of a flow run."""
    deadline = time.monotonic() + seconds
    while not (run := api.read_flow_run(number)).state.is_final():
        assert time.monotonic() < deadline, f"{run.name} is still {run.state_name}"
        time.sleep(0.5)
    return run.state_name, run.name
