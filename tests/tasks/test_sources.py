"""Raw data of all kinds: how it is read, and how bad input is refused."""

import gzip
import os
import struct
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.datasets import load_breast_cancer, load_diabetes
from source_helpers import put, read, refusal, source

from tasks import sources
from tasks.errors import InputError
from tasks.sources import examples

# Tables

TABLE = """age,city,member,since,note,label
30,Bern,true,2020-01-01,x,1
,Genf,false,2021-05-06,y,0
41,,true,,z,1
"""


def test_column_types_follow_from_arrow_types(tmp_path):
    put(tmp_path, "in.csv", TABLE)
    raw = read("tabular", tmp_path, "in.csv", target="label", ignore=["note"])
    assert raw.features == {
        "age": "number",
        "city": "category",
        "member": "boolean",
        "since": "date",
    }
    assert raw.target == "label"
    assert raw.table["label"].to_pylist() == [1, 0, 1]
    assert raw.table["city"].to_pylist() == ["Bern", "Genf", None]
    assert raw.table["note"].to_pylist() == ["x", "y", "z"]
    assert raw.split is None
    assert raw.describe(2) == f"{tmp_path / 'in.csv'}, row 3"


def test_source_columns_declares_column_types(tmp_path):
    put(tmp_path, "in.csv", "code,flag,n,when,y\n007,1,true,2024-01-01T00:00:00Z,a\n8,0,,,b\n")
    columns = {"code": "category", "flag": "boolean", "n": "number", "when": "date"}
    raw = read("tabular", tmp_path, "in.csv", target="y", columns=columns)
    assert raw.features == columns
    assert raw.table["code"].to_pylist() == ["007", "8"]
    assert raw.table["flag"].to_pylist() == [True, False]
    assert raw.table["n"].to_pylist() == [1.0, None]
    assert raw.table["when"].to_pylist()[1] is None


def test_every_arrow_type_has_a_column_type_or_is_refused(tmp_path):
    table = pa.table(
        {
            "decimal": pa.array([1, 2]).cast(pa.decimal128(30, 2)),
            "float": pa.array([1.0, None], pa.float32()),
            "large": pa.array(["a", ""], pa.large_string()),
            "coded": pa.array(["a", "b"]).dictionary_encode(),
            "moment": pa.array([0, 1], pa.timestamp("ns", "Europe/Zurich")),
            "y": [0, 1],
        }
    )
    pq.write_table(table, tmp_path / "in.parquet")
    kinds = {"decimal": "number", "moment": "date", "float": "boolean"}
    raw = read("tabular", tmp_path, "in.parquet", target="y", columns=kinds, ignore=["float"])
    assert [str(raw.table[name].type) for name in kinds] == ["double", "timestamp[us]", "bool"]
    raw = read("tabular", tmp_path, "in.parquet", target="y")
    assert list(raw.features.values()) == ["number", "number", "category", "category", "date"]
    assert raw.table["large"].to_pylist() == ["a", None]
    assert raw.describe(1) == f"{tmp_path / 'in.parquet'}, row 1"
    pq.write_table(table.append_column("tags", [[["a"], ["b"]]]), tmp_path / "in.parquet")
    said = refusal("tabular", tmp_path, "in.parquet", target="y")
    assert said.startswith(
        "in.parquet: column 'tags' is list<element: string>, which is not a number"
    )
    assert (
        "tags" in read("tabular", tmp_path, "in.parquet", ["tags"], target="y").table.schema.names
    )


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"target": "lable"},
            "in.csv: no column 'lable' (did you mean 'label'?), which prepare.sou",
        ),
        (
            {"ignore": ["notes"]},
            "in.csv: no column 'notes' (did you mean 'note'?), which prepare.so",
        ),
        ({"columns": {"Age": "number"}}, "in.csv: no column 'Age' (did you mean 'age'?), which"),
        ({"reserved": ["grup"]}, "in.csv: no column 'grup', which prepare names; it has age, city"),
        ({"reserved": ["label"], "target": "label"}, "in.csv: column 'label' is the target, and"),
        ({"columns": {"city": "number"}}, "in.csv, row 1: column 'city' is 'Bern'; a number is"),
        ({"columns": {"age": "boolean"}}, "in.csv, row 1: column 'age' is '30'; true or false is"),
        ({"columns": {"note": "date"}}, "in.csv, row 1: column 'note' is 'x'; a date (ISO 8601)"),
        ({"max_categories": 2}, "in.csv: column 'note' has 3 distinct values in 3 rows, more than"),
        (
            {"csv": {"delimiter": ";"}, "target": "label"},
            "in.csv: no column 'label', which prepare.source",
        ),
        (
            {"target": "label", "ignore": ["age", "city", "member", "since", "note"]},
            "in.csv: no feature is left",
        ),
    ],
)
def test_invalid_column_options_are_refused(more, message, tmp_path):
    put(tmp_path, "in.csv", TABLE)
    assert refusal("tabular", tmp_path, "in.csv", **more).startswith(message)


