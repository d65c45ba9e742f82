"""The same rows give the same dataset and predictions in every file format."""

import datetime
import hashlib
import hmac

import numpy as np
import pyarrow as pa
import pytest
from forms import FORMS, compare, prepared, write
from prepare_helpers import refusal, report, run, signature, written

from tasks.config import Prepare, TabularSource

ROWS = 90


def table(**others):
    """Columns of all types that a table can have."""
    chance = np.random.default_rng(3)
    number = np.arange(ROWS)
    day = datetime.datetime(2020, 1, 1)
    columns = {
        "price": [None if n % 9 == 0 else round(float(chance.normal()), 3) for n in number],
        "floors": [None if n % 10 == 0 else float(n % 7) for n in number],
        "count": number,
        "open": number % 3 == 0,
        "day": [(day + datetime.timedelta(days=int(n) % 30)).date() for n in number],
        "moment": [day + datetime.timedelta(hours=int(n) % 30) for n in number],
        "street": np.array(["Cafe\u0301 ", " Caf\u00e9", "Rue", "007"])[number % 4],
        "house": [f"{n // 3:04}" for n in number],
        "person": [None if n == 5 else float(n + 100) for n in number],
        "born": [day - datetime.timedelta(days=9000 + int(n)) for n in number],
        "y": number % 2 * 1.0,
    }
    return pa.table(columns | others)


def digest(text):
    return hmac.new(b"key", text.encode(), hashlib.sha256).hexdigest()


def test_six_file_formats_give_the_same_bytes_of_every_split(tmp_path):
    write(table(), tmp_path)
    (tmp_path / "salt").write_text("key")
    section = {
        "missing": "fill",
        "group": "house",
        "sensitive": ["person", "born"],
        "sensitive_rule": "hash",
        "salt_file": "salt",
    }
    first = prepared(tmp_path, FORMS[0], source={"target": "y"}, **section)
    for name in FORMS[1:]:
        assert prepared(tmp_path, name, source={"target": "y"}, **section) == first, name
    run(
        tmp_path,
        Prepare(source=TabularSource(kind="tabular", path="in.csv", target="y"), **section),
    )
    rows = written(tmp_path).to_pylist()
    assert {row["street"] for row in rows} == {"Caf\u00e9", "Rue", "007"}
    assert {row["target"] for row in rows} == {"0", "1"}
    for row in rows:
        number = row["key"]
        assert row["person"] == (None if number == 5 else digest(str(number + 100)))
        born = datetime.date(2020, 1, 1) - datetime.timedelta(days=9000 + number)
        assert row["born"] == digest(born.isoformat())


@pytest.mark.whole
def test_a_network_predicts_the_same_for_every_file_format(tmp_path):
    key = pa.array(range(1000, 1000 + ROWS))
    rows = table(key=key, y=np.arange(ROWS) * 1.5 + 0.5).drop(["house", "person", "born"])
    section = {"missing": "fill", "task": "regression", "source": {"ignore": ["key"]}}
    wrong, _ = compare(rows, "y", tmp_path, trained=("semicolon.csv", "in.parquet"), **section)
    assert wrong == []


@pytest.mark.parametrize("label", [("0101", "101"), ("1e3", "1000"), ("+1", "1")])
def test_labels_with_different_spelling_are_two_classes(label, tmp_path):
    lines = "".join(f"{row % 9},{label[row % 2]}\n" for row in range(60))
    (tmp_path / "in.csv").write_text("a,y\n" + lines)
    run(tmp_path, params("in.csv"))
    assert sorted(signature(tmp_path).classes) == sorted(label)


@pytest.mark.parametrize("name", ["in.csv", "in.jsonl"])
def test_labels_are_normalised_for_white_space_unicode_and_zero_fractions(name, tmp_path):
    labels = ["cafe\u0301", " caf\u00e9 ", "1.0", "1"]
    lines = [f'{row % 9},"{labels[row % 4]}"' for row in range(60)]
    if name == "in.jsonl":
        lines = [f'{{"a": {row % 9}, "y": "{labels[row % 4]}"}}' for row in range(60)]
    else:
        lines = ["a,y", *lines]
    (tmp_path / name).write_text("\n".join(lines))
    run(tmp_path, params(name))
    assert signature(tmp_path).classes == ("1", "caf\u00e9")


def test_csv_fractions_and_dates_are_refused_as_classes(tmp_path):
    for value, said in (("0.5", "row 1, column 'y': 0.5 is not a class"), ("2020-01-31", "dates;")):
        (tmp_path / "in.csv").write_text("a,y\n" + f"1,{value}\n2,{value}\n" * 20)
        assert said in refusal(tmp_path, params("in.csv"))
    source = TabularSource(kind="tabular", path="in.csv", target="y", columns={"y": "category"})
    lines = "".join(f"{row},{['3.10', '3.9'][row % 2]}\n" for row in range(60))
    (tmp_path / "in.csv").write_text("a,y\n" + lines)
    run(tmp_path, Prepare(source=source))
    assert signature(tmp_path).classes == ("3.10", "3.9")


@pytest.mark.parametrize(
    ("text", "options", "numbers"),
    [
        ("007", {}, 7.0),
        ("1e3", {}, 1000.0),
        ('"1,250"', {"thousands": ","}, 1250.0),
        ('"1,5"', {"decimal": ","}, 1.5),
    ],
)
def test_a_regression_target_is_read_with_the_csv_options(text, options, numbers, tmp_path):
    lines = "".join(f"{row},{[text, 2, 'NA'][row % 3]}\n" for row in range(60))
    (tmp_path / "in.csv").write_text("a,y\n" + lines)
    source = TabularSource.model_validate(
        {
            "kind": "tabular",
            "path": "in.csv",
            "target": "y",
            "csv": {"na_values": ["NA"], **options},
        }
    )
    run(tmp_path, Prepare(source=source, task="regression", missing="drop"))
    assert set(written(tmp_path)["target"].to_pylist()) == {numbers, 2.0}


def test_log_and_report_show_the_kind_of_each_column(tmp_path, capsys):
    lines = "".join(f"{row % 7},5;x;{row};Ann{row % 3};b{row % 2}\n" for row in range(60))
    (tmp_path / "in.csv").write_text("size;colour;id;who;y\n" + lines)
    source = TabularSource(kind="tabular", path="in.csv", target="y", ignore=["id"])
    run(tmp_path, Prepare(source=source, sensitive=["who"]))
    found = report(tmp_path)
    assert found["columns"] == {
        "size": {"kind": "number", "example": "0.5"},
        "colour": {"kind": "category", "example": "x"},
        "id": {"kind": "ignored"},
        "who": {"kind": "sensitive"},
        "y": {"kind": "target", "example": "b0"},
    }
    assert found["reading"]["delimiter"] == ";"
    assert found["reading"]["decimal"] == ","
    said = capsys.readouterr().out
    assert "text is read with encoding 'utf-8', delimiter ';', quote '\"', decimal ','" in said
    assert "  size: number, such as '0.5'\n" in said
    assert "Ann" not in said


def params(name):
    return Prepare(source=TabularSource(kind="tabular", path=name, target="y"))
