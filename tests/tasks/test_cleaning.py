"""Missing values and categories in `prepare`."""

from datetime import datetime

import numpy as np
import pyarrow as pa
import pytest
from prepare_helpers import (
    IMAGES,
    NUMBERS,
    SEQUENCES,
    STEPS,
    columns,
    kept,
    put,
    put_images,
    refusal,
    report,
    run,
    signature,
    some_images,
    splits,
    texts,
    without,
    written,
)

from tasks.columns import SourceLocation
from tasks.config import Prepare, TabularSource
from tasks.encoding import Encoder


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_missing_refuse_names_file_row_and_column(tmp_path, value):
    found = columns()["a"]
    found[[17, 23]] = value
    put(tmp_path, a=found)
    assert refusal(tmp_path) == (
        f"{tmp_path}/table.parquet, row 17, column 'a': missing, NaN or infinite (2 such rows in "
        "all). Correct the data, or set prepare.missing to drop or fill."
    )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_image_with_a_nan_pixel_is_refused_or_dropped_but_not_filled(tmp_path, value):
    images = some_images(dtype="float32")
    images[[17, 23], 2, 1] = value
    put_images(tmp_path, images)
    said = refusal(tmp_path, IMAGES)
    assert said.startswith(f"{tmp_path}/images.npz, row 17, column 'image': missing, NaN or infin")
    assert said.endswith("set prepare.missing to drop.")
    for rule in ("drop", "fill"):
        assert run(tmp_path, IMAGES, missing=rule).dropped_missing == 2
        assert not {17, 23} & set(kept(tmp_path))


@pytest.mark.parametrize("blank", [None, "", "  \t"])
def test_blank_text_is_refused_or_dropped_but_not_filled(tmp_path, blank):
    words = [f"words {number}" for number in range(60)]
    words[5] = blank
    put(tmp_path, {"text": words, "y": columns()["y"]})
    assert "table.parquet, row 5, column 'text': missing" in refusal(tmp_path, texts())
    for rule in ("drop", "fill"):
        assert run(tmp_path, texts(), missing=rule).dropped_missing == 1
        assert 5 not in kept(tmp_path)


@pytest.mark.parametrize("bad", [[], None, [[1.0, np.nan]], [[1.0, 2.0], [np.inf, 0.0]]])
def test_an_empty_or_non_finite_sequence_is_refused_or_dropped(tmp_path, bad):
    steps = [[[float(row), 0.0]] for row in range(60)]
    steps[7] = bad
    put(tmp_path, {"sequence": pa.array(steps, STEPS), "y": columns()["y"]})
    assert "table.parquet, row 7, column 'sequence': missing" in refusal(tmp_path, SEQUENCES)
    assert run(tmp_path, SEQUENCES, missing="drop").dropped_missing == 1
    assert 7 not in kept(tmp_path)


@pytest.mark.parametrize("blank", [None, "", " \t "])
def test_a_blank_category_is_a_missing_value(tmp_path, blank):
    found = columns()["c"].tolist()
    found[3] = blank
    put(tmp_path, c=found)
    assert "row 3, column 'c': missing, NaN or infinite (1 such rows" in refusal(tmp_path)


def test_a_blank_category_is_missing_in_prediction_too(tmp_path):
    put(tmp_path, c=without(columns()["c"].tolist(), 3))
    run(tmp_path, missing="fill")
    fill = signature(tmp_path).columns[2].fill
    encoder = Encoder.read(tmp_path / "prepared")
    found = pa.table({"a": [0.0] * 4, "n": [1] * 4, "c": [None, "", " \t", fill]})
    codes = encoder.encode(found, SourceLocation("new.parquet"))["categories"][:, 0]
    assert codes.tolist() == [codes[3]] * 4


def test_a_date_out_of_range_is_refused(tmp_path):
    put(tmp_path, seen=pa.array([*range(59), 2**60], pa.timestamp("ms")))
    said = refusal(tmp_path)
    assert said.startswith(f"{tmp_path}/table.parquet, row 59: column 'seen' is '<value out of ran")


def test_missing_drop_drops_and_counts_incomplete_rows(tmp_path):
    found = columns()
    put(tmp_path, a=without(found["a"], 17), y=without(found["y"], 3))
    assert "row 3, column 'y': missing" in refusal(tmp_path)
    done = run(tmp_path, missing="drop")
    assert (done.rows_in, done.dropped_missing) == (60, 2)
    assert set(range(60)) - set(kept(tmp_path)) == {3, 17}
    assert "dropped 2 incomplete and 0 duplicate" in str(done)
    assert report(tmp_path)["dropped"] == {"missing": 2, "duplicates": 0}
    assert report(tmp_path)["missing_values"] == {"a": 1, "y": 1}