@pytest.mark.whole
def test_a_category_with_a_million_values_is_refused(tmp_path):
    names = pa.array(range(1_000_000)).cast(pa.string())
    letters = pa.compute.binary_join_element_wise("id", names, "-")
    pq.write_table(pa.table({"who": letters, "y": range(1_000_000)}), tmp_path / "in.parquet")
    said = refusal("tabular", tmp_path, "in.parquet", target="y")
    assert said.startswith("in.parquet: column 'who' has 1000000 distinct values in 1000000 rows")


def test_a_number_column_with_a_word_is_refused_as_category(tmp_path):
    put(tmp_path, "in.csv", "n,y\n" + "1.5,a\n" * 20 + "NA,b\n")
    said = refusal("tabular", tmp_path, "in.csv", target="y")
    assert said.startswith("in.csv, row 21: column 'n' is 'NA', where most values are numbers")
    raw = read("tabular", tmp_path, "in.csv", target="y", columns={"n": "category"})
    assert raw.features == {"n": "category"}


def test_a_column_without_any_value_is_refused_unless_ignored(tmp_path):
    put(tmp_path, "in.csv", "a,b,y\n1,,x\n2,,y\n")
    assert "column 'b' has no values; name it" in refusal("tabular", tmp_path, "in.csv", target="y")
    assert read("tabular", tmp_path, "in.csv", target="y", ignore=["b"]).features == {"a": "number"}


@pytest.mark.parametrize("name", ["key", "target"])
def test_a_feature_cannot_be_named_key_or_target(name, tmp_path):
    put(tmp_path, "in.csv", f"a,{name},y\n1,2,x\n2,3,y\n")
    said = refusal("tabular", tmp_path, "in.csv", target="y")
    assert said.startswith(f"in.csv: a feature cannot have the name {name!r}")
    assert name in read("tabular", tmp_path, "in.csv", target="y", ignore=[name]).table.schema.names
    assert read("tabular", tmp_path, "in.csv", target=name, ignore=["y"]).features == {
        "a": "number"
    }


def test_a_column_without_a_name_is_refused_as_feature(tmp_path):
    put(tmp_path, "in.csv", ",a,y\n0,5,x\n1,6,y\n")
    said = refusal("tabular", tmp_path, "in.csv", target="y")
    assert said.startswith("in.csv: a column has no name. If it is the index of pandas")
    assert read("tabular", tmp_path, "in.csv", target="y", ignore=[""]).features == {"a": "number"}


def test_nan_and_infinity_in_csv_are_read_as_numbers(tmp_path):
    put(tmp_path, "in.csv", "a,y\nNaN,x\n-inf,y\n1,y\n")
    raw = read("tabular", tmp_path, "in.csv", target="y")
    assert raw.features == {"a": "number"}
    assert str(raw.table["a"].to_pylist()) == "[nan, -inf, 1.0]"


def test_reserved_columns_stay_in_the_table_but_are_not_features(tmp_path):
    put(tmp_path, "in.csv", TABLE)
    raw = read("tabular", tmp_path, "in.csv", {"city", "since"}, target="label")
    assert raw.features.keys() == {"age", "member", "note"}
    assert {"city", "since"} <= set(raw.table.schema.names)


