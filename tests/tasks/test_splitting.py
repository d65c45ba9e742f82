"""Splits into training, validation and test: random, by column, group or time."""

from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from prepare_helpers import (
    NUMBERS,
    TABLE,
    columns,
    kept,
    keys,
    put,
    refusal,
    run,
    some_images,
    texts,
)
from sklearn.model_selection import train_test_split

from tasks.config import ImageSource, Prepare, TabularSource


def labels(rows=60):
    return columns(rows)["y"]


def disjoint(*groups):
    return sum(map(len, groups)) == len(set().union(*groups))


def test_another_seed_gives_another_split_and_the_same_seed_the_same(tmp_path):
    put(tmp_path)
    run(tmp_path, seed=1)
    one = keys(tmp_path)
    run(tmp_path, seed=2)
    assert one["test"] != keys(tmp_path)["test"]
    run(tmp_path, seed=1)
    assert one == keys(tmp_path)


def test_regression_rows_are_split_at_random(tmp_path):
    put(tmp_path, y=np.random.default_rng(0).normal(0, 1, 60))
    run(tmp_path, NUMBERS, seed=4)
    rest, test = train_test_split(np.arange(60), test_size=0.2, random_state=4)
    train, validation = train_test_split(rest, test_size=0.1 / (1 - 0.2), random_state=4)
    expected = {"train": train, "validation": validation, "test": test}
    assert keys(tmp_path) == {name: sorted(rows.tolist()) for name, rows in expected.items()}


