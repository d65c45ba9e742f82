"""Batch jobs on a real Dask cluster: a scheduler and workers in processes of their own.

Lost and new workers, workers that cannot predict, a scheduler that is not there.
"""

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clusters import dask_cluster, environment, wait_for
from forks import python_code
from prediction_helpers import PROVENANCE, files_of

from flows.cluster import connected
from registry import RegistryError
from tasks import inputs
from tasks.bundle.signature import Signature
from tasks.drift.report import DriftReport
from tasks.errors import InputError
from tasks.predict import How, predict
from tasks.serving import plan
from tasks.serving.options import BadLimit

pytest.importorskip("distributed", reason="the extra cluster is not installed")

SHARD, SHARDS, ROWS, BAD = 100, 16, 1_600, 37
# As `modelmint predict --cluster` does it, of a model without a registry.
JOB = """
import sys
from pathlib import Path
from flows.cluster import connected
from tasks import inputs, predict as job
from tasks.bundle.signature import Signature
from tasks.errors import InputError
from tasks.serving import plan
from tasks.serving.options import BadLimit

bundle, source, output, address, limit = sys.argv[1:]
plan.ROWS = SHARD
names = ("model.onnx", "signature.json", "profile.json")
files = {name: Path(bundle, name) for name in names}
found = inputs.find([Path(source)], Signature.read(files["signature.json"]))
told = []
try:
    with connected(address, print) as executor:
        how = job.How(limit=BadLimit.parse(limit), executor=executor, tell=told.append)
        job.predict(
            files, found, output=Path(output), provenance=PROVENANCE, how=how
        )
    print(told[-1])
except InputError as error:
    print(error)
    sys.exit(2)
""".replace("SHARD", str(SHARD)).replace("PROVENANCE", repr(PROVENANCE))