def test_source_test_selects_the_files_of_the_test_split(tmp_path):
    put(tmp_path, "in/1.csv", "a,y\n1,x\n2,y\n")
    put(tmp_path, "in/test.csv", "y,a\nx,4.5\n")
    put(tmp_path, "in/2.csv", "a,y\n3,x\n")
    raw = read("tabular", tmp_path, "in", test="test*", target="y")
    assert raw.table["a"].to_pylist() == [1, 2, 3, 4.5]
    assert raw.split.tolist() == ["train", "train", "train", "test"]
    assert raw.describe(3) == f"{tmp_path / 'in/test.csv'}, row 1"
    raw = read("tabular", tmp_path, "in", pattern="1*", test="test*", target="y")
    assert raw.table["a"].to_pylist() == [1, 2, 4.5]
    assert raw.split.tolist() == ["train", "train", "test"]
    raw = read("tabular", tmp_path, "in", pattern="?.csv", target="y")
    assert raw.table["a"].to_pylist() == [1, 2, 3]
    assert raw.split is None


@pytest.mark.parametrize(
    ("path", "more", "message"),
    [
        ("in", {"test": "tset*"}, "in: prepare.source.test (tset*) matches none of the 2 files"),
        ("in", {"test": "*"}, "in: prepare.source.test (*) matches all of the 2 files"),
        ("in", {"pattern": "x*"}, "in holds no file ending in .csv, "),
        ("in/1.csv", {"test": "1*"}, "in/1.csv is a file, but prepare.source.pattern and"),
        ("in/1.csv", {"pattern": "1*"}, "in/1.csv is a file, but prepare.source.pattern and"),
    ],
)
def test_invalid_pattern_and_test_globs_are_refused(path, more, message, tmp_path):
    put(tmp_path, "in/1.csv", "a,y\n1,x\n")
    put(tmp_path, "in/test.csv", "a,y\n1,x\n")
    assert refusal("tabular", tmp_path, path, target="y", **more).startswith(message)


def test_a_test_file_with_different_columns_is_refused(tmp_path):
    put(tmp_path, "in/1.csv", "a,y\n1,x\n")
    put(tmp_path, "in/test.csv", "b,y\n1,x\n")
    said = refusal("tabular", tmp_path, "in", test="test*", target="y")
    assert "test.csv differs from " in said
    assert said.endswith("missing columns 'a'; additional columns 'b'")


# Texts


def test_texts_are_a_column_of_any_table(tmp_path):
    put(tmp_path, "in.csv", 'id,text,label\n1,"good, very",1\n2,"  ",0\n3,,0\n')
    raw = read("text", tmp_path, "in.csv", target="label")
    assert raw.features == {"text": "text"}
    assert raw.table["text"].to_pylist() == ["good, very", None, None]
    assert raw.target == "label"
    assert read("text", tmp_path, "in.csv").target is None


def test_texts_are_the_lines_of_one_file_for_each_class(tmp_path):
    put(tmp_path, "in/b.txt", "\ufeff好\r\n\nbad one".encode())
    put(tmp_path, "in/a.txt", "one\u2028line\n")
    raw = read("text", tmp_path, "in")
    assert raw.table["text"].to_pylist() == ["one\u2028line", "好", None, "bad one"]
    assert raw.table["label"].to_pylist() == ["a", "b", "b", "b"]
    assert (raw.features, raw.target) == ({"text": "text"}, "label")
    assert raw.describe(3) == f"{tmp_path / 'in/b.txt'}, row 3"
    alone = read("text", tmp_path, "in/b.txt")
    assert (alone.table.column_names, alone.target) == (["text"], None)
    assert "in/b.txt: no column 'x'" in refusal("text", tmp_path, "in/b.txt", target="x")
    assert "each .txt file is a class" in refusal("text", tmp_path, "in", test="a*")
    put(tmp_path, "in/c.csv", "text\nfrom a table\n")
    assert read("text", tmp_path, "in").table["text"].to_pylist() == ["from a table"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.csv", "text,y\n1,a\n2,b\n", "in.csv: column 'text' is int64; texts are expected"),
        ("in.csv", "text,y\n,a\n,b\n", "in.csv: column 'text' is null; texts are expected"),
        ("in.csv", "texts,y\nx,a\n", "in.csv: no column 'text' (did you mean 'texts'?), which"),
        ("in.csv", b"text,y\nx,a\ncaf\xe9,b\n", "in.csv, row 2: column 'text' is not UTF-8: b'caf"),
        ("in.csv", "text,y\nx,a\nx,y,b\n", "in.csv, row 2: 3 fields, but the header has 2: 'x,y,b"),
        ("in.txt", b"x\ncaf\xe9\n", "in.txt, row 2: not UTF-8: "),
        ("in.txt", b"", "in.txt has no rows"),
    ],
)
def test_invalid_texts_are_refused(name, content, message, tmp_path):
    put(tmp_path, name, content)
    assert refusal("text", tmp_path, name).startswith(message)


