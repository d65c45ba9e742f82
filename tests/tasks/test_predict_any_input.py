"""Whatever the input: all rows are predicted or in quarantine, or one message says why not.

Files of all formats are generated, with values of all types, and broken in many ways.
`MODELMINT_TEST_EXAMPLES` says how many; by default, always the same few.
"""

import csv
import gzip
import io
import itertools
import json
import os
from collections import Counter
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather as feather
import pyarrow.json
import pyarrow.parquet as pq
import pytest
from hand_made import one_of_each
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from PIL import Image
from prediction_helpers import PROVENANCE, files_of
from registry_helpers import quick_folder

from tasks import inputs
from tasks.bundle.signature import Signature
from tasks.errors import InputError
from tasks.files.convert import python_value
from tasks.predict import How, predict
from tasks.serving import plan
from tasks.serving.manifest import completed
from tasks.serving.options import BadLimit, Options
from tasks.serving.quarantine import TooManyBad

EXAMPLES = int(os.environ.get("MODELMINT_TEST_EXAMPLES", "60"))
TESTS = 5  # which share the examples
WORDS = [f"w{number}" for number in range(12)]
NUMBERS = itertools.count()
ANY = settings(
    max_examples=-(-EXAMPLES // TESTS),
    derandomize=EXAMPLES <= 60,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    return one_of_each(tmp_path_factory.mktemp("hand-made"), WORDS)


@pytest.fixture(scope="module")
def folder():
    """In memory, where syncing costs nothing; each example has a folder of its own there."""
    with quick_folder() as made, pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "ROWS", 7)  # several shards, of several chunks each
        patch.setattr(plan, "CHUNK_ROWS", 3)
        yield made


# What must be true of any job.


def check(bundle, place: Path, written, options: Options | None = None) -> None:
    """Predict the folder that `written` files; `place` is for this example alone."""
    source = place / "in"
    source.mkdir(parents=True)
    for name, content in written.items():
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_bytes(content)
    found = attempt(bundle, source, place / "any", "100%", options)
    if isinstance(found, InputError):
        assert str(found)
        return
    verify(place / "any", found)
    bad = found.quarantined
    if bad:
        above = attempt(bundle, source, place / "out", str(bad - 1), options)
        assert isinstance(above, TooManyBad), above
    again = attempt(bundle, source, place / "out", str(bad), options)
    assert not isinstance(again, InputError), again
    assert (again.rows, again.reasons, again.shards) == (found.rows, found.reasons, found.shards)


def attempt(bundle, source: Path, output: Path, limit: str, options: Options | None):
    """The report of a job, or its error after checking that nothing was published."""
    how = How("cpu", workers=2, limit=BadLimit.parse(limit))
    try:
        files = inputs.find([source], Signature.read(bundle / "signature.json"))
        given = {"output": output, "provenance": PROVENANCE, "how": how, "options": options}
        return predict(files_of(bundle), files, **given)
    except InputError as error:
        kept = {".unfinished"} if isinstance(error, TooManyBad) else set()
        assert {p.name for p in output.iterdir()} == kept if output.exists() else not kept
        return error


def verify(output: Path, report) -> None:
    assert completed(output).as_json() == report.as_json()
    assert not (output / ".unfinished").exists()
    assert report.predicted + report.quarantined == report.rows
    assert report.rows == sum(file["rows"] for file in report.inputs)
    assert report.rows == sum(shard["rows"] for shard in report.shards)
    predicted = keys_of(output, report)
    assert len(predicted) == report.predicted
    own = len(report.inputs) == 1  # the keys of several files may be the same
    assert not own or max(Counter(predicted).values(), default=1) == 1
    if not report.quarantined:
        assert not (output / "quarantine").exists()
        return
    parts = [pq.read_table(part) for part in sorted((output / "quarantine").iterdir())]
    file, number, key, reason = (
        [python_value(value) for part in parts for value in part[name]]
        for name in ("file", "row", "key", "reason")
    )
    assert len(set(zip(file, number, strict=True))) == len(number) == report.quarantined
    assert Counter(reason) == report.reasons
    assert not own or not ({str(each) for each in key} - {"None"}) & set(predicted)


def keys_of(output: Path, report) -> list[str]:
    form = report.options["form"]
    parts = [path for path in sorted((output / "predictions").rglob("*")) if path.is_file()]
    if form == "parquet":
        tables = [pq.read_table(part, partitioning=None) for part in parts]
    elif form == "csv":
        texts = pyarrow.csv.ConvertOptions(column_types={"key": pa.string()})
        lines = pyarrow.csv.ParseOptions(newlines_in_values=True)
        tables = [
            pyarrow.csv.read_csv(p, parse_options=lines, convert_options=texts) for p in parts
        ]
    else:
        rows = [json.loads(line) for p in parts for line in p.read_text().split("\n") if line]
        return [str(row["key"]) for row in rows]
    return [str(python_value(key)) for table in tables for key in table["key"]]


# Values of the columns that the model takes: some good, some bad, some odd.

AGES = [
    "1.5",
    "7",
    "",
    "old",
    "inf",
    "NaN",
    "3e38",
    "1e400",
    "1,5",
    " 7 ",
    "٣",
    "0x10",
    "true",
    None,
]
MEMBERS = ["true", "FALSE", "1", "0", "maybe", "", "2", None]
DATES = ["1970-01-03", "", "soon", "9999-12-31", "2024-02-30", "1970-01-03T00:00+05:00", "0", None]
COLOURS = [
    "blue",
    "red",
    " Blue",
    "green",
    "",
    " ",
    "café",
    "a\0b",
    'a"b',
    "a\nb",
    "x" * 1200,
    None,
]
texts = st.text(max_size=8)
POOLS = {"age": AGES, "member": MEMBERS, "since": DATES, "colour": COLOURS}
GOOD = {"age": "1.5", "member": "true", "since": "1970-01-03", "colour": "blue"}


@st.composite
def text_rows(draw, more):
    """Rows of text values by column, mostly good ones; `more` are others that may be there."""
    names = list(GOOD)
    if draw(st.integers(0, 9)) == 0:
        names.remove(draw(st.sampled_from(names)))
    names += draw(st.lists(st.sampled_from(["note", "other", "Age", ""]), max_size=2, unique=True))
    rows = []
    for number in range(draw(st.integers(0, 20))):
        row = {name: GOOD.get(name, "x") for name in names}
        for name in draw(st.lists(st.sampled_from(names), max_size=2)):
            row[name] = draw(st.sampled_from(POOLS.get(name, COLOURS)) | texts | more)
        rows.append({"number": number, **row})
    keys = draw(st.sampled_from([None, "{}", "k{}", "00{}", "{}.5"]))
    for row in rows:
        number = row.pop("number")
        if keys:
            row["key"] = keys.format(number)
    return rows


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)


