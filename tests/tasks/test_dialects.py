"""Detection of the dialect of CSV files, in training and in prediction."""

import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.bundle.signature import Signature
from tasks.columns import CategoryColumn, NumberColumn
from tasks.errors import InputError
from tasks.files import tables
from tasks.files.dialect import decimal_sign, detect
from tasks.files.reading import PLAIN, Reading
from tasks.inputs import find

ROWS = [{"a": 1.5, "b": "x"}, {"a": 2.25, "b": "é"}]


def put(path, content, encoding="utf-8"):
    content = content if isinstance(content, bytes) else content.encode(encoding)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def both(path, reading=PLAIN):
    """The rows that training reads; checks that prediction reads the same."""
    table, _, found = tables.read(path, reading)
    kinds = dict.fromkeys(table.column_names, "category")
    kinds |= {n: "number" for n in table.column_names if not pa.types.is_string(table[n].type)}
    for options in (reading, found):
        parts = list(tables.stream(path, 2, kinds, options))
        assert pa.Table.from_batches(parts).to_pylist() == table.to_pylist()
        assert sum(tables.lengths(path, kinds, options)) == table.num_rows
    return table.to_pylist()


@pytest.mark.parametrize("name", ["in.csv", "in.csv.gz"])
@pytest.mark.parametrize(
    "content",
    [
        "a,b\n1.5,x\n2.25,é\n",
        "a;b\n1.5;x\n2.25;é\n",
        "a;b\n1,5;x\n2,25;é\n",
        "a|b\r\n1.5|x\r\n2.25|é\r\n",
        "a\tb\n1,5\tx\n2,25\té\n",
        '"a";"b"\n"1,5";"x"\n"2,25";"é"\n',
        "'a','b'\n'1.5','x'\n'2.25','é'\n",
        "\ufeffa,b\n1.5,x\n2.25,é\n",
    ],
)
def test_delimiter_quote_and_decimal_sign_are_detected(name, content, tmp_path):
    assert both(put(tmp_path / name, content)) == ROWS


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
@pytest.mark.parametrize("name", ["in.csv", "in.csv.gz"])
def test_utf_16_utf_32_and_utf_8_sig_are_detected(name, encoding, tmp_path):
    assert both(put(tmp_path / name, "a;b\n1,5;x\n2,25;é\n", encoding)) == ROWS


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("a|b,c|d,e\n1,2,3\n4,5,6\n", ["a|b", "c|d", "e"]),
        ("a;b,c;d\n1,2\n3,4\n", ["a;b", "c;d"]),
        ("a,b;c,d;e,f\n1;2;3\n4;5;6\n", ["a,b", "c,d", "e,f"]),
        ('"a;b";"c,d,e,f"\n1;2\n3;4\n', ["a;b", "c,d,e,f"]),
        ('a,"b\nc;d;e"\n1,"x;y;z"\n2,"u;\nv;w"\n', ["a", "b\nc;d;e"]),
        ("text\nhello\nworld\n", ["text"]),
    ],
)
def test_quoted_names_and_values_may_contain_delimiters(content, names, tmp_path):
    assert list(both(put(tmp_path / "in.csv", content))[0]) == names


def test_latin_1_is_refused_with_advice_and_read_with_csv_encoding(tmp_path):
    path = put(tmp_path / "in.csv", "a,b\n1.5,x\n2.25,é\n", "latin-1")
    with pytest.raises(InputError) as caught:
        tables.read(path)
    assert "in.csv, row 2: column 'b' is not UTF-8: b'\\xe9'" in str(caught.value)
    assert "if the value is 'é', it is Latin-1; set prepare.source.csv.encoding: latin-1" in str(
        caught.value
    )
    given = Reading(encoding="latin-1")
    assert both(path, given) == ROWS
    # A file of the same model that is UTF-8 is not taken for Latin-1.
    assert both(put(tmp_path / "in.csv", "a,b\n1.5,x\n2.25,é\n"), given) == ROWS
    assert both(put(tmp_path / "in.csv", "a,b\n1.5,x\n2.25,é\n", "utf-16"), given) == ROWS


def test_a_latin_1_header_is_read_with_the_encoding_of_training(tmp_path):
    path = put(tmp_path / "in.csv", "größe,é\n1.5,x\n2.25,é\n", "latin-1")
    assert both(path, Reading(encoding="latin-1"))[0] == {"größe": 1.5, "é": "x"}
    with pytest.raises(InputError, match="the header is not UTF-8"):
        tables.lengths(path)


def test_csv_delimiter_can_be_an_unusual_sign(tmp_path):
    path = put(tmp_path / "in.csv", "a:b\n1.5:x\n2.25:é\n")
    assert both(path, Reading(delimiter=":")) == ROWS
    put(path, "a:b\n1.5:x,y,z\n2.25:é\n")  # counted before anybody knows the delimiter
    assert both(path, Reading(delimiter=":"))[0] == {"a": 1.5, "b": "x,y,z"}


def test_prediction_detects_another_delimiter_by_the_expected_columns(tmp_path):
    semicolon = Reading(delimiter=";", decimal=",", encoding="utf-8", quote='"')
    path = put(tmp_path / "in.csv", "a,b\n1.5,x\n2.25,é\n")
    (batch,) = tables.stream(path, 9, {"a": "number", "b": "category"}, semicolon)
    assert batch.to_pylist() == ROWS
    comma = Reading(delimiter=",", decimal=".")
    put(path, "a;b\n1,5;x\n2,25;é\n")
    (batch,) = tables.stream(path, 9, {"a": "number", "b": "category"}, comma)
    assert batch.to_pylist() == ROWS


