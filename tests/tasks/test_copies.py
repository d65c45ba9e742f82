"""Copies, conflicting labels, rows in two splits; constant and identical columns."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
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

from tasks.config import ImageSource, Prepare, TabularSource


def test_duplicates_drop_counts_copies_and_leaves_none_in_two_splits(tmp_path):
    images, labels = some_images(40), np.arange(40) % 2
    put_images(tmp_path, np.concatenate([images] * 3), np.concatenate([labels] * 3))
    done = run(tmp_path, IMAGES, duplicates="drop")
    assert (done.rows_in, done.dropped_duplicates, sum(done.rows.values())) == (120, 80, 40)
    assert report(tmp_path)["dropped"] == {"missing": 0, "duplicates": 80}
    assert report(tmp_path)["rows_of_validation_and_test_also_in_train"] == 0
    # The first of the copies is the one that stays.
    assert kept(tmp_path) == list(range(40))


def test_duplicates_auto_keeps_equal_table_rows_and_counts_them_across_splits(tmp_path):
    chance = np.random.default_rng(0)
    grade, yes = chance.integers(0, 4, 300), np.array(["no", "yes"])[np.arange(300) % 2]
    put(tmp_path, {"grade": grade, "y": yes})
    done = run(tmp_path)
    assert (done.rows_in, done.dropped_duplicates, sum(done.rows.values())) == (300, 0, 300)
    assert done.rows["test"] == 60
    found = report(tmp_path)
    assert found["duplicates"] == {
        "rule": "keep",
        "dropped": 0,
        "equal_raw_rows": 292,
        "equal_features_and_target": 292,
        "equal_features": 296,
    }
    in_train = set(zip(grade[keys(tmp_path)["train"]], yes[keys(tmp_path)["train"]], strict=True))
    test = keys(tmp_path)["test"]
    equal = sum((grade[k], yes[k]) in in_train for k in test)
    assert found["test_rows_also_in_train"] == {
        "test_rows": 60,
        "equal_features": 60,
        "equal_features_and_target": equal,
    }
    assert done.notices == (
        "60 of 60 test rows (100.0%) have an equal row in training: their score says little of "
        "rows that were never seen",
    )
    assert found["notices"] == list(done.notices)


def people(ignore=("name",), **others):
    """A table like that of the Titanic's passengers: few features, and a name that tells rows
    apart."""
    chance = np.random.default_rng(5)
    sex = np.array(["male", "female"])[(chance.random(1313) < 0.35).astype(int)]
    lives = chance.random(1313) < np.where(sex == "female", 0.85, 0.15)
    found = {
        "name": [f"passenger {number}" for number in range(1313)],
        "class": np.array(["1st", "2nd", "3rd"])[chance.integers(0, 3, 1313)],
        "sex": sex,
        "y": np.where(lives, "lived", "died"),
    } | others
    source = TabularSource(**dict(TABLE.source) | {"ignore": list(ignore)})
    return found, source


@pytest.mark.parametrize("rule", ["auto", "keep", "drop", "refuse", "group"])
def test_rows_that_differ_in_an_ignored_column_are_not_duplicates(tmp_path, rule):
    found, source = people()
    put(tmp_path, found)
    done = run(tmp_path, source=source, duplicates=rule)
    assert (sum(done.rows.values()), done.dropped_duplicates) == (1313, 0)
    balance = report(tmp_path)["class_balance"]
    lived = sum(split["lived"] for split in balance.values())
    assert lived == int((found["y"] == "lived").sum())


@pytest.mark.parametrize("apart", ["ignore", "sensitive", "group", "time"])
def test_duplicates_drop_compares_columns_that_are_not_features(tmp_path, apart):
    who = [f"2024-01-{1 + row % 28:02}" if apart == "time" else f"p{row % 7}" for row in range(60)]
    # Rows 10 to 19 repeat rows 0 to 9 but for `who`; 20 to 24 repeat 0 to 4 with it.
    source = np.r_[0:10, 0:10, 0:5, 25:60]
    who[20:25] = who[0:5]
    found = {name: np.asarray(column)[source] for name, column in columns().items()}
    put(tmp_path, found | {"who": who})
    changes = {"ignore": ["who"]} if apart == "ignore" else {}
    given = {"sensitive": ["who"]} if apart == "sensitive" else {apart: "who"}
    table = TabularSource(**dict(TABLE.source) | changes)
    others = {} if changes else given
    done = run(tmp_path, source=table, duplicates="drop", test=0.3, **others)
    assert done.dropped_duplicates == 5
    assert kept(tmp_path) == [*range(20), *range(25, 60)]


def test_duplicates_drop_compares_a_column_of_lists(tmp_path):
    found = {name: np.asarray(column)[np.r_[0:30, 0:30]] for name, column in columns().items()}
    lists = [[str(row % 3)] for row in range(30)] * 2
    lists[31] = ["other"]
    put(tmp_path, found | {"lists": pa.array(lists)})
    source = TabularSource(**dict(TABLE.source) | {"ignore": ["lists"]})
    assert run(tmp_path, source=source, duplicates="drop").dropped_duplicates == 29
    assert 31 in kept(tmp_path)


def many(kind, copies=3, rows=60):
    """Distinct rows of a kind of data, each `copies` times, and parameters for them."""
    source = np.tile(np.arange(rows), copies)
    label = np.array(["no", "yes"])[source % 2]
    if kind == "image":
        return source, {"images": some_images(rows)[source], "labels": label}, IMAGES
    if kind == "text":
        return source, {"text": [f"words of {s}" for s in source], "y": label}, texts()
    steps = [[[float(s), 1.0]] * (1 + s % 3) for s in source.tolist()]
    return source, {"sequence": pa.array(steps, STEPS), "y": label}, SEQUENCES


def put_many(folder, found):
    if "images" in found:
        put_images(folder, found["images"], found["labels"])
    else:
        put(folder, found)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("kind", ["image", "text", "sequence"])
def test_duplicates_group_keeps_copies_in_one_split(tmp_path, kind, seed):
    source, found, params = many(kind)
    put_many(tmp_path, found)
    done = run(tmp_path, params, seed=seed)
    assert (sum(done.rows.values()), done.dropped_duplicates) == (180, 0)
    sides = {name: set(source[found].tolist()) for name, found in keys(tmp_path).items()}
    assert not sides["train"] & sides["test"]
    assert not sides["train"] & sides["validation"]
    assert not sides["validation"] & sides["test"]
    # Stratified, as near to the shares as sets of three allow.
    assert done.rows == {"train": 126, "validation": 18, "test": 36}
    assert report(tmp_path)["class_balance"]["test"] == {"no": 18, "yes": 18}
    assert report(tmp_path)["duplicates"]["rule"] == "group"


@pytest.mark.parametrize("kind", ["image", "text", "sequence"])
def test_duplicates_group_keeps_copies_with_different_labels_in_one_split(tmp_path, kind):
    _, found, params = many(kind, copies=2)
    name = "labels" if kind == "image" else "y"
    found[name] = np.repeat(["no", "yes"], 60)
    put_many(tmp_path, found)
    run(tmp_path, params)
    assert report(tmp_path)["rows_with_conflicting_targets"] == 120
    assert report(tmp_path)["test_rows_also_in_train"]["equal_features"] == 0
    assert report(tmp_path)["rows_of_validation_and_test_also_in_train"] == 0
    assert report(tmp_path)["class_balance"]["test"] == {"no": 12, "yes": 12}


def test_copies_larger_than_a_split_go_to_the_training_split(tmp_path):
    words = [f"word {row}" for row in range(60)] + ["ok"] * 60
    put(tmp_path, {"text": words, "y": np.array(["no", "yes"])[np.arange(120) % 2]})
    done = run(tmp_path, texts())
    assert done.rows == {"train": 84, "validation": 12, "test": 24}
    assert {60, 119} <= set(keys(tmp_path)["train"])


def test_groups_and_copies_that_are_connected_stay_in_one_split(tmp_path):
    # Texts 2k and 2k+1 are of one person, and the first text of each person but the first is the
    # last one of the person before.
    person = np.arange(120) // 4
    number = np.where((np.arange(120) % 4 == 0) & (person % 2 == 1), np.arange(120) - 1, range(120))
    words = [f"words of {n}" for n in number]
    put(tmp_path, {"text": words, "who": [f"p{p}" for p in person], "y": ["a", "b"] * 60})
    run(tmp_path, texts(), group="who")
    pairs = {name: set((person[found] // 2).tolist()) for name, found in keys(tmp_path).items()}
    assert not pairs["train"] & pairs["test"]
    assert not pairs["train"] & pairs["validation"]
    assert not pairs["validation"] & pairs["test"]
    assert kept(tmp_path) == list(range(120))


def test_copies_that_connect_all_groups_are_refused(tmp_path):
    words = [f"words of {n}" if n % 2 else "ok" for n in range(60)]
    who = [f"p{n // 2}" for n in range(60)]
    put(tmp_path, {"text": words, "who": who, "y": ["a", "a", "b", "b"] * 15})
    said = refusal(tmp_path, texts(), group="who")
    assert "are in so many groups of 'who' that all groups would" in said
    assert "Set prepare.duplicates to keep" in said
    run(tmp_path, texts(), group="who", duplicates="keep")
    assert report(tmp_path)["test_rows_also_in_train"]["equal_features"] > 0


def test_with_time_copies_go_to_the_split_of_the_latest(tmp_path):
    number = np.arange(100)
    number[95] = 3  # the text of row 3 comes again
    found = {
        "text": [f"words of {n}" for n in number],
        "when": np.arange(100),
        "y": ["a", "b"] * 50,
    }
    put(tmp_path, found)
    run(tmp_path, texts(), time="when")
    split = keys(tmp_path)
    assert {3, 95} <= set(split["test"])
    assert split["test"] == [3, *range(81, 100)]
    assert max(split["train"]) < min(split["validation"]) < 81
    assert report(tmp_path)["test_rows_also_in_train"]["equal_features"] == 0


def test_duplicates_group_works_for_language_models_and_regressions(tmp_path):
    source, found, _ = many("text")
    put(tmp_path, {"text": found["text"]})
    run(tmp_path, texts(target=None), task="language_model")
    sides = {name: set(source[found].tolist()) for name, found in keys(tmp_path).items()}
    assert not sides["train"] & (sides["test"] | sides["validation"])
    put_images(tmp_path, some_images(60)[source], source.astype(float))
    run(tmp_path, IMAGES, task="regression")
    sides = {name: set(source[found].tolist()) for name, found in keys(tmp_path).items()}
    assert not sides["train"] & (sides["test"] | sides["validation"])


@pytest.mark.parametrize("rule", ["auto", "keep", "group", "drop"])
@pytest.mark.parametrize("kind", ["table", "text", "sequence"])
def test_no_duplicates_rule_changes_a_given_test_split(tmp_path, kind, rule):
    if kind == "table":
        found, params = columns(), TABLE
        source = np.arange(60)
    else:
        source, found, params = many(kind, copies=1)
    source[[50, 55, 20]] = 4, 54, 6  # test and training; two of the test; two of training
    found = {
        name: column.take(pa.array(source))
        if isinstance(column, pa.Array)
        else np.asarray(column)[source]
        for name, column in found.items()
    }
    fold = np.array(["train"] * 45 + ["test"] * 15)
    put(tmp_path, found | {"fold": fold})
    done = run(tmp_path, params, split_column="fold", duplicates=rule)
    assert keys(tmp_path)["test"] == list(range(45, 60))
    sides = {name: set(source[found].tolist()) for name, found in keys(tmp_path).items()}
    equal = int(4 in keys(tmp_path)["train"])  # not if it was drawn for validation
    assert report(tmp_path)["test_rows_also_in_train"] == {
        "test_rows": 15,
        "equal_features": equal,
        "equal_features_and_target": equal,
    }
    # Of a row that is in training and in the test, and of two in training.
    gone = {4, 20} if rule == "drop" else set()
    assert set(range(60)) - set(kept(tmp_path)) == gone
    assert done.dropped_duplicates == len(gone)
    if report(tmp_path)["duplicates"]["rule"] == "group":
        assert not sides["train"] & sides["validation"]


def test_test_files_folders_and_idx_files_are_given_test_splits(tmp_path):
    table = pa.table(columns())
    (tmp_path / "rows").mkdir()
    pq.write_table(table, tmp_path / "rows/train.parquet")
    pq.write_table(table.take(pa.array([0, 1, 2, 3, 3, 7])), tmp_path / "rows/test.parquet")
    source = TabularSource(kind="tabular", path="rows", target="y", test="test*")
    for rule, dropped in [("auto", 0), ("group", 0), ("drop", 5)]:
        done = run(tmp_path, source=source, duplicates=rule)
        assert (done.rows["test"], done.dropped_duplicates) == (6, dropped)
    images = np.random.default_rng(3).integers(0, 255, (66, 4, 4)).astype(np.uint8)
    images[60:66] = images[[0, 1, 2, 3, 3, 7]]
    labels = np.r_[0:60, 0, 1, 2, 3, 3, 7] % 2
    for name, part in [("train", slice(0, 60)), ("t10k", slice(60, 66))]:
        put_idx(tmp_path / "idx", name, images[part], labels[part])
    params = Prepare(source=ImageSource(kind="image", path="idx"))
    for rule, dropped in [("auto", 0), ("keep", 0), ("drop", 5)]:
        done = run(tmp_path, params, duplicates=rule)
        assert (done.rows["test"], done.dropped_duplicates) == (6, dropped)
    assert report(tmp_path)["test_rows_also_in_train"]["equal_features"] == 0


def put_idx(folder, name, images, labels):
    folder.mkdir(exist_ok=True)
    header = np.array([0x803, *images.shape], ">i4").tobytes()
    (folder / f"{name}-images-idx3-ubyte").write_bytes(header + images.tobytes())
    header = np.array([0x801, len(labels)], ">i4").tobytes()
    (folder / f"{name}-labels-idx1-ubyte").write_bytes(header + labels.astype(np.uint8).tobytes())


@pytest.mark.parametrize(
    ("lost", "said"),
    [(3, False), (4, True)],  # of 60 rows: 5 %, and more
)
@pytest.mark.parametrize("rule", ["missing", "duplicates"])
def test_removing_more_than_5_percent_of_the_rows_gives_a_notice(tmp_path, rule, lost, said):
    found = columns()
    if rule == "missing":
        found["a"] = without(found["a"], *range(lost))
    else:
        found = {name: column[np.r_[0 : 60 - lost, 0:lost]] for name, column in found.items()}
    put(tmp_path, found)
    done = run(tmp_path, **{rule: "drop"})
    share = {3: "5.0%", 4: "6.7%"}[lost]
    expected = (f"prepare.{rule}: drop removed {lost} of 60 rows ({share})",) * said
    assert done.notices == expected
    assert report(tmp_path)["notices"] == list(expected)
    assert ("notice: " in str(done)) == said


def test_missing_fill_gives_a_notice_about_removed_rows_without_a_target(tmp_path):
    put(tmp_path, y=without(columns()["y"], *range(10)))
    done = run(tmp_path, missing="fill")
    assert done.notices == ("prepare.missing: fill removed 10 of 60 rows (16.7%)",)


def test_any_row_removed_from_a_given_test_split_gives_a_notice(tmp_path):
    fold = np.array(["train"] * 45 + ["test"] * 15)
    put(tmp_path, a=without(columns()["a"], 59), fold=fold)
    done = run(tmp_path, missing="drop", split_column="fold")
    assert done.notices == (
        "prepare.missing: drop removed 1 of the 15 rows of the given test split",
    )


def copied(kind):
    """60 rows of a kind of data; rows 42 and 50 are copies of row 6, but 50 has another target."""
    source = [6 if row in (42, 50) else row for row in range(60)]
    label = np.array(["no", "yes"])[[1 if row == 50 else s % 2 for row, s in enumerate(source)]]
    if kind == "text":
        return {"text": [f"words of {s}" for s in source], "y": label}, texts()
    if kind == "sequence":
        steps = [[[float(s), 1.0]] * (1 + s % 3) for s in source]
        return {"sequence": pa.array(steps, STEPS), "y": label}, SEQUENCES
    return {name: column[source] for name, column in columns().items()} | {"y": label}, TABLE


@pytest.mark.parametrize("kind", ["tabular", "text", "sequence"])
def test_copies_and_conflicting_labels_are_found_in_every_kind_of_data(tmp_path, kind):
    found, params = copied(kind)
    put(tmp_path, found)
    assert refusal(tmp_path, params, duplicates="refuse") == (
        f"{tmp_path}/table.parquet, row 42 is an exact copy of {tmp_path}/table.parquet, row 6 (1 "
        "such rows in all). Remove one of them, or set prepare.duplicates to drop."
    )
    assert run(tmp_path, params, duplicates="drop").dropped_duplicates == 1
    assert 42 not in kept(tmp_path)
    assert report(tmp_path)["rows_with_conflicting_targets"] == 2
    assert report(tmp_path)["conflicting_targets"] == [
        {"rows": ["table.parquet, row 6", "table.parquet, row 50"], "targets": ["no", "yes"]}
    ]
    assert run(tmp_path, params).dropped_duplicates == 0
    assert report(tmp_path)["rows_with_conflicting_targets"] == 3
    rows = ["table.parquet, row 6", "table.parquet, row 42", "table.parquet, row 50"]
    assert report(tmp_path)["conflicting_targets"] == [
        {"rows": rows, "targets": ["no", "no", "yes"]}
    ]


def test_rows_with_the_same_missing_value_are_copies(tmp_path):
    chance = np.random.default_rng(0)
    found = pa.array([None, None, 1.0, 0.0, *chance.normal(0, 1, 56)])
    put(tmp_path, {"a": found, "y": np.array(["no", "yes"])[np.arange(60) // 2 % 2]})
    assert run(tmp_path, missing="fill", duplicates="drop").dropped_duplicates == 1
    assert kept(tmp_path) == [0, *range(2, 60)]


def test_duplicates_drop_keeps_the_copy_in_validation_not_in_training(tmp_path):
    source = np.arange(60)
    source[[45, 55]] = 5, 6  # row 45 is for validation, row 55 for the test
    found = {name: column[source] for name, column in columns().items()}
    found["fold"] = np.array(["train"] * 40 + ["validation"] * 10 + ["test"] * 10)
    put(tmp_path, found)
    assert run(tmp_path, split_column="fold", duplicates="drop").dropped_duplicates == 2
    assert set(range(60)) - set(kept(tmp_path)) == {5, 6}
    assert {45, 55} <= set(keys(tmp_path)["validation"] + keys(tmp_path)["test"])


def test_conflicting_labels_across_splits_are_counted(tmp_path):
    images = some_images(30)
    put_images(tmp_path, np.concatenate([images, images]), np.repeat([0, 1], 30))
    run(tmp_path, IMAGES, duplicates="keep")
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


def test_wide_rows_are_compared_in_all_values(tmp_path):
    images = np.zeros((60, 20, 20), np.uint8)
    images[:, -1, -1] = np.arange(60)
    put_images(tmp_path, images)
    assert run(tmp_path, IMAGES, duplicates="drop").dropped_duplicates == 0


def test_the_report_names_constant_and_identical_columns(tmp_path):
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
