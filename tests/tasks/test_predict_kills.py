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
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from amounts import usual
from forks import python_code
from hand_made import classifier

from tasks.columns import ImageColumn

SHARD, SHARDS, ROWS, BAD = 500, 7, 4_000, 37
KILLS = int(os.environ.get("MODELMINT_TEST_KILLS", usual("5", "10")))
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


def dies_while_written(name):
    original = os.fsync

    def sync(number):
        original(number)
        if any(Path(output).rglob(f".{name}.*")):
            os.kill(os.getpid(), signal.SIGKILL)

    os.fsync = sync


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
    "while drift.json is written": lambda: dies_while_written("drift.json"),
    "while the manifest is written": lambda: dies_while_written("manifest.json"),
    "after the manifest": lambda: dies(folder.JobFolder, "remove"),
}
PHASES[phase]()
if "BEGUN" in os.environ:  # the numbers of the shards that are predicted, as they begin
    begun = os.open(os.environ["BEGUN"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    make = shard._Writer.__init__

    def make_and_note(self, plan, folder, file, part):
        os.write(begun, f"{part.number}\\n".encode())
        make(self, plan, folder, file, part)

    shard._Writer.__init__ = make_and_note
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
    ("while drift.json is written", 1),
    ("while the manifest is written", 1),
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    image = ImageColumn(name="image", dtype="float32", shape=(8, 8, 3))
    return classifier(tmp_path_factory.mktemp("model") / "bundle", (image,))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Images, some of them with a NaN, in row groups that are not those of the shards."""
    rng = np.random.default_rng(3)
    images = rng.uniform(-0.1, 0.1, (ROWS, 8, 8, 3)).astype(np.float32)
    images[rng.choice(ROWS, BAD, replace=False), 0, 0, 0] = np.nan
    column = pa.FixedShapeTensorArray.from_numpy_ndarray(images)
    path = tmp_path_factory.mktemp("input") / "in.parquet"
    pq.write_table(pa.table({"image": column}), path, row_group_size=1_100)
    return path


def start(bundle, source, output, workers, phase="never", nth=1, *, real=False, largest=None):
    """The job as a process that can write no file with more bytes than `largest`.

    It is forked, which costs a fifth of the CPU time, but a `real` one can be killed from outside.
    """

    def limit():
        if largest is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))

    given = [JOB, str(bundle), str(source), str(output), str(workers), phase, str(nth)]
    return subprocess.Popen(
        [sys.executable, "-c", *given] if real else python_code(*given),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limit,
    )


def finish(bundle, source, output, workers, **more):
    process = start(bundle, source, output, workers, **more)
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
    published = phase == "after publication" or phase.startswith("while")
    assert published or not (output / "predictions").exists()
    records = list(output.glob(".unfinished/*/shards/*.json"))
    before = {path.name: path.stat().st_mtime_ns for path in records}
    finish(bundle, source, output, workers=1)
    assert content(output) == undisturbed
    if phase == "after a record":  # of the fourth call; the other threads may be within theirs
        assert len(before) >= 1


def test_any_executor_predicts_the_shards(bundle, source, undisturbed, tmp_path, monkeypatch):
    monkeypatch.setenv("EXECUTOR", "processes")
    # Only an interpreter that ends by itself stops the processes of an executor.
    finish(bundle, source, tmp_path / "out", workers=2, real=True)
    assert content(tmp_path / "out") == undisturbed
    monkeypatch.setenv("LIMIT", "1")
    refused = start(bundle, source, tmp_path / "few", 2, real=True)
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
    job = start(bundle, source, output, 2, real=True, largest=6_000)  # shards have about 8 kB
    _, errors = job.communicate(timeout=300)
    assert job.returncode == 1
    assert re.search(
        rf"SetupError: {output} cannot be written .*File too large.*\. Nothing was", errors
    )
    assert not (output / "predictions").exists()
    finish(bundle, source, output, workers=1)
    assert content(output) == undisturbed


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 120 kB, and what gives it more."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=120k", "tmpfs", str(folder)]
    try:
        made = subprocess.run(mount, capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f"no disk can be mounted here: {error}")
    if made.returncode:
        pytest.skip(f"no disk can be mounted here: {made.stderr.strip()}")
    larger = ["mount", "-o", "remount,size=100m", str(folder)]
    yield folder, lambda: subprocess.run(larger, check=True)
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("left", [0, 24, 56])
def test_job_on_a_full_disk_says_so_and_goes_on_once_there_is_room(
    left, bundle, source, undisturbed, small_disk
):
    """With `left` kB: full before the plan is written, or after some of the shards."""
    folder, enlarge = small_disk
    output, other = folder / "out", folder / "other"
    other.write_bytes(bytes((120 - left) * 1024))
    job = start(bundle, source, output, 2)
    _, errors = job.communicate(timeout=300)
    assert job.returncode == 1
    assert f"SetupError: {output} cannot be written (No space left on device)" in errors
    assert not (output / "predictions").exists()
    assert not (output / "manifest.json").exists()
    enlarge()
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


def test_job_killed_at_random_moments_gives_the_same_bytes(
    bundle, source, undisturbed, tmp_path, monkeypatch, capsys
):
    """Again and again with another number of workers, until it is complete; then another job."""
    moments, kills, number, again = random.Random(7), 0, 0, 0
    while kills < KILLS:
        output = tmp_path / str(number := number + 1)
        monkeypatch.setenv("BEGUN", str(begun := tmp_path / f"{number}.begun"))
        while not (output / "manifest.json").exists() and kills < KILLS:
            recorded = finished_shards(output)
            before = len(begun_shards(begun))
            killed = start_and_kill(bundle, source, output, moments)
            kills += killed
            # Two chains of shards are under way at most, each with one shard at a time.
            here = begun_shards(begun)[before:]
            assert not recorded & set(here)
            assert len(set(here) - finished_shards(output)) <= 2 * killed
        if not (output / "manifest.json").exists():
            finish(bundle, source, output, workers=3)
        files, manifest = content(output)
        left = {name: data for name, data in files.items() if not name.startswith(".unfinished")}
        assert (left, manifest) == undisturbed
        again += len(begun_shards(begun)) - SHARDS
    assert again <= 2 * kills
    with capsys.disabled():
        print(f" {kills} kills of {number} jobs of {SHARDS} shards, {again} shards repeated ")


def start_and_kill(bundle, source, output, moments):
    """Kill a job while it starts (one of ten times) or works; whether it was still there."""
    before = written(output)
    process = start(bundle, source, output, moments.choice((1, 2, 4)), real=True)
    within = moments.uniform(0, 1) if moments.random() < 0.1 else None
    deadline = time.monotonic() + 60
    while within is None and process.poll() is None and time.monotonic() < deadline:
        if written(output) != before:  # whoever goes on writes the plan again
            within = moments.uniform(0, 0.5)
        time.sleep(0.005)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=within)
    alive = process.poll() is None
    process.kill()
    _, errors = process.communicate()
    assert process.returncode in (0, -signal.SIGKILL), errors
    return alive


def written(output):
    """When the plan was written."""
    return [path.stat().st_mtime_ns for path in output.glob(".unfinished/*/plan.json")]


def begun_shards(path):
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def finished_shards(output):
    """The numbers of the shards that are recorded, or of all if the job is complete."""
    if (output / "manifest.json").exists():
        return set(range(SHARDS))
    return {int(path.stem) for path in output.glob(".unfinished/*/shards/[0-9]*.json")}
