"""Batch inference: the same answers from every form of input, and what bad input gets."""

import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import onnxruntime as ort
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks import inputs
from tasks.bundle.signature import Signature
from tasks.errors import InputError
from tasks.predict import How, predict
from tasks.serving.manifest import completed
from tasks.serving.quarantine import TooManyBad
from tasks.serving.writing import ROWS_PER_GROUP
from tasks.session import cuda_devices, open_session

PROVENANCE = {"model": "digits:3", "digest": "d" * 64, "job": 17}
ROWS = 600  # more than two batches
PART = "predictions/part-00000.parquet"
NO_DEVICE = cuda_devices() == 0


class Model:
    """An exported bundle, and its predictions of `images` by plain ONNX Runtime."""

    def __init__(self, bundle, images):
        self.path = bundle / "model.onnx"
        self.files = {name: bundle / name for name in ("model.onnx", "signature.json")}
        self.signature = Signature.read(bundle / "signature.json")
        self.images = images
        session = ort.InferenceSession(str(self.path), providers=["CPUExecutionProvider"])
        (probabilities,) = session.run(["probabilities"], {"image": images})
        self.classes = [self.signature.classes[i] for i in probabilities.argmax(1)]
        self.scores = probabilities.max(1)

    def predict(self, folder, *paths, **options):
        """The report and the table of predictions."""
        given = {"output": folder / "out", "provenance": PROVENANCE, **options}
        given["how"] = given.get("how") or How(device=given.pop("device", "auto"))
        report = predict(self.files, inputs.find(paths, self.signature), **given)
        return report, pq.read_table(given["output"] / "predictions")


@pytest.fixture(scope="module")
def grey(exported):
    images = np.random.default_rng(5).integers(0, 255, (ROWS, 8, 8, 1)).astype(np.uint8)
    return Model(exported("mlp", "uint8") / "bundle", images)


@pytest.fixture(scope="module")
def coloured(exported):
    images = np.random.default_rng(5).uniform(0, 255, (ROWS, 8, 8, 3)).astype(np.float32)
    return Model(exported("mlp", "float32") / "bundle", images)


def as_tensor(images):
    return pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(images))


def as_list(images):
    return pa.FixedSizeListArray.from_arrays(pa.array(images.ravel()), images[0].size)


def as_binary(images):
    return pa.array([image.tobytes() for image in images], pa.binary(images[0].size))


def write(path, columns, chunk=None):
    table = columns if isinstance(columns, pa.Table) else pa.table(columns)
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=chunk)
    else:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=chunk)
    return path


def same(table, model, rows=slice(None)):
    assert table["prediction"].to_pylist() == model.classes[rows]
    assert table["score"].to_numpy() == pytest.approx(model.scores[rows], abs=1e-5)


@pytest.mark.parametrize("chunk", [None, 100, 37])
@pytest.mark.parametrize("suffix", [".arrow", ".parquet"])
@pytest.mark.parametrize("column", [as_tensor, as_list, as_binary])
def test_each_form_of_bytes_gives_the_predictions_of_plain_onnx_runtime(
    column, suffix, chunk, grey, tmp_path
):
    path = write(tmp_path / f"in{suffix}", {"image": column(grey.images)}, chunk)
    report, table = grey.predict(tmp_path, path)
    assert report.rows == ROWS
    same(table, grey)


@pytest.mark.parametrize("suffix", [".arrow", ".parquet"])
@pytest.mark.parametrize("column", [as_tensor, as_list])
def test_each_form_of_floats_gives_the_predictions_of_plain_onnx_runtime(
    column, suffix, coloured, tmp_path
):
    path = write(tmp_path / f"in{suffix}", {"image": column(coloured.images)}, 100)
    same(coloured.predict(tmp_path, path)[1], coloured)