@pytest.fixture(scope="module")
def bundle(exported):
    return exported("mlp", "float32") / "bundle"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Images in row groups of one shard each, some of them with a NaN."""
    rng = np.random.default_rng(3)
    images = rng.uniform(0, 255, (ROWS, 8, 8, 3)).astype(np.float32)
    images[rng.choice(ROWS, BAD, replace=False), 0, 0, 0] = np.nan
    column = pa.FixedShapeTensorArray.from_numpy_ndarray(images)
    path = tmp_path_factory.mktemp("input") / "in.parquet"
    pq.write_table(pa.table({"image": column}), path, row_group_size=SHARD)
    return path


def predict_here(bundle, source, output, **how):
    """The job in this process."""
    files = files_of(bundle)
    found = inputs.find([source], Signature.read(files["signature.json"]))
    how = How("cpu", limit=BadLimit.parse("100%"), **how)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "ROWS", SHARD)
        return predict(files, found, output=output, provenance=PROVENANCE, how=how)


@pytest.fixture(scope="module")
def undisturbed(bundle, source, tmp_path_factory):
    """Every file that a job of this process writes, the manifest included."""
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    report = predict_here(bundle, source, output)
    assert (len(report.shards), report.quarantined) == (SHARDS, BAD)
    measures = DriftReport.read(output / "drift.json").columns[0].measures
    assert {sum(measure.now) for measure in measures} == {ROWS - BAD}
    return content(output)


def content(output):
    return {
        path.relative_to(output).as_posix(): path.read_bytes()
        for path in output.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def cluster(tmp_path):
    with dask_cluster(tmp_path / "cluster") as found:
        yield found


def start(bundle, source, output, address, limit="100%"):
    """The job on a cluster, as a process."""
    return subprocess.Popen(
        python_code(JOB, str(bundle), str(source), str(output), address, limit),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        # Tests that a script runs in the background ignore SIGINT; their children must not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def end(job):
    """Its exit status and what it printed; without a traceback."""
    printed, errors = job.communicate(timeout=300)
    assert "Traceback" not in errors, errors
    return job.returncode, printed


def test_lost_worker_costs_only_its_shards_and_a_new_one_helps(
    bundle, source, undisturbed, cluster, tmp_path
):
    output = tmp_path / "out"
    lost = cluster.add("lost", dies=3)  # before Dask has the result, so it repeats the shard
    for name in ("second", "third"):
        cluster.add(name, waits=2)
    job = start(bundle, source, output, cluster.address)
    assert lost.wait(120) == -signal.SIGKILL
    assert not (output / "predictions").exists()
    cluster.add("new")
    wait_for(lambda: "new" in dict(cluster.records), job)
    cluster.go()
    status, printed = end(job)
    assert status == 0, printed
    assert printed.startswith("1,600 of 1,600 rows, 0 left; ")
    assert printed.endswith("left, 16 of 16 shards, 3 workers\n")
    assert content(output) == undisturbed
    assert sorted(number for _, number in cluster.records) == list(range(SHARDS))
    assert {name for name, _ in cluster.records} == {"lost", "second", "third", "new"}


def test_workers_that_cannot_predict_are_named_before_anything_is_predicted(
    bundle, source, undisturbed, cluster, tmp_path, monkeypatch
):
    for name in ("shared", "elsewhere"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "shared")
    output = Path("/proc/self/cwd/out")  # another folder in a process with another current one
    cluster.add("good", cwd=tmp_path / "shared")
    cluster.add("stranger", cwd=tmp_path / "elsewhere")
    cluster.add("old", cwd=tmp_path / "shared", OTHER_RUNTIME="1.20.0")
    status, printed = end(start(bundle, source, output, cluster.address))
    assert status == 2
    assert re.search(
        rf"process {cluster.pid('old')} on .* has ONNX Runtime 1\.20\.0 and not \d", printed
    )
    assert f"the worker process {cluster.pid('stranger')} on " in printed
    assert "does not see the folder of the job, /proc/self/cwd/out/.unfinished/" in printed
    assert "Nothing was predicted" in printed
    assert cluster.records == []
    cluster.stop("stranger")
    cluster.stop("old")
    status, printed = end(start(bundle, source, output, cluster.address))
    assert status == 0, printed
    assert content(output) == undisturbed


def test_worker_that_joins_later_is_checked_and_the_job_goes_on_without_it(
    bundle, source, undisturbed, cluster, tmp_path, monkeypatch
):
    for name in ("shared", "elsewhere"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "shared")
    output = Path("/proc/self/cwd/out")
    cluster.add("good", cwd=tmp_path / "shared", waits=2)
    job = start(bundle, source, output, cluster.address)
    wait_for(lambda: len(cluster.records) == 2, job)
    cluster.add("stranger", cwd=tmp_path / "elsewhere")
    status, printed = end(job)
    assert status == 2
    assert f"the worker process {cluster.pid('stranger')} on " in printed
    assert not (output / "predictions").exists()
    cluster.stop("stranger")
    cluster.go()
    status, printed = end(start(bundle, source, output, cluster.address))
    assert status == 0, printed
    assert content(output) == undisturbed
    assert sorted(number for _, number in cluster.records) == list(range(SHARDS))


def test_shard_that_its_worker_dies_of_ends_the_job_with_a_message(bundle, source, tmp_path):
    with dask_cluster(
        tmp_path / "cluster", DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0"
    ) as cluster:
        cluster.add("dies", dies=1, before=True)
        status, printed = end(start(bundle, source, tmp_path / "out", cluster.address))
    assert status == 2
    assert printed.startswith("workers died while they predicted the same shards, 1 of them, the")
    assert "the same command goes on from there" in printed


def test_lost_scheduler_ends_the_job_and_the_same_command_goes_on(
    bundle, source, undisturbed, cluster, tmp_path
):
    output = tmp_path / "out"
    cluster.add("good", waits=3)
    job = start(bundle, source, output, cluster.address)
    wait_for(lambda: len(cluster.records) == 3, job)
    cluster.scheduler.kill()
    status, printed = end(job)
    assert status == 2
    assert f"the connection to {cluster.address} was lost" in printed
    recorded = [path.stat().st_ino for path in output.glob(".unfinished/*/predictions/part-*")]
    predict_here(bundle, source, output)  # on this machine alone
    assert content(output) == undisturbed
    published = [path.stat().st_ino for path in (output / "predictions").iterdir()]
    assert len(recorded) == 3
    assert set(recorded) <= set(published)


def test_interrupted_job_stops_its_workers_and_goes_on(
    bundle, source, undisturbed, cluster, tmp_path
):
    output = tmp_path / "out"
    cluster.add("good", waits=3)
    job = start(bundle, source, output, cluster.address)
    wait_for(lambda: len(cluster.records) == 3, job)
    job.send_signal(signal.SIGINT)
    job.communicate(timeout=120)
    assert job.returncode != 0
    cluster.go()
    cluster.wait_until_idle()
    assert len(cluster.records) == 3
    assert not list(output.glob(".unfinished/*/site.json"))
    assert end(start(bundle, source, output, cluster.address))[0] == 0
    assert content(output) == undisturbed


def test_too_many_bad_rows_end_the_job_on_a_cluster(bundle, source, cluster, tmp_path):
    cluster.add("one")
    status, printed = end(start(bundle, source, tmp_path / "out", cluster.address, limit="10"))
    assert status == 2
    assert "--max-bad 10 allows 10; nothing was published. Most frequent: a value is NaN" in printed
    assert not (tmp_path / "out/predictions").exists()


def test_scheduler_that_is_not_there_is_one_message(bundle, source, tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{unused.getsockname()[1]}"
        status, printed = end(start(bundle, source, tmp_path / "out", address))
    assert status == 2
    assert printed.startswith(f"--cluster {address}: no Dask scheduler answered within 10 s")
    assert "Start one with `dask scheduler`, or correct the address" in printed
    assert not (tmp_path / "out").exists()


def test_scheduler_without_workers_is_one_message(cluster):
    with (
        pytest.raises(InputError, match=r"has no worker\. Start some, as in `dask worker tcp://"),
        connected(cluster.address, print),
    ):
        pass


def test_few_chains_share_the_threads_of_a_worker(cluster):
    cluster.add("one", options=("--nthreads", "4"))
    with connected(cluster.address, print) as executor:
        assert executor.workers == 1
        assert [executor.threads(chains) for chains in (1, 2, 3, 4, 1000)] == [4, 2, 1, 1, 1]


@pytest.mark.parametrize(
    "address",
    [
        "scheduler:8786",
        "http://scheduler:8787",
        "tcp://scheduler",
        "tcp://:8786",
        "tcp://a:0",
        "tcp://a:70000",
        "tcp://user:secret@a:8786",
        "tcp://a:8786/x",
        "",
    ],
)
def test_address_that_is_none_is_refused(address):
    with (
        pytest.raises(InputError, match="the address of a Dask scheduler is expected, as in tcp"),
        connected(address, print),
    ):
        pass


def test_without_the_extra_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)  # as if it were not installed
    with (
        pytest.raises(RegistryError, match=r"--cluster needs .*pip install 'modelmint\[cluster"),
        connected("tcp://127.0.0.1:8786", print),
    ):
        pass
