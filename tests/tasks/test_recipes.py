"""What is proposed for tables, texts, sequences and images, by their rows, script and colour."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks import recipes
from tasks.config import Train
from tasks.proposal import propose


def test_larger_tables_get_larger_batches_and_fewer_epochs():
    sizes = (10, 1_000, 1_001, 10_001, 1_000_000, 10_000_000)
    given = [Train.model_validate(recipes.of_table(rows, 1).train) for rows in sizes]
    assert [train.batch_size for train in given] == [32, 32, 64, 256, 1024, 1024]
    epochs = [train.epochs for train in given]
    assert epochs == sorted(epochs, reverse=True)
    assert {train.architecture.name for train in given} == {"tabular"}


@pytest.mark.parametrize(("columns", "periodic"), [(10, 3), (11, 0)])
def test_a_table_with_few_rows_for_each_column_gets_no_waves(columns, periodic):
    train = Train.model_validate(recipes.of_table(100, columns).train)
    assert train.architecture.periodic == periodic


@pytest.mark.parametrize(
    ("text", "tokenizer"),
    [
        ("Ein gutes Buch, das man gerne liest.", "word"),
        ("Очень хорошая книга", "word"),
        ("كتاب جيد جدا", "word"),
        ("책이 정말 재미있어요", "word"),
        ("这本书非常好看", "character"),
        ("とても面白い本です", "character"),
        ("หนังสือเล่มนี้ดีมาก", "character"),
        ("", "word"),
    ],
)
def test_scripts_without_spaces_are_split_into_characters(text, tokenizer):
    found = recipes.of_texts([text] * 3)
    assert found.source["tokenizer"]["name"] == tokenizer
    assert Train.model_validate(found.train).architecture.name == "bag"


def test_a_column_of_chinese_sentences_is_a_text(tmp_path):
    texts = [
        f"这本书非常好看我读了{n}遍" if n % 2 else f"质量太差了第{n}页就破了" for n in range(60)
    ]
    labels = ["good" if n % 2 else "bad" for n in range(60)]
    pq.write_table(pa.table({"review": texts, "label": labels}), tmp_path / "reviews.parquet")
    found = propose(tmp_path, "reviews.parquet")
    assert found.params.prepare.source.column == "review"
    assert found.params.prepare.source.tokenizer.name == "character"
    assert not any("NOT READABLE" in assumption for assumption in found.assumptions)


@pytest.mark.parametrize(
    ("positives", "gates"), [(20, {"macro_f1": 0.47}), (21, {"accuracy": 0.84})]
)
def test_a_rare_class_is_part_of_the_gate(positives, gates, tmp_path):
    labels = ["yes"] * positives + ["no"] * (100 - positives)
    lines = [f"{n},{n % 7}.5,{label}" for n, label in enumerate(labels)]
    (tmp_path / "few.csv").write_text("\n".join(["a,b,class", *lines]))
    found = propose(tmp_path, "few.csv")
    assert found.params.evaluate.gates == gates
    assert any("train.imbalance" in said for said in found.assumptions) == ("macro_f1" in gates)


@pytest.mark.parametrize(
    ("counts", "expected"), [([], False), ([9], False), ([40, 10], True), ([40] * 10 + [1], False)]
)
def test_accuracy_says_little_if_there_are_few_classes_and_one_is_rare(counts, expected):
    assert recipes.imbalanced(counts) == expected


def test_more_sequences_get_larger_batches_and_fewer_epochs():
    sizes = (50, 200, 201, 1_001, 5_001, 20_001)
    given = [recipes.of_sequences(rows, 50) for rows in sizes]
    assert all(recipe.source == {} for recipe in given)
    trains = [Train.model_validate(recipe.train) for recipe in given]
    assert {train.architecture.name for train in trains} == {"conv1d"}
    assert [train.batch_size for train in trains] == [8, 8, 16, 32, 64, 256]
    epochs = [train.epochs for train in trains]
    assert epochs == sorted(epochs, reverse=True)
    # With seven of ten rows for training, never too few steps.
    steps = [0.7 * rows / t.batch_size * t.epochs for rows, t in zip(sizes, trains, strict=True)]
    assert all(count > 430 for count in steps)


@pytest.mark.parametrize(("longest", "kept"), [(512, 512), (513, 513), (2048, 2048), (9000, 2048)])
@pytest.mark.parametrize("form", ["npz", "parquet"])
def test_long_sequences_are_kept_whole_up_to_a_limit(form, longest, kept, tmp_path):
    steps, labels = np.random.default_rng(0).normal(size=(8, longest)), [0, 1] * 4
    if form == "npz":
        np.savez(tmp_path / "long.npz", sequences=steps, labels=np.array(labels))
    else:
        rows = [row[: 1 + 5 * n].tolist() for n, row in enumerate(steps[1:])]
        table = pa.table({"steps": [*rows, steps[0].tolist()], "label": [f"c{n}" for n in labels]})
        pq.write_table(table, tmp_path / "long.parquet")
    found = propose(tmp_path, f"long.{form}")
    assert found.params.prepare.source.max_length == kept
    assert found.params.evaluate.batch_size * kept <= (2**19 if longest == 512 else 2**18)
    told = f"{kept} of {longest} timesteps" in "\n".join(found.assumptions)
    assert told == (longest > 512)


@pytest.mark.parametrize("shape", [(), (6,), (6, 0), (6, 2, 2, 2)])
def test_an_array_that_holds_no_sequences_is_reported_not_read(shape, tmp_path):
    np.savez(tmp_path / "odd.npz", sequences=np.zeros(shape), labels=np.arange(6) % 2)
    found = propose(tmp_path, "odd.npz")
    assert any("NOT READABLE YET" in said for said in found.assumptions)


def test_more_images_get_larger_batches_and_fewer_epochs():
    sizes = (50, 1_000, 1_001, 5_001, 20_001)
    trains = [
        Train.model_validate(
            recipes.of_images(rows, (8, 8), colour=False, black_edges=True, classes=True).train
        )
        for rows in sizes
    ]
    assert [train.batch_size for train in trains] == [16, 16, 32, 64, 128]
    epochs = [train.epochs for train in trains]
    assert epochs == sorted(epochs, reverse=True)


GREY, COLOUR = (16, 32), (64, 40, 3)


def framed(*shape, inside=70, edges=0):
    """Images whose outermost pixels are others."""
    images = np.full((40, *shape), inside, np.uint8)
    images[:, [0, -1]] = edges
    images[:, :, [0, -1]] = edges
    return images


PIXELS = {
    "grey": (framed(*GREY), "cnn", {"shift": 1}),
    "grey, with nearly black edges": (framed(*GREY, edges=7), "cnn", {"shift": 1}),
    "black on white": (framed(*GREY, inside=0, edges=255), "cnn", {}),
    "dark grey edges": (framed(*GREY, edges=8), "cnn", {}),
    "smaller than 16 pixels": (np.ones((40, 4, 8), np.float32), "cnn", {}),
    "too small for cnn": (np.ones((40, 3, 8), np.float32), "resnet_d", {}),
    "larger than 32 pixels": (framed(33, 33), "resnet_d", {"shift": 2}),
    "colour": (
        np.random.default_rng(0).integers(0, 256, (40, *COLOUR), np.uint8),
        "resnet_d",
        {"flip": True, "crop": 0.8},
    ),
    "grey, stored as colour": (framed(*COLOUR), "resnet_d", {"shift": 2}),
    "two channels": (framed(16, 16, 2), "cnn", {"shift": 1}),
}


@pytest.mark.parametrize(("pixels", "network", "expected"), PIXELS.values(), ids=PIXELS)
def test_images_get_a_network_by_size_and_are_augmented_by_colour(
    pixels, network, expected, tmp_path
):
    for labels, wanted in ((np.arange(40) % 2, expected), (np.arange(40) / 7, {})):
        np.savez(tmp_path / "some.npz", images=pixels, labels=labels)
        found = propose(tmp_path, "some.npz")
        train, said = found.params.train, "\n".join(found.assumptions)
        assert train.architecture.name == network
        assert train.augmentation.model_dump(exclude_defaults=True) == wanted
        assert ("flip: false" in said) == train.augmentation.flip
        assert "NOT READABLE" not in said
