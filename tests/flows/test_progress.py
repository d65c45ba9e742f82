"""A batch job is one flow run with one task and one progress artifact, also on a cluster."""

import re
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clusters import ROOT, dask_cluster
from projects import Project
from registry_helpers import bundle_candidate

from registry import Registry

ROWS = 300
FLOW = """
from flows.inference import inference

given = {'model': 'tiny:1', 'inputs': ['in.parquet'], **MORE}
state = inference(**given, return_state=True)
print(state.name, state.state_details.flow_run_id)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory, exported, prefect_server) -> Project:
    """A folder with one registered version and one file of images."""
    root = tmp_path_factory.mktemp("project")
    (root / "dvc.yaml").write_text("stages: {}\n")
    candidate = bundle_candidate(SimpleNamespace(bundle=exported("mlp", "float32") / "bundle"))
    with Registry(f"sqlite:///{root / 'modelmint.db'}", root / "artifacts") as registry:
        registry.register("tiny", candidate, actor="ada")
    images = np.random.default_rng(3).uniform(0, 255, (ROWS, 8, 8, 3)).astype(np.float32)
    column = pa.FixedShapeTensorArray.from_numpy_ndarray(images)
    pq.write_table(pa.table({"image": column}), root / "in.parquet")
    return Project(root, {"PREFECT_API_URL": prefect_server, "PYTHONPATH": str(ROOT)})


def run_flow(project: Project, **more: str) -> tuple[str, UUID]:
    """The name of the state in which a run of the flow ended, and its id."""
    code = FLOW.replace("MORE", repr(more))
    name, run = project.python(code).stdout.split()[-2:]
    return name, UUID(run)


def shown(api, run: UUID) -> list[tuple[float, str]]:
    """Per cent and description of the progress artifacts of a run, which has one task."""
    from prefect.client.schemas.filters import ArtifactFilter, FlowRunFilter

    assert len(api.read_task_runs(flow_run_filter=FlowRunFilter(id={"any_": [run]}))) == 1
    of_run = ArtifactFilter(flow_run_id={"any_": [run]}, type={"any_": ["progress"]})
    found = api.read_artifacts(artifact_filter=of_run)
    assert {artifact.key for artifact in found} <= {"inference-progress"}
    return [(float(artifact.data), artifact.description) for artifact in found]


def test_flow_shows_the_progress_of_its_job_in_one_artifact(project, api):
    name, run = run_flow(project)
    assert name == "Completed"
    ((percent, text),) = shown(api, run)
    assert percent == 100
    pattern = r"300 of 300 rows, 0 left; [\d,]+ rows/s, 0:00 min left, 1 of 1 shards, \d+ workers?"
    assert re.fullmatch(pattern, text)


def test_command_and_flow_predict_on_a_cluster(project, api, tmp_path):
    pytest.importorskip("distributed", reason="the extra cluster is not installed")

    def predict(output: str, *more: str) -> bytes:
        folder = tmp_path / output
        project.modelmint("predict", "tiny:1", "in.parquet", "--output", str(folder), *more)
        return (folder / "predictions/part-00000.parquet").read_bytes()

    with dask_cluster(tmp_path / "cluster") as cluster:
        cluster.add("one", cwd=Path("/"))
        assert predict("there", "--cluster", cluster.address) == predict("here")
        assert [name for name, _ in cluster.records] == ["one"]
        name, run = run_flow(project, output="elsewhere", cluster=cluster.address)
        assert name == "Completed"
        assert [name for name, _ in cluster.records] == ["one", "one"]
    ((percent, text),) = shown(api, run)
    assert percent == 100
    assert text.endswith("1 of 1 shards, 1 worker")


def test_wrong_address_fails_the_command_and_the_flow(project, tmp_path):
    given = ("predict", "tiny:1", "in.parquet", "--output", str(tmp_path / "out"))
    error = project.modelmint(*given, "--cluster", "scheduler", status=2).stderr
    assert "--cluster scheduler: the address of a Dask scheduler is expected" in error
    assert not (tmp_path / "out").exists()
    assert run_flow(project, cluster="scheduler")[0] == "Failed"