# Sequences


def test_lists_of_numbers_and_of_lists_become_timesteps(tmp_path):
    table = pa.table({"sequence": [[1, 2], [], None, [3, None]], "label": list("abab")})
    pq.write_table(table, tmp_path / "in.parquet")
    raw = read("sequence", tmp_path, "in.parquet")
    assert raw.table["sequence"].type == pa.list_(pa.list_(pa.float32(), 1))
    found = raw.table["sequence"].to_pylist()
    assert found[:3] == [[[1], [2]], None, None]
    assert found[3][0] == [3]
    assert np.isnan(found[3][1][0])
    table = pa.table({"s": [[[1, 2]], [[3, 4], [5, 6.5]]], "label": [0.5, 1.5]})
    pq.write_table(table, tmp_path / "in.parquet")
    raw = read("sequence", tmp_path, "in.parquet", column="s")
    assert raw.features == {"s": "sequence"}
    assert raw.table["s"].type == pa.list_(pa.list_(pa.float32(), 2))
    assert raw.table["s"].to_pylist() == [[[1, 2]], [[3, 4], [5, 6.5]]]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([1, 2], "in.parquet: column 'sequence' is int64; a list of numbers"),
        ([["a"], ["b"]], "in.parquet: column 'sequence' is list<element: string>; a list of num"),
        ([[[1, 2]], [[3, 4], [5]]], "in.parquet, row 1: column 'sequence' has a timestep of 1"),
    ],
)
def test_invalid_lists_are_refused_as_sequences(column, message, tmp_path):
    pq.write_table(pa.table({"sequence": column, "label": [0, 1]}), tmp_path / "in.parquet")
    assert refusal("sequence", tmp_path, "in.parquet").startswith(message)


def test_npz_sequences_are_truncated_to_lengths(tmp_path):
    steps = np.arange(12, dtype=">f8").reshape(2, 3, 2)
    np.savez(tmp_path / "in.npz", sequences=steps, labels=["a", "b"], lengths=[3, 1])
    raw = read("sequence", tmp_path, "in.npz")
    assert raw.table["sequence"].to_pylist() == [[[0, 1], [2, 3], [4, 5]], [[6, 7]]]
    assert raw.table["label"].to_pylist() == ["a", "b"]
    np.savez(tmp_path / "in.npz", sequences=steps[..., 0], labels=[0.5, 1], lengths=[0, 2])
    raw = read("sequence", tmp_path, "in.npz")
    assert raw.table["sequence"].to_pylist() == [None, [[6], [8]]]
    assert raw.table["label"].to_pylist() == [0.5, 1]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": [1]}, "in.npz holds the arrays x; `sequences` is expected"),
        ({"sequences": [1]}, "in.npz: sequences is int64[1]; numbers of shape (N, T) or (N, T, F)"),
        ({"sequences": [[1]]}, "in.npz holds the arrays sequences; `labels` is expected too"),
        ({"sequences": [[1]], "labels": [1, 2]}, "in.npz: labels is int64[2]; 1 numbers or str"),
        ({"sequences": [[1]], "labels": [1], "lengths": [2]}, "in.npz, row 0: the length 2 is not"),
        ({"sequences": [[1]], "labels": [1], "lengths": [1.0]}, "in.npz: lengths is float64[1];"),
        ({"sequences": np.zeros((0, 3)), "labels": np.zeros(0)}, "in.npz has no rows"),
    ],
)
def test_invalid_npz_arrays_are_refused_as_sequences(arrays, message, tmp_path):
    np.savez(tmp_path / "in.npz", **arrays)
    assert refusal("sequence", tmp_path, "in.npz").startswith(message)