def test_npz_files_are_read_grey_or_coloured_whatever_the_float(grey, coloured, tmp_path):
    np.savez(tmp_path / "grey.npz", images=grey.images[..., 0], labels=np.zeros(ROWS))
    same(grey.predict(tmp_path, tmp_path / "grey.npz")[1], grey)
    for dtype in ("<f4", "<f8", ">f8", ">f4"):
        np.savez_compressed(tmp_path / "in.npz", images=coloured.images.astype(dtype))
        output = tmp_path / f"out-{dtype[1:]}-{dtype[0] == '>'}"
        same(coloured.predict(tmp_path, tmp_path / "in.npz", output=output)[1], coloured)


@pytest.mark.parametrize("column", [as_tensor, as_list, as_binary])
def test_slices_of_a_larger_table_are_read_at_their_offset(column, grey, tmp_path):
    table = pa.table({"image": column(grey.images)})
    sliced = pa.concat_tables([table.slice(3, 290), table.slice(350, 7)])
    rows = [*range(3, 293), *range(350, 357)]
    _, found = grey.predict(tmp_path, write(tmp_path / "in.arrow", sliced))
    assert found["prediction"].to_pylist() == [grey.classes[row] for row in rows]
    assert found["score"].to_numpy() == pytest.approx(grey.scores[rows], abs=1e-5)


def test_a_nullable_parquet_column_of_a_non_nullable_writer_is_read(grey, tmp_path):
    """What differs between writers is the name and nullability of a list's items."""
    kind = pa.list_(pa.field("element", pa.uint8(), nullable=False), 64)
    column = pa.FixedSizeListArray.from_arrays(pa.array(grey.images.ravel()), type=kind)
    same(grey.predict(tmp_path, write(tmp_path / "in.arrow", {"image": column}))[1], grey)


def test_the_key_column_is_kept_and_others_are_ignored(grey, tmp_path):
    names = [f"row-{n}" for n in range(ROWS)]
    columns = {"note": names, "key": names[::-1], "image": as_tensor(grey.images)}
    _, table = grey.predict(tmp_path, write(tmp_path / "in.parquet", columns))
    assert table.column_names == ["key", "prediction", "score"]
    assert table["key"].to_pylist() == names[::-1]
    same(table, grey)


def test_keys_are_row_numbers_over_all_files_where_there_are_none(grey, tmp_path):
    write(tmp_path / "b.arrow", {"image": as_list(grey.images[300:])})
    write(tmp_path / "a.parquet", {"image": as_tensor(grey.images[:300])})
    report, table = grey.predict(tmp_path, tmp_path / "a.parquet", tmp_path / "b.arrow")
    assert table["key"].to_pylist() == list(range(ROWS))
    assert [entry["rows"] for entry in report.inputs] == [300, 300]
    same(table, grey)


