"""Drift of columns: planted changes are named, and only these; nothing else is."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from drift_helpers import Trained, moved

from tasks.bundle.signature import Signature
from tasks.drift.comparing import LEAST_ROWS, LEVEL, against_jobs
from tasks.drift.reference import OLDER, Reference, with_predictions
from tasks.drift.report import DriftReport, sentence
from tasks.errors import InputError

OLD = Path(__file__).parents[1] / "data/release_0_1"
WORDS = np.array(["snow", "ice", "frost", "hail", "wind", "sun", "heat", "sweat", "beach", "sand"])


def classes(rows):
    return np.array(["no", "yes"])[np.arange(rows) % 2]


def numbers(rng, rows, columns=100):
    return {f"x{number}": rng.normal(size=rows) for number in range(columns)}


def mixed(rng, rows):
    """Columns of several shapes, among them rare categories and missing values."""
    amount = rng.lognormal(3, 2, rows)
    amount[rng.random(rows) < 0.05] = np.nan
    return {
        "normal": rng.normal(size=rows),
        "amount": pa.array(amount, from_pandas=True),
        "mostly_zero": np.where(rng.random(rows) < 0.7, 0, rng.exponential(5, rows).round(2)),
        "count": rng.poisson(3, rows),
        "flag": rng.random(rows) < 0.02,
        "day": np.datetime64("2026-01-01") + rng.integers(0, 700, rows).astype("timedelta64[D]"),
        "town": np.char.add("t", rng.zipf(1.6, rows).clip(max=900).astype(str)),
        "colour": rng.choice(["red", "green", "blue"], rows, p=[0.6, 0.39, 0.01]),
        **{f"x{number}": rng.normal(size=rows) for number in range(8)},
    }


def outputs(rng, rows):
    share = rng.beta(5, 2, rows)
    return {"probabilities": np.column_stack([share, 1 - share]).astype(np.float32)}


@pytest.fixture(scope="module")
def hundred(tmp_path_factory):
    rng = np.random.default_rng(11)
    table = numbers(rng, 10_000) | {"y": classes(10_000)}
    return Trained(tmp_path_factory.mktemp("hundred"), table)


def test_one_shifted_column_of_100_is_named_and_no_other(hundred):
    rng = np.random.default_rng(12)
    table = numbers(rng, 10_000)
    table["x41"] += 0.3
    report = hundred.job(table)
    assert report.verdict == "drifted"
    assert moved(report) == {"x41": {"value"}}
    assert report.columns[0].name == "x41"
    assert report.columns[0].measures[0].ks == pytest.approx(0.119, abs=0.02)  # of a normal column
    assert sentence(report.summary()).startswith("drifted: x41 PSI 0.0")


def test_counters_do_not_depend_on_the_batches(hundred):
    table = numbers(np.random.default_rng(13), 6_000)
    assert hundred.job(table, chunk=9_999) == hundred.job(table, chunk=613)


def test_a_large_job_does_not_report_trivial_shifts(hundred):
    table = numbers(np.random.default_rng(14), 200_000, columns=100)
    for values in table.values():
        values += 0.03
    report = hundred.job(table, chunk=20_000)
    assert min(m.p for part in report.columns for m in part.measures) < LEVEL
    assert (report.verdict, report.moved) == ("none", [])


@pytest.mark.whole
def test_200_jobs_without_drift_raise_no_more_false_alarms_than_stated(tmp_path):
    alarms = []
    for model in range(8):
        rng = np.random.default_rng(100 + model)
        rows = int(rng.choice([1_500, 4_000]))
        trained = Trained(
            tmp_path / str(model), mixed(rng, rows) | {"y": classes(rows)},
            missing="fill", source={"max_categories": 1000},
        )  # fmt: skip
        profile = with_predictions(trained.profile, trained.signature, outputs(rng, 600))
        trained.reference = Reference.of(profile, trained.signature)
        for size in (200, 500, 1_000, 3_000, 12_000) * 5:
            report = trained.job(mixed(rng, size), outputs=outputs(rng, size))
            assert report.verdict is not None
            assert not report.not_compared
            alarms += [(model, size, moved(report))] if report.verdict != "none" else []
    assert len(alarms) <= 200 * LEVEL, alarms


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    rng = np.random.default_rng(21)
    table = mixed(rng, 4_000) | {"y": classes(4_000)}
    source = {"max_categories": 1000}
    return Trained(tmp_path_factory.mktemp("several"), table, source, missing="fill")


@pytest.mark.parametrize(
    ("column", "change", "measure"),
    [
        ("amount", lambda v, r: pa.array(np.where(r < 0.1, np.nan, v), from_pandas=True), "filled"),
        ("mostly_zero", lambda v, r: np.where(r < 0.2, 7.0, v), "value"),
        ("count", lambda v, r: np.where(r < 0.03, 999, v), "outside"),
        ("flag", lambda v, r: r < 0.08, "value"),
        ("day", lambda v, r: v + np.timedelta64(200, "D"), "value"),
        ("colour", lambda v, r: np.where(r < 0.05, "pink", v), "unknown"),
        ("colour", lambda v, r: np.where(r < 0.2, "green", v), "value"),
        ("town", lambda v, r: np.where(r < 0.2, "t1", v), "value"),
        ("normal", lambda v, r: v * 1.5, "value"),
    ],
    ids=[
        "missing",
        "constant",
        "outliers",
        "rare",
        "later",
        "unknown",
        "shares",
        "towns",
        "spread",
    ],
)
def test_a_planted_change_of_a_column_is_named(column, change, measure, several):
    rng = np.random.default_rng(22)
    table = mixed(rng, 3_000)
    values = table[column]
    values = values.to_numpy(zero_copy_only=False) if isinstance(values, pa.Array) else values
    table[column] = change(values, rng.random(3_000))
    found = moved(several.job(table))
    assert found.keys() == {column}
    assert measure in found[column]


def test_changed_lengths_and_unknown_words_of_texts_are_named(tmp_path):
    rng = np.random.default_rng(31)

    def texts(rows, length=8, new=0.0):
        return [
            " ".join(np.where(rng.random(size) < new, "zebra", rng.choice(WORDS, size)))
            for size in rng.poisson(length, rows) + 1
        ]

    table = {"text": texts(3_000), "y": classes(3_000)}
    source = {"kind": "text", "tokenizer": {"name": "word"}}
    trained = Trained(tmp_path, table, source)
    assert moved(trained.job({"text": texts(1_000)})) == {}
    assert moved(trained.job({"text": texts(1_000, length=10)})) == {"text": {"length"}}
    assert moved(trained.job({"text": texts(1_000, new=0.03)})) == {"text": {"unknown tokens"}}


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_changed_brightness_and_contrast_of_images_are_named(dtype, tmp_path):
    rng = np.random.default_rng(41)

    def images(rows, brighter=0, flatter=1.0):
        base = rng.normal(120, 20, (rows, 1, 1, 1)) + brighter
        pixels = base + rng.normal(0, 30 * flatter, (rows, 28, 28, 3))
        return pixels.clip(0, 255).astype(dtype)

    def job(**changes):
        column = pa.FixedShapeTensorArray.from_numpy_ndarray(images(1_000, **changes))
        return moved(trained.job({"image": column}))

    np.savez(tmp_path / "images.npz", images=images(1_500), labels=classes(1_500))
    trained = Trained(tmp_path, None, {"kind": "image", "path": "images.npz", "target": None})
    assert job() == {}
    assert job(brighter=8) == {"image": {"brightness"}}
    assert job(flatter=0.9) == {"image": {"contrast"}}


def test_changed_lengths_and_values_of_sequences_are_named(tmp_path):
    rng = np.random.default_rng(51)

    def steps(rows, length=12, shift=0.0):
        sizes = rng.poisson(length, rows) + 1
        return pa.array([rng.normal((0, shift), 1, (n, 2)).tolist() for n in sizes])

    table = {"steps": steps(2_000), "y": classes(2_000)}
    source = {"kind": "sequence", "column": "steps", "max_length": 40}
    trained = Trained(tmp_path, table, source)
    assert moved(trained.job({"steps": steps(1_000)})) == {}
    assert moved(trained.job({"steps": steps(1_000, length=14)})) == {"steps": {"length"}}
    # Padding depends on the longest row of a batch, and must make no difference.
    changed = {"steps": steps(1_000, shift=0.2)}
    assert moved(trained.job(changed)) == {"steps": {"mean of 1"}}
    assert trained.job(changed) == trained.job(changed, chunk=7)


def test_predictions_and_their_confidence_are_compared(several):
    rng = np.random.default_rng(61)
    profile = with_predictions(several.profile, several.signature, outputs(rng, 2_000))
    trained = Trained.__new__(Trained)
    trained.__dict__ |= several.__dict__
    trained.reference = Reference.of(profile, several.signature)
    same = trained.job(mixed(rng, 2_000), outputs=outputs(rng, 2_000))
    assert same.verdict == "none"
    sure = {"probabilities": np.tile(np.array([[0.01, 0.99]], np.float32), (2_000, 1))}
    changed = trained.job(mixed(rng, 2_000), outputs=sure)
    assert moved(changed) == {"predictions": {"class", "confidence"}}
    assert sentence(changed.summary()).startswith("drifted: predictions (")


def test_a_job_of_few_rows_is_counted_and_not_judged(several):
    rng = np.random.default_rng(71)
    report = several.job(mixed(rng, LEAST_ROWS - 1))
    assert report.verdict is None
    assert {part.verdict for part in report.columns} == {None}
    assert "the job has 199 rows, and with fewer than 200 only a large" in str(report.reason)
    assert sentence(report.summary()).startswith("not judged: the job has 199 rows")
    assert several.job(mixed(rng, LEAST_ROWS)).verdict == "none"


def test_jobs_are_compared_with_earlier_ones(several):
    rng = np.random.default_rng(81)

    def later(rows):
        return mixed(rng, rows) | {"normal": rng.normal(1.0, 1, rows)}

    assert moved(several.job(later(2_000))) == {"normal": {"value"}}  # against the training
    earlier = [several.job(later(150)) for _ in range(10)]
    usual = against_jobs(several.job(later(2_000)), earlier)
    assert (usual.verdict, usual.against) == ("none", "the last 10 jobs with 1,500 rows")
    back = against_jobs(several.job(mixed(rng, 2_000)), earlier)
    assert moved(back) == {"normal": {"value"}}
    other = replace(earlier[0], layout="of another model")
    few = against_jobs(back, [earlier[0], other])
    assert few.verdict is None
    assert str(few.reason).startswith("the earlier jobs have 150 rows")
    assert against_jobs(back, []).verdict is None


def test_a_report_is_read_as_it_was_written(several, tmp_path):
    report = several.job(mixed(np.random.default_rng(91), 500))
    (tmp_path / "drift.json").write_text(report.as_json())
    assert DriftReport.read(tmp_path / "drift.json") == report
    newer = json.loads(report.as_json()) | {"format": 9}
    (tmp_path / "drift.json").write_text(json.dumps(newer))
    with pytest.raises(InputError, match=r"has format 9; this release .* up to 1"):
        DriftReport.read(tmp_path / "drift.json")
    (tmp_path / "drift.json").write_text("{}")
    with pytest.raises(InputError, match="is no report of drift that can be read"):
        DriftReport.read(tmp_path / "drift.json")


def test_a_profile_of_an_older_release_has_nothing_to_compare_with():
    bundle = OLD / "bundle"
    signature = Signature.read(bundle / "signature.json")
    reference = Reference.read(bundle / "profile.json", signature)
    assert reference.size == 0
    assert set(reference.missing.values()) == {OLDER}
    assert reference.no_predictions == OLDER


def test_a_damaged_profile_is_refused(several, tmp_path):
    column = {"value": {"edges": [1.0], "counts": [1, 2, 3]}}
    profile = tmp_path / "profile.json"
    profile.write_text(json.dumps({"format": 2, "drift": {"columns": {"normal": column}}}))
    with pytest.raises(InputError, match=r"is not a profile that can be read.*3 counts for 2 bins"):
        Reference.read(profile, several.signature)
    profile.write_text(json.dumps({"format": 3}))
    with pytest.raises(InputError, match="has format 3"):
        Reference.read(profile, several.signature)
