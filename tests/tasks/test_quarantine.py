"""Rows that cannot be predicted: set aside with the reason, counted, and limited."""

import csv
import gzip
import io
import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from hand_made import one_of_each
from PIL import Image
from prediction_helpers import predict_paths
from training_helpers import WORDS

from tasks import reasons
from tasks.errors import InputError
from tasks.predict import How
from tasks.reasons import MEANINGS
from tasks.serving.manifest import completed
from tasks.serving.options import BadLimit, Options
from tasks.serving.quarantine import TooManyBad

ANY = How("cpu", limit=BadLimit.parse("100%"))
GOOD = {"age": "1.5", "member": "true", "since": "1970-01-03", "colour": "blue"}
ROWS = 40
# By row, from 0: what is wrong in it, the reason, and the raw value in quarantine.
WRONG = {
    3: ("age", None, reasons.MISSING),
    5: ("age", "old", reasons.NOT_A_NUMBER),
    7: ("age", "inf", reasons.NOT_FINITE),
    11: ("member", "maybe", reasons.NOT_A_BOOLEAN),
    13: ("since", "soon", reasons.NOT_A_DATE),
    14: ("member", None, reasons.MISSING),
    17: ("age", "3e38", reasons.BAD_PREDICTION),
    39: ("age", "n/a", reasons.NOT_A_NUMBER),
}


def rows(wrong=WRONG, number=ROWS):
    """Rows of which those in `wrong` have a wrong value, each with a key."""
    found = [{"key": f"row-{row}", **GOOD} for row in range(number)]
    for row, (column, value, _) in wrong.items():
        found[row][column] = value
    return found


def as_csv(given, delimiter=","):
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(given[0]), delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(given)
    return stream.getvalue().encode()


def as_lines(given):
    return "".join(json.dumps(row) + "\n" for row in given).encode()


def as_parquet(given):
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(given), stream, row_group_size=9)
    return stream.getvalue()


def as_arrow(given):
    stream = io.BytesIO()
    feather.write_feather(pa.Table.from_pylist(given), stream, compression="uncompressed")
    return stream.getvalue()


FORMS = {
    "in.csv": as_csv,
    "in.csv.gz": lambda given: gzip.compress(as_csv(given)),
    "in.tsv": lambda given: as_csv(given, "\t"),
    "in.jsonl": as_lines,
    "in.parquet": as_parquet,
    "in.arrow": as_arrow,
}
FIRST = {"in.parquet": 0, "in.arrow": 0}  # the number of the first row; 1 in the other forms


@pytest.fixture(scope="session")
def bundles(tmp_path_factory):
    return one_of_each(tmp_path_factory.mktemp("hand-made"), WORDS)


def quarantined(bundle, folder, *paths, keys=None):
    """The rows in quarantine by their number, after checking that no row is lost or there twice.

    `keys` are those of all rows; by default, they are counted.
    """
    report, table = predict_paths(bundle, paths, folder / "out", how=ANY)
    bad = pq.read_table(folder / "out/quarantine/part-00000.parquet")
    assert bad.column_names == ["file", "row", "key", "column", "reason", "value"]
    assert bad["row"].to_pylist() == sorted(bad["row"].to_pylist())
    assert report.quarantined == bad.num_rows
    assert report.predicted == table.num_rows
    assert report.predicted + report.quarantined == report.rows
    assert report.reasons == Counter(bad["reason"].to_pylist())
    assert report.reasons.keys() <= MEANINGS.keys()
    expected = list(range(report.rows)) if keys is None else keys
    if keys is not None:
        assert sorted(table["key"].to_pylist() + bad["key"].to_pylist()) == sorted(expected)
    assert completed(folder / "out").reasons == report.reasons
    return {row.pop("row"): row for row in bad.to_pylist()}