def test_a_folder_is_its_readable_files_in_the_order_of_their_names(grey, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    np.savez(folder / "3.npz", images=grey.images[400:])
    write(folder / "1.parquet", {"image": as_binary(grey.images[:200])})
    write(folder / "2.arrow", {"image": as_tensor(grey.images[200:400])})
    (folder / "README.txt").write_text("not data")
    report, table = grey.predict(tmp_path, folder)
    assert [os.path.basename(entry["path"]) for entry in report.inputs] == [
        "1.parquet",
        "2.arrow",
        "3.npz",
    ]
    same(table, grey)


def test_the_prepared_dataset_can_be_predicted_as_it_lies(grey, prepared_images, tmp_path):
    path = prepared_images["uint8"] / "test.arrow"
    _, table = grey.predict(tmp_path, path)
    with pa.memory_map(str(path)) as source:
        expected = pa.ipc.open_file(source).read_all()
    assert table["key"].to_pylist() == expected["key"].to_pylist()
    right = sum(
        a == b
        for a, b in zip(
            table["prediction"].to_pylist(), expected["target"].to_pylist(), strict=True
        )
    )
    document = json.loads((grey.path.parent / "evaluation.json").read_bytes())
    accuracy = document["metrics"]["summary"]["accuracy"]
    assert right / table.num_rows == pytest.approx(accuracy)


def test_an_empty_file_among_others_adds_no_rows(grey, tmp_path):
    write(tmp_path / "a.arrow", {"image": as_tensor(grey.images)[:0]})
    write(tmp_path / "b.arrow", {"image": as_tensor(grey.images)})
    report, table = grey.predict(tmp_path, tmp_path / "a.arrow", tmp_path / "b.arrow")
    assert report.rows == ROWS
    same(table, grey)


def test_many_batches_are_written_in_few_groups_of_rows(grey, tmp_path):
    images = np.concatenate([grey.images] * 120)
    write(tmp_path / "in.arrow", {"image": as_binary(images)})
    done = []
    report, table = grey.predict(tmp_path, tmp_path / "in.arrow", how=How(progress=done.append))
    assert report.rows == table.num_rows == len(images) > ROWS_PER_GROUP
    assert sum(done) == len(images)
    assert pq.read_metadata(tmp_path / "out" / PART).num_row_groups == 2
    assert table["prediction"].to_pylist() == grey.classes * 120


def test_the_manifest_is_truthful_and_names_the_model(grey, tmp_path):
    path = write(tmp_path / "in.parquet", {"image": as_tensor(grey.images)})
    report, table = grey.predict(tmp_path, path, device="cpu")
    out = tmp_path / "out"
    assert sorted(p.name for p in out.iterdir()) == ["drift.json", "manifest.json", "predictions"]
    manifest = json.loads((out / "manifest.json").read_bytes())
    written = (out / PART).read_bytes()
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    drift = (out / "drift.json").read_bytes()
    assert manifest == {
        "rows": ROWS,
        "provider": "CPUExecutionProvider",
        "nodes": report.nodes,
        "onnxruntime": ort.__version__,
        "input_sha256": hashlib.sha256(sha256.encode()).hexdigest(),
        "inputs": [{"path": str(path), "sha256": sha256, "rows": ROWS}],
        "output": {"path": "predictions"},
        "provenance": PROVENANCE,
        "substituted": {"image": {"rows": ROWS}},
        "drift": {
            "path": "drift.json",
            "sha256": hashlib.sha256(drift).hexdigest(),
            "size": len(drift),
            "summary": {
                "verdict": None,
                "reason": "the model was trained by an older release",  # it has no profile
                "moved": 0,
                "columns": [],
                "not_compared": 2,
                "accuracy": None,
            },
        },
        "quarantined": 0,
        "reasons": {},
        "options": {
            "probabilities": False,
            "threshold": None,
            "keep": [],
            "form": "parquet",
            "partition_by": [],
        },
        "batch_size": 256,
        "shards": [
            {
                "number": 0,
                "rows": ROWS,
                "quarantined": 0,
                "keys": ["0", str(ROWS - 1)],
                "files": [
                    {
                        "path": PART,
                        "sha256": hashlib.sha256(written).hexdigest(),
                        "size": len(written),
                        "rows": ROWS,
                    }
                ],
            }
        ],
        "format": 3,
    }
    assert report.nodes.keys() == {"CPUExecutionProvider"}
    assert report.nodes["CPUExecutionProvider"] > 0
    assert table.num_rows == manifest["rows"]


def test_the_predictions_themselves_say_which_model_made_them(grey, tmp_path):
    path = write(tmp_path / "in.parquet", {"image": as_tensor(grey.images)})
    grey.predict(tmp_path, path)
    metadata = pq.read_schema(tmp_path / "out" / PART).metadata
    assert metadata[b"modelmint.digest"] == b"d" * 64
    assert metadata[b"modelmint.model"] == b"digits:3"


def test_the_same_rows_give_the_same_bytes_in_another_job(grey, tmp_path):
    path = write(tmp_path / "in.parquet", {"image": as_tensor(grey.images)})
    outputs = []
    for job in (1, 2):
        (tmp_path / str(job)).mkdir()
        grey.predict(tmp_path / str(job), path, provenance={**PROVENANCE, "job": job})
        outputs.append((tmp_path / str(job) / "out" / PART).read_bytes())
    assert outputs[0] == outputs[1]


def test_the_fingerprint_knows_content_and_order_and_no_names(grey, tmp_path):
    a = write(tmp_path / "a.arrow", {"image": as_tensor(grey.images[:9])})
    b = write(tmp_path / "b.arrow", {"image": as_tensor(grey.images[9:20])})
    c = write(tmp_path / "c.arrow", {"image": as_tensor(grey.images[:9])})
    ab, cb, ba = (inputs.fingerprint(inputs.find(p)) for p in ((a, b), (c, b), (b, a)))
    assert ab == cb != ba


def test_a_manifest_makes_a_job_complete(grey, tmp_path):
    path = write(tmp_path / "in.parquet", {"image": as_tensor(grey.images)})
    assert completed(tmp_path / "out") is None
    report, _ = grey.predict(tmp_path, path)
    assert completed(tmp_path / "out").as_json() == report.as_json()
    (tmp_path / "out/manifest.json").unlink()
    assert completed(tmp_path / "out") is None


def test_changed_or_missing_predictions_are_seen(grey, tmp_path):
    path = write(tmp_path / "in.parquet", {"image": as_tensor(grey.images)})
    grey.predict(tmp_path, path)
    predictions = tmp_path / "out" / PART
    content = bytearray(predictions.read_bytes())
    content[len(content) // 2] ^= 1
    predictions.write_bytes(content)
    with pytest.raises(InputError, match="is not what its manifest describes"):
        completed(tmp_path / "out")
    predictions.unlink()
    with pytest.raises(InputError, match="remove the folder"):
        completed(tmp_path / "out")


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"rows": 3}'])
def test_a_manifest_that_cannot_be_read_is_refused(text, tmp_path):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(InputError) as caught:
        completed(tmp_path)
    assert str(tmp_path / "manifest.json") in str(caught.value)


def test_a_job_that_fails_again_leaves_the_finished_one_as_it_was(grey, tmp_path):
    path = write(tmp_path / "in.parquet", {"image": as_tensor(grey.images)})
    report, _ = grey.predict(tmp_path, path)
    write(path, {"image": as_tensor(grey.images[:, :7])})
    with pytest.raises(InputError):
        grey.predict(tmp_path, path)
    assert completed(tmp_path / "out").as_json() == report.as_json()


def refusal(model, folder, *paths):
    """The message, after seeing that no file was left in the output folder."""
    with pytest.raises(InputError) as caught:
        model.predict(folder, *paths)
    if not isinstance(caught.value, TooManyBad):  # which may go on with a higher limit
        assert not (folder / "out").exists()
    return str(caught.value)


GREY = np.zeros((300, 8, 8, 1), np.uint8)


def nulled(array, row):
    """The array with no value in one row."""
    return pa.concat_arrays([array[:row], pa.nulls(1, array.type), array[row + 1 :]])


def hollow(images, kind):
    """Rows of which the last has no value in one place."""
    values = pa.array([*images.ravel()[:-1].tolist(), None], pa.from_numpy_dtype(images.dtype))
    storage = pa.FixedSizeListArray.from_arrays(values, images[0].size)
    if kind == "list":
        return storage
    tensor = pa.fixed_shape_tensor(values.type, images.shape[1:])
    return pa.ExtensionArray.from_storage(tensor, storage)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"imag": as_tensor(GREY)}, "no column 'image' (did you mean 'imag'?); it has imag. The "),
        ({"x": as_tensor(GREY)}, "no column 'image'; it has x. The model takes image: uint8[8, "),
        (
            {"image": as_tensor(GREY.astype(np.float32))},
            "column 'image' is float32[8, 8, 1]; the model takes image: uint8[8, 8, 1]",
        ),
        ({"image": as_tensor(GREY[:, :7])}, "column 'image' is uint8[7, 8, 1]; the model takes"),
        ({"image": as_tensor(GREY[..., 0])}, "column 'image' is uint8[8, 8]; the model takes"),
        ({"image": as_list(GREY[:, :7])}, "column 'image' is fixed_size_list<"),
        ({"image": as_list(GREY.astype(np.int64))}, "column 'image' is fixed_size_list<"),
        ({"image": as_list(GREY > 0)}, "column 'image' is fixed_size_list<"),
        ({"image": as_binary(GREY[:, :7])}, "column 'image' is fixed_size_binary[56]; the model"),
        ({"image": pa.array([[1] * 64])}, "column 'image' is list<"),
        ({"image": pa.array(range(300))}, "column 'image' is int64; the model takes image: uint"),
        ({"image": nulled(as_list(GREY), 280)}, "row 280 of column 'image' is missing"),
        ({"image": nulled(as_binary(GREY), 280)}, "row 280 of column 'image' is missing"),
        ({"image": hollow(GREY, "list")}, "row 299 of column 'image' is missing"),
        ({"image": hollow(GREY, "tensor")}, "row 299 of column 'image' is missing"),
    ],
)
@pytest.mark.parametrize("suffix", [".arrow", ".parquet"])
def test_columns_that_the_model_does_not_take_are_refused(columns, message, suffix, grey, tmp_path):
    path = write(tmp_path / f"in{suffix}", columns)
    assert refusal(grey, tmp_path, path).startswith(f"{path}: {message}")


