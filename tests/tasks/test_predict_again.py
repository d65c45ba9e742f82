"""Which unfinished job the same command goes on with, and what begins another one."""

import shutil
from dataclasses import replace

import numpy
import onnxruntime
import PIL
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hand_made import IMAGE, classifier
from prediction_helpers import predict_paths

from tasks import fingerprint
from tasks.errors import InputChanged, SetupError
from tasks.hashed import HashedFile, blame_change
from tasks.predict import How
from tasks.serving import plan
from tasks.serving.folder import unfinished
from tasks.serving.shard import ready_model

ROWS, SHARD = 40, 10


@pytest.fixture
def bundle(tmp_path):
    return classifier(tmp_path / "store/bundle", IMAGE)


@pytest.fixture
def source(tmp_path):
    images = numpy.random.default_rng(0).integers(0, 9, (ROWS, 4, 5, 1)).astype(numpy.uint8)
    path = tmp_path / "in.parquet"
    column = pa.FixedShapeTensorArray.from_numpy_ndarray(images)
    pq.write_table(pa.table({"image": column}), path, row_group_size=SHARD)
    return path


@pytest.fixture
def begun(bundle, source, tmp_path, monkeypatch):
    """The output of a job that was interrupted after two shards."""
    monkeypatch.setattr(plan, "ROWS", SHARD)
    chunks = []

    def interrupt(rows):
        chunks.append(rows)
        if len(chunks) >= 3:  # the next shard may begin before the job stops
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_paths(bundle, [source], tmp_path / "out", how=How("cpu", 1, progress=interrupt))
    return tmp_path / "out"


def predicted_by(bundle, source, output):
    """How many rows the same command predicts."""
    done = []
    report, table = predict_paths(bundle, [source], output, how=How("cpu", 1, progress=done.append))
    assert report.rows == table.num_rows == ROWS
    return sum(done)


def test_a_job_goes_on_after_the_artifact_store_was_moved(bundle, source, begun, tmp_path):
    shutil.move(tmp_path / "store", tmp_path / "moved")
    assert predicted_by(tmp_path / "moved/bundle", source, begun) == ROWS - 2 * SHARD


def test_a_job_goes_on_with_a_copy_of_its_input(bundle, source, begun, tmp_path):
    shutil.copy(source, tmp_path / "copy")
    shutil.move(tmp_path / "copy", source)  # another inode and time
    assert predicted_by(bundle, source, begun) == ROWS - 2 * SHARD


@pytest.mark.parametrize("library", [onnxruntime, pa, numpy, PIL])
def test_another_release_of_a_library_begins_another_job(
    library, bundle, source, begun, monkeypatch
):
    monkeypatch.setattr(library, "__version__", "99.0.0")
    assert predicted_by(bundle, source, begun) == ROWS


def test_other_code_begins_another_job(bundle, source, begun, tmp_path, monkeypatch):
    copy = shutil.copytree(fingerprint.PACKAGE, tmp_path / "tasks")
    monkeypatch.setattr(fingerprint, "PACKAGE", copy)
    fingerprint.installed_digest.cache_clear()
    same = fingerprint.installed_digest()
    with (copy / "serving/shard.py").open("a") as stream:
        stream.write("CHANGED = True\n")
    fingerprint.installed_digest.cache_clear()
    try:
        assert fingerprint.installed_digest() != same
        assert predicted_by(bundle, source, begun) == ROWS
    finally:
        fingerprint.installed_digest.cache_clear()


def test_the_same_code_in_another_folder_goes_on(bundle, source, begun, tmp_path, monkeypatch):
    copy = shutil.copytree(fingerprint.PACKAGE, tmp_path / "tasks")
    monkeypatch.setattr(fingerprint, "PACKAGE", copy)
    fingerprint.installed_digest.cache_clear()
    assert predicted_by(bundle, source, begun) == ROWS - 2 * SHARD


def test_everything_that_a_plan_names_as_its_runtime_is_part_of_its_identity(begun):
    found = unfinished(begun)
    assert found.runtime["provider"] == "CPUExecutionProvider"
    for name in found.runtime:
        other = replace(found, runtime={**found.runtime, name: "another"})
        assert other.identity != found.identity, name


def test_a_model_that_changed_since_it_was_hashed_is_not_opened(bundle):
    path = bundle / "model.onnx"
    files = {name: HashedFile.of(bundle / name) for name in ("model.onnx", "signature.json")}
    path.write_bytes(path.read_bytes().replace(b"by hand", b"by foot"))
    with pytest.raises(SetupError, match=r"model\.onnx was changed since the job began"):
        ready_model(tuple(files.items()), "cpu")


def test_half_a_file_is_a_changed_one_if_it_was_written_meanwhile(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("a\n1\n")
    before = HashedFile.of(path)
    path.write_text("a\n1")
    with pytest.raises(InputChanged, match="changed while it was read"), blame_change([before]):
        raise ValueError("half a row")
    with pytest.raises(ValueError, match="half a row"), blame_change([HashedFile.of(path)]):
        raise ValueError("half a row")
