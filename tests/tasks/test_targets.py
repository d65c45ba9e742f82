"""Targets: classes, numbers, or none for a language model."""

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from prepare_helpers import (
    IMAGES,
    NUMBERS,
    columns,
    put,
    put_images,
    refusal,
    report,
    run,
    signature,
    some_images,
    texts,
    written,
)

from tasks.config import Prepare, TabularSource


@pytest.mark.parametrize(
    ("target", "classes"),
    [
        ([10, 9, -1], ("-1", "9", "10")),
        (["b", "a", "10"], ("10", "a", "b")),
        (["--5", "²", "7"], ("--5", "7", "²")),
        (["01", "1", "0"], ("0", "01", "1")),
        ([True, False, True], ("false", "true")),
        ([2.0, 10.0, 0.0], ("0", "2", "10")),
        ([Decimal("2"), Decimal("10"), Decimal("0")], ("0", "2", "10")),
    ],
)
def test_classes_are_ordered_by_number_or_alphabetically(tmp_path, target, classes):
    put(tmp_path, y=target * 20)
    run(tmp_path)
    assert signature(tmp_path).classes == classes
    assert signature(tmp_path).task == ("binary" if len(classes) == 2 else "multiclass")
    balance = report(tmp_path)["class_balance"]
    assert sum(sum(part.values()) for part in balance.values()) == 60
    assert [list(part) for part in balance.values()] == [list(classes)] * 3


def test_fractions_are_refused_as_classes(tmp_path):
    put(tmp_path, y=np.where(np.arange(60) == 8, 0.5, np.arange(60) % 2))
    assert refusal(tmp_path) == (
        f"{tmp_path}/table.parquet, row 8, column 'y': 0.5 is not a class; classes must be text, "
        "whole numbers, or true and false. To predict a number, set prepare.task: regression."
    )


def test_dates_are_refused_as_classes(tmp_path):
    put(tmp_path, y=pa.array(np.arange(60), pa.int32()).cast(pa.date32()))
    assert "column 'y' is date32[day]; classes must be text, whole" in refusal(tmp_path)


@pytest.mark.parametrize("value", ["three", True])
def test_regression_refuses_a_target_that_is_not_a_number(tmp_path, value):
    put(tmp_path, y=[None, *[value] * 59])
    assert refusal(tmp_path, NUMBERS) == (
        f"{tmp_path}/table.parquet, row 1, column 'y': {value!r} is not a number; a regression "
        "needs a column of numbers. To predict a class, set prepare.task: classification."
    )


@pytest.mark.parametrize("value", [2**53 + 1, -(2**60)])
def test_regression_refuses_integers_beyond_float64_with_their_row(tmp_path, value):
    put(tmp_path, y=[*range(59), value])
    said = refusal(tmp_path, NUMBERS)
    assert said.startswith(f"{tmp_path}/table.parquet, row 59, column 'y': {value} is too large to")
    assert "Divide the column" in said


@pytest.mark.parametrize(
    ("form", "way"),
    [
        ("{:,.2f}", 'Set prepare.source.csv: {thousands: ","}. To predict a class'),
        ("NA", "Set prepare.source.csv: {na_values: [NA]}. To predict a class"),
        ("${:.2f}", "Write plain numbers. To predict a class"),
        ("word {}", "needs a column of numbers. To predict a class"),
    ],
)
def test_a_formatted_regression_target_is_refused_with_the_option_that_reads_it(
    form, way, tmp_path
):
    every = 9 if form == "NA" else 1
    put(tmp_path, y=[form.format(1000.5 + n) if n % every == 0 else f"{n}.5" for n in range(60)])
    assert way in refusal(tmp_path, NUMBERS)


def test_a_constant_target_is_refused(tmp_path):
    put(tmp_path, y=np.full(60, 3.0))
    assert refusal(tmp_path, NUMBERS) == (
        f"{tmp_path}/table.parquet: every row of the training split has the target 3.0 in column "
        "'y'; there is nothing to learn"
    )
    put(tmp_path, y=["cat"] * 60)
    assert refusal(tmp_path) == (
        f"{tmp_path}/table.parquet: every row has the label 'cat'; a classifier needs at least two "
        "classes"
    )


def test_a_missing_target_is_refused(tmp_path):
    put(tmp_path)
    source = TabularSource(kind="tabular", path="table.parquet")
    said = refusal(tmp_path, Prepare(source=source))
    assert "Name the column to predict in prepare.source.target" in said
    said = refusal(tmp_path, Prepare(source=source, task="language_model"))
    assert "has no text; a language model needs prepare.source.kind: text" in said


def test_a_language_model_has_no_target(tmp_path):
    put(tmp_path, {"text": [f"words {number}" for number in range(60)], "y": [None] * 60})
    run(tmp_path, texts(), task="language_model")
    assert written(tmp_path).column_names == ["key", "text"]
    assert signature(tmp_path).task == "language_model"
    assert "class_balance" not in report(tmp_path)


@pytest.mark.parametrize("times", [1, 2])
def test_a_class_with_fewer_rows_than_splits_is_refused(tmp_path, times):
    labels = columns()["y"].astype("U4")
    labels[31 : 31 + times] = "rare"
    put(tmp_path, y=labels)
    said = refusal(tmp_path)
    assert said.startswith(
        f"{tmp_path}/table.parquet, row 31: the label 'rare' has {times} distinct rows; every "
        "class needs at least 3, one for each of train, validation, test."
    )


def test_copies_count_once_in_the_minimum_rows_of_a_class(tmp_path):
    images = some_images()
    images[::2] = images[0]
    put_images(tmp_path, images)
    assert "the label '0' has 1 distinct rows" in refusal(tmp_path, IMAGES)
