"""The examples on small tables reach the metrics of examples/README.md."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from amounts import usual
from forks import python_code
from projects import Project
from sklearn.linear_model import LinearRegression

from tasks import params, sources
from tasks.pipeline import STEPS
from tasks.workspace import Workspace

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


def run(name: str, root: Path) -> dict[str, float]:
    """Run the steps of an example, whose gates must pass. Returns its ONNX Runtime metrics."""
    given = params.load(ROOT / f"examples/{name}.yaml")
    sources.place_embedded(given.prepare.source, root)
    for step in STEPS.values():
        step.run(given, Workspace(root))
    evaluation = json.loads((Workspace(root).bundle / "evaluation.json").read_bytes())
    assert evaluation["passed"], evaluation["gates"]
    return evaluation["metrics"]["summary"]


@pytest.mark.whole
@pytest.mark.parametrize("name", usual(["cancer-mlp"], ["cancer-logistic", "cancer-mlp"]))
def test_the_cancer_examples_reach_an_accuracy_of_96_percent(name, tmp_path):
    assert run(name, tmp_path)["accuracy"] >= 0.96


def split(root: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    with pa.memory_map(str(root / f"data/prepared/{name}.arrow")) as source:
        table = pa.ipc.open_file(source).read_all()
    features = [n for n in table.column_names if n not in ("key", "target")]
    return np.stack([table[n].to_numpy() for n in features], 1), table["target"].to_numpy()


@pytest.mark.whole
@pytest.mark.parametrize("name", usual(["diabetes-linear"], ["diabetes-linear", "diabetes-mlp"]))
def test_the_diabetes_examples_reach_the_r2_of_least_squares(name, tmp_path):
    r2 = run(name, tmp_path)["r2"]
    exact = LinearRegression().fit(*split(tmp_path, "train")).score(*split(tmp_path, "test"))
    assert r2 >= exact - 0.02


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_in_the_table_of_the_readme(path):
    assert f"| `{path.stem}` |" in (ROOT / "examples/README.md").read_text(encoding="utf-8")


@pytest.mark.whole
@pytest.mark.timeout(1500)
def test_the_loop_detects_drift_trains_once_and_recovers(tmp_path, prefect_server):
    """`make loop`: from the job that drifted to the first job with the new champion, by real flows
    on a real server. It checks its story itself."""
    code = f"import runpy; runpy.run_path({str(ROOT / 'examples/loop.py')!r}, run_name='__main__')"
    command = python_code(code, "--folder", str(tmp_path))
    given = {"PREFECT_API_URL": prefect_server, "PREFECT_LOGGING_LEVEL": "ERROR"}
    variables = Project(tmp_path, {**given, "PYTHONPATH": str(ROOT)}).variables
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "with the new champion" in done.stdout
    history = done.stdout[done.stdout.index("modelmint models history") :]
    words = (
        "started because of drift",
        "promoted   2",
        "is champion",
        "is the first with parcels:2",
    )
    places = [history.index(word) for word in words]
    assert places == sorted(places), history