# Images


def pixels(raw):
    return raw.table["image"].combine_chunks().to_numpy_ndarray()


def save(root, name, array, **more):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(root / name, **more)


GREY = np.arange(20, dtype=np.uint8).reshape(4, 5)
RGB = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)


def on_white(pixels, alpha):
    """Colours with an alpha channel, blended with white."""
    mixed = pixels.astype(float) * alpha + 255.0 * (255.0 - alpha)
    return np.floor(mixed / 255 + 0.5).astype(np.uint8)


def test_images_are_read_from_one_folder_per_class(tmp_path):
    save(tmp_path, "in/dog/b.png", RGB)
    save(tmp_path, "in/dog/a.PNG", RGB + 1)
    save(tmp_path, "in/cat/z.jpg", RGB)
    put(tmp_path, "in/cat/.DS_Store", "")
    put(tmp_path, "in/README.txt", "not data")
    raw = read("image", tmp_path, "in")
    assert (raw.features, raw.target, raw.split) == ({"image": "image"}, "label", None)
    assert raw.table["label"].to_pylist() == ["cat", "dog", "dog"]
    assert pixels(raw).dtype == np.uint8
    assert np.array_equal(pixels(raw)[1:], [RGB + 1, RGB])
    assert raw.describe(2).startswith(f"{tmp_path / 'in/dog/b.png'}")


def test_folders_named_train_and_test_mark_the_splits(tmp_path):
    for name in ("train/a/1.png", "train/b/1.png", "test/a/1.png"):
        save(tmp_path, f"in/{name}", GREY)
    raw = read("image", tmp_path, "in")
    assert raw.split.tolist() == ["train", "train", "test"]
    assert raw.table["label"].to_pylist() == ["a", "b", "a"]
    assert "already has a test split" in refusal("image", tmp_path, "in", test="test/*")
    globbed = read("image", tmp_path, "in/train", test="b/*")
    assert globbed.split.tolist() == ["train", "test"]
    assert read("image", tmp_path, "in/train", pattern="b/*.png").table["label"].to_pylist() == [
        "b"
    ]
    assert "has no image that matches prep" in refusal("image", tmp_path, "in/train", pattern="c/*")
    save(tmp_path, "in/validation/a/1.png", GREY)
    assert "only train and test are allowed together" in refusal("image", tmp_path, "in")


def test_a_folder_named_test_without_train_is_a_class(tmp_path):
    save(tmp_path, "in/test/1.png", GREY)
    save(tmp_path, "in/other/1.png", GREY)
    raw = read("image", tmp_path, "in")
    assert (raw.split, raw.table["label"].to_pylist()) == (None, ["other", "test"])


def test_palettes_16_bit_greys_and_transparency_become_8_bits_per_channel(tmp_path):
    deep = GREY.astype(np.uint16) * 257
    save(tmp_path, "grey/a/16.png", deep)
    save(tmp_path, "grey/a/1.png", GREY > 9)
    save(tmp_path, "grey/a/LA.png", np.stack([GREY, 255 - GREY], axis=-1))
    grey = pixels(read("image", tmp_path, "grey"))[..., 0]
    assert np.array_equal(grey, [np.where(GREY > 9, 255, 0), GREY, on_white(GREY, 255 - GREY)])
    (tmp_path / "rgb/a").mkdir(parents=True)
    Image.fromarray(RGB).quantize(64).save(tmp_path / "rgb/a/palette.png")
    save(tmp_path, "rgb/a/alpha.png", np.concatenate([RGB, RGB[..., :1]], axis=-1))
    save(tmp_path, "rgb/a/grey.png", GREY)
    alpha, grey, palette = pixels(read("image", tmp_path, "rgb"))
    assert np.array_equal(alpha, on_white(RGB, RGB[..., :1]))
    assert np.array_equal(grey, np.stack([GREY] * 3, axis=-1))
    assert np.abs(palette.astype(int) - RGB).max() < 16


