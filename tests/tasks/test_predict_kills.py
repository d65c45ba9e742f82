"""A batch job that is killed at any moment is finished by the same command: no row lost or doubled.

The jobs run in processes of their own and kill themselves with SIGKILL in a given phase, or are
killed at random moments.
"""

import contextlib
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

SHARD, SHARDS, ROWS, BAD = 500, 7, 4_000, 37
KILLS = int(os.environ.get("MODELMINT_TEST_KILLS", "10"))
JOB = """
import os, signal, sys
from pathlib import Path
from tasks import inputs, predict as job
from tasks.bundle.signature import Signature
from tasks.serving import folder, plan, shard, writing
from tasks.serving.options import BadLimit

bundle, source, output, workers, phase, nth = sys.argv[1:]
plan.ROWS, plan.CHUNK_ROWS = SHARD, 100  # many small shards, of several chunks each


def dies(owner, name, after=False):
    original, calls = getattr(owner, name), iter(range(1, 1000))

    def call(*given, **named):
        last = next(calls) == int(nth)
        if last and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        found = original(*given, **named)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    setattr(owner, name, call)


PHASES = {
    "never": lambda: None,
    "before the plan": lambda: dies(job, "_kept"),
    "after the plan": lambda: dies(job, "_kept", after=True),
    "within a shard": lambda: dies(shard._Writer, "add"),
    "before a file has its name": lambda: dies(writing, "sealed", after=True),
    "after a file has its name": lambda: dies(writing._File, "finish", after=True),
    "before a record": lambda: dies(folder.JobFolder, "record"),
    "after a record": lambda: dies(folder.JobFolder, "record", after=True),
    "before publication": lambda: dies(folder.JobFolder, "publish"),
    "after publication": lambda: dies(folder.JobFolder, "publish", after=True),
    "after the manifest": lambda: dies(folder.JobFolder, "remove"),
}
PHASES[phase]()
pool = None
if "EXECUTOR" in os.environ:
    from concurrent.futures import ProcessPoolExecutor

    pool = ProcessPoolExecutor(int(workers))
files = {name: Path(bundle, name) for name in ("model.onnx", "signature.json")}
found = inputs.find([Path(source)], Signature.read(files["signature.json"]))
job.predict(
    files,
    found,
    output=Path(output),
    provenance={"model": "m:1", "digest": "d" * 64, "job": "x"},
    how=job.How(
        workers=int(workers), limit=BadLimit.parse(os.environ.get("LIMIT", "100%")), executor=pool
    ),
)
""".replace("SHARD", str(SHARD))
PHASES = (
    ("before the plan", 1),
    ("after the plan", 1),
    ("within a shard", 7),
    ("before a file has its name", 4),
    ("after a file has its name", 5),
    ("before a record", 3),
    ("after a record", 4),
    ("before publication", 1),
    ("after publication", 1),
)


