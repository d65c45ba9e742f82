"""Counts of unknown, missing, truncated and out-of-range values in predictions."""

import json
from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pytest
from training_helpers import WORDS, _tokenizer

from tasks.bundle.signature import Signature
from tasks.columns import (
    BooleanColumn,
    CategoryColumn,
    DateColumn,
    NumberColumn,
    SequenceColumn,
    SourceLocation,
    TextColumn,
)
from tasks.counts import Counts, not_counted, summary
from tasks.encoding import Encoder
from tasks.errors import InputError
from tasks.serving.manifest import PredictReport, completed

COLUMNS = (
    NumberColumn(name="age", fill=40.0, low=18.0, high=90.0),
    DateColumn(name="when", fill=5.0, low=0.0, high=9.5, offset=3.0),
    BooleanColumn(name="member", fill=1.0),
    NumberColumn(name="old"),
    CategoryColumn(name="code", values=("01", "02", "03", "04", "05"), fill="02"),
)
DAY = 86_400_000_000


def counted(columns, *batches, tokenizer=None):
    encoder = Encoder(Signature.of("regression", columns, ()), tokenizer)
    for batch in batches:
        encoder.encode(pa.table(batch), SourceLocation("in.csv"))
    return encoder


def table(**changed):
    good = {
        "age": [18.0, 90.0, 50.0],
        "when": pa.array([0, DAY, 9 * DAY + DAY // 2], pa.timestamp("us")),
        "member": [True, False, True],
        "old": [1e30, -5.0, 0.0],
        "code": ["01", "05", "03"],
    }
    return good | changed


def test_counts_add_up_each_kind_of_substitution_over_all_batches():
    strange = table(
        age=[1e12, None, 17.9],
        when=pa.array([-DAY, None, 10 * DAY], pa.timestamp("us")),
        member=[None, None, True],
        code=["1", None, "02"],
    )
    assert counted(COLUMNS, table(), strange, strange).counts.columns == {
        "age": {"rows": 9, "filled": 2, "outside": 4},
        "when": {"rows": 9, "filled": 2, "outside": 4},
        "member": {"rows": 9, "filled": 4, "outside": 0},
        "old": {"rows": 9, "filled": 0, "outside": None},
        "code": {"rows": 9, "unknown": 2, "filled": 2},
    }


def test_counts_include_tokens_and_timesteps():
    text = TextColumn(name="text", vocabulary=3 + len(WORDS), max_length=4)
    texts = {"text": ["the purr", "the zebra purr", "zebra a and cream bark"]}
    found = counted((text,), texts, tokenizer=_tokenizer(WORDS)).counts
    # Four tokens are kept, the first of which begins the text.
    assert found.columns == {"text": {"rows": 3, "tokens": 8, "unknown_tokens": 2, "truncated": 1}}
    steps = SequenceColumn(name="steps", features=1, max_length=2)
    found = counted((steps,), {"steps": [[1.0], [1.0, 2.0], [1.0, 2.0, 3.0]]}).counts
    assert found.columns == {"steps": {"rows": 3, "truncated": 1, "outside": None}}


def test_counts_include_sequences_outside_the_training_range():
    steps = SequenceColumn(
        name="steps", features=2, max_length=2, low=(1.0, -3.0), high=(2.0, -0.1)
    )
    inside = {"steps": [[[1.0, -0.1]], [[2.0, -3.0], [1.5, -1.0], [1e12, 1e12]]]}
    strange = {"steps": [[[1.0, -1.0], [1e12, -1.0]], [[1.0, 0.5]], [[1.0, -1.0]]]}
    found = counted((steps,), inside, strange).counts
    # What is cut is not seen, and what fills a shorter one up is none of it.
    assert found.columns == {"steps": {"rows": 5, "truncated": 1, "outside": 2}}
    assert summary(found.columns).startswith("steps: outside the training range, 2 of 5")


def refused(columns, *batches, tokenizer=None):
    encoder = counted(columns, *batches, tokenizer=tokenizer)
    with pytest.raises(InputError) as caught:
        encoder.counts.refuse_unknown(columns, "in.csv")
    return str(caught.value)


def test_refuse_unknown_refuses_a_column_without_a_known_value():
    code = COLUMNS[-1:]
    said = refused(code, {"code": ["1", "2"]}, {"code": ["3", "4", "5", "1"]})
    assert said == (
        "in.csv: column 'code': the model knows none of the 6 values. Given: '1', '2', '3'; known: "
        "'01', '02', '03' and 2 more. Spell them as in training, or train on data like these"
    )
    assert "knows none of the 1 values" in refused(code, {"code": ["1", None]})
    text = (TextColumn(name="text", vocabulary=3 + len(WORDS), max_length=4),)
    said = refused(text, {"text": ["zebra lion", "lion"]}, tokenizer=_tokenizer(WORDS))
    assert "the model knows none of the 3 tokens. Given: 'zebra lion', 'lion'" in said


def test_a_column_that_is_filled_in_every_row_is_reported():
    empty = pa.array([None, None, None], pa.float64())
    counts = counted(COLUMNS, table(age=empty)).counts
    counts.refuse_unknown(COLUMNS, "in.csv")
    assert "age: filled values, 3 of 3" in summary(counts.columns)


def test_refuse_unknown_accepts_one_known_value_in_any_batch():
    code = COLUMNS[-1:]
    found = counted(code, {"code": ["1", "2"]}, {"code": ["03"]})
    found.counts.refuse_unknown(code, "in.csv")
    Counts().refuse_unknown(code, "in.csv")


def test_summary_lists_substitutions_above_one_percent():
    found = {
        "age": {"rows": 1000, "filled": 10, "outside": 11},
        "code": {"rows": 1000, "unknown": 400, "filled": 0},
        "text": {"rows": 10, "tokens": 200, "unknown_tokens": 3, "truncated": 0},
    }
    assert summary(found) == (
        "code: unknown categories, 400 of 1,000; text: unknown tokens, 3 of 200; "
        "age: outside the training range, 11 of 1,000"
    )
    assert summary({"age": {"rows": 1000, "filled": 10, "outside": None}}) == ""
    assert summary({"image": {"rows": 5}}) == summary(None) == ""


def test_summary_says_what_was_not_counted():
    assert not_counted({"age": {"rows": 3, "filled": 0, "outside": 0}}) == ""
    assert "training range" in not_counted({"age": {"rows": 3, "outside": None}})
    assert "an older release" in not_counted(None)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda d: [d.pop("substituted"), d.pop("format")], (None, 1)),
        (lambda d: d.update(new={"field": 1}), ({"x": {"rows": 1}}, 2)),
    ],
    ids=["older", "newer"],
)
def test_manifests_of_older_and_newer_releases_can_be_read(change, expected, tmp_path):
    (tmp_path / "predictions.parquet").write_bytes(b"")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    report = PredictReport(
        rows=1,
        provider="CPU",
        nodes={},
        onnxruntime="1",
        input_sha256="a" * 64,
        inputs=[],
        output={"path": "predictions.parquet", "sha256": empty, "size": 0},
        provenance={},
        substituted={"x": {"rows": 1}},
        format=2,
    )
    document = asdict(report)
    change(document)
    (tmp_path / "manifest.json").write_text(json.dumps(document))
    found = completed(tmp_path)
    assert (found.substituted, found.format) == expected


def test_float32_values_at_the_bounds_are_within_the_training_range():
    column = (NumberColumn(name="x", low=0.1, high=0.3),)
    single = np.array([0.1, 0.3, 0.2], np.float32)
    assert counted(column, {"x": single}).counts.columns["x"]["outside"] == 0
