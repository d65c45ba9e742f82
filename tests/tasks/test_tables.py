"""Table files: the same rows in every format, and how broken files are refused."""

import datetime
import gzip
import json
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

from tasks.errors import InputError
from tasks.files import tables
from tasks.files.convert import convert
from tasks.files.delimited import BLOCK
from tasks.files.reading import Reading

ROWS = [
    {"a": 1, "b": "x, y", "c": 0.5, "d": True},
    {"a": 2, "b": "two\nlines", "c": None, "d": False},
    {"a": 3, "b": None, "c": 2.5, "d": True},
]


def write(path, rows):
    """Write rows in the format of the file's suffix."""
    table = pa.Table.from_pylist(rows)
    form = tables.form(path)
    if form == ".parquet":
        pq.write_table(table, path)
    elif form == ".arrow":
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    else:
        with gzip.open(path, "wb") if path.suffix == ".gz" else path.open("wb") as sink:
            if form.startswith(".jsonl"):
                sink.write("".join(json.dumps(row) + "\n" for row in rows).encode())
            else:
                tabs = form.startswith(".tsv")
                csv.write_csv(table, sink, csv.WriteOptions(delimiter="\t" if tabs else ","))
    return path


def put(path, content):
    path.write_bytes(content)
    return path


def refusal(call, *arguments):
    with pytest.raises(InputError) as caught:
        call(*arguments)
    return str(caught.value)


def count(path):
    return sum(tables.lengths(path))


def streamed(path, size=256, **kinds):
    return pa.Table.from_batches(list(tables.stream(path, size, kinds))).to_pylist()


@pytest.mark.parametrize("suffix", tables.SUFFIXES)
def test_every_table_format_gives_the_same_rows(suffix, tmp_path):
    path = write(tmp_path / f"in{suffix}", ROWS)
    table, files, _ = tables.read(path)
    assert table.to_pylist() == ROWS
    assert table.schema.types == [pa.int64(), pa.string(), pa.float64(), pa.bool_()]
    assert files == [(path, 3)]
    assert count(path) == 3
    kinds = {"a": "number", "b": "text", "c": "number", "d": "boolean"}
    assert streamed(path, 2, **kinds) == ROWS


@pytest.mark.parametrize("suffix", tables.SUFFIXES)
def test_stream_returns_batches_of_at_most_the_given_size(suffix, tmp_path):
    path = write(tmp_path / f"in{suffix}", ROWS)
    assert [b.num_rows for b in tables.stream(path, 2, {})] == [2, 1]


@pytest.mark.parametrize("suffix", tables.SUFFIXES)
@pytest.mark.parametrize("levels", [1, 2])
def test_an_unnamed_pandas_index_is_dropped(suffix, levels, tmp_path):
    index = [f"__index_level_{level}__" for level in range(levels)]
    numbered = [{**row, **dict.fromkeys(index, n)} for n, row in enumerate(ROWS)]
    path = write(tmp_path / f"in{suffix}", numbered)
    assert tables.read(path)[0].to_pylist() == ROWS
    kinds = {"a": "number", "b": "text", "c": "number", "d": "boolean"}
    assert streamed(path, 2, **kinds) == ROWS
    # But to a model that was once trained on it.
    kinds |= {index[0]: "number"}
    assert [row[index[0]] for row in streamed(path, 2, **kinds)] == [0, 1, 2]


def test_an_empty_string_is_missing_in_every_format(tmp_path):
    for suffix in tables.SUFFIXES:
        path = write(tmp_path / f"in{suffix}", [{"a": "x", "b": 1}, {"a": "", "b": 2}])
        assert tables.read(path)[0]["a"].to_pylist() == ["x", None], suffix
        assert [r["a"] for r in streamed(path, a="text")] == ["x", None], suffix