@pytest.mark.parametrize("name", FORMS)
def test_bad_rows_of_a_table_are_set_aside_with_file_row_key_column_and_value(
    name, bundles, tmp_path
):
    path = tmp_path / name
    path.write_bytes(FORMS[name](rows()))
    keys = [f"row-{row}" for row in range(ROWS)]
    found = quarantined(bundles["table"], tmp_path, path, keys=keys)
    first = FIRST.get(name, 1)
    assert found == {
        row + first: {
            "file": str(path),
            "key": f"row-{row}",
            "column": None if reason == reasons.BAD_PREDICTION else column,
            "reason": reason,
            "value": None if reason == reasons.BAD_PREDICTION else value,
        }
        for row, (column, value, reason) in WRONG.items()
    }
    table = pq.read_table(tmp_path / "out/predictions")
    assert table["key"].to_pylist() == [key for row, key in enumerate(keys) if row not in WRONG]
    assert set(table["prediction"].to_pylist()) == {"yes"}


@pytest.mark.parametrize(("name", "delimiter"), [("in.csv", ","), ("in.tsv", "\t")])
def test_ragged_rows_and_bytes_that_are_not_utf_8_are_set_aside(name, delimiter, bundles, tmp_path):
    lines = as_csv(rows({}, 20), delimiter).splitlines(keepends=True)
    lines[6] = b"\n" + lines[6]  # a blank line is no row
    lines[1] = lines[1].replace(b"blue", b"caf\xe9")
    lines[9] = delimiter.join(["row-8", "1.5", "true"]).encode() + b"\n"
    lines[10] = lines[10].strip() + f"{delimiter}more\n".encode()
    lines[20] = delimiter.join(["row-19", "old"]).encode() + b"\n"
    path = tmp_path / name
    path.write_bytes(b"".join(lines))
    found = quarantined(bundles["table"], tmp_path, path)
    assert {row: (bad["reason"], bad["column"], bad["value"]) for row, bad in found.items()} == {
        1: (reasons.NOT_UTF8, "colour", r"caf\xe9"),
        9: (reasons.WRONG_LENGTH, None, delimiter.join(["row-8", "1.5", "true"])),
        10: (reasons.WRONG_LENGTH, None, lines[10].decode().strip()),
        20: (reasons.WRONG_LENGTH, None, delimiter.join(["row-19", "old"])),
    }
    keys = pq.read_table(tmp_path / "out/predictions")["key"].to_pylist()
    assert keys == [f"row-{row}" for row in range(20) if row not in (0, 8, 9, 19)]


def test_a_ragged_row_that_is_not_utf_8_refuses_the_file_in_one_message(bundles, tmp_path, capfd):
    lines = as_csv(rows({}, 3)).splitlines(keepends=True)
    (tmp_path / "in.csv").write_bytes(b"".join([*lines, b"caf\xe9,1\n"]))
    with pytest.raises(InputError, match=r"in\.csv: a row has another number .* b'caf\\xe9,1'"):
        predict_paths(bundles["table"], [tmp_path / "in.csv"], tmp_path / "out", how=ANY)
    assert capfd.readouterr() == ("", "")


def test_a_csv_file_of_which_every_row_is_ragged_is_all_in_quarantine(bundles, tmp_path):
    (tmp_path / "in.csv").write_text("age,member,since,colour\n1\n2\n3,true\n")
    report, _ = predict_nothing(bundles["table"], tmp_path / "in.csv", tmp_path / "out")
    assert (report.rows, report.quarantined) == (3, 3)


def predict_nothing(bundle, path, output):
    """The report of a job that predicts no row, and the names of its files."""
    from prediction_helpers import PROVENANCE, files_of

    from tasks.bundle.signature import Signature
    from tasks.inputs import find
    from tasks.predict import predict

    files = find([path], Signature.read(bundle / "signature.json"))
    report = predict(files_of(bundle), files, output=output, provenance=PROVENANCE, how=ANY)
    assert report.predicted == 0
    assert not list((output / "predictions").iterdir())
    assert completed(output).rows == report.rows
    return report, sorted(path.name for path in output.iterdir())


def test_a_job_whose_every_row_is_bad_succeeds_if_all_may_be(bundles, tmp_path):
    (tmp_path / "in.jsonl").write_bytes(as_lines([{**GOOD, "age": "old"}] * 3))
    _, names = predict_nothing(bundles["table"], tmp_path / "in.jsonl", tmp_path / "out")
    assert names == ["drift.json", "manifest.json", "predictions", "quarantine"]


