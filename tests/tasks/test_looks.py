"""Options for text in tables, and text that is refused as categories."""

import re
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML
from source_helpers import put, read, refusal, source


def csv(values, name="x"):
    """A file of 60 rows that repeat `values`."""
    lines = [f'"{values[row % len(values)]}",{"ab"[row % 2]}' for row in range(60)]
    return "\n".join([f"{name},y", *lines]) + "\n"


NA = "na_values: [NA]"


@pytest.mark.parametrize(
    ("values", "example", "way", "options", "kind", "first"),
    [
        (["31", "NA", "42"], "NA", f"{{{NA}}}", {"na_values": ["NA"]}, "number", 31),
        (["1,5", "2,75"], "1,5", '{decimal: ","}', {"decimal": ","}, "number", 1.5),
        (["750", "1,250"], "1,250", '{thousands: ","}', {"thousands": ","}, "number", 750),
        (["1'250", "7"], "1'250", '{thousands: "\'"}', {"thousands": "'"}, "number", 1250),
        (["1 250", "7"], "1 250", '{thousands: " "}', {"thousands": " "}, "number", 1250),
        (
            ["1.250,50", "7"],
            "1.250,50",
            '{decimal: ",", thousands: "."}',
            {"decimal": ",", "thousands": "."},
            "number",
            1250.5,
        ),
        (
            ["31/01/2020", "01/02/2020"],
            "31/01/2020",
            '{date_format: "%d/%m/%Y"}',
            {"date_format": "%d/%m/%Y"},
            "date",
            datetime(2020, 1, 31),
        ),
        (
            ["01.02.2020", "31.01.2020", "02.03.2021"],
            "01.02.2020",
            '{date_format: "%d.%m.%Y"}',
            {"date_format": "%d.%m.%Y"},
            "date",
            datetime(2020, 2, 1),
        ),
        (
            ["12/31/20 1:05 PM", "1/2/20 11:00 AM", "NA"],
            "12/31/20 1:05 PM",
            f'{{date_format: "%m/%d/%y %I:%M %p", {NA}}}',
            {"date_format": "%m/%d/%y %I:%M %p", "na_values": ["NA"]},
            "date",
            datetime(2020, 12, 31, 13, 5),
        ),
        (
            ["2020-01-31 10:00", "NA", "2020-02-01"],
            "NA",
            f"{{{NA}}}",
            {"na_values": ["NA"]},
            "date",
            datetime(2020, 1, 31, 10),
        ),
    ],
)
def test_text_like_numbers_or_dates_is_refused_with_the_option_that_reads_it(
    values, example, way, options, kind, first, tmp_path
):
    put(tmp_path, "in.csv", csv(values))
    said = refusal("tabular", tmp_path, "in.csv", target="y")
    assert f"column 'x' is {example!r}, where most values" in said
    assert way in said
    assert "prepare.source.columns: {x: category}" in said
    assert "prepare.source.ignore" in said
    raw = read("tabular", tmp_path, "in.csv", target="y", csv=options)
    assert raw.features == {"x": kind}
    assert raw.table["x"].to_pylist()[0] == first
    raw = read("tabular", tmp_path, "in.csv", target="y", columns={"x": "category"})
    assert len(raw.table["x"].unique()) == len(values)
    # Text in a file with types is no other text.
    pq.write_table(
        pa.table({"x": values * 20, "y": ["a", "b"] * 10 * len(values)}), tmp_path / "p.parquet"
    )
    typed = refusal("tabular", tmp_path, "p.parquet", target="y")
    assert f"column 'x' is {example!r}, where most values" in typed
    raw = read("tabular", tmp_path, "p.parquet", target="y", csv=options)
    assert raw.table["x"].to_pylist()[0] == first


@pytest.mark.parametrize(
    "values",
    [
        ["5%", "6.5%"],
        ["$5.00", "$6"],
        ["5 €", "6 €"],
        ["(5)", "7"],
        ["5 kg", "6 kg"],
        ["5kg", "12kg"],
        ["0x1f", "0x2a"],
        ["10:30", "11:00"],
        ["2020-02-30", "2020-02-01"],
        ["1,5", "2.5"],
        ["12345678901234567890", "12345678901234567891"],
        ["\u22121.5", "2.5"],
    ],
)
def test_text_like_numbers_that_no_option_reads_is_refused(values, tmp_path):
    put(tmp_path, "in.csv", csv(values))
    said = refusal("tabular", tmp_path, "in.csv", target="y")
    assert said.startswith(f"in.csv, row 1: column 'x' is {values[0]!r}, where most values look")
    assert "or set prepare.source.columns: {x: category}" in said
    raw = read("tabular", tmp_path, "in.csv", target="y", columns={"x": "category"})
    assert set(raw.table["x"].to_pylist()) == set(values)


@pytest.mark.parametrize(
    "values",
    [
        ["1st", "2nd", "3rd"],
        ["1A", "2B", "3C"],
        ["10-19", "20-29", "30+"],
        ["<5", ">=5"],
        ["5", "a", "b", "c"],
        ["1.2.3", "1.2.4"],
        ["no", "yes"],
        ["mon", "may"],
    ],
)
def test_categories_with_digits_are_accepted(values, tmp_path):
    put(tmp_path, "in.csv", csv(values))
    assert read("tabular", tmp_path, "in.csv", target="y").features == {"x": "category"}