def test_images_are_resized_converted_and_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    save(tmp_path, "in/a/1.jpg", np.zeros((6, 4, 3), np.uint8), exif=exif)
    save(tmp_path, "in/a/2.png", np.full((9, 9), 7, np.uint8))
    raw = read("image", tmp_path, "in", size=[3, 5], colour="grey")
    assert pixels(raw).shape == (2, 3, 5, 1)
    assert (pixels(raw)[1] == 7).all()
    save(tmp_path, "in/a/2.png", np.zeros((4, 6), np.uint8))
    assert pixels(read("image", tmp_path, "in", colour="rgb")).shape == (2, 4, 6, 3)


def test_image_files_of_another_size_or_colour_are_named(tmp_path):
    save(tmp_path, "in/a/1.png", GREY)
    save(tmp_path, "in/a/2.png", GREY.T)
    said = refusal("image", tmp_path, "in")
    assert said.startswith("in/a/2.png is 5x4 pixels (height x width); in/a/1.png is 4x5. Set pre")
    save(tmp_path, "in/a/2.png", RGB)
    said = refusal("image", tmp_path, "in")
    assert said.startswith("in/a/2.png has colours and in/a/1.png is grey; set prepare.source.col")


def test_files_that_are_not_images_are_named(tmp_path):
    save(tmp_path, "in/a/1.png", GREY)
    whole = (tmp_path / "in/a/1.png").read_bytes()
    for content in (b"", b"hello", whole[:-20], whole[:40] + b"\xff" * 20 + whole[60:]):
        put(tmp_path, "in/a/2.png", content)
        said = refusal("image", tmp_path, "in")
        assert said.startswith("in/a/2.png is not a readable PNG or JPEG file: ")
    (tmp_path / "in/a/2.png").rename(tmp_path / "in/a/2.bmp")
    assert refusal("image", tmp_path, "in").startswith("in/a/2.bmp is not a PNG or JPEG file; conv")
    (tmp_path / "in/a/2.bmp").unlink()
    (tmp_path / "in/b").mkdir()
    assert refusal("image", tmp_path, "in").startswith("in/b has no images; remove it, or put")
    save(tmp_path, "in/3.png", GREY)
    assert refusal("image", tmp_path, "in").startswith("in/3.png is not in the folder of a class")
    (tmp_path / "empty").mkdir()
    assert refusal("image", tmp_path, "empty").startswith("empty has no images; one sub-folder")
    assert refusal("image", tmp_path, "none").startswith("none is missing. Put the images there")


def idx(root, name, array):
    header = struct.pack(f">i{array.ndim}i", 0x800 + array.ndim, *array.shape)
    content = header + array.astype(np.uint8).tobytes()
    put(root, name, gzip.compress(content) if name.endswith(".gz") else content)


def test_idx_files_are_read_with_their_splits(tmp_path):
    images = np.arange(6 * 20).reshape(6, 4, 5)
    idx(tmp_path, "in/t10k-images-idx3-ubyte", images[4:])
    idx(tmp_path, "in/t10k-labels-idx1-ubyte.gz", np.array([9, 8]))
    idx(tmp_path, "in/train-images-idx3-ubyte.gz", images[:4])
    idx(tmp_path, "in/train-labels-idx1-ubyte.gz", np.arange(4))
    raw = read("image", tmp_path, "in")
    assert np.array_equal(pixels(raw)[..., 0], images)
    assert raw.table["label"].to_pylist() == [0, 1, 2, 3, 9, 8]
    assert raw.split.tolist() == ["train"] * 4 + ["test"] * 2
    assert raw.describe(5) == f"{tmp_path / 'in/t10k-images-idx3-ubyte'}, row 1"
    assert len(read("image", tmp_path, "in", pattern="train-*")) == 4


