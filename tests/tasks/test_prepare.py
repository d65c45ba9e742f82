"""`prepare`: from raw data to the prepared dataset."""

import resource
from collections import Counter
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pytest
from prepare_helpers import (
    FILES,
    IMAGES,
    NUMBERS,
    SEQUENCES,
    STEPS,
    TABLE,
    columns,
    keys,
    profile,
    put,
    put_images,
    refusal,
    report,
    run,
    signature,
    some_images,
    splits,
    texts,
    written,
)
from sklearn.model_selection import train_test_split

from tasks import sources
from tasks.config import DigitsSource, Prepare, TabularSource

DIGITS = Prepare(source=DigitsSource(kind="digits", path="digits.csv.gz"), seed=1)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The prepared digits."""
    folder = tmp_path_factory.mktemp("digits")
    assert sources.place_embedded(DIGITS.source, folder)
    run(folder, DIGITS)
    return folder


def test_the_digits_are_split_by_the_given_shares(digits):
    rows = {name: len(split) for name, split in splits(digits).items()}
    assert sum(rows.values()) == 1797
    assert rows == pytest.approx({"train": 1258, "validation": 180, "test": 359}, abs=2)
    assert report(digits)["rows"] == rows


def test_the_split_of_the_digits_does_not_change(digits):
    labels = sources.read(DIGITS.source, digits).table["label"].to_numpy().astype(int)
    rest, test = train_test_split(
        np.arange(1797), test_size=0.2, stratify=labels, random_state=DIGITS.seed
    )
    train, validation = train_test_split(
        rest, test_size=0.1 / (1 - 0.2), stratify=labels[rest], random_state=DIGITS.seed
    )
    expected = {"train": train, "validation": validation, "test": test}
    assert keys(digits) == {name: sorted(rows.tolist()) for name, rows in expected.items()}


def test_splits_are_stratified_by_class(digits):
    every = splits(digits)
    whole = np.bincount(np.concatenate([s.targets for s in every.values()])) / 1797
    for split in every.values():
        assert np.bincount(split.targets) / len(split) == pytest.approx(whole, abs=0.01)


def test_each_row_is_in_one_split_with_its_image_and_label(digits):
    raw = sources.read(DIGITS.source, digits)
    images = raw.table["image"].combine_chunks().to_numpy_ndarray()
    labels = raw.table["label"].to_numpy().astype(int)
    every = splits(digits)
    found = np.concatenate([split.keys for split in every.values()])
    assert np.array_equal(np.sort(found), np.arange(1797))
    for split in every.values():
        assert np.array_equal(split.inputs["image"], images[split.keys])
        assert split.targets.tolist() == labels[split.keys].tolist()


def test_the_signature_describes_the_inputs_of_the_model(digits):
    found = signature(digits)
    assert found.task == "multiclass"
    assert [str(t) for t in found.inputs] == ["image: uint8[8, 8, 1]"]
    assert [str(t) for t in found.outputs] == ["logits: float32[10]", "probabilities: float32[10]"]
    assert found.classes == tuple("0123456789")


def test_the_profile_describes_only_the_training_split(digits):
    found, train = profile(digits), splits(digits)["train"]
    values = train.inputs["image"].astype(float)
    image = found["inputs"]["image"]
    assert found["rows"] == len(train)
    assert image["mean"] == pytest.approx([values.mean()])
    assert image["std"] == pytest.approx([values.std()])
    assert (image["min"], image["max"]) == ([0], [16])
    counts, edges = np.histogram(values, 16)
    assert image["histogram"] == [{"counts": counts.tolist(), "edges": edges.tolist()}]
    assert list(found["target"].values()) == np.bincount(train.targets).tolist()


def test_prepare_is_deterministic_in_any_folder(digits, tmp_path):
    sources.place_embedded(DIGITS.source, tmp_path)
    run(tmp_path, DIGITS)
    for folder in (digits, tmp_path):
        assert sorted(p.name for p in (folder / "prepared").iterdir()) == FILES
    for name in FILES:
        assert (tmp_path / "prepared" / name).read_bytes() == (
            digits / "prepared" / name
        ).read_bytes(), name


def test_the_prepared_dataset_contains_no_absolute_path(tmp_path):
    images = some_images()
    images[9] = images[4]  # labelled 1 and 0: a conflict, which the report lists
    put_images(tmp_path, images)
    run(tmp_path, IMAGES, label_noise=True)
    assert report(tmp_path)["conflicting_targets"][0]["rows"][0] == "images.npz, row 4"
    for path in (tmp_path / "prepared").iterdir():
        assert str(tmp_path).encode() not in path.read_bytes(), path


def test_prepare_replaces_the_whole_folder(tmp_path):
    (tmp_path / "prepared").mkdir()
    (tmp_path / "prepared/tokenizer.json").write_text("of another dataset")
    (tmp_path / "prepared.part").mkdir()
    (tmp_path / "prepared.part/left.arrow").write_text("by a run that was killed")
    put(tmp_path)
    run(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["prepared", "table.parquet"]
    assert sorted(p.name for p in (tmp_path / "prepared").iterdir()) == FILES


def test_a_failed_prepare_keeps_the_former_dataset(tmp_path):
    put(tmp_path)
    run(tmp_path)
    before = {p.name: p.read_bytes() for p in (tmp_path / "prepared").iterdir()}
    put(tmp_path, y=np.arange(60) % 3)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))  # as if the disk were full
    try:
        with pytest.raises(OSError, match="File too large"):
            run(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {p.name: p.read_bytes() for p in (tmp_path / "prepared").iterdir()} == before
    assert not (tmp_path / "prepared.part").exists()


def test_columns_are_stored_raw_and_encoded_by_the_signature(tmp_path):
    days = [date(2020, 1, 1) + timedelta(days=n) for n in range(60)]
    put(tmp_path, open=np.arange(60) % 3 == 0, seen=pa.array(days))
    run(tmp_path)
    found = written(tmp_path)
    kinds = {field.name: str(field.type) for field in found.schema}
    assert kinds == {
        "key": "int64",
        "a": "double",
        "n": "int64",
        "c": "dictionary<values=string, indices=int32, ordered=0>",
        "open": "bool",
        "seen": "timestamp[us]",
        "target": "dictionary<values=string, indices=int32, ordered=0>",
    }
    assert [(c.name, c.kind) for c in signature(tmp_path).columns] == [
        ("a", "number"),
        ("n", "number"),
        ("c", "category"),
        ("open", "boolean"),
        ("seen", "date"),
    ]
    assert signature(tmp_path).task == "binary"
    raw = columns()
    for split in splits(tmp_path).values():
        numbers = np.stack(
            [raw["a"], raw["n"], np.arange(60) % 3 == 0, np.arange(60) + 18262], axis=1
        )
        assert np.array_equal(split.inputs["numbers"], numbers[split.keys].astype(np.float32))
        codes = [["blue", "green", "red"].index(c) + 1 for c in raw["c"][split.keys]]
        assert split.inputs["categories"][:, 0].tolist() == codes
        assert split.targets.tolist() == (split.keys % 2).tolist()


def test_images_may_be_grey_or_rgb_and_floats_become_float32(tmp_path):
    for shape, dtype, expected in (
        ((60, 4, 5), "uint8", "image: uint8[4, 5, 1]"),
        ((60, 4, 5, 3), "float64", "image: float32[4, 5, 3]"),
        ((60, 4, 5, 3), "float16", "image: float32[4, 5, 3]"),
    ):
        images = np.random.default_rng(0).uniform(0, 200, shape).astype(dtype)
        put_images(tmp_path, images)
        run(tmp_path, IMAGES)
        assert str(signature(tmp_path).inputs[0]) == expected
        train = splits(tmp_path)["train"]
        assert train.inputs["image"].dtype == signature(tmp_path).inputs[0].dtype
        values = images.reshape(60, 4, 5, -1)[train.keys].astype(float)
        found = profile(tmp_path)["inputs"]["image"]
        assert found["mean"] == pytest.approx(values.mean(axis=(0, 1, 2)))
        assert found["std"] == pytest.approx(values.std(axis=(0, 1, 2)))


def test_pickled_arrays_are_refused(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    put_images(tmp_path, labels=np.array([Trap()] * 60, object))
    assert refusal(tmp_path, IMAGES).startswith(f"{tmp_path}/images.npz is not a readable")
    assert not (tmp_path / "sprung").exists()


def test_empty_data_is_refused(tmp_path):
    put(tmp_path, {name: values[:0] for name, values in columns().items()})
    assert "no rows" in refusal(tmp_path)
    put_images(tmp_path, some_images(0))
    assert "no images" in refusal(tmp_path, IMAGES)


def test_the_profile_of_a_table_has_one_entry_for_each_column(tmp_path):
    put(tmp_path)
    run(tmp_path)
    found, train = profile(tmp_path), splits(tmp_path)["train"]
    numbers = train.inputs["numbers"].astype(float)
    assert found["inputs"]["numbers"]["columns"] == ["a", "n"]
    assert found["inputs"]["numbers"]["mean"] == pytest.approx(numbers.mean(axis=0))
    assert found["inputs"]["numbers"]["std"] == pytest.approx(numbers.std(axis=0))
    assert [sum(h["counts"]) for h in found["inputs"]["numbers"]["histogram"]] == [42, 42]
    assert list(found["inputs"]) == ["numbers"]
    assert found["categories"]["c"] == dict(Counter(sorted(written(tmp_path)["c"].to_pylist())))


def test_the_profile_of_a_huge_constant_column_is_finite(tmp_path):
    huge = {"n": np.full(60, 10**18), "m": np.where(np.arange(60) % 3, 1e20, 1e20 + 16384)}
    put(tmp_path, **huge)
    run(tmp_path)
    assert profile(tmp_path)["inputs"]["numbers"]["columns"] == ["a", "n", "m"]
    for histogram in profile(tmp_path)["inputs"]["numbers"]["histogram"][1:]:
        assert histogram["counts"] == [42]
        assert histogram["edges"][0] < histogram["edges"][1]


def test_regression_targets_are_stored_and_profiled(tmp_path):
    values = np.random.default_rng(1).normal(50, 10, 60)
    put(tmp_path, y=values)
    run(tmp_path, NUMBERS)
    train = splits(tmp_path)["train"]
    assert train.targets.dtype == np.float64
    assert np.array_equal(train.targets, values[train.keys])
    assert signature(tmp_path).task == "regression"
    assert signature(tmp_path).classes == ()
    found = profile(tmp_path)["target"]
    assert (found["mean"], found["std"]) == pytest.approx(
        (values[train.keys].mean(), values[train.keys].std())
    )
    assert (found["min"], found["max"]) == (values[train.keys].min(), values[train.keys].max())
    assert sum(found["histogram"]["counts"]) == len(train)
    assert set(report(tmp_path)["target"]) == {"train", "validation", "test"}


def test_sequences_are_truncated_and_profiled_without_padding(tmp_path):
    steps = [[[float(row), -1.0]] * (2 + row % 8) for row in range(60)]
    put(tmp_path, {"sequence": pa.array(steps, STEPS), "y": columns()["y"]})
    run(tmp_path, SEQUENCES)
    column = signature(tmp_path).columns[0]
    assert (column.features, column.max_length) == (2, 6)
    every = splits(tmp_path)
    assert max(split.inputs["length"].max() for split in every.values()) == 6
    train = every["train"]
    assert (column.low, column.high) == ((min(train.keys), -1.0), (max(train.keys), -1.0))
    kept = np.concatenate([[key] * min(6, 2 + key % 8) for key in train.keys])
    found = profile(tmp_path)
    assert found["inputs"]["sequence"]["mean"] == pytest.approx([kept.mean(), -1.0])
    assert found["inputs"]["sequence"]["std"] == pytest.approx([kept.std(), 0.0])
    assert found["length"]["max"] == 9
    cut = {name: int((2 + split.keys % 8 > 6).sum()) for name, split in every.items()}
    assert {n: part["truncated"] for n, part in report(tmp_path)["lengths"].items()} == cut
    assert cut["train"] > 0


def test_prepare_prints_a_summary_and_writes_a_tokenizer_for_texts(tmp_path):
    words = [f"row {number} says {'yes' if number % 2 else 'no'}" for number in range(60)]
    put(tmp_path, {"text": words, "y": columns()["y"]})
    done = run(tmp_path, texts())
    assert str(done) == (
        "prepared 60 of 60 rows (train 42, validation 6, test 12); dropped 0 incomplete and 0 "
        "duplicate"
    )
    assert "tokenizer.json" in {p.name for p in (tmp_path / "prepared").iterdir()}
    assert written(tmp_path).column_names == ["key", "text", "target"]


def test_columns_that_are_not_features_are_not_written(tmp_path):
    put(tmp_path, when=np.arange(60), useless=[f"id{n}" for n in range(60)])
    source = TabularSource(**{**dict(TABLE.source), "ignore": ["useless"]})
    run(tmp_path, source=source, time="when")
    assert written(tmp_path).column_names == ["key", "a", "n", "c", "target"]
