"""What a batch job can be asked to write: columns, thresholds, forms of files, and folders."""

import csv
import datetime
import json
import math
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset as ds
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from hand_made import CLASSES, SLOPE, TABLE, TEXT, classifier
from prediction_helpers import PROVENANCE, files_of, predict_paths
from training_helpers import WORDS, _tokenizer

from tasks import inputs
from tasks.bundle.signature import Signature
from tasks.columns import NumberColumn
from tasks.errors import InputError
from tasks.predict import How, predict
from tasks.serving.manifest import completed
from tasks.serving.options import BadLimit, Options, parse_threshold

BINARY = Signature.of("binary", TABLE, CLASSES)
OTHERS = {
    "three": Signature.of("multiclass", TABLE, ("a", "b", "c")),
    "numbers": Signature.of("regression", (NumberColumn(name="x"),), ()),
    "words": Signature.of("language_model", TEXT, ()),
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return classifier(tmp_path_factory.mktemp("options") / "bundle", TABLE)


# What is refused before anything is read.


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"threshold": ("maybe", 0.5)}, "--threshold maybe=0.5: the classes are no, yes"),
        ({"threshold": ("yes", 0.0)}, "--threshold yes=0: a probability above 0, up to 1, is"),
        ({"threshold": ("yes", 1.01)}, "--threshold yes=1.01: a probability above 0"),
        ({"threshold": ("yes", -1.0)}, "--threshold yes=-1: a probability above 0"),
        ({"threshold": ("yes", math.nan)}, "--threshold yes=nan: a probability above 0"),
        ({"keep": ("key",)}, "--keep key: the predictions have a column of that name already"),
        ({"keep": ("score",)}, "--keep score: the predictions have a column of that name"),
        ({"keep": ("prediction",)}, "--keep prediction: the predictions have a column"),
        ({"keep": ("probability_yes",)}, "--keep probability_yes: the predictions have a column"),
        ({"keep": ("id", "ts", "id")}, "--keep id: the predictions have a column of that name"),
        ({"partition_by": ("day",)}, "--partition-by day: only prediction and columns that --keep"),
        ({"partition_by": ("key",)}, "--partition-by key: only prediction and columns that"),
        ({"keep": ("a",), "partition_by": ("a", "a")}, "--partition-by a: it is named twice"),
    ],
)
def test_options_that_a_model_of_two_classes_cannot_follow_are_refused(options, said):
    with pytest.raises(InputError) as caught:
        Options(**options).check(BINARY)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(("name", "number"), [("three", "3"), ("numbers", "no"), ("words", "no")])
def test_a_threshold_is_refused_for_models_without_two_classes(name, number):
    with pytest.raises(InputError, match=rf"two classes, and this one has {number}; leave it out"):
        Options(threshold=("a", 0.5)).check(OTHERS[name])


@pytest.mark.parametrize("name", ["numbers", "words"])
def test_probabilities_are_refused_for_models_without_classes(name):
    with pytest.raises(InputError, match="there are no classes to give probabilities of; leave"):
        Options(probabilities=True).check(OTHERS[name])


def test_options_that_a_model_can_follow_are_accepted():
    Options().check(OTHERS["words"])
    Options(probabilities=True).check(OTHERS["three"])
    Options(keep=("probability_yes",), partition_by=("prediction",)).check(OTHERS["numbers"])
    whole = Options(True, ("yes", 1.0), ("day", "id"), "csv", ("day", "prediction"))
    whole.check(BINARY)


def test_a_job_with_a_wrong_option_leaves_nothing(bundle, tmp_path):
    path = put(tmp_path / "in.csv")
    for options in (Options(keep=("nothing",)), Options(threshold=("maybe", 0.5))):
        with pytest.raises(InputError, match=r"--keep|--threshold"):
            predict_paths(bundle, [path], tmp_path / "out", options=options)
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["spam", "=0.5", "spam=", "spam=high", ""])
def test_a_threshold_of_another_form_is_refused(text):
    with pytest.raises(InputError, match=r"--threshold .*: CLASS=P is expected, as in spam=0\.8"):
        parse_threshold(text)


def test_a_threshold_may_name_a_class_with_an_equals_sign():
    assert parse_threshold("a=b=0.25") == ("a=b", 0.25)


@pytest.mark.parametrize(
    "text", ["", "some", "-1", "-0.1%", "101%", "1.5", "1.0", "%", "nan", "nan%", "inf", "5 rows"]
)
def test_a_limit_that_is_no_share_and_no_number_is_refused(text):
    with pytest.raises(InputError, match=r"--max-bad .*: a share such as 0\.1% or 0\.001, or a wh"):
        BadLimit.parse(text)


