"""A batch job is one flow run with one task and one progress artifact, also on a cluster."""

import re
import sys
from uuid import UUID

import pytest
from clusters import dask_cluster
from projects import Project

FLOW = """
from flows.inference import inference

given = {'model': 'digits@champion', 'inputs': ['data/prepared/test.arrow'], **MORE}
state = inference(**given, return_state=True)
print(state.name, state.state_details.flow_run_id)
"""


def shown(project: Project, **more: str | None) -> tuple[list[float], list[str]]:
    """The progress artifacts of a run of the flow: per cent and description. It has one task."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, FlowRunFilter
    from prefect.settings import PREFECT_API_URL, temporary_settings

    code = FLOW.replace("MORE", repr(more))
    name, run = project.run(sys.executable, "-c", code).stdout.split()[-2:]
    assert name == "Completed"
    url = project.variables["PREFECT_API_URL"]
    with temporary_settings({PREFECT_API_URL: url}), get_client(sync_client=True) as api:
        flow_run = FlowRunFilter(id={"any_": [UUID(run)]})
        assert len(api.read_task_runs(flow_run_filter=flow_run)) == 1
        found = api.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id={"any_": [UUID(run)]})
        )
    bars = [artifact for artifact in found if artifact.type == "progress"]
    assert {artifact.key for artifact in bars} <= {"inference-progress"}
    return [float(bar.data) for bar in bars], [bar.description for bar in bars]


def test_flow_shows_the_progress_of_its_job_in_one_artifact(trained: Project):
    percent, (text,) = shown(trained, output="progress")
    assert percent == [100]
    pattern = r"360 of 360 rows, 0 left; [\d,]+ rows/s, 0:00 min left, 1 of 1 shards, \d+ workers?"
    assert re.fullmatch(pattern, text)


def test_command_and_flow_predict_on_a_cluster(trained: Project, tmp_path):
    pytest.importorskip("distributed", reason="the extra cluster is not installed")
    source = trained.root / "data/prepared/test.arrow"

    def predict(output, *more):
        trained.modelmint(
            "predict", "digits", str(source), "--output", str(tmp_path / output), *more
        )
        return (tmp_path / output / "predictions/part-00000.parquet").read_bytes()

    with dask_cluster(tmp_path / "cluster") as cluster:
        cluster.add("one")
        assert predict("there", "--cluster", cluster.address) == predict("here")
        assert [name for name, _ in cluster.records] == ["one"]
        percent, (text,) = shown(trained, output="elsewhere", cluster=cluster.address)
        assert [name for name, _ in cluster.records] == ["one", "one"]
    assert percent == [100]
    assert text.endswith("1 of 1 shards, 1 worker")


def test_wrong_address_fails_the_command_and_the_flow(trained: Project, tmp_path):
    given = ("predict", "digits", "data/prepared/test.arrow", "--output", str(tmp_path / "out"))
    error = trained.modelmint(*given, "--cluster", "scheduler", status=2).stderr
    assert "--cluster scheduler: the address of a Dask scheduler is expected" in error
    code = FLOW.replace("MORE", repr({"cluster": "scheduler"}))
    assert trained.run(sys.executable, "-c", code).stdout.split()[-2] == "Failed"