@st.composite
def csv_files(draw):
    rows, stream = draw(text_rows(st.nothing())), io.StringIO()
    names = list(rows[0]) if rows else list(GOOD)
    delimiter = draw(st.sampled_from(",,,;\t|"))
    writer = csv.writer(
        stream, delimiter=delimiter, lineterminator=draw(st.sampled_from(["\n", "\r\n"]))
    )
    writer.writerow(names)
    for row in rows:
        writer.writerow(["" if row[name] is None else row[name] for name in names])
    encoding = draw(st.sampled_from(["utf-8"] * 4 + ["latin-1", "utf-16", "utf-8-sig"]))
    content = stream.getvalue().encode(encoding, "replace")
    lines = draw(raw_lines(content))
    return ".csv" if delimiter != "\t" else ".tsv", lines


@st.composite
def raw_lines(draw, content):
    """Content with a few lines of other bytes in it."""
    lines = content.splitlines(keepends=True)
    for extra in draw(st.lists(st.binary(max_size=12), max_size=2)):
        lines.insert(draw(st.integers(0, len(lines))), extra + b"\n")
    return b"".join(lines)


@st.composite
def json_files(draw):
    rows = draw(text_rows(anything))
    content = "".join(json.dumps(row, ensure_ascii=draw(st.booleans())) + "\n" for row in rows)
    return ".jsonl", draw(raw_lines(content.encode("utf-8", "surrogatepass")))