@pytest.mark.parametrize(
    ("values", "delimiter", "reading", "sign"),
    [
        (["1,5", "2"], ";", PLAIN, ","),
        (["1,5", "2"], ",", PLAIN, "."),  # quoted between commas: somebody must say
        (["1,250", "2,500"], ";", PLAIN, "."),  # may be thousands
        (["1,250", "2,5"], ";", PLAIN, ","),
        (["1.5", "2"], ";", PLAIN, "."),
        (["1.5", "2"], ";", Reading(decimal=","), "."),
        (["1.250", "2"], ";", Reading(decimal=","), ","),
        (["1,5", "2"], ";", Reading(thousands=","), "."),
        (["1,5", "x", "y"], ";", PLAIN, "."),
        ([None, "1,5"], "\t", PLAIN, ","),
    ],
)
def test_the_decimal_sign_is_detected_from_the_values(values, delimiter, reading, sign):
    assert decimal_sign([pa.array(values)], delimiter, reading) == sign


def test_columns_with_different_decimal_signs_use_the_point(tmp_path):
    path = put(tmp_path / "in.csv", "a;b\n1,5;1.5\n")
    table, _, found = tables.read(path)
    assert table.to_pylist() == [{"a": "1,5", "b": 1.5}]
    assert found == Reading(encoding="utf-8", delimiter=";", quote='"', decimal=".")


def test_the_decimal_sign_is_detected_from_the_target_and_declared_numbers(tmp_path):
    path = put(tmp_path / "in.csv", "a;y\n1;1,5\n2;2,5\n")
    for numbers, sign in (([], "."), (["y"], ",")):
        assert tables.read(path, PLAIN, ["y"], (), numbers)[2].decimal == sign


def test_numbers_with_wrong_separators_are_refused(tmp_path):
    path = put(tmp_path / "in.csv", 'a\n"1,25"\n')
    for reading in (PLAIN, Reading(thousands=","), Reading(decimal=",", thousands=".")):
        kinds = {"a": "number"}
        if reading.decimal:
            (batch,) = tables.stream(path, 9, kinds, reading)
            assert batch.to_pylist() == [{"a": 1.25}]
            continue
        with pytest.raises(InputError, match="column 'a' is '1,25'; a number is expected"):
            list(tables.stream(path, 9, kinds, reading))


def test_a_tsv_file_always_has_tabs(tmp_path):
    path = put(tmp_path / "in.tsv", "a\tb\n1.5\tx;y\n")
    assert detect(path, Reading(delimiter=";"))[0].delimiter == "\t"


def test_files_of_a_folder_may_have_different_dialects(tmp_path):
    put(tmp_path / "1.csv", "a,b\n1.5,x\n")
    put(tmp_path / "2.csv", "a;b\n2.25;é\n", "utf-16")
    assert tables.read(tmp_path)[0].to_pylist() == ROWS


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        (["key,a\n1,5\n-20,6\n"], pa.int64()),
        (["key,a\n007,5\n1,6\n"], pa.string()),
        (["key,a\n1.0,5\n"], pa.string()),
        (["key,a\n+1,5\n"], pa.string()),
        (["key,a\n9223372036854775808,5\n"], pa.string()),
        (["key,a\n1,5\n,6\n"], pa.int64()),
        (["a\n5\n"], None),
    ],
)
def test_csv_keys_are_int64_only_if_all_are_whole_numbers(contents, expected, tmp_path):
    path = put(tmp_path / "in.csv", contents[0])
    assert tables.type_of_key(path, {"a": "number", "key": "text"}) == expected


def test_keys_of_typed_formats_keep_their_type(tmp_path):
    kinds = {"a": "number", "key": "text"}
    for content, expected in (
        ('{"key": 1, "a": 5}\n{"a": 6}\n', pa.int64()),
        ('{"key": "1", "a": 5}\n', pa.string()),
        ('{"key": 1, "a": 5}\n{"key": "x", "a": 5}\n', pa.string()),
        ('{"a": 5}\n', None),
    ):
        assert tables.type_of_key(put(tmp_path / "in.jsonl", content), kinds) == expected
    for column in (pa.array([1], pa.int16()), pa.array(["007"]), pa.array([b"x"])):
        pq.write_table(pa.table({"key": column, "a": [1]}), tmp_path / "in.parquet")
        assert tables.type_of_key(tmp_path / "in.parquet", kinds) == column.type


def test_count_and_stream_use_the_same_dialect(tmp_path):
    for number, (content, reading) in enumerate(
        (
            ('a~b\n1~"x\ny"\n2~"u\nv"\n', Reading(delimiter="~")),
            ("a,b\n1,%x\ny%\n2,%u, \nv%\n", Reading(quote="%")),
        )
    ):
        path = tmp_path / f"{number}.csv"
        path.write_text(content)
        columns = (NumberColumn(name="a"), CategoryColumn(name="b", values=("x", "y")))
        (file,) = find([path], Signature.of("regression", columns, (), reading))
        assert file.rows == 2


def test_utf_16_without_a_byte_order_mark_is_read_with_csv_encoding(tmp_path):
    path, rows = tmp_path / "in.csv", [{"a": 1.5, "b": "漢字" * 60}, {"a": 2.0, "b": "かな"}]
    text = "a,b\n" + "".join(f"{row['a']},{row['b']}\n" for row in rows)
    for encoding in ("utf-16-le", "utf-16-be", "utf-8"):
        path.write_bytes(text.encode(encoding))
        given = Reading(encoding="utf-16-le" if encoding == "utf-8" else encoding)
        assert both(path, given) == rows
