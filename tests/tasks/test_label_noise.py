"""`prepare.label_noise` finds wrong labels in all kinds of data, and none in clean data."""

import numpy as np
import pyarrow as pa
import pytest
from prepare_helpers import (
    IMAGES,
    NUMBERS,
    SEQUENCES,
    STEPS,
    TABLE,
    columns,
    put,
    put_images,
    report,
    run,
    texts,
)

from tasks.config import Tokenizer
from tasks.preparing import noise
from tasks.preparing.noise import confident_labels

WRONG = [5, 40, 77]
CLEAN = np.arange(120) % 2
GIVEN = np.where(np.isin(np.arange(120), WRONG), 1 - CLEAN, CLEAN)
NAMED = np.array(["cold", "warm"])[GIVEN]


def put_separable(folder, kind):
    """Separable rows of two classes, with three wrong labels."""
    chance = np.random.default_rng(0)
    noise_of = chance.normal(0, 0.1, 120)
    if kind == "image":
        images = chance.integers(0, 60, (120, 4, 4)) + 150 * CLEAN[:, None, None]
        put_images(folder, images.astype(np.uint8), NAMED)
        return IMAGES
    if kind == "sequence":
        steps = [
            [[float(level + e), float(e)]] * int(n)
            for level, e, n in zip(CLEAN, noise_of, chance.integers(1, 9, 120), strict=True)
        ]
        put(folder, {"sequence": pa.array(steps, STEPS), "y": NAMED})
        return SEQUENCES
    if kind == "numbers":  # and no category beside them
        put(folder, {"a": CLEAN + noise_of, "b": noise_of, "y": NAMED})
        return TABLE
    if kind == "tabular":
        put(folder, columns(120, a=CLEAN + noise_of, y=NAMED))
        return TABLE
    words = np.array([["snow", "ice", "freezing"], ["sun", "heat", "sweat"]])[CLEAN]
    found = [" ".join([*chance.choice(w, 4), f"day{n}"]) for n, w in enumerate(words)]
    put(folder, {"text": found, "y": NAMED})
    return texts(Tokenizer(name="character" if kind == "characters" else "word"))


@pytest.mark.parametrize("kind", ["tabular", "numbers", "image", "sequence", "words", "characters"])
def test_label_noise_names_rows_with_wrong_labels(tmp_path, kind):
    params = put_separable(tmp_path, kind)
    run(tmp_path, params, label_noise=True)
    found = report(tmp_path)["label_noise"]
    assert found["rows_looked_at"] == 120
    file = "images.npz" if kind == "image" else "table.parquet"
    listed = {suspect["row"]: suspect for suspect in found["most_suspicious"]}
    assert set(listed) == {f"{file}, row {row}" for row in WRONG}
    assert found["suspects"] == 3
    for row in WRONG:
        suspect = listed[f"{file}, row {row}"]
        assert (suspect["given"], suspect["suggested"]) == (
            NAMED[row],
            ["cold", "warm"][CLEAN[row]],
        )
        assert 0.5 < suspect["probability"] <= 1


def test_label_noise_works_with_filled_values(tmp_path):
    params = put_separable(tmp_path, "tabular")
    found = columns(120)["n"].astype(float)
    found[::7] = np.nan
    put(tmp_path, columns(120, a=CLEAN * 9.0 + np.arange(120) / 120, n=found, y=NAMED))
    run(tmp_path, params, label_noise=True, missing="fill")
    assert report(tmp_path)["label_noise"]["suspects"] == 3


def test_label_noise_lists_the_20_most_suspicious_rows(tmp_path):
    chance = np.random.default_rng(0)
    level = chance.integers(0, 2, 400)
    y = np.where(chance.random(400) < 0.2, 1 - level, level)
    put(tmp_path, columns(400, a=level + chance.normal(0, 0.3, 400), y=y))
    run(tmp_path, label_noise=True)
    found = report(tmp_path)["label_noise"]
    assert found["suspects"] > 20 == len(found["most_suspicious"])
    shares = [suspect["probability"] for suspect in found["most_suspicious"]]
    assert shares == sorted(shares, reverse=True)


def test_label_noise_checks_a_sample_of_many_rows(tmp_path):
    rows = noise.MOST_ROWS + 50
    y = np.arange(rows) % 2
    y[[100, 4000, 5049]] = 2  # of these, one alone may be drawn, and is left out
    fold = np.where(np.arange(rows) < 4000, "train", "validation")
    fold[5000:] = "test"
    put(tmp_path, columns(rows, y=y) | {"fold": fold})
    run(tmp_path, label_noise=True, split_column="fold")
    found = report(tmp_path)["label_noise"]
    assert found["rows_looked_at"] in (noise.MOST_ROWS, noise.MOST_ROWS - 1)
    first = (tmp_path / "prepared/report.json").read_bytes()
    run(tmp_path, label_noise=True, split_column="fold")
    assert (tmp_path / "prepared/report.json").read_bytes() == first


def test_label_noise_is_skipped_for_regression(tmp_path):
    put(tmp_path, y=np.random.default_rng(0).normal(0, 1, 60))
    run(tmp_path, NUMBERS, label_noise=True)
    assert report(tmp_path)["label_noise"] == {"skipped": "a regression has no labels to doubt"}


def test_label_noise_is_off_by_default(tmp_path):
    put(tmp_path)
    run(tmp_path)
    assert "label_noise" not in report(tmp_path)


def test_a_row_is_suspect_if_it_reaches_the_threshold_of_another_class():
    probabilities = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.4, 0.6], [0.45, 0.55]])
    given = np.array([0, 0, 1, 1, 0])
    # Thresholds: (0.9 + 0.7 + 0.45) / 3 = 0.683 and (0.8 + 0.6) / 2 = 0.7.
    assert confident_labels(probabilities, given).tolist() == [0, 0, 1, 1, 0]
    given = np.array([0, 1, 1, 1, 0])
    # Thresholds: 0.675 and 0.567: the second row reaches that of class 0 alone.
    assert confident_labels(probabilities, given).tolist() == [0, 0, 1, 1, 0]
