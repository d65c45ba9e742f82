"""Files of a prediction job: finding, counting, and reading by the signature."""

import gzip
import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from prediction_helpers import encoded_batches
from prepare_helpers import run, splits
from tokenizers import Tokenizer, models, pre_tokenizers

from tasks import input_rows, inputs
from tasks.bundle.signature import Signature
from tasks.columns import (
    BooleanColumn,
    CategoryColumn,
    DateColumn,
    ImageColumn,
    NumberColumn,
    SequenceColumn,
    TextColumn,
)
from tasks.config import Prepare, TabularSource
from tasks.encoding import Encoder
from tasks.errors import InputError
from tasks.files.convert import convert
from tasks.files.reading import PLAIN, Reading
from tasks.hashed import HashedFile, held_still, refuse_changed

TABLE = Encoder(
    Signature.of(
        "binary",
        (
            NumberColumn(name="age"),
            BooleanColumn(name="member"),
            DateColumn(name="since", fill=0.0),
            CategoryColumn(name="code", values=("007", "8"), fill="8"),
        ),
        ("no", "yes"),
    )
)
CSV = """key,note,code,age,member,since
a,caf\xe9,007,30,true,1970-01-03
b,,8,4e1,false,
c,"two
lines",,-1.5,True,1970-01-02T12:00:00Z
d,x,9,0,false,1970-01-01
"""