@pytest.mark.parametrize(
    ("text", "total", "allowed"),
    [
        ("0", 10, 0),
        ("25", 10, 25),
        ("0%", 10**6, 0),
        ("100%", 7, 7),
        ("0.1%", 999, 0),
        ("0.1%", 1000, 1),
        ("0.1%", 3000, 3),
        ("0.001", 3000, 3),
        ("0.5%", 10**9, 5 * 10**6),
        (" 2 % ", 100, 2),
        ("0.0", 100, 0),
        ("1e-3", 2000, 2),
    ],
)
def test_a_limit_is_a_share_or_a_number_of_rows(text, total, allowed):
    assert BadLimit.parse(text).rows(total) == allowed


# Columns.

AGES = np.linspace(-3, 3, 25)
KEPT = {
    "day": pa.array([datetime.date(2024, 1, 1 + row % 3) for row in range(25)]),
    "at": pa.array([10**15 + row for row in range(25)], pa.timestamp("ns", "Europe/Paris")),
    "cost": pa.array([Decimal(row) / 4 for row in range(25)], pa.decimal128(9, 2)),
    "id": pa.array([bytes([row] * 16) for row in range(25)], pa.binary(16)),
    "small": pa.array(range(25), pa.int8()),
    "note": pa.array([None if row % 5 == 0 else f"n{row % 2}" for row in range(25)]),
    "kind": pa.array(["a", "b", "c", "d", "e"] * 5).dictionary_encode(),
    "tags": pa.array([["x"] * (row % 3) for row in range(25)]),
}


def columns(**more):
    count = len(AGES)
    found = {
        "age": AGES,
        "member": pa.array([False] * count),
        "since": pa.array([0] * count, pa.date32()),
        "colour": ["blue"] * count,
    }
    return pa.table(found | more)


def put(path, **more):
    if path.suffix == ".csv":
        pyarrow.csv.write_csv(columns(**more), path)
    else:
        pq.write_table(columns(**more), path)
    return path


def test_kept_columns_have_their_values_and_types(bundle, tmp_path):
    path, options = put(tmp_path / "in.parquet", **KEPT), Options(keep=tuple(KEPT))
    _, table = predict_paths(bundle, [path], tmp_path / "out", options=options)
    assert table.column_names == ["key", "prediction", "score", *KEPT]
    for name, values in KEPT.items():
        expected = values.dictionary_decode() if name == "kind" else values
        assert table[name].type == expected.type, name
        assert table[name].combine_chunks().equals(expected), name


def test_kept_columns_may_be_inputs_of_the_model(bundle, tmp_path):
    path, options = put(tmp_path / "in.parquet"), Options(keep=("colour", "age"))
    _, table = predict_paths(bundle, [path], tmp_path / "out", options=options)
    assert table.column_names[3:] == ["colour", "age"]
    assert table["age"].to_numpy() == pytest.approx(AGES)


