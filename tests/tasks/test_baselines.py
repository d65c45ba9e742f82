"""Baselines: simple models of the same rows, and what is said if one is better than the network."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import accuracy_score, f1_score
from training_helpers import make_prepared

from tasks import quick_models
from tasks.baselines import fit_baselines
from tasks.bundle.evaluation import Baseline, Evaluation, below_baseline
from tasks.bundle.signature import Signature
from tasks.columns import CategoryColumn, ImageColumn, NumberColumn, SequenceColumn, TextColumn
from tasks.config import Evaluate
from tasks.dataset import read_table, write_split
from tasks.encoding import Encoder
from tasks.problems import Metrics

DEFAULT = Evaluate(gates={})
EARLIER = Path(__file__).parents[1] / "data/release_0_1/bundle/evaluation.json"


def fitted(prepared, params=DEFAULT):
    """The baselines of a prepared dataset by `quick`."""
    found = [baseline for baseline, _ in fit_baselines(params, prepared, Encoder.read(prepared))]
    assert [baseline.quick for baseline in found] == sorted(b.quick for b in found)
    return found


def hand_made(folder, columns, task, classes, splits):
    """A prepared dataset with these columns; `splits` has its columns and targets by name."""
    folder.mkdir()
    Signature.of(task, columns, classes).write(folder / "signature.json")
    for name, (values, targets) in splits.items():
        table = {"key": pa.array(np.arange(len(targets))), **values}
        if classes:
            codes = pa.array(np.asarray(targets), pa.int32())
            table["target"] = pa.DictionaryArray.from_arrays(codes, list(classes))
        else:
            table["target"] = pa.array(np.asarray(targets, float))
        write_split(pa.table(table), folder / f"{name}.arrow")
    return folder


def numbers(*values):
    return {f"x{i}": pa.array(column) for i, column in enumerate(values)}


def number_columns(count):
    return tuple(NumberColumn(name=f"x{i}", kind="number") for i in range(count))


NAMES = {
    "image": "logistic regression on pixels",
    "tabular": "boosted trees",
    "text": "logistic regression on character TF-IDF",
    "sequence": "5 nearest neighbours on 64 points of each sequence",
}


@pytest.mark.parametrize("kind", NAMES)
def test_each_kind_of_data_has_a_quick_model_that_learns_classes(kind, tmp_path):
    constant, quick = fitted(make_prepared(tmp_path / "p", kind))
    assert (constant.name, quick.name) == ("most frequent class", NAMES[kind])
    assert quick.metrics["accuracy"] > constant.metrics["accuracy"]
    assert (quick.rows, quick.of) == (120, 120)


@pytest.mark.parametrize("kind", NAMES)
def test_each_kind_of_data_has_a_quick_model_that_learns_numbers(kind, tmp_path):
    constant, quick = fitted(make_prepared(tmp_path / "p", kind, "regression"))
    assert constant.name == "mean"
    assert quick.metrics["r2"] > 0.5 > constant.metrics["r2"]


def test_the_most_frequent_class_is_that_of_the_training_rows(tmp_path):
    prepared = make_prepared(tmp_path / "p", rare=True)
    constant = fitted(prepared)[0]
    target = read_table(prepared, "test")["target"].combine_chunks()
    actual = target.indices.to_numpy()
    assert constant.metrics["accuracy"] == pytest.approx(accuracy_score(actual, 0 * actual))
    macro = f1_score(actual, 0 * actual, average="macro", labels=[0, 1, 2], zero_division=0)
    assert constant.metrics["macro_f1"] == pytest.approx(macro, rel=1e-5)


def test_the_same_rows_and_seed_give_the_same_baselines_and_another_seed_others(tmp_path):
    prepared = make_prepared(tmp_path / "p", "tabular", rows={"train": 400, "test": 100})
    few = Evaluate(gates={}, baseline_cells=200)
    first, again = fitted(prepared, few), fitted(prepared, few)
    assert first == again
    assert first[1].of == 400
    assert 0 < first[1].rows < 400
    assert fitted(prepared, few.model_copy(update={"seed": 5})) != first


def test_baseline_false_fits_none(tmp_path):
    prepared = make_prepared(tmp_path / "p")
    assert fitted(prepared, Evaluate(gates={}, baseline=False)) == []


def test_cells_limit_the_rows_of_wide_tables_and_of_long_texts(tmp_path):
    rng = np.random.default_rng(0)
    wide = rng.normal(size=(2000, 300))
    rows = {name: (numbers(*wide), np.arange(300) % 2) for name in ("train", "test")}
    prepared = hand_made(tmp_path / "wide", number_columns(2000), "binary", ("no", "yes"), rows)
    quick = fitted(prepared, Evaluate(gates={}, baseline_cells=100_000))[1]
    assert quick.rows == 50
    texts = pa.array(["yes " * 100_000 if i % 2 else "no " * 10 for i in range(40)])
    column = TextColumn(name="text", vocabulary=9, max_length=9)
    rows = {name: ({"text": texts}, np.arange(40) % 2) for name in ("train", "test")}
    make_prepared(tmp_path / "t", "text")
    prepared = hand_made(tmp_path / "long", (column,), "binary", ("no", "yes"), rows)
    (prepared / "tokenizer.json").write_bytes((tmp_path / "t/tokenizer.json").read_bytes())
    quick = fitted(prepared, Evaluate(gates={}, baseline_cells=10_000))[1]
    assert quick.rows == 9  # 10,000 characters, of 1,015 in the mean: texts are read up to 2,000
    assert quick.metrics["accuracy"] == 1


def test_a_class_without_training_rows_and_a_class_without_test_rows_are_measured(tmp_path):
    x = np.arange(60.0)
    rows = {"train": (numbers(x), (x >= 30).astype(int)), "test": (numbers(x[:9]), [2] * 9)}
    prepared = hand_made(tmp_path / "p", number_columns(1), "multiclass", ("a", "b", "c"), rows)
    constant, quick = fitted(prepared)
    assert quick.metrics["accuracy"] == constant.metrics["accuracy"] == 0


def test_one_class_in_training_has_no_quick_model(tmp_path):
    x = np.arange(30.0)
    rows = {"train": (numbers(x), [1] * 30), "test": (numbers(x[:4]), [0, 1, 1, 1])}
    prepared = hand_made(tmp_path / "p", number_columns(1), "binary", ("no", "yes"), rows)
    (constant,) = fitted(prepared)
    assert constant.metrics["accuracy"] == 0.75


def test_a_constant_number_and_two_training_rows_have_baselines(tmp_path):
    rows = {"train": (numbers([1.0, 2.0]), [5, 5]), "test": (numbers([1.0, 3.0]), [5, 5])}
    columns = number_columns(1)
    assert all(
        b.metrics["mae"] == 0
        for b in fitted(hand_made(tmp_path / "p", columns, "regression", (), rows))
    )
    rows = {"train": (numbers([1.0, 2.0]), [0, 1]), "test": (numbers([1.0, 2.0]), [0, 1])}
    assert len(fitted(hand_made(tmp_path / "q", columns, "binary", ("a", "b"), rows))) == 2
    sequence = (SequenceColumn(name="s", features=1, max_length=9),)
    pair = {"s": pa.array([[1.0], [2.0, 3.0, 4.0]])}
    rows = {"train": (pair, [0, 1]), "test": (pair, [0, 1])}
    quick = fitted(hand_made(tmp_path / "r", sequence, "binary", ("a", "b"), rows))[1]
    assert quick.metrics["accuracy"] == 1


def test_unseen_categories_missing_numbers_and_many_categories_are_no_error(tmp_path):
    many = tuple(f"v{i:03}" for i in range(300))
    columns = (
        NumberColumn(name="x0", kind="number", fill=0.0),
        CategoryColumn(name="c", values=("blue", "red"), fill="red"),
        CategoryColumn(name="m", values=many),
    )

    def drawn(rows, colours):
        x = pa.array([None if i % 5 == 0 else float(i) for i in range(rows)])
        named = pa.array([many[i % 300] for i in range(rows)]).dictionary_encode()
        given = pa.array([colours[i % len(colours)] for i in range(rows)]).dictionary_encode()
        return {"x0": x, "c": given, "m": named}, [int(i % len(colours) == 1) for i in range(rows)]

    rows = {
        "train": drawn(600, ["blue", "red"]),
        "test": drawn(90, ["blue", "red", "green"]),
    }
    prepared = hand_made(tmp_path / "p", columns, "binary", ("no", "yes"), rows)
    assert fitted(prepared)[1].metrics["accuracy"] > 0.9


def test_columns_of_several_kinds_share_a_linear_model(tmp_path):
    make_prepared(tmp_path / "t", "text")
    texts = {name: read_table(tmp_path / "t", name) for name in ("train", "test")}
    text = Signature.read(tmp_path / "t/signature.json").columns[0]
    columns = (*number_columns(1), ImageColumn(name="i", dtype="uint8", shape=(2, 50, 3)), text)
    rows = {}
    for name, table in texts.items():
        count = len(table)
        image = pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((count, 2, 50, 3), np.uint8))
        values = {"x0": pa.array(np.ones(count)), "i": image, text.name: table[text.name]}
        rows[name] = values, table["target"].combine_chunks().indices.to_numpy()
    prepared = hand_made(tmp_path / "p", columns, "multiclass", ("a", "b", "c"), rows)
    (prepared / "tokenizer.json").write_bytes((tmp_path / "t/tokenizer.json").read_bytes())
    quick = fitted(prepared)[1]
    assert quick.name == "logistic regression"
    assert quick.metrics["accuracy"] > 0.7


@pytest.mark.parametrize("shape", [(64, 64, 3), (100, 33, 1), (1, 1, 1), (3, 200, 1)])
def test_large_images_are_averaged_in_blocks(shape, tmp_path):
    column = ImageColumn(name="i", dtype="uint8", shape=shape)
    bright = np.arange(40) % 2
    pixels = np.broadcast_to(bright[:, None, None, None] * 200, (40, *shape)).astype(np.uint8)
    image = pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(pixels))
    rows = {name: ({"i": image}, bright) for name in ("train", "test")}
    prepared = hand_made(tmp_path / "p", (column,), "binary", ("dark", "bright"), rows)
    assert fitted(prepared)[1].metrics["accuracy"] == 1
    assert column.baseline_cells(image) <= 32 * 32 * shape[2] or min(shape[:2]) < 7


@pytest.mark.whole
def test_many_classes_with_too_few_trees_each_get_a_linear_model(tmp_path):
    x = np.arange(400.0)
    rows = {name: (numbers(x), x.astype(int) // 4) for name in ("train", "test")}
    classes = tuple(f"c{i:02}" for i in range(100))
    prepared = hand_made(tmp_path / "p", number_columns(1), "multiclass", classes, rows)
    names = [
        fitted(prepared, Evaluate(gates={}, baseline_cells=cells))[1].name
        for cells in (4_000_000, 20_000)
    ]
    assert names == ["boosted trees", "logistic regression"]


def test_a_language_model_is_compared_with_frequencies_of_tokens_and_of_pairs(tmp_path):
    prepared = make_prepared(tmp_path / "p", "text", "language_model")
    unigram, bigram = fitted(prepared)
    encoder = Encoder.read(prepared)
    size = encoder.signature.columns[0].vocabulary
    from tasks.dataset import read_split

    train, test = (read_split(prepared, name, encoder).inputs for name in ("train", "test"))
    tokens = [row[1:length] for row, length in zip(train["tokens"], train["length"], strict=True)]
    counts = np.bincount(np.concatenate(tokens), minlength=size) + 1
    surprise = [
        -np.log(counts[token] / counts.sum())
        for row, length in zip(test["tokens"], test["length"], strict=True)
        for token in row[1:length]
    ]
    assert unigram.metrics["perplexity"] == pytest.approx(np.exp(np.mean(surprise)), rel=1e-4)
    assert bigram.metrics["perplexity"] < unigram.metrics["perplexity"] < size


def test_the_probabilities_of_pairs_of_tokens_add_up_to_one():
    from tasks.problems.language_model import _Bigrams

    before, token = np.array([1, 1, 2, 2, 2]), np.array([3, 3, 0, 1, 3])
    known = _Bigrams.of(before, token, np.array([0.1, 0.2, 0.3, 0.4]))
    for first in range(4):
        found = known.probabilities(np.full(4, first), np.arange(4))
        assert found.sum() == pytest.approx(1)
    # Seen twice among two followers of one kind: (2 + 1 * 0.4) / (2 + 1).
    assert known.probabilities(np.array([1]), np.array([3]))[0] == pytest.approx(0.8)
    nothing = _Bigrams.of(before[:0], token[:0], known.unigram)
    assert nothing.probabilities(np.array([1]), np.array([3]))[0] == pytest.approx(0.4)


def measured(**summary):
    return Metrics(rows=10, headline=list(summary), summary=summary)


@pytest.mark.parametrize(
    ("metric", "own", "other", "warned"),
    [
        ("macro_f1", 0.8, 0.9, True),
        ("macro_f1", 0.9, 0.9, False),
        ("macro_f1", 0.9, 0.8, False),
        ("perplexity", 20.0, 10.0, True),
        ("perplexity", 10.0, 20.0, False),
        ("r2", float("nan"), 0.0, True),
    ],
)
def test_a_baseline_that_is_better_is_a_warning(metric, own, other, warned):
    simple = [
        Baseline("boosted trees", True, 5, 9, {metric: other}),
        Baseline("m", False, 5, 9, {}),
    ]
    found = below_baseline(measured(**{metric: own}), simple)
    assert bool(found) == warned
    if warned:
        assert f"boosted trees, {other:.4f}" in found[0]


def test_without_baselines_there_is_no_warning():
    assert below_baseline(measured(r2=0.1), []) == []


def test_an_evaluation_of_the_first_format_has_no_baselines():
    assert "baselines" not in json.loads(EARLIER.read_bytes())
    found = Evaluation.read(EARLIER)
    assert (found.baselines, found.warnings, found.passed) == ([], [], True)


def test_an_evaluation_keeps_its_baselines(tmp_path):
    simple = [Baseline("mean", False, 5, 9, {"r2": 0.0})]
    before = Evaluation.read(EARLIER)
    from dataclasses import replace

    written = replace(before, baselines=simple, warnings=["look"]).as_dict()
    assert written["format"] == 2
    (tmp_path / "e.json").write_text(json.dumps(written))
    again = Evaluation.read(tmp_path / "e.json")
    assert (again.baselines, again.warnings) == (simple, ["look"])


def test_every_column_names_a_kind_of_quick_model():
    from tasks.columns import COLUMNS

    assert {column.baseline for column in COLUMNS.values()} <= quick_models.KINDS.keys()