def put(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def batches(encoder, path, size=256):
    (file,) = inputs.find([path], encoder.signature)
    return list(encoded_batches(file, encoder, size))


def refusal(encoder, path, size=256):
    with pytest.raises(InputError) as caught:
        batches(encoder, path, size)
    return str(caught.value)


def test_csv_is_converted_to_the_columns_of_the_signature(tmp_path):
    path = put(tmp_path / "in.csv", CSV)
    assert inputs.find([path])[0].rows == 4
    ((keys, arrays),) = batches(TABLE, path)
    assert keys.to_pylist() == list("abcd")
    assert arrays["numbers"].tolist() == [[30, 1, 2], [40, 0, 0], [-1.5, 1, 1.5], [0, 0, 0]]
    assert arrays["categories"].tolist() == [[1], [2], [2], [0]]


def test_other_columns_of_csv_may_hold_anything(tmp_path):
    put(tmp_path / "in.csv", CSV.encode("latin-1"))
    ((_, arrays),) = batches(TABLE, tmp_path / "in.csv")
    assert len(arrays["numbers"]) == 4


def test_every_table_format_gives_the_same_tensors(tmp_path):
    put(tmp_path / "in.csv", CSV)
    rows = [
        {"key": "a", "code": "007", "age": 30, "member": True, "since": "1970-01-03"},
        {"key": "b", "code": "8", "age": 40.0, "member": False, "since": None},
        {"key": "c", "age": -1.5, "member": True, "since": "1970-01-02T12:00:00Z"},
        {"key": "d", "code": "9", "age": 0, "member": False, "since": "1970-01-01"},
    ]
    lines = "\n".join(map(str, rows)).replace("'", '"').replace("None", "null")
    lines = lines.replace("True", "true").replace("False", "false")
    put(tmp_path / "in.jsonl", lines)
    put(tmp_path / "in.jsonl.gz", gzip.compress(lines.encode()))
    put(tmp_path / "in.csv.gz", gzip.compress(CSV.encode()))
    put(tmp_path / "in.tsv", CSV.replace(",", "\t"))
    table = pa.Table.from_pylist([{"code": None, **row, "age": float(row["age"])} for row in rows])
    moments = pa.array([2 * 86400, None, 86400 + 43200, 0], pa.timestamp("s"))
    table = table.set_column(table.column_names.index("since"), "since", moments)
    pq.write_table(table, tmp_path / "in.parquet")
    ((keys, expected),) = batches(TABLE, tmp_path / "in.csv")
    for name in ("in.csv.gz", "in.tsv", "in.jsonl", "in.jsonl.gz", "in.parquet"):
        found = batches(TABLE, tmp_path / name, 3)
        assert [len(arrays["numbers"]) for _, arrays in found] == [3, 1], name
        assert [k for part, _ in found for k in part.to_pylist()] == keys.to_pylist()
        for tensor in ("numbers", "categories"):
            joined = np.concatenate([arrays[tensor] for _, arrays in found])
            assert np.array_equal(joined, expected[tensor]), name


def test_a_value_that_cannot_be_converted_is_named_with_file_row_and_column(tmp_path):
    path = tmp_path / "in.csv"
    put(path, CSV.replace("-1.5", "old"))
    said = refusal(TABLE, path)
    assert said == f"{path}, row 3: column 'age' is 'old'; a number is expected"
    put(path, CSV.replace("-1.5", ""))
    assert refusal(TABLE, path, 2).startswith(f"{path}: row 3 of column 'age' is missing")
    put(path, CSV.replace("b,", "b,,"))
    assert refusal(TABLE, path).startswith(f"{path}, row 2: 7 fields, but the header has 6")
    put(path, CSV.replace("age", "years"))
    assert refusal(TABLE, path).startswith(f"{path}: no column 'age'; it has key, note, code, yea")
    put(path, CSV.replace("note", "key"))
    assert "two columns have the same name" in refusal(TABLE, path)
    put(path, CSV.replace("9", "\xe9").encode("latin-1"))
    assert refusal(TABLE, path).startswith(f"{path}, row 4: column 'code' is not UTF-8: b'\\xe9'")


ROWS = 60
RAW = {
    "size": [str(row / 2) for row in range(ROWS)],
    "when": [f"2024-01-{1 + row % 28:02}T00:00:{row:02}.000001500Z" for row in range(ROWS)],
    "open": [row % 3 == 0 for row in range(ROWS)],
    "grade": [float(row % 4) if row % 9 else None for row in range(ROWS)],
    "big": [float(10**8 * (row % 3)) for row in range(ROWS)],
    "paid": [row % 5 == 0 for row in range(ROWS)],
    "code": ["007" if row % 2 else "x" for row in range(ROWS)],
    "y": ["no" if row % 2 else "yes" for row in range(ROWS)],
}
KINDS = {
    "size": "number",
    "when": "date",
    "open": "boolean",
    "grade": "category",
    "big": "category",
    "paid": "category",
    "code": "category",
}


def write_arrow(table, path):
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def put_raw(folder):
    """The same rows in every format, as other programs would write them."""
    rows = [dict(zip(RAW, values, strict=True)) for values in zip(*RAW.values(), strict=True)]
    put(folder / "in.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    fields = [["" if v is None else str(v) for v in row.values()] for row in rows]
    put(folder / "in.csv", "\n".join(",".join(line) for line in [RAW, *fields]) + "\n")
    table = pa.table(RAW)
    pq.write_table(table, folder / "in.parquet")
    when = pa.array([text.removesuffix("Z") for text in RAW["when"]]).cast(pa.timestamp("ns"))
    typed = table.set_column(1, "when", when.cast(pa.timestamp("ns", "UTC")))
    typed = typed.set_column(0, "size", table["size"].cast(pa.float64()).cast(pa.float32()))
    typed = typed.set_column(3, "grade", table["grade"].cast(pa.int8()).dictionary_encode())
    write_arrow(typed, folder / "in.arrow")


@pytest.mark.parametrize("trained", ["in.csv", "in.jsonl", "in.parquet", "in.arrow"])
def test_a_raw_file_of_any_format_is_encoded_as_in_training(trained, tmp_path):
    put_raw(tmp_path)
    source = TabularSource(kind="tabular", path=trained, target="y", columns=KINDS)
    run(tmp_path, Prepare(source=source, missing="fill"))
    encoder = Encoder.read(tmp_path / "prepared")
    assert encoder.signature.columns[3].values == ("0", "1", "2", "3")
    assert encoder.signature.columns[4].values == ("0", "100000000", "200000000")
    assert encoder.signature.columns[5].values == ("false", "true")
    for name in ("in.csv", "in.jsonl", "in.parquet", "in.arrow"):
        found = [arrays for _, arrays in batches(encoder, tmp_path / name, 17)]
        for split in splits(tmp_path).values():
            for tensor, values in split.inputs.items():
                joined = np.concatenate([arrays[tensor] for arrays in found])
                assert np.array_equal(joined[split.keys], values), (name, tensor)


def test_a_key_absent_in_the_first_json_rows_is_missing_there(tmp_path):
    rows = [{"age": 1, "member": True, "code": "8"}] * 3
    rows += [{"age": 1, "member": True, "code": "007", "since": "1970-01-03"}]
    path = put(tmp_path / "in.jsonl", "\n".join(map(json.dumps, rows)))
    found = [arrays["numbers"][:, 2].tolist() for _, arrays in batches(TABLE, path, 2)]
    assert found == [[0.0, 0.0], [0.0, 2.0]]
    put(path, "\n".join(map(json.dumps, rows[:3])))
    assert "no column 'since'; it has age, member, code" in refusal(TABLE, path)


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("since", [None, 20240101], "is 20240101; a date (ISO 8601) is expected"),
        ("since", ["1970-01-01", "soon"], "is 'soon'; a date (ISO 8601) is expected"),
        ("since", pa.array([0, 2**60], pa.timestamp("ms")), "is '<value out of range: 1152921504"),
        ("member", [1, 5], "is 5; true or false is expected"),
        ("age", ["1.5", "old"], "is 'old'; a number is expected"),
        ("code", [["8"], ["9"]], "is ['8']; text, a number or true and false is expected"),
    ],
)
@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_a_typed_value_that_cannot_be_converted_is_named(column, values, said, suffix, tmp_path):
    good = {"age": [1.0, 2.0], "member": [True, False], "since": [None, None], "code": ["8", "8"]}
    table = pa.table(good | {column: values})
    path = tmp_path / f"in.{suffix}"
    if suffix == "parquet":
        pq.write_table(table, path)
    else:
        write_arrow(table, path)
    row = 0 if column == "code" else 1
    assert refusal(TABLE, path).startswith(f"{path}, row {row}: column {column!r} {said}")


