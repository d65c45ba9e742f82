"""Copies, conflicts and rows on both sides of a split; constant and identical columns."""

import numpy as np
import pyarrow as pa
import pytest
from prepare_helpers import (
    IMAGES,
    SEQUENCES,
    STEPS,
    TABLE,
    columns,
    kept,
    keys,
    put,
    put_images,
    refusal,
    report,
    run,
    some_images,
    splits,
    texts,
    without,
)


def test_exact_copies_are_dropped_and_counted_so_that_none_crosses_a_split(tmp_path):
    images, labels = some_images(40), np.arange(40) % 2
    put_images(tmp_path, np.concatenate([images] * 3), np.concatenate([labels] * 3))
    done = run(tmp_path, IMAGES)
    assert (done.rows_in, done.dropped_duplicates, sum(done.rows.values())) == (120, 80, 40)
    assert report(tmp_path)["dropped"] == {"missing": 0, "duplicates": 80}
    assert report(tmp_path)["rows_of_validation_and_test_also_in_train"] == 0
    # The first of the copies is the one that stays.
    assert kept(tmp_path) == list(range(40))


def copied(kind):
    """Sixty rows of a kind; rows 42 and 50 are copies of row 6, but 50 has another target."""
    source = [6 if row in (42, 50) else row for row in range(60)]
    label = np.array(["no", "yes"])[[1 if row == 50 else s % 2 for row, s in enumerate(source)]]
    if kind == "text":
        return {"text": [f"words of {s}" for s in source], "y": label}, texts()
    if kind == "sequence":
        steps = [[[float(s), 1.0]] * (1 + s % 3) for s in source]
        return {"sequence": pa.array(steps, STEPS), "y": label}, SEQUENCES
    return {name: column[source] for name, column in columns().items()} | {"y": label}, TABLE


@pytest.mark.parametrize("kind", ["tabular", "text", "sequence"])
def test_copies_and_conflicts_are_found_in_every_kind_of_data(tmp_path, kind):
    found, params = copied(kind)
    put(tmp_path, found)
    assert refusal(tmp_path, params, duplicates="refuse") == (
        f"{tmp_path}/table.parquet, row 42 is an exact copy of {tmp_path}/table.parquet, row 6 (1 "
        "such rows in all). Remove one of them, or set prepare.duplicates to drop."
    )
    assert run(tmp_path, params).dropped_duplicates == 1
    assert 42 not in kept(tmp_path)
    assert report(tmp_path)["rows_with_conflicting_targets"] == 2
    assert report(tmp_path)["conflicting_targets"] == [
        {"rows": ["table.parquet, row 6", "table.parquet, row 50"], "targets": ["no", "yes"]}
    ]


def test_rows_that_lack_the_same_value_are_copies_and_others_are_not(tmp_path):
    chance = np.random.default_rng(0)
    found = pa.array([None, None, 1.0, 0.0, *chance.normal(0, 1, 56)])
    put(tmp_path, {"a": found, "y": np.array(["no", "yes"])[np.arange(60) // 2 % 2]})
    assert run(tmp_path, missing="fill").dropped_duplicates == 1
    assert kept(tmp_path) == [0, *range(2, 60)]


def test_of_copies_in_two_given_splits_the_one_in_the_test_split_stays(tmp_path):
    source = np.arange(60)
    source[[45, 55]] = 5, 6  # row 45 is for validation, row 55 for the test
    found = {name: column[source] for name, column in columns().items()}
    found["fold"] = np.array(["train"] * 40 + ["validation"] * 10 + ["test"] * 10)
    put(tmp_path, found)
    assert run(tmp_path, split_column="fold").dropped_duplicates == 2
    assert set(range(60)) - set(kept(tmp_path)) == {5, 6}
    assert {45, 55} <= set(keys(tmp_path)["validation"] + keys(tmp_path)["test"])


def test_conflicting_rows_on_both_sides_of_a_split_are_counted(tmp_path):
    images = some_images(30)
    put_images(tmp_path, np.concatenate([images, images]), np.repeat([0, 1], 30))
    run(tmp_path, IMAGES)
    found = report(tmp_path)
    assert found["rows_with_conflicting_targets"] == 60
    assert len(found["conflicting_targets"]) == 10
    assert found["conflicting_targets"][0]["rows"] == ["images.npz, row 0", "images.npz, row 30"]
    every = splits(tmp_path)
    train = {image.tobytes() for image in every["train"].inputs["image"]}
    crossing = sum(
        image.tobytes() in train
        for name in ("validation", "test")
        for image in every[name].inputs["image"]
    )
    assert found["rows_of_validation_and_test_also_in_train"] == crossing > 0


def test_wide_rows_are_compared_to_their_last_value(tmp_path):
    images = np.zeros((60, 20, 20), np.uint8)
    images[:, -1, -1] = np.arange(60)
    put_images(tmp_path, images)
    assert run(tmp_path, IMAGES).dropped_duplicates == 0


def test_constant_and_identical_columns_are_named(tmp_path):
    found = columns()
    put(tmp_path, one=np.ones(60), same=found["a"], whole=found["n"].astype(float), word=["x"] * 60)
    run(tmp_path)
    assert report(tmp_path)["constant_columns"] == ["one", "word"]
    assert report(tmp_path)["identical_columns"] == [["a", "same"], ["n", "whole"]]


def test_columns_that_differ_in_one_row_are_not_identical(tmp_path):
    found = columns()["a"]
    other = found.copy()
    other[1] = np.nextafter(other[1], 9)
    fold = ["train"] * 40 + ["validation"] * 10 + ["test"] * 10
    put(tmp_path, other=other, missing=without(found, 1), fold=fold)
    run(tmp_path, missing="fill", split_column="fold")
    assert report(tmp_path)["identical_columns"] == []