def test_split_column_decides_the_split_of_each_row(tmp_path):
    fold = np.array(["test", "train", "train", "validation", "train", "train"] * 10)
    put(tmp_path, fold=fold, y=labels()[np.arange(60) // 6])
    run(tmp_path, split_column="fold")
    assert keys(tmp_path) == {
        name: np.flatnonzero(fold == name).tolist() for name in ("train", "validation", "test")
    }


def test_a_missing_validation_split_is_drawn_from_training_by_class(tmp_path):
    fold = np.array(["train"] * 50 + ["test"] * 10)
    put(tmp_path, fold=fold)
    run(tmp_path, split_column="fold", validation=0.2)
    found = keys(tmp_path)
    assert found["test"] == list(range(50, 60))
    assert len(found["validation"]) == 10  # a fifth of the fifty that are not for the test
    assert sorted(labels()[found["validation"]]) == ["no"] * 5 + ["yes"] * 5


@pytest.mark.parametrize("value", ["dev", "Test", "0"])
def test_an_unknown_value_in_split_column_is_refused_with_its_row(tmp_path, value):
    fold = np.array(["train"] * 40 + ["validation"] * 10 + ["test"] * 10, object)
    fold[13] = value
    put(tmp_path, fold=fold)
    assert refusal(tmp_path, split_column="fold") == (
        f"{tmp_path}/table.parquet, row 13, column 'fold': {value!r} is not a split; allowed: "
        "train, validation, test"
    )


def test_a_row_without_a_split_is_refused_or_dropped(tmp_path):
    fold = np.array(["train"] * 40 + ["validation"] * 10 + ["test"] * 10, object)
    fold[13] = None
    put(tmp_path, fold=fold)
    assert "row 13, column 'fold': missing" in refusal(tmp_path, split_column="fold")
    assert run(tmp_path, split_column="fold", missing="fill").dropped_missing == 1
    assert 13 not in kept(tmp_path)


@pytest.mark.parametrize("absent", ["train", "test"])
def test_a_split_column_that_leaves_a_split_empty_is_refused(tmp_path, absent):
    other = {"train": "test", "test": "train"}[absent]
    put(tmp_path, fold=["validation"] * 10 + [other] * 50)
    assert refusal(tmp_path, split_column="fold").startswith(
        f"{tmp_path}/table.parquet: the {absent} split has no rows (prepare.split_column: fold). "
        "Add rows, or remove prepare.split_column"
    )


def test_a_test_split_marked_by_files_is_kept(tmp_path):
    for name, rows, shift in (("train", 50, 0), ("t10k", 12, 100)):
        put_idx(tmp_path, name, some_images(rows) // 2 + shift, np.arange(rows) % 2)
    source = ImageSource(kind="image", path=".")
    (tmp_path / "out").mkdir()
    run(tmp_path, Prepare(source=source), validation=0.2)
    found = keys(tmp_path)
    assert sorted(found["train"] + found["validation"]) == list(range(50))
    assert found["test"] == list(range(50, 62))
    assert len(found["validation"]) == 10


def put_idx(folder, name, images, found):
    for what, array, magic in (("images-idx3", images, 0x803), ("labels-idx1", found, 0x801)):
        header = np.array([magic, *array.shape], ">i4").tobytes()
        (folder / f"{name}-{what}-ubyte").write_bytes(header + array.astype(np.uint8).tobytes())


def test_a_split_column_and_marked_test_files_are_refused(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    put(data, fold=["train"] * 60)
    (data / "table.parquet").rename(data / "a.parquet")
    put(data, fold=["train"] * 60)
    (data / "table.parquet").rename(data / "test.parquet")
    source = TabularSource(kind="tabular", path="data", target="y", test="test*")
    said = refusal(tmp_path, Prepare(source=source), split_column="fold")
    assert "already has a test split, and prepare.split_column is 'fold'; remove one" in said


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("share", [0.1, 0.2, 0.3])
def test_no_group_is_in_two_splits(tmp_path, task, share):
    chance = np.random.default_rng(5)
    group = chance.integers(0, 60, 600)
    y = chance.integers(0, 3, 600) if task == "classification" else chance.normal(0, 1, 600)
    put(tmp_path, columns(600, y=y) | {"patient": group})
    run(tmp_path, group="patient", task=task, test=share, validation=0.15)
    found = keys(tmp_path)
    assert disjoint(*(set(group[rows]) for rows in found.values()))
    assert len(kept(tmp_path)) == 600
    assert len(found["test"]) / 600 == pytest.approx(share, abs=0.05)
    assert len(found["validation"]) / 600 == pytest.approx(0.15, abs=0.05)


def test_group_splits_are_stratified_by_class(tmp_path):
    chance = np.random.default_rng(5)
    group = np.arange(600) // 10
    rare = group % 10 == 0  # one group in ten has the rare class, and nothing else
    put(tmp_path, columns(600, y=np.where(rare, "yes", "no")) | {"patient": group})
    for seed in chance.integers(0, 1000, 5).tolist():
        run(tmp_path, group="patient", seed=seed)
        found = keys(tmp_path)
        assert [rare[rows].sum() for rows in found.values()] == [40, 10, 10]


def test_too_few_groups_for_every_split_are_refused(tmp_path):
    put(tmp_path, patient=np.arange(60) // 30)
    said = refusal(tmp_path, group="patient")
    assert "all rows belong to one group" in said
    put(tmp_path, patient=["x"] * 60)
    assert "all rows belong to one group" in refusal(tmp_path, group="patient")
    put(tmp_path, patient=["x"] * 60, y=np.arange(60) * 1.0)
    assert "60 complete, distinct rows cannot be split" in refusal(
        tmp_path, NUMBERS, group="patient"
    )


def test_groups_that_leave_a_split_without_a_class_are_refused(tmp_path):
    put(tmp_path, patient=np.arange(60) // 6, y=np.where(np.arange(60) < 6, "yes", "no"))
    said = refusal(tmp_path, group="patient")
    assert "split has no row of the class 'yes', which has 6 rows in all" in said
    assert (
        "(prepare.group: patient). Add groups with rows of it, or try another prepare.seed" in said
    )


def test_a_row_without_a_group_is_refused_or_dropped(tmp_path):
    group = np.array([f"p{row // 2}" for row in range(60)], object)
    group[[7, 9]] = None, " "
    put(tmp_path, patient=group)
    assert "row 7, column 'patient': missing" in refusal(tmp_path, group="patient")
    assert run(tmp_path, group="patient", missing="drop").dropped_missing == 2


def test_nan_in_the_group_column_is_missing(tmp_path):
    group = np.arange(60) // 2 * 1.0
    group[[7, 9]] = np.nan
    put(tmp_path, patient=pa.array(group))
    assert "row 7, column 'patient': missing" in refusal(tmp_path, group="patient")
    assert run(tmp_path, group="patient", missing="drop").dropped_missing == 2


def test_a_group_column_of_lists_is_refused(tmp_path):
    put(tmp_path, patient=[[row // 2] for row in range(60)])
    said = refusal(tmp_path, group="patient")
    assert said.startswith(f"{tmp_path}/table.parquet, row 0: column 'patient' is [0]; text, a num")


def test_a_group_in_training_and_test_files_is_refused_with_its_rows(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for name, shift in (("a", 0), ("test", 50)):
        put(
            data,
            columns(60, a=np.random.default_rng(shift).normal(0, 1, 60))
            | {"patient": np.arange(60) + shift},
        )
        (data / "table.parquet").rename(data / f"{name}.parquet")
    source = TabularSource(kind="tabular", path="data", target="y", test="test*")
    said = refusal(tmp_path, Prepare(source=source), group="patient")
    assert f"{data}/test.parquet, row 0 have the same value of 'patient'" in said
    assert "(10 such groups). Move both to one split, or remove prepare.group." in said


MOMENTS = [datetime(2024, 1, 1) + timedelta(hours=int(h)) for h in (np.arange(60) * 7) % 60]


@pytest.mark.parametrize(
    "when",
    [
        (np.arange(60) * 7) % 60,
        (np.arange(60) * 7) % 60 / 8,
        MOMENTS,
        [moment.isoformat() for moment in MOMENTS],
        [moment.date() + timedelta(days=moment.hour * 3) for moment in MOMENTS],
    ],
)
def test_with_time_the_latest_rows_are_test_and_the_rows_before_validation(tmp_path, when):
    put(tmp_path, when=when)
    run(tmp_path, time="when")
    found = keys(tmp_path)
    assert {name: len(rows) for name, rows in found.items()} == {
        "train": 42,
        "validation": 6,
        "test": 12,
    }
    latest = {name: max(when[row] for row in rows) for name, rows in found.items()}
    first = {name: min(when[row] for row in rows) for name, rows in found.items()}
    assert latest["train"] <= first["validation"] <= latest["validation"] <= first["test"]


def test_rows_of_the_same_time_stay_in_order(tmp_path):
    put(tmp_path, when=[2024] * 60)
    run(tmp_path, time="when")
    assert keys(tmp_path)["test"] == list(range(48, 60))


def test_an_invalid_time_is_refused_and_a_missing_time_follows_the_rule(tmp_path):
    when = [moment.isoformat() for moment in MOMENTS]
    put(tmp_path, when=[*when[:9], "yesterday", *when[10:]])
    said = refusal(tmp_path, time="when")
    assert "table.parquet, row 9: column 'when' is 'yesterday'" in said
    put(tmp_path, when=[*when[:9], None, *when[10:]])
    assert "row 9, column 'when': missing" in refusal(tmp_path, time="when")
    assert run(tmp_path, time="when", missing="fill").dropped_missing == 1


def test_with_time_a_class_only_in_late_rows_is_refused(tmp_path):
    put(tmp_path, when=np.arange(60), y=np.where(np.arange(60) < 49, "old", "new"))
    said = refusal(tmp_path, time="when")
    assert "the train split has no row of the class 'new', which has 11 rows in all" in said
    assert "(prepare.time: when)" in said


def test_a_given_test_split_without_a_class_is_refused(tmp_path):
    fold = np.where(np.arange(60) < 50, "train", "test")
    put(tmp_path, fold=fold, y=np.where(fold == "test", "no", labels()))
    said = refusal(tmp_path, split_column="fold")
    assert "the test split has no row of the class 'yes', which has 25 rows in all" in said
    assert "Add rows of it, or remove prepare.split_column" in said


def test_a_split_too_small_for_every_class_is_refused(tmp_path):
    put(tmp_path, y=np.where(np.arange(60) < 4, "yes", "no"))
    said = refusal(tmp_path, test=0.1, validation=0.1)
    assert "split has no row of the class 'yes', which has 4 rows in all. Add rows of it" in said


def test_fewer_rows_than_a_split_needs_are_refused(tmp_path):
    put(tmp_path, columns(8))
    said = refusal(tmp_path, test=0.1, validation=0.1)
    assert said.startswith(f"{tmp_path}/table.parquet: 8 complete, distinct rows cannot be split: ")
    assert said.endswith(". Add rows, or increase prepare.test or prepare.validation.")


def test_a_missing_split_column_is_refused_with_a_suggestion(tmp_path):
    put(tmp_path, patient=np.arange(60) // 2)
    for name in ("group", "time", "split_column"):
        assert "did you mean 'patient'?" in refusal(tmp_path, TABLE, **{name: "patent"})


def test_the_group_column_of_a_text_table_is_not_a_feature(tmp_path):
    words = [f"words {number}" for number in range(60)]
    put(tmp_path, {"text": words, "y": labels(), "patient": np.arange(60) // 3})
    run(tmp_path, texts(), group="patient")
    assert disjoint(*({row // 3 for row in rows} for rows in keys(tmp_path).values()))