def test_numbers_that_fit_are_neither_copied_nor_converted(tmp_path):
    wide = pa.array([1.0, 2.0])
    for column in (wide, wide.cast(pa.float32())):
        assert convert(column, "number", "x", str) is column
    moments = wide.cast(pa.int64()).cast(pa.timestamp("us"))
    assert convert(moments, "date", "x", str) is moments


def test_rows_of_typed_formats_are_counted_from_0(tmp_path):
    table = pa.table({"age": [1.0, None], "member": [True, False], "code": ["8", "8"]})
    table = table.append_column("since", pa.nulls(2, pa.date32()))
    pq.write_table(table, tmp_path / "in.parquet")
    assert ": row 1 of column 'age' is missing" in refusal(TABLE, tmp_path / "in.parquet")


def test_lines_of_a_text_file_are_tokenized_unchanged(tmp_path):
    tokenizer = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "007": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    columns = (TextColumn(name="text", vocabulary=3, max_length=4),)
    encoder = Encoder(Signature.of("binary", columns, ("a", "b")), tokenizer)
    path = put(tmp_path / "in.csv", "text\n007\n007 x\n")
    ((keys, arrays),) = batches(encoder, path)
    assert keys is None
    assert arrays["tokens"].tolist() == [[2, 0], [2, 1]]
    for blank in ("", " \t "):
        put(path, f'text,n\nx,1\n"{blank}",2\n')
        assert refusal(encoder, path).startswith(f"{path}: row 2 of column 'text' is missing")
    np.savez(tmp_path / "in.npz", images=np.zeros((1, 2, 2), np.uint8))
    assert "in.npz: the model takes a table of text" in refusal(encoder, tmp_path / "in.npz")


def test_sequences_are_read_from_lists_and_from_arrays(tmp_path):
    columns = (SequenceColumn(name="s", features=2, max_length=9),)
    encoder = Encoder(Signature.of("regression", columns, ()))
    steps = np.arange(12.0).reshape(2, 3, 2)
    np.savez(tmp_path / "in.npz", sequences=steps, lengths=[3, 1])
    pq.write_table(
        pa.table({"s": [steps[0].tolist(), steps[1, :1].tolist()]}), tmp_path / "in.parquet"
    )
    put(tmp_path / "in.jsonl", '{"s": [[0, 1], [2, 3], [4, 5]]}\n{"s": [[6, 7.0]]}\n')
    for name in ("in.npz", "in.parquet", "in.jsonl"):
        ((_, arrays),) = batches(encoder, tmp_path / name)
        assert arrays["length"].tolist() == [3, 1], name
        assert arrays["sequence"][1].tolist() == [[6, 7], [0, 0], [0, 0]], name
        assert [len(a["length"]) for _, a in batches(encoder, tmp_path / name, 1)] == [1, 1]
    np.savez(tmp_path / "in.npz", sequences=steps, lengths=[3, 0])
    said = refusal(encoder, tmp_path / "in.npz", 1)
    assert f"{tmp_path / 'in.npz'}: row 1 of column 's' is empty or missing" in said


