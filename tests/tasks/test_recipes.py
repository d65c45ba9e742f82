"""What is proposed for tables and texts, by their rows and script."""

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