def test_lines_that_are_no_json_objects_are_set_aside(bundles, tmp_path):
    lines = as_lines(rows({}, 12)).splitlines(keepends=True)
    lines[2] = b'{"age": \n'
    lines[4] = b"[1]\n"
    lines[6] = b'{"age": "\xe9"}\n'
    lines[7] = b"\n" + lines[7]
    lines[9] = b'{"age": ' + b"[" * 9_999 + b"\n"
    lines[10] = b'{"age": ' + b"1" * 5_000 + b"}\n"
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"".join(lines))
    found = quarantined(bundles["table"], tmp_path, path)
    assert {row: bad["reason"] for row, bad in found.items()} == {
        3: reasons.NOT_JSON,
        5: reasons.NOT_JSON,
        7: reasons.NOT_UTF8,
        10: reasons.NOT_JSON,
        11: reasons.NOT_JSON,
    }
    assert found[3]["value"].strip() == '{"age":'
    assert found[7]["value"].strip() == r'{"age": "\xe9"}'
    assert len(found[10]["value"]) == len(found[11]["value"]) == 1000
    assert {bad["column"] for bad in found.values()} == {None}


def test_json_values_of_other_types_are_set_aside_by_their_own_column(bundles, tmp_path):
    given = rows({}, 9)
    for row in given:
        row["age"] = 1.5
    given[1]["age"] = "old"
    given[2]["age"] = [1]
    given[4]["age"] = {"years": 1}
    given[5]["since"] = 20240101
    given[7]["member"] = 5
    path = tmp_path / "in.jsonl"
    path.write_bytes(as_lines(given))
    keys = [row["key"] for row in given]
    found = quarantined(bundles["table"], tmp_path, path, keys=keys)
    assert {row: (bad["column"], bad["reason"], bad["value"]) for row, bad in found.items()} == {
        2: ("age", reasons.NOT_A_NUMBER, "old"),
        3: ("age", reasons.NOT_A_NUMBER, "[1]"),
        5: ("age", reasons.NOT_A_NUMBER, "{'years': 1}"),
        6: ("since", reasons.NOT_A_DATE, "20240101"),
        8: ("member", reasons.NOT_A_BOOLEAN, "5"),
    }


def test_columns_that_the_model_does_not_use_put_no_row_in_quarantine(bundles, tmp_path):
    given = rows({}, 9)
    for number, row in enumerate(given):
        row["note"] = [1, "x", [2], {"a": 1}, None][number % 5]
    (tmp_path / "in.jsonl").write_bytes(as_lines(given))
    report, _ = predict_paths(bundles["table"], [tmp_path / "in.jsonl"], tmp_path / "json")
    assert (report.rows, report.quarantined) == (9, 0)
    lines = as_csv([{**row, "note": "x"} for row in given]).replace(b",x\n", b",caf\xe9\n")
    (tmp_path / "in.csv").write_bytes(lines)
    report, _ = predict_paths(bundles["table"], [tmp_path / "in.csv"], tmp_path / "csv")
    assert (report.rows, report.quarantined) == (9, 0)


@pytest.mark.parametrize("write", [pq.write_table, feather.write_feather])
def test_typed_values_that_cannot_be_used_are_set_aside(write, bundles, tmp_path):
    table = {
        "key": pa.array(range(6), pa.int32()),
        "age": pa.array([1.0, None, float("nan"), float("inf"), 1e300, 2.0]),
        "member": [True] * 6,
        "since": pa.array([0] * 6, pa.timestamp("ns")),
        "colour": pa.array([b"blue"] * 5 + [b"\xff"], pa.binary()),
    }
    path = tmp_path / ("in.parquet" if write is pq.write_table else "in.arrow")
    write(pa.table(table), str(path))
    found = quarantined(bundles["table"], tmp_path, path, keys=list(range(6)))
    assert {row: (bad["column"], bad["reason"], bad["value"]) for row, bad in found.items()} == {
        1: ("age", reasons.MISSING, None),
        2: ("age", reasons.MISSING, "nan"),
        3: ("age", reasons.NOT_FINITE, "inf"),
        4: ("age", reasons.NOT_FINITE, "1e+300"),
        5: ("colour", reasons.NOT_UTF8, r"\xff"),
    }
    for part in ("predictions", "quarantine"):  # the type of the key is kept
        assert pq.read_table(tmp_path / "out" / part)["key"].type == pa.int32()