def test_rows_of_a_csv_file_are_counted_from_one(tmp_path):
    lines = ["a,y", *(f"{row},{'no' if row % 2 else 'yes'}" for row in range(60))]
    lines[4] = ",yes"
    (tmp_path / "t.csv").write_text("\n".join(lines))
    source = TabularSource(kind="tabular", path="t.csv", target="y")
    said = refusal(tmp_path, Prepare(source=source))
    assert said.startswith(f"{tmp_path}/t.csv, row 4, column 'a': missing")


def test_missing_fill_uses_median_or_most_frequent_value_of_the_training_split(tmp_path):
    found = columns()
    days = [datetime(2020, 1, 1 + row % 28) for row in range(60)]
    put(
        tmp_path,
        a=without(found["a"], *range(0, 60, 5)),
        n=without(found["n"].tolist(), *range(1, 60, 5)),
        c=without(found["c"].tolist(), *range(2, 60, 5)),
        open=without((np.arange(60) % 3 > 0).tolist(), *range(3, 60, 5)),
        seen=without(days, *range(4, 60, 5)),
    )
    done = run(tmp_path, missing="fill")
    assert done.dropped_missing == 0
    assert report(tmp_path)["missing_values"] == dict.fromkeys(["a", "n", "c", "open", "seen"], 12)
    fill = {column.name: column.fill for column in signature(tmp_path).columns}
    train = written(tmp_path)
    values = {name: train[name].drop_null().to_pylist() for name in fill}
    assert fill["a"] == np.median(values["a"])
    assert fill["n"] == np.median(values["n"])
    assert fill["c"] == max(sorted(set(values["c"])), key=values["c"].count)
    assert fill["open"] == 1.0
    since = [(day - datetime(1970, 1, 1)).days for day in values["seen"]]
    assert fill["seen"] == np.median(since)
    for split in splits(tmp_path).values():
        empty = split.keys % 5 == 0
        assert (split.inputs["numbers"][empty, 0] == np.float32(fill["a"])).all()
        assert np.isfinite(split.inputs["numbers"]).all()
        assert (split.inputs["categories"] > 0).all()


def test_fill_values_come_only_from_the_training_split(tmp_path):
    split = np.array(["train"] * 40 + ["validation"] * 10 + ["test"] * 10)
    found = np.where(split == "train", np.arange(60) % 3, 1000.0)
    put(tmp_path, a=without(found, 0, 50), c=np.where(split == "train", "x", "z"), fold=split)
    run(tmp_path, split_column="fold", missing="fill")
    number, _, category = signature(tmp_path).columns
    assert number.fill == 1.0
    assert (category.values, category.fill) == (("x",), "x")
    assert set(splits(tmp_path)["test"].inputs["categories"][:, 0].tolist()) == {0}


def test_the_signature_has_no_fill_values_without_missing_fill(tmp_path):
    put(tmp_path)
    run(tmp_path, missing="drop")
    assert {column.fill for column in signature(tmp_path).columns} == {None}


def test_missing_fill_drops_rows_without_a_target(tmp_path):
    put(tmp_path, y=without(np.random.default_rng(0).normal(0, 1, 60), 4))
    assert run(tmp_path, NUMBERS, missing="fill").dropped_missing == 1
    assert 4 not in kept(tmp_path)
    assert "set prepare.missing to drop." in refusal(tmp_path, NUMBERS)


def test_missing_fill_refuses_a_column_without_values_in_the_training_split(tmp_path):
    split = ["train"] * 40 + ["validation"] * 10 + ["test"] * 10
    put(tmp_path, a=without(columns()["a"], *range(40)), fold=split)
    said = refusal(tmp_path, split_column="fold", missing="fill")
    assert "table.parquet: column 'a' has no value in the training split" in said


def test_data_without_a_complete_row_is_refused(tmp_path):
    put(tmp_path, a=np.full(60, np.nan))
    assert refusal(tmp_path, missing="drop") == (
        f"{tmp_path}/table.parquet: every row has a missing value; all values of 'a' are missing"
    )


def test_categories_are_the_sorted_values_of_the_training_split(tmp_path):
    found = np.array(["b", "a", "10", "9", "Ä"])[np.arange(60) % 5]
    put(tmp_path, c=found)
    run(tmp_path)
    assert signature(tmp_path).columns[2].values == ("10", "9", "a", "b", "Ä")


@pytest.mark.whole
def test_a_category_with_a_million_values_is_refused_with_column_and_count(tmp_path):
    rows = 1_000_000
    put(tmp_path, {"id": [f"user{n}" for n in range(rows)], "y": np.arange(rows) % 2})
    said = refusal(tmp_path)
    assert "column 'id' has 1000000 distinct values" in said
    assert "prepare.source.ignore" in said
    assert "max_categories" in said