def test_kept_columns_of_csv_are_text_as_it_stands_there(bundle, tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("age,member,since,colour,zip\n1.50,true,,blue,007\n2,true,,blue,\n")
    _, table = predict_paths(bundle, [path], tmp_path / "out", options=Options(keep=("zip", "age")))
    assert table["zip"].to_pylist() == ["007", None]
    assert table["age"].to_pylist() == ["1.50", "2"]
    assert {table[name].type for name in ("zip", "age")} == {pa.string()}


def test_a_column_to_keep_that_is_not_there_is_refused(bundle, tmp_path):
    for path in (put(tmp_path / "in.csv"), put(tmp_path / "in.parquet")):
        with pytest.raises(
            InputError, match=r"no column 'colours' \(did you mean 'colour'\?\), wh"
        ):
            predict_paths(bundle, [path], tmp_path / "out", options=Options(keep=("colours",)))
        assert not (tmp_path / "out").exists()


def test_a_kept_column_has_one_type_in_all_files(bundle, tmp_path):
    numbers = pa.array(range(len(AGES)), pa.int64())
    paths = [
        put(tmp_path / "a.parquet", id=numbers),
        put(tmp_path / "b.parquet", id=numbers.cast(pa.string())),
    ]
    with pytest.raises(InputError, match=r"--keep id: .* types: int64 in .*a\.parquet, string in"):
        predict_paths(bundle, paths, tmp_path / "out", options=Options(keep=("id",)))
    assert not (tmp_path / "out").exists()
    _, table = predict_paths(bundle, paths, tmp_path / "out", options=Options(keep=("colour",)))
    assert table.num_rows == 2 * len(AGES)


def test_nothing_can_be_kept_of_files_without_columns(tmp_path):
    model = classifier(tmp_path / "bundle", TEXT, _tokenizer(WORDS))
    (tmp_path / "in.txt").write_text("the purr\n")
    with pytest.raises(InputError, match=r"in\.txt has no columns, so --keep id cannot be kept"):
        predict_paths(model, [tmp_path / "in.txt"], tmp_path / "out", options=Options(keep=("id",)))
    assert not (tmp_path / "out").exists()


def test_rows_in_quarantine_leave_the_kept_values_of_the_others_in_their_rows(bundle, tmp_path):
    lines = [f"{'old' if row % 7 == 3 else 1},true,,blue,id-{row}" for row in range(21)]
    (tmp_path / "in.csv").write_text("\n".join(["age,member,since,colour,id", *lines]) + "\n")
    given = {"how": How("cpu", limit=BadLimit.parse("3")), "options": Options(keep=("id",))}
    _, table = predict_paths(bundle, [tmp_path / "in.csv"], tmp_path / "out", **given)
    assert table["id"].to_pylist() == [f"id-{key}" for key in table["key"].to_pylist()]
    assert table["key"].to_pylist() == [row for row in range(21) if row % 7 != 3]


def probabilities():
    """Those of `yes` for `AGES`: the graph sums age, member and since."""
    return 1 / (1 + np.exp(-SLOPE * AGES))


def test_probabilities_of_each_class_follow_the_score(bundle, tmp_path):
    path, options = put(tmp_path / "in.parquet"), Options(probabilities=True, keep=("colour",))
    _, table = predict_paths(bundle, [path], tmp_path / "out", options=options)
    names = ["key", "prediction", "score", "probability_no", "probability_yes", "colour"]
    assert table.column_names == names
    assert table["probability_yes"].to_numpy() == pytest.approx(probabilities(), abs=1e-6)
    assert table["probability_no"].to_numpy() == pytest.approx(1 - probabilities(), abs=1e-6)


@pytest.mark.parametrize(("name", "least"), [("yes", 0.9), ("yes", 0.1), ("no", 0.8), ("yes", 1.0)])
def test_a_threshold_decides_between_two_classes(name, least, bundle, tmp_path):
    path, options = put(tmp_path / "in.parquet"), Options(threshold=(name, least))
    _, table = predict_paths(bundle, [path], tmp_path / "out", options=options)
    of_yes = probabilities()
    of_name = of_yes if name == "yes" else 1 - of_yes
    other = "no" if name == "yes" else "yes"
    expected = [name if share >= least else other for share in of_name]
    assert table["prediction"].to_pylist() == expected
    scores = [yes if said == "yes" else 1 - yes for yes, said in zip(of_yes, expected, strict=True)]
    assert table["score"].to_numpy() == pytest.approx(scores, abs=1e-6)


def test_a_probability_equal_to_the_threshold_is_enough(bundle, tmp_path):
    path = tmp_path / "in.parquet"
    pq.write_table(columns().set_column(0, "age", pa.array([0.0] * 25)), path)
    for name in CLASSES:  # both have 0.5
        options = Options(threshold=(name, 0.5))
        _, table = predict_paths(bundle, [path], tmp_path / name, options=options)
        assert set(table["prediction"].to_pylist()) == {name}


# Forms of files.


def run(bundle, path, output, **options):
    files = inputs.find([path], Signature.read(bundle / "signature.json"))
    given = {"output": output, "provenance": PROVENANCE, "options": Options(**options)}
    return predict(files_of(bundle), files, **given)


def test_csv_has_the_values_that_parquet_has(bundle, tmp_path):
    kept = {name: KEPT[name] for name in ("day", "small", "note", "cost")}
    path = put(tmp_path / "in.parquet", key=[f'k "{row}", ü' for row in range(25)], **kept)
    keep = tuple(kept)
    _, table = predict_paths(bundle, [path], tmp_path / "a", options=Options(keep=keep))
    report = run(bundle, path, tmp_path / "b", keep=keep, form="csv")
    (file,) = (file for shard in report.shards for file in shard["files"])
    assert (file["path"], file["rows"]) == ("predictions/part-00000.csv", 25)
    with (tmp_path / "b" / file["path"]).open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == table.column_names
    for row, expected in zip(rows, table.to_pylist(), strict=True):
        assert row["key"] == expected["key"]
        assert np.float32(row["score"]) == np.float32(expected["score"])
        for name in ("prediction", *keep):
            assert row[name] == ("" if expected[name] is None else str(expected[name])), name
    assert completed(tmp_path / "b").asked == Options(keep=keep, form="csv")


def test_json_lines_have_the_values_that_parquet_has(bundle, tmp_path):
    kept = {name: KEPT[name] for name in ("small", "note", "tags", "day")}
    kept["share"] = pa.array([math.nan, math.inf, 0.5, None, 1.0] * 5)
    path, keep = put(tmp_path / "in.parquet", **kept), tuple(kept)
    _, table = predict_paths(bundle, [path], tmp_path / "a", options=Options(keep=keep))
    run(bundle, path, tmp_path / "b", keep=keep, form="jsonl")

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    text = (tmp_path / "b/predictions/part-00000.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line, parse_constant=refuse) for line in text.splitlines()]
    for row, expected in zip(rows, table.to_pylist(), strict=True):
        expected["day"] = str(expected["day"])
        if expected["share"] is not None and not math.isfinite(expected["share"]):
            expected["share"] = None
        assert row == expected


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_times_have_all_their_digits_in_formats_of_text(form, bundle, tmp_path):
    """Python's own have microseconds, and no years after 9999."""
    kept = {
        "moment": pa.array([10**18 + 1] * 25, pa.timestamp("ns", "UTC")),
        "hour": pa.array([1] * 25, pa.time64("ns")),
        "took": pa.array([2**60] * 25, pa.duration("s")),
        "far": pa.array([3_000_000] * 25, pa.date32()),
    }
    path = put(tmp_path / "in.parquet", **kept)
    run(bundle, path, tmp_path / "out", keep=tuple(kept), form=form)
    text = (tmp_path / f"out/predictions/part-00000.{form}").read_text(encoding="utf-8")
    found = json.loads(text.splitlines()[0]) if form == "jsonl" else None
    row = found or next(csv.DictReader(text.splitlines()))
    assert row["moment"] == "2001-09-09 01:46:40.000000001Z"
    assert (row["hour"], int(row["took"])) == ("00:00:00.000000001", 2**60)
    assert row["far"] == pa.array([3_000_000], pa.date32()).cast(pa.string())[0].as_py()


FAR = {
    "seconds": pa.array([2**60] * 25, pa.timestamp("s")),
    "zoned": pa.array([2**60] * 25, pa.timestamp("s", "Europe/Paris")),
    "days": pa.array([2**30] * 25, pa.date32()),
    "date64": pa.array([2**62 // 86_400_000 * 86_400_000] * 25, pa.date64()),
}


@pytest.mark.parametrize("form", ["csv", "jsonl"])
@pytest.mark.parametrize("name", FAR)
def test_times_that_arrow_cannot_write_are_refused_in_formats_of_text(name, form, bundle, tmp_path):
    path = tmp_path / "in.arrow"
    table = columns().append_column("at", FAR[name])
    feather.write_feather(table, str(path), compression="uncompressed")
    with pytest.raises(InputError, match=rf"column 'at' is .* years away, which --format {form}"):
        run(bundle, path, tmp_path / "out", keep=("at",), form=form)
    with pytest.raises(InputError, match=r"years away, which --partition-by at cannot hold"):
        run(bundle, path, tmp_path / "out", keep=("at",), partition_by=("at",))
    assert not (tmp_path / "out").exists()


def test_times_that_parquet_cannot_hold_are_refused(bundle, tmp_path):
    path = tmp_path / "in.arrow"
    table = columns().append_column("at", FAR["seconds"])
    feather.write_feather(table, str(path), compression="uncompressed")
    with pytest.raises(InputError, match=r"--format parquet cannot hold: .*overflow"):
        run(bundle, path, tmp_path / "out", keep=("at",))
    assert not (tmp_path / "out").exists()


def test_nan_within_a_map_is_null_in_json_lines(bundle, tmp_path):
    kind = pa.map_(pa.string(), pa.float64())
    path = put(tmp_path / "in.parquet", m=pa.array([[("a", math.nan)]] * 25, kind))
    run(bundle, path, tmp_path / "out", keep=("m",), form="jsonl")
    lines = (tmp_path / "out/predictions/part-00000.jsonl").read_text().splitlines()
    assert json.loads(lines[0], parse_constant=pytest.fail)["m"] == [["a", None]]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_times_of_an_unknown_zone_are_refused_in_formats_of_text(form, bundle, tmp_path):
    path = put(tmp_path / "in.parquet", at=pa.array([0] * 25, pa.timestamp("us", "No/Where")))
    with pytest.raises(InputError, match=rf"column 'at' is timestamp.*--format {form} cannot"):
        run(bundle, path, tmp_path / "out", keep=("at",), form=form)


def test_values_that_json_lines_cannot_hold_are_refused(bundle, tmp_path):
    far = pa.array([[3_000_000]] * 25, pa.list_(pa.date32()))
    path = put(tmp_path / "in.parquet", far=far)
    with pytest.raises(InputError, match=r"column 'far' is list<.*cannot hold: .*--format parq"):
        run(bundle, path, tmp_path / "out", keep=("far",), form="jsonl")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_bytes_cannot_be_kept_in_formats_of_text(form, bundle, tmp_path):
    path = put(tmp_path / "in.parquet", **KEPT)
    with pytest.raises(InputError, match=rf"column 'id' is fixed_size_binary.*--format {form}"):
        run(bundle, path, tmp_path / "out", keep=("id",), form=form)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "values",
    [
        pa.array([[b"a"]] * 25, pa.list_(pa.binary())),
        pa.array([{"a": b"a"}] * 25, pa.struct({"a": pa.large_binary()})),
        pa.array([[b"ab"]] * 25, pa.list_(pa.binary(2))),
        pa.array([[b"a"]] * 25, pa.list_(pa.binary_view())),
    ],
    ids=lambda values: str(values.type),
)
def test_bytes_within_other_values_cannot_be_kept_in_json_lines(values, bundle, tmp_path):
    path = put(tmp_path / "in.parquet", odd=values)
    with pytest.raises(InputError, match=r"column 'odd' is .* --format jsonl cannot hold"):
        run(bundle, path, tmp_path / "out", keep=("odd",), form="jsonl")


def test_lists_cannot_be_kept_in_csv(bundle, tmp_path):
    path = put(tmp_path / "in.parquet", **KEPT)
    with pytest.raises(InputError, match=r"column 'tags' is list<.*--format csv"):
        run(bundle, path, tmp_path / "out", keep=("tags",), form="csv")
    assert not (tmp_path / "out").exists()


# Types of which Arrow itself cannot take some rows.

ODD_TYPES = {
    "texts": (pa.array(["a", None, "bb", "", "c"] * 5, pa.string_view()), pa.string()),
    "bytes": (pa.array([b"a", None, b"\xff", b"", b"c"] * 5, pa.binary_view()), pa.binary()),
    "lists": (
        pa.array([["a"], None] * 12 + [[]], pa.list_(pa.string_view())),
        pa.list_(pa.string()),
    ),
    "structs": (
        pa.array([{"a": "b"}, None] * 12 + [{"a": None}], pa.struct({"a": pa.string_view()})),
        pa.struct({"a": pa.string()}),
    ),
    "maps": (
        pa.array([[("k", "v")], None] * 12 + [[]], pa.map_(pa.string(), pa.string_view())),
        pa.map_(pa.string(), pa.string()),
    ),
    "runs": (
        pa.RunEndEncodedArray.from_arrays([10, 25], pa.array(["a", None])),
        pa.string(),
    ),
}


@pytest.mark.parametrize("name", ODD_TYPES)
def test_views_and_runs_are_kept_as_usual_values_beside_a_bad_row(name, bundle, tmp_path):
    values, kind = ODD_TYPES[name]
    table = columns().append_column("odd", values)
    bad = pa.array([math.inf, *table["age"].to_pylist()[1:]])
    table = table.set_column(table.column_names.index("age"), "age", bad)
    feather.write_feather(table, str(tmp_path / "in.arrow"), compression="uncompressed")
    limit = How("cpu", limit=BadLimit.parse("1"))
    options = Options(keep=("odd",), partition_by=("prediction",))
    predict_paths(bundle, [tmp_path / "in.arrow"], tmp_path / "out", how=limit, options=options)
    found = pq.read_table(tmp_path / "out/predictions").sort_by("key")
    assert found["key"].to_pylist() == list(range(1, 25))
    assert found.schema.field("odd").type.equals(kind)
    empty = None if name in ("texts", "runs") else ""
    expected = [empty if value == "" else value for value in values.to_pylist()[1:]]
    assert found["odd"].to_pylist() == expected


@pytest.mark.parametrize("name", ["texts", "runs"])
def test_views_and_runs_can_be_folders_of_partitions(name, bundle, tmp_path):
    path = tmp_path / "in.arrow"
    table = (
        columns().append_column("by", ODD_TYPES[name][0]).append_column("odd", ODD_TYPES[name][0])
    )
    feather.write_feather(table, str(path), compression="uncompressed")
    run(bundle, path, tmp_path / "out", keep=("by", "odd"), partition_by=("by",))
    schema = ds.partitioning(pa.schema([("by", pa.string())]), flavor="hive")
    found = ds.dataset(tmp_path / "out/predictions", partitioning=schema).to_table()
    assert found.num_rows == 25
    assert found["by"].to_pylist() == found["odd"].to_pylist()


@pytest.mark.parametrize(
    "values",
    [
        pa.UnionArray.from_sparse(pa.array([0] * 25, pa.int8()), [pa.array(range(25))]),
        pa.array([(1, 2, 3)] * 25, pa.month_day_nano_interval()),
    ],
    ids=["union", "interval"],
)
@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_types_that_no_output_can_hold_are_refused(values, form, bundle, tmp_path):
    path = tmp_path / "in.arrow"
    table = columns().append_column("odd", values)
    feather.write_feather(table, str(path), compression="uncompressed")
    with pytest.raises(InputError, match=r"column 'odd' is "):
        run(bundle, path, tmp_path / "out", keep=("odd",), form=form)
    assert not (tmp_path / "out").exists()


# Partitions.


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_partitions_are_folders_that_hold_every_row_once(form, bundle, tmp_path):
    path = put(tmp_path / "in.parquet", **KEPT)
    keep = ("small", "note")
    report = run(
        bundle, path, tmp_path / "out", keep=keep, form=form, partition_by=("note", "prediction")
    )
    folders = {found.parent.parent.name for found in (tmp_path / "out").rglob(f"*.{form}")}
    assert folders == {"note=n0", "note=n1", "note=__HIVE_DEFAULT_PARTITION__"}
    files = [file for shard in report.shards for file in shard["files"]]
    assert sum(file["rows"] for file in files) == report.rows == 25
    on_disk = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("part-*")}
    assert {file["path"] for file in files} == on_disk
    assert completed(tmp_path / "out").rows == 25
    schema = pa.schema([("note", pa.string()), ("prediction", pa.string())])
    found = ds.dataset(
        tmp_path / "out/predictions",
        format={"jsonl": "json"}.get(form, form),
        partitioning=ds.partitioning(schema, flavor="hive"),
    ).to_table()
    rows = {row["small"]: row for row in found.to_pylist()}
    assert sorted(rows) == list(range(25))
    for number, row in rows.items():
        assert row["note"] == KEPT["note"][number].as_py()
        assert row["prediction"] == ("yes" if probabilities()[number] > 0.5 else "no")
        assert row["key"] == number


def test_the_other_columns_of_partitions_keep_their_types(bundle, tmp_path):
    path = put(tmp_path / "in.parquet", **KEPT)
    run(bundle, path, tmp_path / "out", keep=tuple(KEPT), partition_by=("day",))
    parts = sorted((tmp_path / "out/predictions").rglob("*.parquet"))
    assert [part.parent.name for part in parts] == [f"day=2024-01-0{day}" for day in (1, 2, 3)]
    for part in parts:
        schema = pq.ParquetFile(part).schema_arrow
        assert schema.names == ["key", "prediction", "score", *(n for n in KEPT if n != "day")]
        for name in set(KEPT) - {"day", "kind"}:
            assert schema.field(name).type == KEPT[name].type
    days = ds.partitioning(pa.schema([("day", pa.date32())]), flavor="hive")
    found = ds.dataset(tmp_path / "out/predictions", partitioning=days).to_table().sort_by("key")
    assert found["day"].to_pylist() == KEPT["day"].to_pylist()


ODD = ["a/b", "..", ".", "a=b", "%2F", "ü\u2028", " ", "it's", "CON", "a\\b", "#?&", "\n"]


def test_any_text_can_be_the_name_of_a_partition(bundle, tmp_path):
    values = pa.array((ODD * 3)[:25])
    path = put(tmp_path / "in.parquet", odd=values)
    run(bundle, path, tmp_path / "out", keep=("odd",), partition_by=("odd",))
    assert len(list((tmp_path / "out/predictions").iterdir())) == len(ODD)
    odd = ds.partitioning(pa.schema([("odd", pa.string())]), flavor="hive")
    found = ds.dataset(tmp_path / "out/predictions", partitioning=odd).to_table().sort_by("key")
    assert found["odd"].to_pylist() == values.to_pylist()


@pytest.mark.parametrize(
    "values",
    [
        pa.array([math.nan, 0.5, None, 1.0, math.nan] * 5),
        pa.array([True, False, None, True, True] * 5),
        pa.array([10**18 + row % 3 for row in range(25)], pa.timestamp("ns")),
        pa.array([Decimal(row % 3) / 4 for row in range(25)], pa.decimal128(9, 2)),
    ],
    ids=["nan", "boolean", "nanoseconds", "decimal"],
)
def test_no_row_is_lost_in_partitions_of_any_type(values, bundle, tmp_path):
    path = put(tmp_path / "in.parquet", by=values)
    report = run(bundle, path, tmp_path / "out", keep=("by",), partition_by=("by",))
    parts = list((tmp_path / "out/predictions").rglob("*.parquet"))
    keys = [key for part in parts for key in pq.ParquetFile(part).read()["key"].to_pylist()]
    assert sorted(keys) == list(range(25))
    assert report.rows == 25


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (KEPT["tags"], r"values of the type list<.*> cannot be names of folders; name another"),
        (pa.array(["x" * 300] * 25), r"by=x+\.\.\. is too long for the name of a folder"),
    ],
    ids=["lists", "long"],
)
def test_values_that_cannot_be_names_of_folders_are_refused(values, said, bundle, tmp_path):
    path = put(tmp_path / "in.parquet", by=values)
    with pytest.raises(InputError, match=rf"--partition-by by: {said}"):
        run(bundle, path, tmp_path / "out", keep=("by",), partition_by=("by",))
    assert not (tmp_path / "out").exists()