def test_broken_idx_files_are_named(tmp_path):
    idx(tmp_path, "in/images-idx3-ubyte.gz", np.zeros((3, 4, 5)))
    assert "in/images-idx3-ubyte.gz has no labels: labels-idx1-ubyte or" in refusal(
        "image", tmp_path, "in"
    )
    idx(tmp_path, "in/labels-idx1-ubyte", np.zeros(2))
    assert "has 3 images and" in refusal("image", tmp_path, "in")
    idx(tmp_path, "in/labels-idx1-ubyte", np.zeros((3, 1)))
    assert refusal("image", tmp_path, "in").startswith("in/labels-idx1-ubyte is not a readable")
    put(tmp_path, "in/labels-idx1-ubyte", b"")
    assert refusal("image", tmp_path, "in").startswith("in/labels-idx1-ubyte is not a readable")
    idx(tmp_path, "in/labels-idx1-ubyte", np.zeros(3))
    idx(tmp_path, "in/test-labels-idx1-ubyte", np.zeros(3))
    idx(tmp_path, "in/test-images-idx3-ubyte", np.zeros((3, 5, 4)))
    assert "in/test-images-idx3-ubyte: images of 5x4 pixels" in refusal("image", tmp_path, "in")
    idx(tmp_path, "in/images-idx3-ubyte", np.zeros((3, 4, 5)))
    assert "are duplicates of the same images" in refusal("image", tmp_path, "in")
    (tmp_path / "in/images-idx3-ubyte").unlink()
    path = tmp_path / "in/images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-9])
    assert refusal("image", tmp_path, "in").startswith("in/images-idx3-ubyte.gz is not a readable")
    assert "apply only to image files" in refusal("image", tmp_path, "in", size=[2, 2])


def test_npz_images_keep_uint8_or_become_float32(tmp_path):
    images = np.arange(40, dtype=np.uint8).reshape(2, 4, 5)
    np.savez(tmp_path / "in.npz", images=images, labels=np.array(["a", ""]))
    raw = read("image", tmp_path, "in.npz")
    assert np.array_equal(pixels(raw), images[..., np.newaxis])
    assert raw.table["label"].to_pylist() == ["a", None]
    np.savez(tmp_path / "in.npz", images=images.astype(">f8"), labels=np.array([0.5, 1]))
    raw = read("image", tmp_path, "in.npz")
    assert pixels(raw).dtype == np.float32
    assert raw.table["label"].to_pylist() == [0.5, 1]
    assert raw.describe(1) == f"{tmp_path / 'in.npz'}, row 1"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": [1]}, "in.npz holds the arrays x; `images` is expected"),
        ({"images": GREY}, "in.npz: images is uint8[4, 5]; uint8 or floating point of shape"),
        ({"images": RGB}, "in.npz holds the arrays images; `labels` is expected too"),
        ({"images": RGB, "labels": [[1]]}, "in.npz: labels is int64[1, 1]; 4 numbers or strings"),
        ({"images": RGB, "labels": [b"\xff"] * 4}, "in.npz: labels of bytes must be ASCII"),
        ({"images": RGB[:0], "labels": []}, "in.npz has no images"),
        ({"images": np.array([{}], object)}, "in.npz is not a readable .npz file: "),
    ],
)
def test_invalid_npz_arrays_are_refused_as_images(arrays, message, tmp_path):
    np.savez(tmp_path / "in.npz", **arrays)
    assert refusal("image", tmp_path, "in.npz").startswith(message)


# Embedded data and examples


def test_the_digits_are_copied_from_scikit_learn_and_read(tmp_path):
    digits = source("digits", "data/digits.csv.gz")
    assert sources.place_embedded(digits, tmp_path)
    raw = sources.read(digits, tmp_path)
    assert pixels(raw).shape == (1797, 8, 8, 1)
    assert pixels(raw).dtype == np.uint8
    assert raw.table["label"].to_pylist()[:3] == ["0", "1", "2"]
    assert raw.describe(0) == f"{tmp_path / 'data/digits.csv.gz'}, row 1"