def test_what_is_wrong_in_a_later_file_is_named_with_that_file(grey, tmp_path):
    good = write(tmp_path / "a.arrow", {"image": as_tensor(grey.images)})
    bad = write(tmp_path / "b.arrow", {"image": as_tensor(GREY[:, :7])})
    said = refusal(grey, tmp_path, good, bad)
    assert said.startswith(f"{bad}: column 'image' is uint8[7, 8, 1]; the model takes image")


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("column", [as_tensor, as_list])
def test_a_value_that_is_no_number_is_refused(column, value, coloured, tmp_path):
    images = coloured.images.copy()
    images[7, 1, 2, 0] = value
    path = write(tmp_path / "in.parquet", {"image": column(images)})
    said = refusal(coloured, tmp_path, path)
    assert said.startswith(f"{path}: row 7 of column 'image' is NaN or infinite")


def test_a_float_that_is_missing_is_refused(coloured, tmp_path):
    for kind in ("list", "tensor"):
        path = write(tmp_path / "in.arrow", {"image": hollow(coloured.images, kind)})
        said = refusal(coloured, tmp_path, path)
        assert said.startswith(f"{path}: row {ROWS - 1} of column 'image' is missing")


def test_no_rows_at_all_are_refused(grey, tmp_path):
    a = write(tmp_path / "a.arrow", {"image": as_tensor(GREY)[:0]})
    b = write(tmp_path / "b.parquet", {"image": as_binary(GREY)[:0]})
    assert refusal(grey, tmp_path, a, b) == f"{a}, {b}: no rows to predict"