def test_a_partition_for_every_row_is_refused(bundle, tmp_path):
    table = columns().take(pa.array(np.zeros(1500, int)))
    table = table.append_column("by", pa.array(range(1500)))
    pq.write_table(table, tmp_path / "in.parquet")
    with pytest.raises(InputError, match="--partition-by by makes more than 1,000 folders"):
        run(bundle, tmp_path / "in.parquet", tmp_path / "out", keep=("by",), partition_by=("by",))
    assert not (tmp_path / "out").exists()


# Keys.


@pytest.mark.parametrize(
    "keys",
    [
        pa.array([10**15 + row for row in range(25)], pa.timestamp("us", "UTC")),
        pa.array([Decimal(row) for row in range(25)], pa.decimal128(20, 3)),
        pa.array([bytes([row] * 16) for row in range(25)], pa.binary(16)),
        pa.array(range(25), pa.uint64()),
        pa.array([f"k{row}" for row in range(25)]).dictionary_encode(),
        pa.array([f"k{row}" for row in range(25)], pa.large_string()),
        # Python has no such values:
        pa.array([2**60 + row for row in range(25)], pa.duration("s")),
        pa.array([2**59 + row for row in range(25)], pa.timestamp("ms")),
        pa.array([10**18 + row for row in range(25)], pa.timestamp("ns")),
        pa.array([3_000_000 + row for row in range(25)], pa.date32()),
        pa.array([10**15 + row for row in range(25)], pa.timestamp("us", "No/Where")),
    ],
    ids=lambda keys: str(keys.type).split("<")[0],
)
def test_keys_of_any_type_are_kept(keys, bundle, tmp_path):
    path = put(tmp_path / "in.parquet", key=keys)
    report, table = predict_paths(bundle, [path], tmp_path / "out")
    expected = keys.cast(pa.string()) if pa.types.is_dictionary(keys.type) else keys
    assert table["key"].cast(expected.type).combine_chunks().equals(expected)
    assert all(shard["keys"] for shard in report.shards)
    text = pa.types.is_dictionary(keys.type) or pa.types.is_large_string(keys.type)
    assert table["key"].type == (pa.string() if text else keys.type)