def test_a_folder_is_read_in_the_order_of_file_names(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    write(folder / "2.csv", ROWS[1:2])
    write(folder / "1.csv", ROWS[:1])
    put(folder / "README.txt", b"not data")
    put(folder / ".3.csv", b"x\n1\n")
    table, files, _ = tables.read(folder)
    assert table.to_pylist() == ROWS[:2]
    assert files == [(folder / "1.csv", 1), (folder / "2.csv", 1)]


def test_patterns_select_files_of_a_folder(tmp_path):
    for name in ("a1.csv", "a2.csv", "b1.csv", "c1.parquet"):
        write(tmp_path / name, ROWS)
    for patterns, names in (
        (["a*.csv"], ["a1.csv", "a2.csv"]),
        (["a1*", "b*"], ["a1.csv", "b1.csv"]),
        (["?1.parquet"], ["c1.parquet"]),
    ):
        _, files, _ = tables.read(tmp_path, patterns=patterns)
        assert [file.name for file, _ in files] == names
    with pytest.raises(InputError, match=r"holds no file ending in .* that matches 'd\*'"):
        tables.read(tmp_path, patterns=["d*"])


def test_files_may_differ_in_column_order_and_number_type(tmp_path):
    put(tmp_path / "1.csv", b"a,b,c\n1,x,\n")
    put(tmp_path / "2.csv", b"c,b,a\nz,y,0.5\n")
    table, *_ = tables.read(tmp_path)
    assert table.to_pylist() == [{"a": 1.0, "b": "x", "c": None}, {"a": 0.5, "b": "y", "c": "z"}]


def test_a_file_with_other_columns_or_types_is_refused(tmp_path):
    put(tmp_path / "1.csv", b"a,b\n1,x\n")
    two = put(tmp_path / "2.csv", b"a,c\n1,x\n")
    said = refusal(tables.read, tmp_path)
    first = tmp_path / "1.csv"
    assert said == f"{two} differs from {first}: missing columns 'b'; additional columns 'c'"
    put(two, b"a,b\nword,x\n")
    assert refusal(tables.read, tmp_path).startswith(
        f"{two}: column 'a' is string, but int64 in the files before, from"
    )


def test_files_of_different_formats_are_refused(tmp_path):
    write(tmp_path / "1.csv", ROWS)
    write(tmp_path / "2.parquet", ROWS)
    assert "2.parquet have different formats" in refusal(tables.read, tmp_path)


@pytest.mark.parametrize(
    "name", ["none.csv", "none.csv.gz", "none.parquet", "none.arrow", "x.jsonl"]
)
def test_a_missing_file_is_named(name, tmp_path):
    for call in (tables.read, count, streamed):
        assert refusal(call, tmp_path / name).startswith(f"{tmp_path / name} is missing; give")


def test_a_folder_without_supported_files_is_refused(tmp_path):
    said = refusal(tables.read, tmp_path)
    assert said == f"{tmp_path} holds no file ending in {', '.join(tables.SUFFIXES)}"
    path = put(tmp_path / "in.xlsx", b"PK")
    assert refusal(tables.read, path).startswith(f"{path}: the file name must end in .csv, .csv.gz")


@pytest.mark.parametrize("suffix", tables.SUFFIXES)
def test_a_truncated_file_is_refused(suffix, tmp_path):
    path = write(tmp_path / f"in{suffix}", ROWS * 500)
    put(path, path.read_bytes()[: path.stat().st_size // 2 - 5])
    if suffix in (".csv", ".tsv"):  # their half is a whole file, or a ragged row
        return
    for call in (tables.read, streamed):
        assert refusal(call, path).startswith(str(path))
    if suffix == ".jsonl":  # the half line is a bad row
        assert count(path) == path.read_bytes().count(b"\n") + 1
    else:
        assert refusal(count, path).startswith(str(path))


def test_ragged_rows_are_refused_with_their_row_number(tmp_path):
    path = put(tmp_path / "in.csv", b'a,b\n1,"x\ny"\n\n2,z\n3\n')
    for call in (tables.read, streamed):
        assert refusal(call, path).startswith(f"{path}, row 3: 1 fields, but the header has 2: '3'")
    assert count(path) == 3  # a batch job sets the row aside, and counts it
    put(path, b"a,b\n" + b'1,"x\ny"\n' * (BLOCK // 4) + b"1,2,3\n")
    said = refusal(tables.read, path)
    assert said.startswith(f"{path}, row {BLOCK // 4 + 1}: 3 fields, but the header has 2")


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_quote_that_is_never_closed_is_refused(pack, tmp_path):
    path = tmp_path / ("in.csv" if pack is bytes else "in.csv.gz")
    put(path, pack(b'a,b\n1,"x"\n2,"y\n3,z\n4,z\n'))
    for call in (tables.read, count, streamed):
        said = refusal(call, path)
        assert said.startswith(f"{path}, row 2: a quoted field is never closed")
    put(path, pack(b'a,b\n1,5" wide\n2,"y\nz"\n3,x\n'))
    assert tables.read(path)[0].num_rows == count(path) == 3


def test_csv_text_that_is_not_utf_8_is_refused_with_row_and_column(tmp_path):
    path = put(tmp_path / "in.csv", b"a,b\n1,x\n2,caf\xe9\n3,z\n")
    expected = f"{path}, row 2: column 'b' is not UTF-8: b'caf\\xe9'. Convert the file"
    assert refusal(tables.read, path).startswith(expected)
    with pytest.raises(InputError) as caught:
        streamed(path, b="text")
    assert str(caught.value).startswith(expected)
    put(path, b"a,b\xff\n1,x\n")
    for call in (tables.read, count, streamed):
        assert refusal(call, path).startswith(f"{path}: the header is not UTF-8")
    lines = put(tmp_path / "in.jsonl", b'{"a": 1}\n\n{"a": "\xe9"}\n')
    assert refusal(tables.read, lines).startswith(f"{lines}, row 2: not UTF-8")


def test_an_arrow_string_that_is_not_utf_8_is_refused(tmp_path):
    bad = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.array([0, 1], pa.int32()).buffers()[1], pa.py_buffer(b"\xff")]
    )
    path = tmp_path / "in.arrow"
    with pa.OSFile(str(path), "wb") as sink:
        table = pa.table({"a": bad})
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    assert "Invalid UTF8" in refusal(tables.read, path)


def test_other_separators_tabs_and_a_byte_order_mark_are_read(tmp_path):
    path = put(tmp_path / "in.csv", b'\xef\xbb\xbfa;b\n1;"x;y"\n')
    for given in (Reading(delimiter=";"), Reading()):
        assert tables.read(path, given)[0].to_pylist() == [{"a": 1, "b": "x;y"}]
    path = put(tmp_path / "in.tsv", b"a\tb\n1\tx,y\n")
    assert tables.read(path, Reading(delimiter=";"))[0].to_pylist() == [{"a": 1, "b": "x,y"}]
    path = put(tmp_path / "in.jsonl", b'\xef\xbb\xbf{"a": 1}\n')
    assert tables.read(path)[0].to_pylist() == [{"a": 1}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.csv", b"", "has no rows; a header line and a line"),
        ("in.csv.gz", gzip.compress(b"", mtime=0), "has no rows; a header line and a line"),
        ("in.csv", b"a,b", "has no rows; a header line and a line"),
        ("in.csv.gz", b"a,b\n1,2\n", "is not a readable .csv.gz file: "),
        ("in.csv", b"a,b\n", "has columns (a, b) but no rows"),
        ("in.csv", b"a,b,a\n1,2,3\n", ": two columns have the same name: a, b, a"),
        ("in.jsonl", b"", "has columns () but no rows"),
        ("in.jsonl", b'{"a": 1}\n{"a": \n', ", row 2: not JSON: "),
        ("in.jsonl", b'{"a": 1}\n{"a": ' + b"[" * 99_999, ", row 2: lists or objects are nested"),
        ("in.jsonl", b'{"a": 1}\n[1]\n', ", row 2: one JSON object per line is expected"),
        ("in.jsonl", b'{"a": 1}\n{}\n{"a": "x"}\n', ", row 3: column 'a' is 'x', which has ano"),
    ],
)
def test_broken_text_files_are_refused(name, content, message, tmp_path):
    path = put(tmp_path / name, content)
    said = refusal(tables.read, path)
    assert said.startswith(str(path))
    assert said.removeprefix(str(path)).strip().startswith(message.strip())


def test_stream_of_a_header_without_rows_is_empty(tmp_path):
    path = put(tmp_path / "in.csv", b"a,b\n")
    assert count(path) == 0
    assert list(tables.stream(path, 2, {})) == []


def test_columns_read_as_text_keep_leading_zeros(tmp_path):
    path = put(tmp_path / "in.csv", b"code,n\n007,1\n,2\n")
    assert tables.read(path)[0]["code"].to_pylist() == ["007", None]  # the zeros mean something
    assert tables.read(path)[0]["n"].to_pylist() == [1, 2]
    assert tables.read(path, text=["code"])[0]["code"].to_pylist() == ["007", None]
    row = streamed(path, code="text", n="number")[0]
    assert row == {"code": "007", "n": 1.0}
    lines = put(tmp_path / "in.jsonl", b'{"code": 7}\n{"code": "007"}\n{"code": null}\n')
    assert [r["code"] for r in streamed(lines, code="text")] == ["7", "007", None]


def test_stream_gives_an_empty_column_the_requested_type(tmp_path):
    path = put(tmp_path / "in.csv", b"a,b,c,d\n,,,x\n")
    (batch,) = tables.stream(path, 9, {"a": "number", "b": "text", "c": "date"})
    types = [pa.float64(), pa.string(), pa.timestamp("us")]
    assert [batch.schema.field(n).type for n in "abc"] == types


@pytest.mark.whole
def test_a_value_of_another_type_is_named_with_its_row_in_the_file(tmp_path):
    rows = BLOCK // 2
    path = put(tmp_path / "in.csv", b"a\n" + b"11\n" * rows + b"n/a\n1\n")
    with pytest.raises(InputError) as caught:
        streamed(path, 10_000, a="number")
    assert str(caught.value) == (
        f"{path}, row {rows + 1}: column 'a' is 'n/a'; a number is expected"
    )
    lines = put(tmp_path / "in.jsonl", b'{"a": 1}\n' * 5 + b'{"a": "n/a"}\n')
    with pytest.raises(InputError) as caught:
        streamed(lines, 2, a="number")
    assert str(caught.value) == f"{lines}, row 6: column 'a' is 'n/a'; a number is expected"


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("2024-02-29", "2024-02-29T00:00:00"),
        (" 2024-02-29 10:30 ", "2024-02-29T10:30:00"),
        ("2024-02-29T10:30:00Z", "2024-02-29T10:30:00"),
        ("2024-02-29T10Z", "2024-02-29T10:00:00"),
        ("2024-02-29T10:30:00.5+02:00", "2024-02-29T08:30:00.500000"),
    ],
)
def test_iso_8601_dates_are_converted_to_utc(text, iso):
    column = pa.array(["2020-01-01", text, None])
    found = convert(column, "date", "when", str).to_pylist()
    assert found[1].isoformat() == iso
    assert found[2] is None


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        ([1, 0, 2], "boolean", "2: column 'x' is 2; true or false is expected"),
        (["yes", "true"], "boolean", "0: column 'x' is 'yes'; true or false is expected"),
        (["2024-01-01", "soon"], "date", "1: column 'x' is 'soon'; a date (ISO 8601) is expected"),
        (["1", "2", " 3 ", "4a"], "number", "3: column 'x' is '4a'; a number is expected"),
        ([1.0, None, float("nan"), 0.5], "boolean", "3: column 'x' is 0.5; true or false is"),
        ([None, 20240101], "date", "1: column 'x' is 20240101; a date (ISO 8601) is expected"),
        ([2024], "date", "0: column 'x' is 2024; a date (ISO 8601) is expected"),
        ([datetime.date(2024, 1, 1)], "number", "0: column 'x' is datetime.date(2024, 1, 1);"),
        ([datetime.time(1)], "date", "0: column 'x' is datetime.time(1, 0); a date (ISO 8601) is"),
        ([[1]], "number", "0: column 'x' is [1]; a number is expected"),
        (pa.array([0, 2**60], pa.timestamp("s")), "date", "1: column 'x' is '<value out of range"),
        (pa.array([0, -(2**31)], pa.date32()), "date", "1: column 'x' is '"),
    ],
)
def test_convert_names_the_first_value_that_fails(values, kind, message):
    assert refusal(convert, pa.array(values), kind, "x", str).startswith(message)


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        (
            [1.0, 0.5, None, float("nan"), 1e8, 1e300],
            ["1", "0.5", None, None, "100000000", "1e+300"],
        ),
        (np.array([2, 0.5], np.float16), ["2", "0.5"]),
        (np.array([1e8, 2**24, 0.25], np.float32), ["100000000", "16777216", "0.25"]),
        (["1.0", "-2.00", "1.50", "007", ".0", "1.0.0"], ["1", "-2", "1.50", "007", ".0", "1.0.0"]),
        ([Decimal("3.00"), Decimal("0.50")], ["3", "0.50"]),
        (["True", "FALSE", "true", "truely", " "], ["true", "false", "true", "truely", None]),
        ([True, False, None], ["true", "false", None]),
        ([b"1.0", b"x"], ["1", "x"]),
    ],
)
def test_convert_normalises_the_spelling_of_categories(values, texts):
    column = pa.array(values)
    for same in (column, pa.chunked_array([column])):
        assert convert(same, "category", "x", str).to_pylist() == texts
    assert convert(pa.array(texts), "category", "x", str).to_pylist() == texts


def test_convert_does_not_change_text():
    texts = ["1.0", "True", " "]
    assert convert(pa.array(texts), "text", "x", str).to_pylist() == texts


def test_convert_truncates_dates_to_microseconds():
    texts = ["2024-02-29T10:30:00.123456789", "2024-02-29T10:30:00.123456789Z"]
    typed = pa.array([texts[0]]).cast(pa.timestamp("ns"))
    for column in (pa.array(texts), typed):
        found = convert(column, "date", "when", str).to_pylist()
        assert {moment.isoformat() for moment in found} == {"2024-02-29T10:30:00.123456"}
