"""A category gets one code, however its values are stored."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hand_made import TABLE, classifier
from prediction_helpers import predict_paths

from tasks import reasons
from tasks.bundle.signature import Signature
from tasks.columns import CategoryColumn, SourceLocation
from tasks.encoding import Encoder
from tasks.errors import BadRows, InputError
from tasks.predict import How
from tasks.serving.options import BadLimit, Options

TEXTS = ["blue", None, " Blue ", "green", "", "red", "blue", "  ", "RED", "red"]
CODES = [2, 3, 0, 0, 3, 3, 2, 3, 0, 3]  # of `COLUMN`, which fills with red
COLUMN = CategoryColumn(name="colour", values=("Green", "blue", "red"), fill="red")


def coded(values, kind=None):
    return pa.array(values, kind).dictionary_encode()


FORMS = {
    "text": pa.array(TEXTS),
    "large text": pa.array(TEXTS, pa.large_string()),
    "dictionary": coded(TEXTS),
    "large dictionary": coded(TEXTS, pa.large_string()),
    "null within the dictionary": pa.array(TEXTS).dictionary_encode(null_encoding="encode"),
    "more values than rows": pa.DictionaryArray.from_arrays(
        coded(TEXTS).indices, pa.concat_arrays([coded(TEXTS).dictionary, pa.array(list("abcdef"))])
    ),
    "part of a longer array": coded(["white", *TEXTS, "black"]).slice(1, len(TEXTS)),
    "chunks with dictionaries of their own": pa.chunked_array(
        [coded(TEXTS[:4]), coded(TEXTS[4:])], pa.dictionary(pa.int32(), pa.string())
    ),
}


def encode(column, values):
    encoder = Encoder(Signature.of("regression", (column,), ()))
    arrays = encoder.encode(pa.table({column.name: values}), SourceLocation("in"))
    return arrays["categories"][:, 0].tolist(), encoder.counts.columns[column.name]


@pytest.mark.parametrize("name", FORMS)
def test_codes_and_counts_do_not_depend_on_how_categories_are_stored(name):
    codes, counts = encode(COLUMN, FORMS[name])
    assert codes == CODES
    assert (counts["rows"], counts["unknown"], counts["filled"]) == (10, 3, 3)


@pytest.mark.parametrize(
    "values",
    [
        pa.array([7, None, 9, 7]),
        coded([7, None, 9, 7]),
        coded([7.0, None, 9.0, 7.0]),
        pa.array(["7", "", "9.0", "7"]),
        coded(["7", "", "9.0", "7"]),
    ],
    ids=["int", "coded int", "coded float", "text", "coded text"],
)
def test_numbers_that_are_categories_have_one_spelling(values):
    column = CategoryColumn(name="code", values=("7", "8", "9"), fill="8")
    assert encode(column, values)[0] == [1, 2, 3, 1]


@pytest.mark.parametrize("form", [pa.array, coded])
def test_the_rows_of_a_missing_category_are_named(form):
    column = CategoryColumn(name="colour", values=("blue", "red"))
    with pytest.raises(BadRows, match="row 1 of column 'colour' is missing") as caught:
        encode(column, form(["blue", None, "red", " "]))
    assert caught.value.bad.tolist() == [False, True, False, True]


@pytest.mark.parametrize("group", [3, 10, 1000])
@pytest.mark.parametrize("dictionary", [True, False])
def test_parquet_with_and_without_dictionaries_gives_the_same_predictions(
    group, dictionary, tmp_path
):
    count = 40
    bundle = classifier(tmp_path / "bundle", TABLE)
    columns = {
        "age": np.arange(count) / 10,
        "member": [True] * count,
        "since": pa.nulls(count, pa.date32()),
        "colour": TEXTS * 4,
    }
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table(columns), path, row_group_size=group, use_dictionary=dictionary)
    report, found = predict_paths(
        bundle, [path], tmp_path / "out", options=Options(keep=("colour",))
    )
    assert found["colour"].to_pylist() == [text or None for text in TEXTS * 4]
    assert found.schema.field("colour").type == pa.string()
    counts = report.substituted["colour"]
    assert (counts["unknown"], counts["filled"]) == (4 * 3, 4 * 3)


@pytest.mark.parametrize("values", [None, [["blue"]] * 3, [{"a": "blue"}] * 3])
def test_a_column_that_is_missing_or_nested_is_named(values, tmp_path):
    bundle = classifier(tmp_path / "bundle", TABLE)
    columns = {"age": [1.0] * 3, "member": [True] * 3, "since": pa.nulls(3, pa.date32())}
    table = pa.table(columns if values is None else {**columns, "colour": values})
    pq.write_table(table, tmp_path / "in.parquet")
    with pytest.raises(InputError, match="column 'colour'"):
        predict_paths(bundle, [tmp_path / "in.parquet"], tmp_path / "out")


def test_bytes_that_are_not_utf_8_in_a_dictionary_set_their_rows_aside(tmp_path):
    bundle = classifier(tmp_path / "bundle", TABLE)
    texts = pa.array([b"red", b"caf\xe9", b"blue", b"unused\xff"], pa.binary()).view(pa.string())
    colour = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, 1, None]), texts, safe=False)
    columns = {"age": [1.0] * 5, "member": [True] * 5, "since": pa.nulls(5, pa.date32())}
    pq.write_table(pa.table({**columns, "colour": colour}), tmp_path / "in.parquet")
    how = How("cpu", limit=BadLimit.parse("100%"))
    report, _ = predict_paths(bundle, [tmp_path / "in.parquet"], tmp_path / "out", how=how)
    assert report.reasons == {reasons.NOT_UTF8: 2}
    bad = pq.read_table(tmp_path / "out/quarantine").to_pylist()
    assert [(row["row"], row["column"], row["value"]) for row in bad] == [
        (1, "colour", "caf\\xe9"),
        (3, "colour", "caf\\xe9"),
    ]