def test_keys_of_csv_are_whole_numbers_if_those_of_all_files_are(bundle, tmp_path):
    head, tail = "key,age,member,since,colour\n", ",1,true,,blue\n"
    (tmp_path / "a.csv").write_text(head + "1" + tail + "-3" + tail)
    (tmp_path / "b.csv").write_text(head + "20" + tail)
    (tmp_path / "c.csv").write_text(head + "004" + tail)
    whole, mixed = (
        [tmp_path / "a.csv", tmp_path / "b.csv"],
        [tmp_path / "a.csv", tmp_path / "c.csv"],
    )
    _, table = predict_paths(bundle, whole, tmp_path / "whole")
    assert (table["key"].type, table["key"].to_pylist()) == (pa.int64(), [1, -3, 20])
    _, table = predict_paths(bundle, mixed, tmp_path / "mixed")
    assert table["key"].to_pylist() == ["1", "-3", "004"]


def put_lines(path, values):
    """Rows with these values in the column `cost`; `...` stands for a row without it."""
    good = {"age": 1, "member": True, "since": None, "colour": "blue"}
    rows = [good if value is ... else {**good, "cost": value} for value in values]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


MIXED = [None] * 20_000 + [1] * 20_000  # more than a chunk of each


@pytest.mark.parametrize(
    ("values", "kind", "kept"),
    [
        ([1, None, -(2**63), ...], pa.int64(), [1, None, -(2**63), None]),
        ([2, 0.1, 1e300, None], pa.float64(), [2.0, 0.1, 1e300, None]),
        ([1.5, math.inf, math.nan], pa.float64(), [1.5, math.inf, None]),
        ([*MIXED, 0.5], pa.float64(), [*MIXED, 0.5]),
        ([True, None, False], pa.bool_(), [True, None, False]),
        (["x", "1", None, ""], pa.string(), ["x", "1", None, None]),
        ([None, None], pa.string(), [None, None]),
        # Text, as JSON has them, where no other type holds all of them:
        ([1, "x", True], pa.string(), ["1", "x", "true"]),
        ([1, True], pa.string(), ["1", "true"]),
        ([2**53 + 1, 0.5], pa.string(), ["9007199254740993", "0.5"]),
        ([2**64, 1], pa.string(), ["18446744073709551616", "1"]),
        ([[1, {"a": None}], "x"], pa.string(), ['[1, {"a": null}]', "x"]),
    ],
)
def test_kept_values_of_json_lines_have_their_types(values, kind, kept, bundle, tmp_path):
    path, options = put_lines(tmp_path / "in.jsonl", values), Options(keep=("cost",))
    _, table = predict_paths(bundle, [path], tmp_path / "out", options=options)
    assert (table["cost"].type, table["cost"].to_pylist()) == (kind, kept)