@pytest.mark.parametrize("name", ["in.parquet", "in.arrow"])
def test_times_that_cannot_be_written_as_a_category_are_set_aside(name, bundles, tmp_path):
    far = pa.array([None, 2**62, None], pa.timestamp("ms"))  # beyond what microseconds can count
    since = pa.nulls(3, pa.date32())
    table = pa.table({"age": [1.0] * 3, "member": [True] * 3, "since": since, "colour": far})
    write = pq.write_table if name == "in.parquet" else feather.write_feather
    write(table, tmp_path / name)
    found = quarantined(bundles["table"], tmp_path, tmp_path / name)
    assert {row: bad["reason"] for row, bad in found.items()} == {1: reasons.NOT_TEXT}


@pytest.mark.parametrize("write", [pq.write_table, feather.write_feather])
@pytest.mark.parametrize(
    ("kind", "wide"),
    [
        (pa.string(), pa.binary()),
        (pa.large_string(), pa.large_binary()),
        (pa.string_view(), pa.binary_view()),
    ],
)
def test_typed_text_that_is_not_utf_8_is_set_aside(kind, wide, write, bundles, tmp_path):
    colours = pa.array([b"red", b"caf\xe9", None, b"red"], wide).view(kind)
    keys = pa.array([b"a", b"b", b"c", b"\xff"], wide).view(kind)
    count = {"age": [1.0] * 4, "member": [True] * 4, "since": pa.nulls(4, pa.date32())}
    write(pa.table({**count, "colour": colours, "key": keys}), str(tmp_path / "in.parquet"))
    path = tmp_path / ("in.parquet" if write is pq.write_table else "in.arrow")
    (tmp_path / "in.parquet").rename(path)
    found = quarantined(bundles["table"], tmp_path, path)
    assert [(row["column"], row["reason"], row["value"]) for row in found.values()] == [
        ("colour", reasons.NOT_UTF8, "caf\\xe9"),
        ("key", reasons.NOT_UTF8, "\\xff"),
    ]


def test_kept_text_within_a_struct_that_is_not_utf_8_sets_its_row_aside(bundles, tmp_path):
    texts = pa.array([b"a", b"caf\xe9", b"b"], pa.binary()).view(pa.string())
    note = pa.StructArray.from_arrays([texts], names=["x"])
    count = {"age": [1.0] * 3, "member": [True] * 3, "since": pa.nulls(3, pa.date32())}
    table = pa.table({**count, "colour": ["red"] * 3, "note": note})
    pq.write_table(table, tmp_path / "in.parquet")
    report, _ = predict_paths(
        bundles["table"],
        [tmp_path / "in.parquet"],
        tmp_path / "out",
        how=ANY,
        options=Options(keep=("note",), form="parquet"),
    )
    assert (report.predicted, report.reasons) == (2, {reasons.NOT_UTF8: 1})


@pytest.mark.parametrize("write", [pq.write_table, feather.write_feather])
def test_a_dictionary_with_text_that_is_not_utf_8_sets_its_rows_aside(write, bundles, tmp_path):
    texts = pa.array([b"red", b"caf\xe9", b"blue"], pa.binary()).view(pa.string())
    places = pa.array([0, 1, 2, 1, None], pa.int32())
    colour = pa.DictionaryArray.from_arrays(places, texts, safe=False)
    count = {"age": [1.0] * 5, "member": [True] * 5, "since": pa.nulls(5, pa.date32())}
    path = tmp_path / ("in.parquet" if write is pq.write_table else "in.arrow")
    write(pa.table({**count, "colour": colour}), str(path))
    found = quarantined(bundles["table"], tmp_path, path)
    assert {row: (bad["reason"], bad["value"]) for row, bad in found.items()} == {
        1: (reasons.NOT_UTF8, "caf\\xe9"),
        3: (reasons.NOT_UTF8, "caf\\xe9"),
    }