def test_keys_of_different_types_are_refused(grey, tmp_path):
    image = as_tensor(grey.images[:3])
    a = write(tmp_path / "a.arrow", {"key": [1, 2, 3], "image": image})
    b = write(tmp_path / "b.arrow", {"key": ["1", "2", "3"], "image": image})
    assert "'key' has different types" in refusal(grey, tmp_path, a, b)


def test_a_missing_file_or_folder_is_named(grey, tmp_path):
    path = tmp_path / "none.parquet"
    assert refusal(grey, tmp_path, path) == f"{path} is missing; give an existing file or folder"


@pytest.mark.parametrize("name", ["in.doc", "in", "in.PARQUET.zip"])
def test_a_form_that_is_not_known_is_refused_with_those_that_are(name, grey, tmp_path):
    (tmp_path / name).write_text("1,2")
    assert refusal(grey, tmp_path, tmp_path / name) == (
        f"{tmp_path / name}: a file must end in {', '.join(inputs.SUFFIXES)}, to be read by that "
        "form"
    )


def test_a_folder_without_readable_files_is_refused(grey, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/x.doc").write_text("1,2")
    said = refusal(grey, tmp_path, tmp_path / "in")
    assert said.startswith(f"{tmp_path / 'in'} holds no file ending in .csv, ")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"hello, this is not data" * 9])