@pytest.mark.parametrize(
    ("other", "cost", "kind"),
    [
        ("in.jsonl", pa.array([0.5] * 25), pa.float64()),
        ("in.parquet", pa.array(range(25), pa.int64()), pa.int64()),
        ("in.parquet", pa.array(range(25), pa.float64()), pa.float64()),
        ("in.parquet", pa.array(["x"] * 25), pa.string()),
        ("in.csv", pa.array(["x"] * 25), pa.string()),
    ],
)
def test_kept_values_of_json_lines_take_the_type_of_other_files(
    other, cost, kind, bundle, tmp_path
):
    path = tmp_path / "b" / other
    path.parent.mkdir()
    if path.suffix == ".jsonl":
        put_lines(path, cost.to_pylist())
    else:
        put(path, cost=cost)
    paths = [put_lines(tmp_path / "a.jsonl", [1, 2]), path]
    options = Options(keep=("cost",))
    _, table = predict_paths(bundle, paths, tmp_path / "out", options=options)
    expected = pa.concat_arrays([pa.array([1, 2]).cast(kind), cost.cast(kind)])
    assert table["cost"].combine_chunks().equals(expected)


@pytest.mark.parametrize("cost", [pa.array(range(25), pa.int32()), pa.array([0.5] * 25)])
def test_kept_values_of_json_lines_and_of_another_type_are_refused(cost, bundle, tmp_path):
    paths = [put_lines(tmp_path / "a.jsonl", ["x"]), put(tmp_path / "b.parquet", cost=cost)]
    with pytest.raises(InputError, match=r"--keep cost: .* types: string in .*, (int32|double) in"):
        predict_paths(bundle, paths, tmp_path / "out", options=Options(keep=("cost",)))


def test_a_kept_column_of_json_lines_that_the_model_takes_is_as_the_model_reads_it(
    bundle, tmp_path
):
    path, options = put_lines(tmp_path / "in.jsonl", [1, 2]), Options(keep=("age", "colour"))
    _, table = predict_paths(bundle, [path], tmp_path / "out", options=options)
    assert (table["age"].type, table["colour"].type) == (pa.float64(), pa.string())


def test_kept_bytes_that_are_not_utf_8_put_their_row_in_quarantine(bundle, tmp_path):
    lines = b"age,member,since,colour,note\n" + b"1,true,,blue,caf\xe9\n1,true,,blue,x\n"
    (tmp_path / "in.csv").write_bytes(lines)
    given = {"how": How("cpu", limit=BadLimit.parse("1")), "options": Options(keep=("note",))}
    report, table = predict_paths(bundle, [tmp_path / "in.csv"], tmp_path / "out", **given)
    assert report.reasons == {"not_utf8": 1}
    assert table["note"].to_pylist() == ["x"]