def test_images_of_an_array_file_fill_the_column_of_the_signature(tmp_path):
    columns = (ImageColumn(name="photo", dtype="uint8", shape=(2, 2, 1)),)
    encoder = Encoder(Signature.of("binary", columns, ("a", "b")))
    images = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    np.savez(tmp_path / "in.npz", images=images)
    found = [arrays["photo"] for _, arrays in batches(encoder, tmp_path / "in.npz", 2)]
    assert np.array_equal(np.concatenate(found)[..., 0], images)
    np.savez(tmp_path / "in.npz", sequences=images)
    assert "the arrays sequences; `images` is expected" in refusal(encoder, tmp_path / "in.npz")
    np.savez(tmp_path / "in.npz", x=images)
    said = refusal(encoder, tmp_path / "in.npz")
    assert said.endswith("the arrays x; `images` or `sequences` is expected")


def test_find_returns_every_supported_file_of_a_folder_by_name(tmp_path):
    for name in ("3.csv", "1.jsonl", "2.tsv.gz"):
        content = {"3.csv": b"a\n1\n", "1.jsonl": b'{"a": 1}\n\n{"a": 2}\n'}.get(name)
        put(tmp_path / name, content or gzip.compress(b'a\n"1\n2"\n3\n\n4\n'))
    put(tmp_path / "README.txt", "")
    found = inputs.find([tmp_path])
    assert [(f.path.name, f.rows) for f in found] == [("1.jsonl", 2), ("2.tsv.gz", 3), ("3.csv", 1)]
    with pytest.raises(InputError, match="is missing; give an existing file or folder"):
        inputs.find([tmp_path / "none.csv"])
    put(tmp_path / "README.md", "")
    with pytest.raises(InputError, match=r"a file must end in \.csv, .*\.npz, .*to be read by"):
        inputs.find([tmp_path / "README.md"])


def key_type(folder, *names):
    """The type of the keys that a prediction of these files writes."""
    return input_rows.key_type(inputs.find([folder / name for name in names]), TABLE.signature)


def test_keys_are_whole_numbers_if_all_of_all_files_are(tmp_path):
    whole = CSV.encode("latin-1")
    for letter, number in (("a", "1"), ("b", "20"), ("c", "-3"), ("d", "4")):
        whole = whole.replace(f"\n{letter},".encode(), f"\n{number},".encode())
    put(tmp_path / "whole.csv", whole)
    put(tmp_path / "coded.csv", whole.replace(b"\n4,", b"\n004,"))
    assert key_type(tmp_path, "whole.csv") == pa.int64()
    assert key_type(tmp_path, "whole.csv", "coded.csv") == pa.string()
    put(tmp_path / "none.csv", CSV.replace("key", "row"))
    assert key_type(tmp_path, "none.csv") is None
    assert key_type(tmp_path, "none.csv", "whole.csv") == pa.int64()


EARLIER = CategoryColumn(name="code", values=(" a", "a", "1"))


@pytest.mark.parametrize("reading", [None, PLAIN])
def test_categories_of_an_earlier_signature_keep_their_spelling(reading, tmp_path):
    encoder = Encoder(Signature.of("binary", (EARLIER,), ("no", "yes"), reading))
    path = put(tmp_path / "in.csv", "code,n\n a,1\na,1\na ,1\n1.0,1\n")
    ((_, arrays),) = batches(encoder, path)
    codes = [[1], [2], [0], [3]] if reading is None else [[2], [2], [2], [3]]
    assert arrays["categories"].tolist() == codes
    encoder.signature.write(tmp_path / "signature.json")
    assert Signature.read(tmp_path / "signature.json") == encoder.signature
    assert ("reading" in (tmp_path / "signature.json").read_text()) == (reading is not None)