def test_a_missing_value_of_the_digits_is_null(tmp_path):
    line = ",".join(["1"] * 64)
    put(tmp_path, "in.csv.gz", gzip.compress(f"{line},\n,{line[2:]},3\n".encode()))
    raw = read("digits", tmp_path, "in.csv.gz")
    assert raw.table["label"].to_pylist() == [None, "3"]
    assert np.isnan(pixels(raw)[1, 0, 0, 0])
    put(tmp_path, "in.csv.gz", gzip.compress(f"{line},1\n{line}\n".encode()))
    assert refusal("digits", tmp_path, "in.csv.gz").startswith("in.csv.gz, row 2: 64 values; 64")


@pytest.mark.parametrize("name", ["cancer", "diabetes"])
def test_the_tables_of_scikit_learn_are_copied_exactly(name, tmp_path):
    table = source("tabular", "data/in.csv", target="target", example=name)
    assert sources.place_embedded(table, tmp_path)
    raw = sources.read(table, tmp_path)
    bunch = load_breast_cancer() if name == "cancer" else load_diabetes(scaled=False)
    values = np.stack([raw.table[str(n)].to_numpy() for n in bunch.feature_names], axis=1)
    assert np.array_equal(values, bunch.data)
    if name == "cancer":
        assert raw.table["target"].to_pylist()[:2] == ["malignant"] * 2
    else:
        assert np.array_equal(raw.table["target"].to_numpy(), bunch.target)
    first = (tmp_path / "data/in.csv").read_bytes()
    (tmp_path / "data/in.csv").unlink()
    sources.place_embedded(table, tmp_path)
    assert (tmp_path / "data/in.csv").read_bytes() == first


def test_place_embedded_keeps_existing_files_and_ignores_other_sources(tmp_path):
    put(tmp_path, "in.csv", TABLE)
    assert sources.place_embedded(source("tabular", "in.csv", example="cancer"), tmp_path)
    assert (tmp_path / "in.csv").read_text() == TABLE
    assert not sources.place_embedded(source("tabular", "none.csv"), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.csv"]


def test_fashion_mnist_is_copied_from_its_package_or_refused(tmp_path):
    fashion = source("image", "data/fashion", example="fashion")
    if not examples.FASHION.is_dir():
        with pytest.raises(InputError, match="apt-get install dataset-fashion-mnist"):
            sources.place_embedded(fashion, tmp_path)
        assert list((tmp_path / "data").iterdir()) == []
        return
    assert sources.place_embedded(fashion, tmp_path)
    raw = sources.read(fashion, tmp_path)
    assert pixels(raw).shape == (70_000, 28, 28, 1)
    assert raw.split.tolist() == ["train"] * 60_000 + ["test"] * 10_000
    assert set(raw.table["label"].to_pylist()) == set(range(10))


@pytest.mark.whole
def test_the_tweets_are_downloaded_completely(tmp_path):
    tweets = source("text", "data/tweets.csv", target="sentiment", example="tweets")
    assert sources.place_embedded(tweets, tmp_path)
    raw = sources.read(tweets, tmp_path)
    assert raw.table.column_names == ["sentiment", "confidence", "text"]
    assert len(raw) == 38_158
    assert set(raw.table["sentiment"].to_pylist()) == {"negative", "neutral", "positive"}


@pytest.mark.whole
def test_a_failed_download_of_the_tweets_is_refused_and_leaves_no_files(tmp_path):
    code = """
import sys
from pathlib import Path
from pydantic import TypeAdapter
from tasks import sources
from tasks.config import Source
given = {"kind": "text", "path": "data/tweets.csv", "example": "tweets"}
sources.place_embedded(TypeAdapter(Source).validate_python(given), Path(sys.argv[1]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "PIP_NO_INDEX": "1"},
        capture_output=True,
        text=True,
    )
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("tasks.errors.InputError: the tweets could not be downloaded: pip")
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.whole
def test_importing_sources_imports_no_scikit_learn_or_torch():
    code = """
import sys
from tasks import sources
print(sorted({"torch", "sklearn", "scipy"} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
