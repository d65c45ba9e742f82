"""A work pool with real workers: the deployments of a new project, and one training per GPU."""

import itertools
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from projects import AUTHOR, SECONDS, Project

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
def pooled(tmp_path: Path, prefect_server: str, api) -> Iterator[dict[str, Any]]:
    """The deployments of a new project, and a training of two seconds, in a work pool; by name."""
    made = project_in(tmp_path, prefect_server)
    made.modelmint("new", "digits")
    project = project_in(tmp_path / "digits", prefect_server)
    (project.root / "fake.py").write_text(TRAINING)
    with (project.root / "prefect.yaml").open("a") as file:
        file.write(ENTRY)
    project.modelmint("prefect", "work-pool", "create", "modelmint", "--type", "process")
    project.modelmint("prefect", "--no-prompt", "deploy", "--all")
    found = {d.name: d for d in api.read_deployments() if d.work_pool_name == "modelmint"}
    yield found
    for deployment in found.values():
        api.delete_deployment(deployment.id)


def project_in(folder: Path, api_url: str) -> Project:
    return Project(folder, {**AUTHOR, "PREFECT_API_URL": api_url, "PYTHONPATH": str(ROOT)})


@contextmanager
def worker(project: Project, gpu: int, *arguments: str) -> Iterator[None]:
    """A worker as docs/operations.md starts it, on a GPU of that number."""
    own = Project(project.root, {**project.environment, "CUDA_VISIBLE_DEVICES": str(gpu)})
    options = ("--pool", "modelmint", "--limit", "1", *arguments)
    process = own.start("modelmint", "prefect", "worker", "start", *options)
    try:
        yield
    finally:
        process.terminate()
        process.communicate(timeout=SECONDS)


def test_a_pool_runs_the_deployments_of_a_new_project_and_one_training_per_gpu(
    pooled, tmp_path, prefect_server, api
):
    assert len(pooled) >= 9
    assert {d.name for d in pooled.values() if d.work_queue_name == "gpu"} >= {"weekly", "fake"}
    for deployment in pooled.values():
        if deployment.name != "fake":
            check_form(deployment)
    project = project_in(tmp_path / "digits", prefect_server)
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
    assert {state.name for state in states[:4]} == {"Completed"}, states
    assert states[4].name == "Idle", states[4]  # there is no registry yet
    lines = [line.split() for line in (project.root / "fake.log").read_text().splitlines()]
    for gpu in "01":
        times = sorted((float(begun), float(ended)) for on, begun, ended in lines if on == gpu)
        assert times, f"no training ran on GPU {gpu}"
        for (_, ended), (begun, _) in itertools.pairwise(times):
            assert ended <= begun


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