def test_a_dictionary_with_places_beyond_its_values_is_refused(bundles, tmp_path):
    """It would end the process by SIGSEGV."""
    places = np.array([2, 1, 0, 2, 2, 1], np.int32)
    colour = pa.DictionaryArray.from_arrays(places, pa.array(["red", "blue", "green"]))
    count = {"age": [1.0] * 6, "member": [True] * 6, "since": pa.nulls(6, pa.date32())}
    stream = io.BytesIO()
    feather.write_feather(pa.table({**count, "colour": colour}), stream, compression="uncompressed")
    wrong = np.where(places == 0, 2**30, places).astype(np.int32)
    assert stream.getvalue().count(places.tobytes()) == 1
    damaged = stream.getvalue().replace(places.tobytes(), wrong.tobytes())
    (tmp_path / "in.arrow").write_bytes(damaged)
    with pytest.raises(InputError, match=r"in\.arrow is not a readable \.arrow file"):
        predict_paths(bundles["table"], [tmp_path / "in.arrow"], tmp_path / "out", how=ANY)


def test_an_arrow_file_with_a_damaged_buffer_is_refused(bundles, tmp_path):
    """It would end the process by SIGSEGV."""
    content = as_arrow(rows({}, 5))
    offsets = np.arange(0, 24, 4, np.int32)  # of five times "blue"
    assert content.count(offsets.tobytes()) >= 1
    damaged = offsets.copy()
    damaged[2] = 2**30
    (tmp_path / "in.arrow").write_bytes(content.replace(offsets.tobytes(), damaged.tobytes()))
    with pytest.raises(InputError, match=r"in\.arrow is not a readable \.arrow file"):
        predict_paths(bundles["table"], [tmp_path / "in.arrow"], tmp_path / "out", how=ANY)


def test_blank_lines_and_bytes_that_are_not_utf_8_in_texts_are_set_aside(bundles, tmp_path):
    path = tmp_path / "in.txt"
    path.write_bytes(b"the purr\n\nthe caf\xe9\r\na meow\n  \nbark")
    found = quarantined(bundles["text"], tmp_path, path)
    assert {row: (bad["column"], bad["reason"], bad["value"]) for row, bad in found.items()} == {
        2: ("text", reasons.MISSING, ""),
        3: ("text", reasons.NOT_UTF8, r"the caf\xe9"),
        5: ("text", reasons.MISSING, "  "),
    }
    keys = pq.read_table(tmp_path / "out/predictions")["key"].to_pylist()
    assert keys == [0, 3, 5]  # without keys, all rows are counted


def put_images(folder):
    """Six images of which one is cut short, one is no image, one is large and one is coloured."""
    folder.mkdir()
    for number in range(6):
        Image.fromarray(np.full((4, 5), number, np.uint8)).save(folder / f"{number}.png")
    whole = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(whole[:-25])
    (folder / "2.png").write_bytes(b"hello")
    Image.fromarray(np.zeros((9, 5), np.uint8)).save(folder / "3.png")
    colours = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    Image.fromarray(colours).save(folder / "5.png")
    return {
        "1.png": reasons.UNREADABLE_IMAGE,
        "2.png": reasons.UNREADABLE_IMAGE,
        "3.png": reasons.WRONG_IMAGE,
        "5.png": reasons.WRONG_IMAGE,
    }


def test_images_that_cannot_be_read_are_set_aside_from_a_folder(bundles, tmp_path):
    wrong = put_images(tmp_path / "in")
    keys = [f"{number}.png" for number in range(6)]
    found = quarantined(bundles["image"], tmp_path, tmp_path / "in", keys=keys)
    assert found == {
        int(name[0]): {
            "file": str(tmp_path / "in"),
            "key": name,
            "column": "image",
            "reason": reason,
            "value": name,
        }
        for name, reason in wrong.items()
    }