def test_every_format_reads_text_with_the_options_of_training(tmp_path):
    reading = Reading(
        thousands=",",
        na_values=("NA",),
        true_values=("yes",),
        false_values=("no",),
        date_format="%d/%m/%Y",
    )
    columns = (
        NumberColumn(name="age", fill=7.0),
        BooleanColumn(name="member"),
        DateColumn(name="since"),
        CategoryColumn(name="code", values=("a", "b"), fill="b"),
    )
    encoder = Encoder(Signature.of("binary", columns, ("no", "yes"), reading))
    rows = [
        {"age": "1,250", "member": "yes", "since": "03/01/1970", "code": " a"},
        {"age": "NA", "member": "no", "since": "01/02/1970", "code": "NA"},
    ]
    put(tmp_path / "in.jsonl", "\n".join(map(json.dumps, rows)))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "in.parquet")
    write_arrow(pa.Table.from_pylist(rows), tmp_path / "in.arrow")
    lines = ['"' + '";"'.join(row.values()) + '"' for row in rows]
    put(tmp_path / "in.csv", "\n".join(["age;member;since;code", *lines]))
    for name in ("in.jsonl", "in.parquet", "in.arrow", "in.csv"):
        ((_, arrays),) = batches(encoder, tmp_path / name)
        assert arrays["numbers"].tolist() == [[1250, 1, 2], [7, 0, 31]], name
        assert arrays["categories"].tolist() == [[1], [2]], name
    put(tmp_path / "in.csv", "age,member,since,code\n1,yes,1970-31-01,a\n")
    assert "a date of the form '%d/%m/%Y' is expected" in refusal(encoder, tmp_path / "in.csv")


@pytest.mark.whole
def test_reading_inputs_imports_no_torch_or_scikit_learn():
    code = """
import sys
from tasks import input_rows, inputs
print(sorted({"torch", "onnx", "sklearn", "PIL"} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


THREE = pa.table({"a": [1, 2, 3]})
FORMS = {
    ".csv": lambda path: path.write_text("a\n1\n2\n3\n"),
    ".csv.gz": lambda path: path.write_bytes(gzip.compress(b"a\n1\n2\n3\n")),
    ".tsv": lambda path: path.write_text("a\tb\n1\t1\n"),
    ".jsonl": lambda path: path.write_text('{"a": 1}\n'),
    ".parquet": lambda path: pq.write_table(THREE, path),
    ".arrow": lambda path: feather.write_feather(THREE, path, compression="uncompressed"),
    ".npz": lambda path: np.savez(path, images=np.zeros((3, 2, 2), np.uint8)),
}


@pytest.mark.parametrize(("suffix", "put"), FORMS.items())
def test_a_file_that_changes_while_it_is_read_is_refused(suffix, put, tmp_path):
    path = tmp_path / f"in{suffix}"
    put(path)
    files = inputs.hashed(inputs.find([path]))
    with held_still(files):
        path.read_bytes()
    content = path.read_bytes()
    times = path.stat()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    # Even one whose time was set back.
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(InputError, match="changed while it was read"):
        refuse_changed(files)
    path.unlink()
    with pytest.raises(InputError, match="changed while it was read"), held_still(files):
        raise RuntimeError("whatever a reader says of half a file")


def test_an_error_of_an_unchanged_file_is_raised_as_it_is(tmp_path):
    FORMS[".csv"](tmp_path / "in.csv")
    files = inputs.hashed(inputs.find([tmp_path]))
    with pytest.raises(RuntimeError, match="of another kind"), held_still(files):
        raise RuntimeError("of another kind")


def test_stamp_of_another_machine_is_compared_without_the_number_of_its_device(tmp_path):
    path = put(tmp_path / "in.csv", "age\n1\n")
    here = HashedFile.of(path)
    there = replace(here, stamp=replace(here.stamp, device=here.stamp.device + 1, young=False))
    assert not there.unchanged
    assert replace(there, elsewhere=True).unchanged
    path.write_text("age\n2\n")
    assert not replace(there, elsewhere=True).unchanged