@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".npz"])
def test_a_broken_file_is_named(suffix, content, grey, tmp_path):
    path = tmp_path / f"in{suffix}"
    path.write_bytes(content)
    assert refusal(grey, tmp_path, path).startswith(f"{path} is not a readable {suffix} file: ")


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".npz"])
def test_a_truncated_file_is_named(suffix, grey, tmp_path):
    path = tmp_path / f"in{suffix}"
    if suffix == ".npz":
        np.savez(path, images=grey.images)
    else:
        write(path, {"image": as_tensor(grey.images)})
    path.write_bytes(path.read_bytes()[:-2000])
    assert refusal(grey, tmp_path, path).startswith(f"{path} is not a readable {suffix} file: ")


def test_damage_in_the_middle_of_a_file_is_named_though_its_header_is_whole(grey, tmp_path):
    images = np.concatenate([grey.images] * 9)
    path = write(tmp_path / "in.parquet", {"image": as_tensor(images)}, 1000)
    content = bytearray(path.read_bytes())
    begin = pq.read_metadata(path).row_group(4).column(0)
    start = begin.dictionary_page_offset or begin.data_page_offset
    content[start : start + 64] = b"\xff" * 64
    path.write_bytes(content)
    assert refusal(grey, tmp_path, path).startswith(f"{path} is not a readable .parquet file: ")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros(3, np.uint8), "images is uint8[3]; uint8 or floating point of shape (N, H, W)"),
        (np.uint8(3), "images is uint8[]; uint8 or floating point"),
        (np.zeros((3, 8, 8), int), "images is int64[3, 8, 8]; uint8 or floating point"),
        (np.zeros((3, 8, 8), bool), "images is bool[3, 8, 8]; uint8 or floating point"),
        (np.array(["a", "b"]), "images is <U1[2]; uint8 or floating point"),
        (np.zeros((3, 8, 8)), "column 'image' is float32[8, 8, 1]; the model takes image: uint8"),
        (np.zeros((3, 8, 9), np.uint8), "column 'image' is uint8[8, 9, 1]; the model takes"),
    ],
)
def test_images_of_another_form_in_an_npz_file_are_refused(images, message, grey, tmp_path):
    path = tmp_path / "in.npz"
    np.savez(path, images=images)
    assert refusal(grey, tmp_path, path).startswith(f"{path}: {message}")


def test_an_npz_file_without_images_or_with_pickles_is_refused(grey, tmp_path):
    path = tmp_path / "in.npz"
    np.savez(path, x=np.zeros(3))
    said = refusal(grey, tmp_path, path)
    assert said == f"{path} holds the arrays x; `images` or `sequences` is expected"
    np.savez(path, images=np.array([{}], object))
    assert refusal(grey, tmp_path, path).startswith(f"{path} is not a readable .npz file: ")
    with path.open("wb") as file:
        np.save(file, GREY)
    assert refusal(grey, tmp_path, path).startswith(f"{path} is not a readable .npz file: ")


def image_file(path, images):
    """Images in the form that the name asks for."""
    if path.suffix == ".npz":
        np.savez(path, images=images)
        return path
    return write(path, {"image": as_tensor(images)})


def replaced(path, content):
    part = path.with_name("part")
    part.write_bytes(content)
    part.replace(path)


def there_and_back(path, content):
    before = path.read_bytes()
    path.write_bytes(content)
    path.write_bytes(before)


UNDER_THE_JOB = {
    "replaced": replaced,
    "written over": lambda path, content: path.write_bytes(content),
    "and back": there_and_back,
    "cut short": lambda path, content: os.truncate(path, 100),
    "emptied": lambda path, content: path.write_bytes(b""),
    "removed": lambda path, content: path.unlink(),
}


@pytest.mark.parametrize("change", UNDER_THE_JOB.values(), ids=UNDER_THE_JOB)
@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".npz"])
def test_an_input_that_changes_under_the_job_leaves_nothing(change, suffix, grey, tmp_path):
    path = image_file(tmp_path / f"in{suffix}", grey.images)
    content = image_file(tmp_path / f"other{suffix}", grey.images[::-1]).read_bytes()
    files, done = inputs.find([path]), []

    def progress(rows):
        if not done:
            change(path, content)
        done.append(rows)

    given = {"output": tmp_path / "out", "provenance": PROVENANCE}
    with pytest.raises(InputError, match=f"in{suffix} changed while it was read, so nothing was"):
        predict(grey.files, files, how=How(progress=progress), **given)
    assert not (tmp_path / "out").exists()
    assert done