integers = st.integers(-(2**63), 2**63 - 1)
days = st.integers(-(2**31), 2**31 - 1)
TYPES = {
    **{kind: st.floats(width=64) for kind in (pa.float64(), pa.float32())},
    pa.float16(): st.floats(width=16),
    pa.int8(): st.integers(-128, 127),
    pa.int64(): integers,
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.bool_(): st.booleans(),
    **{
        kind: st.sampled_from(COLOURS + AGES + DATES) | texts
        for kind in (pa.string(), pa.large_string())
    },
    pa.string_view(): texts,
    pa.binary_view(): st.binary(max_size=5),
    **{kind: st.binary(max_size=5) for kind in (pa.binary(), pa.large_binary())},
    pa.binary(3): st.binary(min_size=3, max_size=3),
    pa.dictionary(pa.int8(), pa.string()): st.sampled_from(COLOURS) | texts,
    **{
        pa.timestamp(unit, zone): integers
        for unit, zone in [("s", None), ("ms", "UTC"), ("us", None), ("ns", "Europe/Berlin")]
    },
    pa.date32(): days,
    pa.date64(): integers,
    pa.duration("s"): integers,
    pa.time32("s"): days,
    pa.decimal128(9, 2): st.integers(-(10**7) + 1, 10**7 - 1).map(lambda n: Decimal(n) / 100),
    pa.list_(pa.float32()): st.lists(st.none() | st.floats(width=32), max_size=3),
    pa.list_(pa.list_(pa.float64())): st.lists(st.lists(st.floats(), max_size=3), max_size=3),
    pa.list_(pa.string_view()): st.lists(texts, max_size=3),
    pa.list_view(pa.int64()): st.lists(integers, max_size=3),
    pa.struct({"a": pa.int64()}): st.fixed_dictionaries({"a": integers}),
    pa.struct({"a": pa.string_view()}): st.fixed_dictionaries({"a": texts}),
    pa.decimal256(50, 2): st.integers(-(10**40), 10**40).map(lambda n: Decimal(n) / 100),
    pa.month_day_nano_interval(): st.tuples(*[st.integers(-9, 9)] * 3),
    pa.null(): st.none(),
}
USUAL = {
    "age": pa.float64(),
    "member": pa.bool_(),
    "since": pa.timestamp("us"),
    "colour": pa.string(),
}


def array(values, kind):
    """Values as an array of a type; whole numbers as they are, whatever they stand for."""
    if pa.types.is_temporal(kind) and not pa.types.is_interval(kind):
        width = pa.int32() if kind.bit_width == 32 else pa.int64()
        return pa.array(values, width).view(kind)
    if pa.types.is_float16(kind):
        return pa.array([None if v is None else np.float16(v) for v in values], kind)
    return pa.array(values, kind)


@st.composite
def typed_tables(draw, columns=(*GOOD, "note")):
    rows = draw(st.integers(0, 20))
    found = {}
    for name in columns:
        kind = USUAL.get(name)
        if kind is None or draw(st.integers(0, 2)) == 0:
            kind = draw(st.sampled_from(list(TYPES)))
        cells = TYPES[kind] if draw(st.booleans()) else TYPES[kind] | st.none()
        found[name] = array(draw(st.lists(cells, min_size=rows, max_size=rows)), kind)
    if draw(st.booleans()):
        kind = draw(st.sampled_from([k for k in TYPES if k != pa.null()]))
        keys = st.lists(TYPES[kind].filter(bool), min_size=rows, max_size=rows, unique_by=repr)
        found["key"] = array(draw(keys), kind)
    return pa.table(found)


@st.composite
def typed_files(draw, tables):
    table, stream = draw(tables), io.BytesIO()
    suffix = draw(st.sampled_from([".parquet", ".arrow"]))
    try:
        if suffix == ".parquet":
            pq.write_table(table, stream, row_group_size=draw(st.sampled_from([1, 4, 99])))
        else:
            feather.write_feather(table, stream, compression="uncompressed", chunksize=6)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):  # a type that the format does not have
        reject()
    return suffix, stream.getvalue()


@st.composite
def images(draw):
    """An image file: PNG or JPEG, mostly of the right size."""
    size = draw(st.sampled_from([(5, 4)] * 4 + [(4, 5), (1, 1)]))
    mode = draw(st.sampled_from(["L"] * 4 + ["RGB", "RGBA", "1", "I;16", "P"]))
    stream = io.BytesIO()
    picture = Image.new(mode, size, draw(st.integers(0, 1)))
    form = draw(st.sampled_from(["PNG", "PNG", "JPEG"])) if mode in ("L", "RGB") else "PNG"
    picture.save(stream, form)
    return draw(broken(stream.getvalue()))


