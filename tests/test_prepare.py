"""From raw data to the prepared dataset, and what bad raw data gets."""

import gzip
import json
import zlib
from collections import Counter

import numpy as np
import pytest

from tasks import sources
from tasks.config import DigitsSource, ImageSource, Prepare
from tasks.dataset import SPLITS, read_split
from tasks.errors import InputError
from tasks.prepare import prepare
from tasks.signature import Signature

IMAGES = Prepare(source=ImageSource(kind="image", path="images.npz"))
DIGITS = Prepare(source=DigitsSource(kind="digits", path="digits.csv.gz"), seed=1)
FILES = [
    "profile.json",
    "report.json",
    "signature.json",
    "test.arrow",
    "train.arrow",
    "validation.arrow",
]


def some_images(rows=60, dtype="uint8"):
    return np.random.default_rng(3).integers(0, 255, (rows, 4, 4)).astype(dtype)


def some_labels(rows=60):
    return np.arange(rows) % 2


def write(folder, images=None, labels=None, **others):
    """Write an `.npz` file of good arrays, or of those given."""
    folder.mkdir(exist_ok=True)
    images = some_images() if images is None else images
    labels = some_labels(len(images)) if labels is None else labels
    np.savez(folder / "images.npz", images=images, labels=labels, **others)


def write_digits(folder, edit=lambda lines: None):
    """Write the embedded digits after `edit` changed its list of lines."""
    lines = gzip.decompress(sources.digits.embedded()).decode().splitlines()
    edit(lines)
    (folder / "digits.csv.gz").write_bytes(gzip.compress("\n".join(lines).encode()))


def run(folder, params=IMAGES, **changes):
    changed = Prepare(**{**dict(params), **changes})
    return prepare(changed, root=folder, prepared=folder / "prepared")


def splits(folder):
    signature = Signature.read(folder / "prepared/signature.json")
    return {name: read_split(folder / "prepared", name, signature) for name in SPLITS}


def refusal(folder, params=IMAGES, **changes):
    """The message, after seeing that nothing was written."""
    before = sorted(folder.rglob("*"))
    with pytest.raises(InputError) as caught:
        run(folder, params, **changes)
    assert sorted(folder.rglob("*")) == before
    return str(caught.value)


