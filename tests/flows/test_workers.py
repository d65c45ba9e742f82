"""A work pool with real workers: the deployments of a new project, and one training per GPU."""

import itertools
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from projects import AUTHOR, SECONDS, Project
from servers import create_database, drop_database, s3_environment

ROOT = Path(__file__).parents[2]
TRAINING = """\
import os, time
from prefect import flow

@flow
def fake(log: str):
    begun = time.time()
    time.sleep(2)
    with open(log, "a") as file:
        file.write(f"{os.environ['CUDA_VISIBLE_DEVICES']} {begun} {time.time()}\\n")
"""
ENTRY = """
  - name: fake
    entrypoint: fake.py:fake
    parameters: {log: fake.log}
    schedules: []
    work_pool: {name: modelmint, work_queue_name: gpu}
"""


@pytest.fixture
def project(tmp_path: Path, prefect_server: str, postgres: str, s3: str) -> Project:
    """A new project with a training of two seconds, its registry in PostgreSQL and S3."""
    environment = {
        **AUTHOR,
        **s3_environment(s3),
        "PREFECT_API_URL": prefect_server,
        "PYTHONPATH": str(ROOT),
        "MODELMINT_DATABASE_URL": create_database(postgres),
        "MODELMINT_ARTIFACTS": "s3://workers/registry",
    }
    Project(tmp_path, environment).modelmint("new", "digits")
    made = Project(tmp_path / "digits", environment)
    (made.root / "fake.py").write_text(TRAINING)
    with (made.root / "prefect.yaml").open("a") as file:
        file.write(ENTRY)
    return made


@pytest.fixture
def pooled(project: Project, api) -> Iterator[dict[str, Any]]:
    """Its deployments in a work pool, by name, as `deploy/setup.sh` makes them."""
    project.run("sh", str(ROOT / "deploy/setup.sh"))
    found = {d.name: d for d in api.read_deployments() if d.work_pool_name == "modelmint"}
    yield found
    for deployment in found.values():
        api.delete_deployment(deployment.id)
    drop_database(project.environment["MODELMINT_DATABASE_URL"])


@contextmanager
def worker(project: Project, gpu: int, *arguments: str) -> Iterator[None]:
    """A worker as docs/operations.md starts it, on a GPU of that number."""
    own = Project(project.root, {**project.environment, "CUDA_VISIBLE_DEVICES": str(gpu)})
    options = ("--pool", "modelmint", "--limit", "1", *arguments)
    process = own.start("modelmint", "prefect", "worker", "start", *options, forked=True)
    try:
        yield
    finally:
        process.terminate()
        process.communicate(timeout=SECONDS)


def test_a_pool_runs_the_deployments_of_a_new_project_and_one_training_per_gpu(
    project, pooled, api
):
    assert len(pooled) >= 9
    assert {d.name for d in pooled.values() if d.work_queue_name == "gpu"} >= {"weekly", "fake"}
    for deployment in pooled.values():
        if deployment.name != "fake":
            check_form(deployment)
    runs = [api.create_flow_run_from_deployment(pooled["fake"].id) for _ in range(4)]
    runs.append(api.create_flow_run_from_deployment(pooled["gc"].id))
    with ExitStack() as stack:
        stack.enter_context(worker(project, 0, "--work-queue", "gpu"))
        stack.enter_context(worker(project, 1))  # of all queues
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            states = [api.read_flow_run(run.id).state for run in runs]
            if all(state.is_final() for state in states):
                break
            time.sleep(0.5)
        assert_status_knows_the_workers(project, pooled)
    assert {state.name for state in states[:4]} == {"Completed"}, states
    assert states[4].message == "removed 0 files (0 bytes)", states[4]
    lines = [line.split() for line in (project.root / "fake.log").read_text().splitlines()]
    for gpu in "01":
        times = sorted((float(begun), float(ended)) for on, begun, ended in lines if on == gpu)
        assert times, f"no training ran on GPU {gpu}"
        for (_, ended), (begun, _) in itertools.pairwise(times):
            assert ended <= begun


def assert_status_knows_the_workers(project: Project, pooled: dict[str, Any]) -> None:
    lines = json.loads(project.modelmint("status", "--json", status=None).stdout)
    schedules = [line for line in lines if line["section"] == "schedule"]
    assert {line["name"] for line in schedules} == set(pooled)
    assert not [line for line in schedules if line["attention"]]


def check_form(deployment: Any) -> None:
    """Each parameter has a title, a type or choices, and a description."""
    for name, field in deployment.parameter_openapi_schema["properties"].items():
        where = f"{deployment.name}.{name}"
        assert field.get("title"), where
        assert field.get("description"), f"{where} needs a line below Args: of its flow"
        kinds = [field, *field.get("anyOf", [])]
        assert [kind for kind in kinds if "type" in kind or "$ref" in kind], where
    if deployment.name == "hourly":
        assert deployment.parameter_openapi_schema["properties"]["after"]["enum"] == [
            "leave",
            "move",
        ]
