"""`verify` finds no problem in the registry that the benchmarks measure; the scripts that batch
inference is compared with do the same work; the benchmark for a GPU, on a CPU.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from registry_helpers import database_url

from benchmarks import inference_data, inference_rivals
from benchmarks.gpu import CHECKS, line
from benchmarks.gpu_trainings import Timed, compared
from benchmarks.inference import check
from benchmarks.inference_data import CASES, parameters, write_raw
from benchmarks.inference_runs import Failed, Setting
from benchmarks.scale_seed import Sizes, seed
from registry import Registry
from registry.integrity import verify
from tasks.columns import SourceLocation
from tasks.encoding import Encoder
from tasks.pipeline import STEPS
from tasks.session import cuda_devices
from tasks.workspace import Workspace

ROOT = Path(__file__).parents[1]


@pytest.mark.whole
def test_the_seeded_registry_is_valid_with_jobs_and_parents(tmp_path):
    url = database_url(tmp_path)
    sizes = Sizes(versions=400, models=10, jobs=60)
    seed(url, tmp_path / "artifacts", sizes)
    with Registry(url, tmp_path / "artifacts") as registry:
        found = verify(registry)
    assert found.problems == []
    assert found.versions > sizes.versions


@pytest.mark.parametrize("name", CASES)
def test_the_scripts_of_the_inference_benchmark_encode_rows_as_modelmint_does(name, tmp_path):
    case, workspace = CASES[name], Workspace(tmp_path)
    write_raw(case, tmp_path, rows=300)
    STEPS["prepare"].run(parameters(case), workspace)
    (tmp_path / name).mkdir()
    source = inference_data.make_input(case, tmp_path, 70)
    ours = Encoder.read(workspace.prepared).encode(pq.read_table(source), SourceLocation("input"))
    signature = json.loads((workspace.prepared / "signature.json").read_bytes())
    # From the middle of a batch, where buffers do not begin with the first row.
    (batch,) = inference_rivals.open_table(source, signature).iter_batches(100)
    part = batch.slice(20)
    by_hand = inference_rivals.encoder(workspace.prepared, signature)(part)
    of_frame = inference_rivals.frame_encoder(workspace.prepared, signature)(part.to_pandas())
    if name == "numbers":  # MLflow takes the DataFrame
        of_frame = {"numbers": of_frame.to_numpy()}
    width = by_hand["tokens"].shape[1] if name == "texts" else 0
    for tensor, expected in ours.items():
        rows = expected[20:, :width] if tensor == "tokens" else expected[20:]
        for found in (by_hand[tensor], of_frame[tensor]):
            assert found.dtype == rows.dtype
            np.testing.assert_array_equal(found, rows)


def write(path, keys, labels, scores):
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {"key": keys, "prediction": labels, "score": pa.array(scores, pa.float32())}
    pq.write_table(pa.table(columns), path)


LABELS, SCORES = ["a", "b", "a", "a"], [0.9, 0.8, 0.7, 0.6]


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        (LABELS, [0.9, 0.8, 0.7, 0.600001], None),
        (["a", "b", "a", "b"], SCORES, "1 labels, 1 of them clear"),
        (LABELS, [0.9, 0.8, 0.7, 0.6001], "scores by up to 1.0e-04"),
        (LABELS, [0.9, 0.8, 0.7, float("nan")], "scores by up to nan"),
        (LABELS[:3], SCORES[:3], "C predicted 3, or other keys"),
    ],
)
def test_the_inference_benchmark_fails_if_predictions_differ(labels, scores, message, tmp_path):
    setting = Setting(CASES["numbers"], tmp_path, rows=4)
    for target in ("A", "B"):
        write(tmp_path / "out" / target / "predictions.parquet", range(4), LABELS, SCORES)
    shards = tmp_path / "out/C/predictions"
    write(shards / "part-00001.parquet", [1, 0], labels[1::-1], scores[1::-1])
    write(shards / "part-00000.parquet", range(2, len(labels)), labels[2:], scores[2:])
    if message is None:
        check(setting)
        return
    with pytest.raises(Failed, match=message):
        check(setting)


def gpu_benchmark(*arguments):
    command = [sys.executable, ROOT / "benchmarks/gpu.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.skipif(cuda_devices() > 0, reason="there is a CUDA device here")
def test_the_gpu_benchmark_measures_nothing_without_a_gpu():
    done = gpu_benchmark()
    assert (done.returncode, done.stdout) == (2, "")
    assert "finds no GPU here, so nothing was measured" in done.stderr


def test_the_gpu_benchmark_fails_if_the_losses_differ():
    one, other = Timed(0.002, [1.0, 0.5]), Timed(0.001, [1.0, 0.6])
    assert "2.00 ms | plain loop 2.00 ms: 1.00 times" in line(compared("a", "p", "cuda", one, one))
    for plain in (other, Timed(0.001, one.losses[:1]), "OutOfMemoryError: CUDA out of memory"):
        assert "| **FAILED** |" in line(compared("a", "p", "cuda", one, plain))


# In tests/tasks, test_train.py, test_resume.py, test_devices.py and test_session.py show the faults
# of what it calls, and so does tests/flows/test_warm.py.
@pytest.mark.release
@pytest.mark.whole
def test_the_gpu_benchmark_runs_on_a_cpu_and_says_so():
    done = gpu_benchmark("--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert "NOTHING ABOUT A GPU IS MEASURED HERE" in done.stdout
    assert "**FAILED**" not in done.stdout
    rows = [row.split(" | ")[0].removeprefix("| ") for row in done.stdout.splitlines()]
    names = {"training": "training step", "processes": "two processes", "warm": "warm process"}
    assert {*rows} >= {names.get(check, check) for check in CHECKS} | {"parity", "no device"}