@pytest.mark.parametrize("name", FORMS)
def test_images_that_cannot_be_read_are_set_aside_from_a_table_of_paths(name, bundles, tmp_path):
    wrong = put_images(tmp_path / "in") | {"gone.png": reasons.UNREADABLE_IMAGE, None: "missing"}
    names = [*(f"{number}.png" for number in range(6)), "gone.png", None]
    given = [
        {"key": f"k{row}", "image": image and f"in/{image}"} for row, image in enumerate(names)
    ]
    (tmp_path / name).write_bytes(FORMS[name](given))
    keys = [row["key"] for row in given]
    found = quarantined(bundles["image"], tmp_path, tmp_path / name, keys=keys)
    first = FIRST.get(name, 1)
    assert found == {
        row + first: {
            "file": str(tmp_path / name),
            "key": f"k{row}",
            "column": "image",
            "reason": wrong[image],
            "value": image and f"in/{image}",
        }
        for row, image in enumerate(names)
        if image in wrong
    }


def test_paths_that_name_no_file_are_set_aside(bundles, tmp_path):
    Image.new("L", (5, 4)).save(tmp_path / "0.png")
    wrong = ["x" * 300, "..", str(tmp_path), "a\0b", "0.png/1.png", "missing.png"]
    pq.write_table(pa.table({"image": ["0.png", *wrong]}), tmp_path / "in.parquet")
    found = quarantined(bundles["image"], tmp_path, tmp_path / "in.parquet")
    assert list(found) == list(range(1, len(wrong) + 1))
    assert {row["reason"] for row in found.values()} == {reasons.UNREADABLE_IMAGE}


def test_image_bytes_that_cannot_be_read_are_set_aside(bundles, tmp_path):
    wrong = put_images(tmp_path / "in")
    contents = [(tmp_path / f"in/{number}.png").read_bytes() for number in range(6)]
    pq.write_table(pa.table({"image": contents}), tmp_path / "in.parquet")
    found = quarantined(bundles["image"], tmp_path, tmp_path / "in.parquet")
    assert {row: bad["reason"] for row, bad in found.items()} == {
        int(name[0]): reason for name, reason in wrong.items()
    }
    assert all(len(bad["value"]) <= 1000 for bad in found.values())


def test_sequences_of_arrays_without_timesteps_or_with_nan_are_set_aside(bundles, tmp_path):
    steps = np.ones((6, 3, 2))
    steps[3, 1, 0] = np.nan
    steps[4, 2, 1] = np.inf
    np.savez(tmp_path / "in.npz", sequences=steps, lengths=[3, 0, 1, 2, 3, 3])
    found = quarantined(bundles["sequence"], tmp_path, tmp_path / "in.npz")
    assert {row: (bad["column"], bad["reason"]) for row, bad in found.items()} == {
        1: ("steps", reasons.MISSING),
        3: ("steps", reasons.NOT_FINITE),
        4: ("steps", reasons.NOT_FINITE),
    }


@pytest.mark.parametrize("name", ["in.jsonl", "in.parquet", "in.arrow"])
def test_sequences_of_lists_that_do_not_fit_are_set_aside(name, bundles, tmp_path):
    good = [[0.5, 1.0], [2.0, 3.0]]
    steps = [good, [[1.0, 2.0, 3.0]], [], None, [[1.0, None]], good, [[1.0]]]
    given = [{"key": row, "steps": value} for row, value in enumerate(steps)]
    wrong = {
        1: reasons.WRONG_LENGTH,
        2: reasons.MISSING,
        3: reasons.MISSING,
        4: reasons.NOT_FINITE,
        6: reasons.WRONG_LENGTH,
    }
    if name == "in.jsonl":
        given += [{"key": 7, "steps": "later"}, {"key": 8, "steps": good}]
        wrong[7] = reasons.WRONG_TYPE
    (tmp_path / name).write_bytes(FORMS[name](given))
    keys = list(range(len(given)))
    found = quarantined(bundles["sequence"], tmp_path, tmp_path / name, keys=keys)
    first = FIRST.get(name, 1)
    assert {row - first: bad["reason"] for row, bad in found.items()} == wrong
    assert {bad["column"] for bad in found.values()} == {"steps"}