def report(folder):
    return json.loads((folder / "prepared/report.json").read_bytes())


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The embedded digits, prepared."""
    folder = tmp_path_factory.mktemp("digits")
    assert sources.place_embedded(DIGITS.source, folder)
    run(folder, DIGITS)
    return folder


def test_the_digits_are_split_by_the_shares_asked_for(digits):
    rows = {name: len(split) for name, split in splits(digits).items()}
    assert sum(rows.values()) == 1797
    assert rows == pytest.approx({"train": 1258, "validation": 180, "test": 359}, abs=2)
    assert report(digits)["rows"] == rows


def test_every_class_has_its_share_of_each_split(digits):
    every = splits(digits)
    whole = np.bincount(np.concatenate([s.labels for s in every.values()])) / 1797
    for split in every.values():
        assert np.bincount(split.labels) / len(split) == pytest.approx(whole, abs=0.01)


def test_each_row_stands_in_one_split_with_its_own_image_and_label(digits):
    raw = sources.read(DIGITS.source, digits)
    every = splits(digits)
    keys = np.concatenate([split.keys for split in every.values()])
    assert np.array_equal(np.sort(keys), np.arange(1797))
    for split in every.values():
        assert np.array_equal(split.inputs["image"], raw.inputs["image"][split.keys])
        assert split.labels.astype(str).tolist() == raw.labels[split.keys].tolist()


def test_the_digits_are_those_that_scikit_learn_loads(digits):
    from sklearn.datasets import load_digits

    expected = load_digits()
    raw = sources.read(DIGITS.source, digits)
    assert np.array_equal(raw.inputs["image"][..., 0], expected.images)
    assert raw.labels.astype(int).tolist() == expected.target.tolist()


def test_the_signature_says_what_the_model_will_take(digits):
    signature = Signature.read(digits / "prepared/signature.json")
    assert [str(t) for t in signature.inputs] == ["image: uint8[8, 8, 1]"]
    assert [str(t) for t in signature.outputs] == [
        "logits: float32[10]",
        "probabilities: float32[10]",
    ]
    assert signature.classes == tuple("0123456789")


def test_the_profile_describes_the_training_split_alone(digits):
    profile = json.loads((digits / "prepared/profile.json").read_bytes())
    train = splits(digits)["train"]
    values = train.inputs["image"].astype(float)
    assert profile["rows"] == len(train)
    image = profile["inputs"]["image"]
    assert image["mean"] == pytest.approx([values.mean()])
    assert image["std"] == pytest.approx([values.std()])
    assert (image["min"], image["max"]) == (0, 16)
    assert sum(image["histogram"]["counts"]) == values.size
    assert list(profile["label"].values()) == np.bincount(train.labels).tolist()


def test_the_same_data_parameters_and_seed_give_the_same_bytes_in_any_folder(digits, tmp_path):
    sources.place_embedded(DIGITS.source, tmp_path)
    run(tmp_path, DIGITS)
    for folder in (digits, tmp_path):
        assert sorted(p.name for p in (folder / "prepared").iterdir()) == FILES
    for name in FILES:
        assert (tmp_path / "prepared" / name).read_bytes() == (
            digits / "prepared" / name
        ).read_bytes(), name


def test_another_seed_gives_other_splits(tmp_path):
    write(tmp_path)
    run(tmp_path, seed=1)
    one = splits(tmp_path)["test"].keys.tolist()
    run(tmp_path, seed=2)
    assert one != splits(tmp_path)["test"].keys.tolist()


def test_exact_copies_are_dropped_and_counted_so_that_none_crosses_a_split(tmp_path):
    images, labels = some_images(40), some_labels(40)
    write(tmp_path, np.concatenate([images] * 3), np.concatenate([labels] * 3))
    done = run(tmp_path)
    assert (done.rows_in, done.dropped_duplicates, sum(done.rows.values())) == (120, 80, 40)
    assert report(tmp_path)["dropped"] == {"missing": 0, "duplicates": 80}
    assert report(tmp_path)["rows_of_validation_and_test_also_in_train"] == 0
    rows = {
        name: {image.tobytes() for image in split.inputs["image"]}
        for name, split in splits(tmp_path).items()
    }
    assert not rows["train"] & rows["validation"]
    assert not rows["train"] & rows["test"]
    assert not rows["validation"] & rows["test"]
    # The first of the copies is the one that stays.
    assert max(split.keys.max() for split in splits(tmp_path).values()) < 40


def test_exact_copies_are_refused_by_row_where_the_rule_says_so(tmp_path):
    images, labels = some_images(), some_labels()
    images[42], labels[42] = images[7], labels[7]
    write(tmp_path, images, labels)
    assert refusal(tmp_path, duplicates="refuse") == (
        f"{tmp_path}/images.npz, row 42 is an exact copy of row 7. "
        "Remove one of them, or set prepare.duplicates to drop."
    )


def test_rows_of_a_csv_file_are_counted_from_one(tmp_path):
    write_digits(tmp_path, lambda lines: lines.__setitem__(9, lines[4]))
    said = refusal(tmp_path, DIGITS, duplicates="refuse")
    assert "digits.csv.gz, row 10 is an exact copy of row 5." in said


def test_the_same_image_under_two_labels_is_kept_and_counted(tmp_path):
    images, labels = some_images(), some_labels()
    images[[10, 20, 30]] = images[5]  # rows 10, 20 and 30 are labelled 0, row 5 is labelled 1
    write(tmp_path, images, labels)
    run(tmp_path)
    assert report(tmp_path)["rows_with_conflicting_labels"] == 2
    assert report(tmp_path)["dropped"]["duplicates"] == 2


def test_conflicting_rows_on_both_sides_of_a_split_are_counted(tmp_path):
    images = some_images(30)
    write(tmp_path, np.concatenate([images, images]), np.repeat([0, 1], 30))
    run(tmp_path)
    assert report(tmp_path)["rows_with_conflicting_labels"] == 60
    every = splits(tmp_path)
    train = {image.tobytes() for image in every["train"].inputs["image"]}
    crossing = sum(
        image.tobytes() in train
        for name in ("validation", "test")
        for image in every[name].inputs["image"]
    )
    assert report(tmp_path)["rows_of_validation_and_test_also_in_train"] == crossing > 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_row_with_a_missing_value_is_refused_by_number(tmp_path, value):
    images = some_images(dtype="float32")
    images[[17, 23], 2, 1] = value
    write(tmp_path, images)
    assert refusal(tmp_path) == (
        f"{tmp_path}/images.npz, row 17: a missing, NaN or infinite value (2 such rows in all). "
        "Mend the data, or set prepare.missing to drop."
    )


def test_rows_with_missing_values_or_labels_are_dropped_and_counted_on_request(tmp_path):
    images, labels = some_images(dtype="float32"), np.array(["a", "b"] * 30)
    images[17, 2, 1], labels[3] = np.nan, ""
    write(tmp_path, images, labels)
    assert refusal(tmp_path).startswith(f"{tmp_path}/images.npz, row 3: no label (2 such rows")
    done = run(tmp_path, missing="drop")
    assert (done.rows_in, done.dropped_missing) == (60, 2)
    kept = np.concatenate([split.keys for split in splits(tmp_path).values()])
    assert set(range(60)) - set(kept.tolist()) == {3, 17}
    assert "dropped 2 incomplete and 0 duplicate" in str(done)


def test_an_empty_field_of_a_csv_file_is_a_missing_value(tmp_path):
    write_digits(tmp_path, lambda lines: lines.__setitem__(2, lines[2].replace("0,", ",", 1)))
    said = refusal(tmp_path, DIGITS)
    assert "digits.csv.gz, row 3: a missing, NaN or infinite value (1 such" in said


def test_images_may_be_grey_or_coloured_and_floats_become_float32(tmp_path):
    for shape, dtype, expected in (
        ((60, 4, 5), "uint8", "image: uint8[4, 5, 1]"),
        ((60, 4, 5, 3), "float64", "image: float32[4, 5, 3]"),
        ((60, 4, 5, 3), "float16", "image: float32[4, 5, 3]"),
    ):
        write(tmp_path, np.random.default_rng(0).uniform(0, 200, shape).astype(dtype))
        run(tmp_path)
        signature = Signature.read(tmp_path / "prepared/signature.json")
        assert str(signature.inputs[0]) == expected
        assert splits(tmp_path)["test"].inputs["image"].dtype == signature.inputs[0].dtype


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([10, 9, -1], ("-1", "9", "10")),
        (["b", "a", "10"], ("10", "a", "b")),
        (["--5", "²", "7"], ("--5", "7", "²")),
        ([b"x", b"y", b"z"], ("x", "y", "z")),
    ],
)
def test_classes_are_ordered_as_numbers_or_else_as_words(tmp_path, labels, classes):
    write(tmp_path, labels=np.array(labels * 20))
    run(tmp_path)
    assert Signature.read(tmp_path / "prepared/signature.json").classes == classes
    balance = report(tmp_path)["class_balance"]
    assert sum((Counter(part) for part in balance.values()), Counter()) == dict.fromkeys(
        classes, 20
    )


def test_a_missing_file_is_named_with_what_to_do(tmp_path):
    assert refusal(tmp_path) == (
        f"{tmp_path}/images.npz is missing. Put the file there, or name another in "
        "prepare.source.path."
    )
    said = refusal(tmp_path, DIGITS)
    assert said.startswith(f"{tmp_path}/digits.csv.gz is missing. `python -m tasks.sources` puts")


def test_empty_data_is_refused(tmp_path):
    write(tmp_path, some_images(0), np.array([], int))
    assert refusal(tmp_path) == f"{tmp_path}/images.npz holds no rows"
    write_digits(tmp_path, lambda lines: lines.clear())
    assert refusal(tmp_path, DIGITS) == f"{tmp_path}/digits.csv.gz holds no rows"


def test_data_without_one_complete_row_is_refused(tmp_path):
    write(tmp_path, np.full((6, 4, 4), np.nan))
    said = refusal(tmp_path, missing="drop")
    assert said == f"{tmp_path}/images.npz: no row has a label and only finite values"


@pytest.mark.parametrize("times", [1, 2])
def test_a_label_seen_less_often_than_there_are_splits_is_named_with_its_row(tmp_path, times):
    labels = some_labels().astype("U4")
    labels[31 : 31 + times] = "rare"
    write(tmp_path, labels=labels)
    said = refusal(tmp_path)
    assert said.startswith(
        f"{tmp_path}/images.npz, row 31: the label 'rare' has {times} distinct rows; every class "
        "needs at least 3, one for each of train, validation, test."
    )


def test_a_class_of_copies_counts_as_often_as_it_differs(tmp_path):
    images = some_images()
    images[::2] = images[0]
    write(tmp_path, images)
    assert "the label '0' has 1 distinct rows" in refusal(tmp_path)


def test_a_constant_class_is_refused(tmp_path):
    write(tmp_path, labels=np.full(60, "cat"))
    assert refusal(tmp_path) == (
        f"{tmp_path}/images.npz: every row has the label 'cat'; a classifier needs at least two "
        "classes"
    )


def test_a_split_too_small_for_every_class_is_refused(tmp_path):
    labels = np.zeros(60, int)
    labels[:4] = 1
    write(tmp_path, labels=labels)
    said = refusal(tmp_path, test=0.1, validation=0.1)
    assert said.startswith(f"{tmp_path}/images.npz: the ")
    assert "split has no row of the class '1', which has 4 rows in all. Add rows of it" in said


def test_fewer_rows_than_a_split_needs_are_refused(tmp_path):
    write(tmp_path, some_images(8))
    said = refusal(tmp_path, test=0.1, validation=0.1)
    assert said.startswith(f"{tmp_path}/images.npz: 8 rows cannot be split: ")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros(3)}, "holds the arrays x; `images` and `labels` are wanted"),
        ({}, "holds the arrays none; `images` and `labels` are wanted"),
        (
            {"images": np.zeros((6, 4)), "labels": some_labels(6)},
            "images is float64[6, 4]; uint8 or floating point of shape (N, H, W)",
        ),
        (
            {"images": np.zeros((6, 4, 4), int), "labels": some_labels(6)},
            "images is int64[6, 4, 4]; uint8 or floating point of shape (N, H, W)",
        ),
        (
            {"images": some_images(6), "labels": some_labels(5)},
            "labels is int64[5]; 6 integers or strings are wanted, one for each image",
        ),
        (
            {"images": some_images(6), "labels": some_labels(6) * 0.5},
            "labels is float64[6]; 6 integers or strings are wanted",
        ),
        (
            {"images": some_images(2), "labels": np.array([b"\xff", b"a"])},
            "a label of bytes must be ASCII",
        ),
    ],
)
def test_arrays_of_another_form_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "images.npz", **arrays)
    said = refusal(tmp_path)
    assert said.startswith(f"{tmp_path}/images.npz")
    assert message in said


def test_pickled_arrays_are_refused_and_never_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    write(tmp_path, labels=np.array([Trap()] * 60, object))
    said = refusal(tmp_path)
    assert said.startswith(f"{tmp_path}/images.npz is not a NumPy .npz file of plain arrays: ")
    assert not (tmp_path / "sprung").exists()


def a_single_array(path):
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def a_damaged_archive(path):
    np.savez_compressed(path, images=some_images(), labels=some_labels())
    content = bytearray(path.read_bytes())
    content[200:260] = bytes(60)
    path.write_bytes(content)


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.write_bytes(b"not a zip file"),
        lambda path: path.write_bytes(b""),
        lambda path: path.mkdir(),
        a_single_array,
        a_damaged_archive,
    ],
)
def test_a_file_that_is_no_archive_of_arrays_is_refused(tmp_path, make):
    make(tmp_path / "images.npz")
    assert refusal(tmp_path).startswith(f"{tmp_path}/images.npz is not a NumPy .npz file of plain")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda lines: lines.__setitem__(3, "1,2,3"), "row 4: 3 values; 64 pixels and a digit are"),
        (lambda lines: lines.insert(5, ""), "row 6: 1 values; 64 pixels and a digit are wanted"),
        (
            lambda lines: lines.__setitem__(6, "ink" + lines[6][1:]),
            "row 7: could not convert string to float: 'ink'",
        ),
        (lambda lines: lines.__setitem__(1, lines[1][:-1] + "3.7"), "row 2: invalid literal for"),
        (lambda lines: lines.__setitem__(1, lines[1][:-1] + "inf"), "row 2: invalid literal for"),
    ],
)
def test_a_bad_row_of_a_csv_file_is_named(tmp_path, edit, message):
    write_digits(tmp_path, edit)
    assert refusal(tmp_path, DIGITS).startswith(f"{tmp_path}/digits.csv.gz, {message}")


def damaged(content):
    damaged = bytearray(content)
    damaged[300:360] = bytes(60)
    with pytest.raises(zlib.error):
        gzip.decompress(damaged)
    return bytes(damaged)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: b"1,2,3\n",
        lambda content: content[:1000],
        lambda content: gzip.compress("é".encode()),
        damaged,
    ],
)
def test_a_file_that_is_no_gzipped_csv_is_refused(tmp_path, spoil):
    (tmp_path / "digits.csv.gz").write_bytes(spoil(sources.digits.embedded()))
    said = refusal(tmp_path, DIGITS)
    assert said.startswith(f"{tmp_path}/digits.csv.gz is not a gzipped CSV file: ")


def test_pixels_beyond_a_byte_make_the_digits_float(tmp_path):
    write_digits(tmp_path, lambda lines: lines.__setitem__(0, "0.5" + lines[0][1:]))
    run(tmp_path, DIGITS)
    signature = Signature.read(tmp_path / "prepared/signature.json")
    assert str(signature.inputs[0]) == "image: float32[8, 8, 1]"


def test_the_embedded_file_is_put_into_place_once_and_never_over_another(tmp_path):
    assert sources.place_embedded(DIGITS.source, tmp_path)
    path = tmp_path / "digits.csv.gz"
    assert path.read_bytes() == sources.digits.embedded()
    path.write_bytes(b"mine")
    assert sources.place_embedded(DIGITS.source, tmp_path)
    assert path.read_bytes() == b"mine"
    assert not sources.place_embedded(IMAGES.source, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["digits.csv.gz"]