@st.composite
def npz_files(draw):
    kind = draw(st.sampled_from(["u1", "u1", "f4", "f8", "i8", "?", "c8", "U3", "O"]))
    shape = draw(st.sampled_from([(4, 5, 1), (4, 5, 1), (4, 5), (9, 9), (), (3, 2), (2,)]))
    rows = draw(st.integers(0, 5))
    values = np.arange(rows * int(np.prod(shape))).reshape(rows, *shape).astype(kind)
    stream = io.BytesIO()
    names = ["images", "sequences", "lengths", "key", "other"]
    chosen = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))
    np.savez(stream, **dict.fromkeys(chosen, values))
    return ".npz", stream.getvalue()


@st.composite
def broken(draw, content):
    """Mostly as it is; or cut short, changed, longer, or empty."""
    damage = draw(st.sampled_from(["none"] * 5 + ["cut", "changed", "longer", "empty"]))
    place = draw(st.integers(0, max(0, len(content) - 1)))
    if damage == "none" or not content:
        return content
    if damage == "changed":
        return content[:place] + draw(st.binary(min_size=1, max_size=4)) + content[place + 1 :]
    return {"cut": content[:place], "longer": content + b"\0more", "empty": b""}[damage]


@st.composite
def several(draw, files):
    """Files of a folder by name, in order."""
    found = {}
    for number, (suffix, content) in enumerate(draw(st.lists(files, min_size=1, max_size=3))):
        content = draw(broken(content))
        if suffix in (".csv", ".tsv", ".jsonl", ".txt") and draw(st.integers(0, 4)) == 0:
            suffix, content = f"{suffix}.gz", gzip.compress(content, mtime=0)
        found[f"{number}{suffix}"] = content
    return found


@st.composite
def some_options(draw):
    keep = draw(st.sampled_from([(), (), ("note",), ("age",), ("colour", "since")]))
    return Options(
        probabilities=draw(st.booleans()),
        keep=keep,
        form=draw(st.sampled_from(["parquet", "parquet", "csv", "jsonl"])),
        partition_by=draw(st.sampled_from([(), ("prediction",), keep])),
    )


sequences = st.lists(st.lists(st.floats(width=32) | st.none(), max_size=3), max_size=6)
json_sequences = st.lists(sequences | anything, max_size=12).map(
    lambda rows: (".jsonl", "".join(json.dumps({"steps": row}) + "\n" for row in rows).encode())
)
text_files = st.lists(st.binary(max_size=9) | texts.map(str.encode) | st.just(b"w1 w2")).map(
    lambda lines: (".txt", b"\n".join(lines))
)


table_files = typed_files(typed_tables())


def example_folder(folder: Path) -> Path:
    return folder / str(next(NUMBERS))


@ANY
@given(written=several(csv_files() | json_files()), options=some_options())
def test_tables_of_text(written, options, bundles, folder):
    check(bundles["table"], example_folder(folder), written, options)


@ANY
@given(
    written=several(table_files | table_files | csv_files()),
    options=some_options(),
)
def test_tables_with_types(written, options, bundles, folder):
    check(bundles["table"], example_folder(folder), written, options)


@ANY
@given(pictures=st.lists(images(), min_size=1, max_size=9), table=st.booleans(), data=st.data())
def test_images(pictures, table, data, bundles, folder):
    written = {f"{number}.png": content for number, content in enumerate(pictures)}
    if table:
        odd = ["9.png", "..", "in.csv", "/etc", "", "a\0b", "x" * 300, "0.png/1.png"]
        names = list(written) + data.draw(st.lists(st.sampled_from(odd) | texts, max_size=3))
        stream = io.StringIO()
        csv.writer(stream).writerows([["image"], *([name] for name in names)])
        written["in.csv"] = stream.getvalue().encode("utf-8", "replace")
    check(bundles["image"], example_folder(folder), written)


@ANY
@given(
    kind=st.sampled_from(["image", "sequence"]),
    written=several(npz_files() | typed_files(typed_tables(("image", "steps"))) | json_sequences),
)
def test_arrays_and_sequences(kind, written, bundles, folder):
    check(bundles[kind], example_folder(folder), written)


@ANY
@given(written=several(text_files | typed_files(typed_tables(("text",)))))
def test_texts(written, bundles, folder):
    check(bundles["text"], example_folder(folder), written)