def test_a_column_that_is_wrong_as_a_whole_refuses_the_job(bundles, tmp_path):
    given = [{**row, "age": [1.0]} for row in rows({}, 3)]
    (tmp_path / "in.parquet").write_bytes(as_parquet(given))
    with pytest.raises(InputError, match="row 0: column 'age' is") as caught:
        predict_paths(bundles["table"], [tmp_path / "in.parquet"], tmp_path / "out", how=ANY)
    assert not isinstance(caught.value, TooManyBad)
    assert not (tmp_path / "out").exists()


# The limit.


def put_bad(path, total, bad):
    """A file of `total` rows of which `bad`, spread over it, have no number."""
    ages = ["1.5"] * total
    for number in range(bad):
        ages[number * (total // max(bad, 1))] = "old"
    fields = ",".join(list(GOOD.values())[1:])
    lines = [f"{age},{fields}\n" for age in ages]
    path.write_text("age,member,since,colour\n" + "".join(lines))
    return path


@pytest.mark.parametrize(
    ("limit", "total", "allowed"),
    [("0.1%", 3000, 3), ("0.1%", 2999, 2), ("0.001", 3000, 3), ("5", 100, 5), ("0", 100, 0)],
)
def test_a_job_succeeds_at_the_limit_and_fails_one_row_above(
    limit, total, allowed, bundles, tmp_path
):
    how = How("cpu", limit=BadLimit.parse(limit))
    for bad in range(max(0, allowed - 1), allowed + 1):
        path, output = put_bad(tmp_path / "in.csv", total, bad), tmp_path / str(bad)
        report, table = predict_paths(bundles["table"], [path], output, how=how)
        assert (report.quarantined, table.num_rows) == (bad, total - bad)
        assert report.reasons == ({"not_a_number": bad} if bad else {})
        assert (output / "quarantine").exists() == (bad > 0)
    path, output = put_bad(tmp_path / "in.csv", total, allowed + 1), tmp_path / "above"
    with pytest.raises(TooManyBad) as caught:
        predict_paths(bundles["table"], [path], output, how=how)
    said = str(caught.value)
    assert said.startswith(f"{path}, row 1: column 'age' is 'old'; a number is expected. ")
    assert f". {allowed + 1} of {total:,} rows cannot be predicted so far, and " in said
    assert f"--max-bad {limit} allows {allowed}; nothing was published" in said
    assert [found.name for found in output.iterdir()] == [".unfinished"]


def test_the_default_limit_is_one_row_of_a_thousand(bundles, tmp_path):
    given = {"how": How("cpu")}
    path = put_bad(tmp_path / "in.csv", 1000, 1)
    assert predict_paths(bundles["table"], [path], tmp_path / "a", **given)[0].quarantined == 1
    with pytest.raises(TooManyBad, match=r"--max-bad 0\.1% allows 0"):
        predict_paths(bundles["table"], [put_bad(path, 999, 1)], tmp_path / "b", **given)


def test_a_job_above_the_limit_names_the_three_most_frequent_reasons(bundles, tmp_path):
    given = rows({}, 30)
    for row, (column, value) in enumerate(
        [("age", "old")] * 4 + [("member", "maybe")] * 3 + [("age", None)] * 2 + [("since", "x")]
    ):
        given[20 + row][column] = value
    path = tmp_path / "in.csv"
    path.write_bytes(as_csv(given))
    with pytest.raises(TooManyBad) as caught:
        predict_paths(bundles["table"], [path], tmp_path / "out")
    most = "a value is not a number (not_a_number): 4; a value is not true or false (not_a_boolean"
    assert f"Most frequent: {most}): 3; a value is missing (missing): 2. The rows" in str(
        caught.value
    )
    # The rows are where the message says.
    (folder,) = (tmp_path / "out/.unfinished").glob("*/quarantine")
    assert f"are listed in {folder}" in str(caught.value)
    assert pq.read_table(folder)["row"].to_pylist() == list(range(21, 31))


def test_a_job_above_the_limit_goes_on_with_a_higher_one(bundles, tmp_path):
    path, output = put_bad(tmp_path / "in.csv", 100, 2), tmp_path / "out"
    with pytest.raises(TooManyBad, match="give the same command with a higher --max-bad"):
        predict_paths(bundles["table"], [path], output)
    (before,) = (output / ".unfinished").iterdir()
    report, table = predict_paths(
        bundles["table"], [path], output, how=How("cpu", limit=BadLimit.parse("2%"))
    )
    assert (report.quarantined, table.num_rows) == (2, 98)
    assert not before.exists()
    names = sorted(found.name for found in output.iterdir())
    assert names == ["drift.json", "manifest.json", "predictions", "quarantine"]


# Several shards.

MANY = 600_000
BAD_OF_MANY = (0, 5, 199_999, 200_000, 299_999, 300_000, 399_999, 400_000, 599_999)


def put_many(path):
    """Enough rows for several shards, with bad ones at the bounds of shards, and unknown values."""
    age = np.ones(MANY)
    age[list(BAD_OF_MANY)] = np.nan
    colours = np.where(np.arange(MANY) % 1000 == 1, "green", "blue")
    table = pa.table(
        {
            "age": pa.array(age, from_pandas=True),
            "member": pa.array(np.ones(MANY, bool)),
            "since": pa.array(np.where(np.arange(MANY) % 100 == 2, None, 0), pa.date32()),
            "colour": colours,
        }
    )
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=100_000)
    else:
        pa.csv.write_csv(table, path)
    return path


@pytest.mark.whole  # 600,000 rows: 9 CPU seconds
@pytest.mark.parametrize(
    ("name", "sizes"), [("in.parquet", [200_000] * 3), ("in.csv", [300_000] * 2)]
)
def test_the_manifest_counts_the_rows_of_all_shards(name, sizes, bundles, tmp_path):
    path = put_many(tmp_path / name)
    limit = BadLimit.parse(str(len(BAD_OF_MANY)))
    outputs = []
    for workers in (1, 3):
        output = tmp_path / str(workers)
        how = How("cpu", workers=workers, limit=limit)
        report, table = predict_paths(bundles["table"], [path], output, how=how)
        assert [shard["rows"] for shard in report.shards] == sizes
        assert report.rows == MANY == table.num_rows + len(BAD_OF_MANY)
        assert sum(shard["quarantined"] for shard in report.shards) == report.quarantined
        assert report.reasons == {"missing": len(BAD_OF_MANY)}
        first = 0 if name == "in.parquet" else 1
        bad = pq.read_table(output / "quarantine")["row"].to_numpy() - first
        assert tuple(bad) == BAD_OF_MANY
        good = np.setdiff1d(np.arange(MANY), BAD_OF_MANY)
        assert np.array_equal(table["key"].to_numpy(), good)
        assert report.substituted == {
            "age": {"rows": len(good), "filled": 0, "outside": 0},
            "member": {"rows": len(good), "filled": 0, "outside": 0},
            "since": {"rows": len(good), "filled": int((good % 100 == 2).sum()), "outside": None},
            "colour": {"rows": len(good), "unknown": int((good % 1000 == 1).sum()), "filled": 0},
        }
        files = [file for shard in report.shards for file in shard["files"]]
        assert all((output / file["path"]).stat().st_size == file["size"] for file in files)
        assert sum(file["rows"] for file in files) == MANY
        outputs.append([file["sha256"] for file in files])
    assert outputs[0] == outputs[1]


@pytest.mark.whole
@pytest.mark.parametrize("name", ["in.parquet", "in.csv"])
def test_the_limit_is_of_the_whole_job_and_not_of_a_shard(name, bundles, tmp_path):
    path = put_many(tmp_path / name)
    how = How("cpu", limit=BadLimit.parse(str(len(BAD_OF_MANY) - 1)))
    with pytest.raises(TooManyBad, match=f"{len(BAD_OF_MANY)} of 600,000 rows cannot be predicted"):
        predict_paths(bundles["table"], [path], tmp_path / "out", how=how)
    assert [found.name for found in (tmp_path / "out").iterdir()] == [".unfinished"]