def test_an_input_that_changed_before_the_job_is_not_predicted_under_its_old_hash(grey, tmp_path):
    path = image_file(tmp_path / "in.parquet", grey.images)
    files = inputs.find([path])
    image_file(path, grey.images[:500])
    with pytest.raises(InputError, match=r"in\.parquet changed while it was read"):
        predict(grey.files, files, output=tmp_path / "out", provenance=PROVENANCE)
    assert not (tmp_path / "out").exists()
    report, _ = grey.predict(tmp_path, path)
    assert report.rows == 500
    assert report.inputs == [
        {
            "path": str(path),
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "rows": 500,
        }
    ]


@pytest.mark.parametrize("suffix", [".parquet", ".npz"])
def test_an_input_that_was_moved_away_and_back_is_not_taken_for_what_was_read(
    suffix, grey, tmp_path
):
    path, away = tmp_path / f"in{suffix}", tmp_path / f"away{suffix}"
    other = image_file(tmp_path / f"other{suffix}", grey.images[::-1])
    files = inputs.find([image_file(path, grey.images)])
    path.rename(away)
    other.rename(path)

    def progress(rows):
        if away.exists():
            path.rename(other)
            away.rename(path)

    given = {"output": tmp_path / "out", "provenance": PROVENANCE}
    with pytest.raises(InputError, match="changed while it was read, so nothing was predicted"):
        predict(grey.files, files, how=How(progress=progress), **given)
    assert not (tmp_path / "out").exists()
    assert grey.predict(tmp_path, path)[0].rows == ROWS


def test_an_input_that_gets_another_link_or_mode_is_predicted(grey, tmp_path):
    path = image_file(tmp_path / "in.parquet", grey.images)

    def progress(rows):
        path.chmod(0o444)
        if not (tmp_path / "link").exists():
            os.link(path, tmp_path / "link")

    assert grey.predict(tmp_path, path, how=How(progress=progress))[0].rows == ROWS


@pytest.mark.skipif(not NO_DEVICE, reason="there is a CUDA device here")
def test_asking_for_cuda_where_there_is_none_is_refused(grey, tmp_path):
    path = write(tmp_path / "in.parquet", {"image": as_tensor(grey.images)})
    with pytest.raises(InputError, match=r"CUDA was asked for.*use --device auto or cpu"):
        grey.predict(tmp_path, path, device="cuda")
    assert not (tmp_path / "out").exists()
    assert open_session(grey.path, "auto").provider == "CPUExecutionProvider"


@pytest.mark.gpu
@pytest.mark.skipif(NO_DEVICE, reason="the NVIDIA driver finds no device")
def test_predictions_on_cuda_are_those_of_the_cpu(grey, tmp_path):
    path = write(tmp_path / "in.parquet", {"image": as_tensor(grey.images)})
    report, table = grey.predict(tmp_path, path, device="cuda")
    assert report.provider == "CUDAExecutionProvider"
    assert report.nodes["CUDAExecutionProvider"] > 0
    assert table["score"].to_numpy() == pytest.approx(grey.scores, abs=1e-4)


def test_predicting_imports_no_torch(grey, tmp_path):
    write(tmp_path / "in.parquet", {"image": as_tensor(grey.images)})
    code = """
import sys
from pathlib import Path
from tasks import inputs
from tasks.predict import predict
bundle, folder = map(Path, sys.argv[1:])
files = inputs.find([folder / "in.parquet"])
names = {name: bundle / name for name in ("model.onnx", "signature.json")}
report = predict(names, files, output=folder / "out", provenance={"model": "m:1", "digest": "d"})
print(report.rows, sorted({"torch", "onnx", "sklearn"} & sys.modules.keys()))
"""
    command = [sys.executable, "-c", code, str(grey.path.parent), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{ROWS} []"