@pytest.fixture(scope="module")
def bundle(exported):
    return exported("mlp", "float32") / "bundle"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Images, some of them with a NaN, in row groups that are not those of the shards."""
    rng = np.random.default_rng(3)
    images = rng.uniform(0, 255, (ROWS, 8, 8, 3)).astype(np.float32)
    images[rng.choice(ROWS, BAD, replace=False), 0, 0, 0] = np.nan
    column = pa.FixedShapeTensorArray.from_numpy_ndarray(images)
    path = tmp_path_factory.mktemp("input") / "in.parquet"
    pq.write_table(pa.table({"image": column}), path, row_group_size=1_100)
    return path


def start(bundle, source, output, workers, phase="never", nth=1, largest=None):
    """The job as a process that can write no file with more bytes than `largest`."""

    def limit():
        if largest is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))

    command = [sys.executable, "-c", JOB, str(bundle), str(source), str(output)]
    return subprocess.Popen(
        [*command, str(workers), phase, str(nth)],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limit,
    )


def finish(bundle, source, output, workers):
    process = start(bundle, source, output, workers)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


def content(output):
    """Every file of the output but the manifest, and what the manifest says of rows and files."""
    found = {
        path.relative_to(output).as_posix(): path.read_bytes()
        for path in output.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }
    return found, json.loads((output / "manifest.json").read_bytes())


@pytest.fixture(scope="module")
def undisturbed(bundle, source, tmp_path_factory):
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    finish(bundle, source, output, workers=1)
    files, manifest = content(output)
    assert len(manifest["shards"]) == SHARDS
    assert (manifest["rows"], manifest["quarantined"]) == (ROWS, BAD)
    predicted = pq.read_table(output / "predictions")["key"].to_pylist()
    quarantined = pq.read_table(output / "quarantine")["row"].to_pylist()
    assert sorted(predicted + quarantined) == list(range(ROWS))
    return files, manifest


@pytest.mark.parametrize(("phase", "nth"), PHASES, ids=[phase for phase, _ in PHASES])
def test_job_killed_in_a_phase_gives_the_same_bytes_after_the_same_command(
    phase, nth, bundle, source, undisturbed, tmp_path
):
    output = tmp_path / "out"
    killed = start(bundle, source, output, 4, phase, nth)
    _, errors = killed.communicate(timeout=300)
    assert killed.returncode == -signal.SIGKILL, errors
    assert not (output / "manifest.json").exists()
    assert phase == "after publication" or not (output / "predictions").exists()
    records = list(output.glob(".unfinished/*/shards/*.json"))
    before = {path.name: path.stat().st_mtime_ns for path in records}
    finish(bundle, source, output, workers=1)
    assert content(output) == undisturbed
    if phase == "after a record":
        assert len(before) >= 4


def test_any_executor_predicts_the_shards(bundle, source, undisturbed, tmp_path, monkeypatch):
    monkeypatch.setenv("EXECUTOR", "processes")
    finish(bundle, source, tmp_path / "out", workers=2)
    assert content(tmp_path / "out") == undisturbed
    monkeypatch.setenv("LIMIT", "1")
    refused = start(bundle, source, tmp_path / "few", 2)
    _, errors = refused.communicate(timeout=300)
    assert refused.returncode == 1
    assert "TooManyBad: " in errors
    assert "--max-bad 1 allows 1; nothing was published. Most frequent: a value is NaN" in errors
    assert not (tmp_path / "few/predictions").exists()


def test_recorded_shards_are_not_predicted_again(bundle, source, tmp_path):
    output = tmp_path / "out"
    start(bundle, source, output, 1, "before publication").communicate(timeout=300)
    parts = list(output.glob(".unfinished/*/predictions/*"))
    before = {path.name: path.stat().st_ino for path in parts}
    assert len(before) == SHARDS
    finish(bundle, source, output, workers=4)
    after = {path.name: path.stat().st_ino for path in (output / "predictions").iterdir()}
    assert after == before


def test_job_that_cannot_write_says_so_and_goes_on_once_it_can(
    bundle, source, undisturbed, tmp_path
):
    output = tmp_path / "out"
    job = start(bundle, source, output, 2, largest=6_000)  # shards have about 8 kB
    _, errors = job.communicate(timeout=300)
    assert job.returncode == 1
    assert re.search(
        rf"InputError: {output} cannot be written .*File too large.*\. Nothing was", errors
    )
    assert not (output / "predictions").exists()
    finish(bundle, source, output, workers=1)
    assert content(output) == undisturbed


def test_job_killed_after_its_manifest_is_complete(bundle, source, undisturbed, tmp_path):
    output = tmp_path / "out"
    killed = start(bundle, source, output, 2, "after the manifest")
    killed.communicate(timeout=300)
    assert killed.returncode == -signal.SIGKILL
    files, manifest = content(output)
    published = {name: data for name, data in files.items() if not name.startswith(".unfinished")}
    assert (published, manifest) == undisturbed


def test_job_killed_at_random_moments_gives_the_same_bytes(bundle, source, undisturbed, tmp_path):
    """Again and again with another number of workers, until it is complete; then another job."""
    moments, kills, number = random.Random(7), 0, 0
    while kills < KILLS:
        output = tmp_path / str(number := number + 1)
        while not (output / "manifest.json").exists() and kills < KILLS:
            process = start(bundle, source, output, moments.choice((1, 2, 4)))
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=moments.uniform(0.5, 4))
            kills += process.poll() is None
            process.kill()
            process.communicate()
        if not (output / "manifest.json").exists():
            finish(bundle, source, output, workers=3)
        files, manifest = content(output)
        left = {name: data for name, data in files.items() if not name.startswith(".unfinished")}
        assert (left, manifest) == undisturbed