def test_an_unusual_space_is_recommended_as_an_escape_sequence(tmp_path):
    put(tmp_path, "in.csv", csv(["1\u202f250", "2\u202f500"]))
    said = refusal("tabular", tmp_path, "in.csv", target="y")
    assert r'prepare.source.csv: {thousands: "\u202f"}' in said
    assert YAML(typ="safe").load(r'{thousands: "\u202f"}') == {"thousands": "\u202f"}


def test_numbers_with_leading_zeros_are_refused_with_both_remedies(tmp_path):
    put(tmp_path, "in.csv", csv(["01234", "12345"], "zip"))
    said = refusal("tabular", tmp_path, "in.csv", target="y")
    assert said.startswith(
        "in.csv, row 1: column 'zip' is '01234', where most values look like num"
    )
    assert "{zip: number} if the zeros mean nothing, or {zip: category} if it is a code" in said
    for kind, first in (("number", 1234), ("category", "01234")):
        raw = read("tabular", tmp_path, "in.csv", target="y", columns={"zip": kind})
        assert raw.table["zip"].to_pylist()[0] == first


def test_text_that_hardly_repeats_is_refused_as_category(tmp_path):
    names = [f"person {row}" for row in range(60)]
    put(tmp_path, "in.csv", csv(names))
    said = refusal("tabular", tmp_path, "in.csv", target="y")
    assert said.startswith(
        "in.csv: column 'x' has 60 distinct values in 60 rows, such as 'person 0'"
    )
    assert "prepare.source.ignore" in said
    assert "{x: category}" in said
    raw = read("tabular", tmp_path, "in.csv", target="y", columns={"x": "category"})
    assert raw.features == {"x": "category"}
    for few in (names[:20], names[:30]):  # few values; or half of the rows repeat another
        put(tmp_path, "in.csv", csv(few))
        assert read("tabular", tmp_path, "in.csv", target="y").features == {"x": "category"}


def test_more_number_like_values_than_max_categories_still_give_the_csv_option(tmp_path):
    lines = "".join(f'"{row % 1500},5",{row % 2}\n' for row in range(3000))
    put(tmp_path, "in.csv", "x,y\n" + lines)
    said = refusal("tabular", tmp_path, "in.csv", target="y")
    assert '{decimal: ","}' in said


def test_na_values_are_missing_in_every_kind_of_column(tmp_path):
    put(tmp_path, "in.csv", "n,b,d,c,y\n-,-,-,-,a\n1, - ,2020-01-01,x,-\n2,true,-,-,b\n")
    options = {"na_values": ["-"]}
    raw = read("tabular", tmp_path, "in.csv", target="y", csv=options)
    assert raw.features == {"n": "number", "b": "boolean", "d": "date", "c": "category"}
    assert [raw.table[name].null_count for name in "nbdc"] == [1, 2, 2, 2]
    put(tmp_path, "t.csv", "text,y\n-,a\nhello,b\n")
    raw = read("text", tmp_path, "t.csv", target="y", csv=options)
    assert raw.table["text"].to_pylist() == [None, "hello"]
    pq.write_table(
        pa.table({"n": [-999, 1], "f": [-999.0, 2], "y": ["a", "b"]}), tmp_path / "p.parquet"
    )
    raw = read("tabular", tmp_path, "p.parquet", target="y", csv={"na_values": ["-999"]})
    assert raw.table.select(["n", "f"]).to_pylist() == [{"n": None, "f": None}, {"n": 1, "f": 2}]


def test_true_values_and_false_values_are_read_as_booleans(tmp_path):
    put(tmp_path, "in.csv", csv(["yes", "no", "true"]))
    options = {"true_values": ["yes"], "false_values": ["no"]}
    raw = read("tabular", tmp_path, "in.csv", target="y", csv=options)
    assert raw.table["x"].to_pylist()[:3] == [True, False, True]


def test_separator_is_accepted_as_the_former_name_of_csv_delimiter(tmp_path):
    assert source("tabular", "in.csv", separator=";").csv.delimiter == ";"
    assert source("text", "in.csv", separator="|", csv={"decimal": ","}).csv.delimiter == "|"
    with pytest.raises(
        ValueError, match=r"separator is now called csv\.delimiter; remove separator"
    ):
        source("tabular", "in.csv", separator=";", csv={"delimiter": ","})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoding": "utf-9"}, "encoding 'utf-9' is unknown; allowed are utf-8, utf-16, latin-1"),
        ({"thousands": "."}, "decimal and thousands are both '.'; set decimal to another sign"),
        ({"delimiter": '"', "quote": '"'}, "delimiter and quote are both"),
        ({"date_format": "%d/%m"}, "must contain day, month and year"),
        ({"true_values": ["1"], "false_values": ["1"]}, "'1' is in both true_values and"),
    ],
)
def test_invalid_csv_options_are_refused(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        source("tabular", "in.csv", csv=options)
