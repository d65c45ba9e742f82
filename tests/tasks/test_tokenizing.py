"""Tokenizers: deterministic, trained on the training split only, for any script."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from prepare_helpers import columns, profile, put, refusal, report, run, signature, splits, texts
from tokenizers import Tokenizer as Trained

from tasks.columns.tokenizing import count_tokens, train_tokenizer
from tasks.config import Tokenizer
from tasks.errors import InputError

ENGLISH = ["The cat sat.", "the Cat ran, and ran!", "A dog sat: the café's", "and the dog ran"] * 3
NAMES = ["word", "bpe", "character"]


def trained(found, name="word", **changes):
    return train_tokenizer(found, Tokenizer(name=name, **{"min_frequency": 1} | changes))


def tokens(tokenizer, text):
    return tokenizer.encode(text).tokens


def test_word_tokenizer_splits_at_white_space_and_punctuation():
    tokenizer = trained(ENGLISH)
    assert tokens(tokenizer, "  The dog's\n\tCAT!") == ["[BOS]", "the", "dog", "'", "s", "cat", "!"]


def test_character_tokenizer_has_one_token_per_character():
    tokenizer = trained(ENGLISH, "character")
    assert tokens(tokenizer, " A \n\t dog") == ["[BOS]", "a", " ", "d", "o", "g"]


def test_bpe_tokenizer_merges_within_words_and_marks_their_beginning():
    tokenizer = trained(ENGLISH, "bpe", vocabulary=60)
    assert tokens(tokenizer, "The  dog") == ["[BOS]", "▁the", "▁dog"]
    assert tokens(tokenizer, "thedog") != ["[BOS]", "▁the", "▁dog"]


@pytest.mark.parametrize("name", NAMES)
def test_ids_of_padding_unknown_and_start_are_reserved(name):
    tokenizer = trained(ENGLISH, name)
    assert [tokenizer.token_to_id(t) for t in ("[PAD]", "[UNK]", "[BOS]")] == [0, 1, 2]
    assert tokenizer.encode("").ids == [2]
    assert tokenizer.encode("龍").ids[0] == 2
    assert tokenizer.encode("龍").ids[-1] == 1


@pytest.mark.parametrize("name", NAMES)
def test_the_text_of_a_reserved_token_is_ordinary_text(name):
    found = [*ENGLISH, *[f"{c}[PAD]{c} {c}[BOS]{c}" for c in "qwertyuiop"]]
    tokenizer = trained(found, name, lowercase=False)
    ids = tokenizer.encode("q[PAD]q the w[BOS]w [PAD] [BOS]").ids
    assert ids.count(0) == 0
    assert ids.count(2) == 1


@pytest.mark.parametrize("name", ["bpe", "character"])
def test_scripts_without_spaces_can_be_tokenized(name):
    tokenizer = trained(["今天天气很好", "今天很冷", "天气不好"] * 4, name)
    ids = tokenizer.encode("今天天气不好").ids
    assert 1 not in ids
    assert len(ids) > 2


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("vocabulary", [8, 12, 30])
def test_the_vocabulary_is_at_most_the_given_size(name, vocabulary):
    chinese = ["".join(map(chr, range(0x4E00, 0x4E60)))]
    for found in (ENGLISH, chinese, ENGLISH + chinese):
        assert trained(found, name, vocabulary=vocabulary).get_vocab_size() <= vocabulary


@pytest.mark.parametrize("name", NAMES)
def test_words_below_min_frequency_are_unknown(name):
    tokenizer = trained([*ENGLISH, "龍"], name, min_frequency=2)
    assert tokenizer.encode("龍").ids[-1] == 1
    assert 1 not in tokenizer.encode("the cat ran").ids


def test_lowercase_normalization_and_strip_accents_are_applied():
    wide = "ＣＡＦÉ"
    for changes, expected in (
        ({}, "café"),
        ({"lowercase": False}, "CAFÉ"),
        ({"strip_accents": True}, "cafe"),
        ({"normalization": "nfc"}, "ｃａｆé"),
        ({"normalization": "none", "lowercase": False}, wide),
    ):
        tokenizer = trained([wide] * 2, **changes)
        assert tokens(tokenizer, wide) == ["[BOS]", expected]


def test_composed_and_decomposed_letters_give_the_same_tokens():
    tokenizer = trained(["caf\u00e9"] * 2)
    assert tokens(tokenizer, "cafe\u0301") == ["[BOS]", "caf\u00e9"]


@pytest.mark.parametrize("name", NAMES)
def test_texts_without_a_frequent_token_are_refused(name):
    with pytest.raises(InputError, match=r"occurs 9 times in the 1 texts of the training split"):
        trained(["abc"], name, min_frequency=9)


MANY = """
import sys
import numpy as np
from tasks.config import Tokenizer
from tasks.columns.tokenizing import train_tokenizer
chance = np.random.default_rng(0)
letters = list("abcdefghij一二三四五六é")
words = ["".join(chance.choice(letters, chance.integers(1, 9))) for _ in range(2000)]
texts = [" ".join(row) for row in np.array(words)[chance.integers(0, 2000, (2000, 12))]]
for name in ("word", "bpe", "character"):
    params = Tokenizer(name=name, vocabulary=500, min_frequency=2)
    sys.stdout.buffer.write(train_tokenizer(texts, params).to_str(pretty=True).encode())
"""


@pytest.mark.whole  # three processes
def test_tokenizer_training_is_deterministic_for_any_number_of_threads():
    found = set()
    for seed, threads in (("0", "1"), ("1", "2"), ("random", "4")):
        environment = {
            **os.environ,
            "PYTHONHASHSEED": seed,
            "RAYON_NUM_THREADS": threads,
            "TOKENIZERS_PARALLELISM": "true",
            "PYTHONPATH": os.getcwd(),
        }
        command = [sys.executable, "-c", MANY]
        found.add(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
    assert len(found) == 1
    assert b"\xe4\xb8\x80" in found.pop()


@pytest.mark.parametrize("name", NAMES)
def test_the_tokenizer_is_trained_on_the_training_split_only(tmp_path, name):
    fold = np.array(["train"] * 40 + ["validation"] * 10 + ["test"] * 10)
    own = {"train": "alpha beta", "validation": "ψωξ", "test": "жщэ"}
    found = [f"{own[split]} {row}" for row, split in enumerate(fold.tolist())]
    put(tmp_path, {"text": found, "y": columns()["y"], "fold": fold})
    run(tmp_path, texts(Tokenizer(name=name, min_frequency=1)), split_column="fold")
    content = (tmp_path / "prepared/tokenizer.json").read_text(encoding="utf-8")
    vocabulary = json.loads(content)["model"]["vocab"]
    assert not set("ψωξжщэ") & set("".join(vocabulary))
    assert set("alphbet") <= set("".join(vocabulary))
    assert signature(tmp_path).columns[0].vocabulary == len(vocabulary)
    unknown = {n: part["unknown_share"] for n, part in report(tmp_path)["lengths"].items()}
    assert unknown["train"] == 0
    assert unknown["validation"] > 0.2 < unknown["test"]


def test_long_texts_are_truncated_and_counted_in_the_report(tmp_path):
    found = [f"number{row} " + "word " * (row % 10) for row in range(60)]
    put(tmp_path, {"text": found, "y": columns()["y"]})
    run(tmp_path, texts(max_length=6))
    assert signature(tmp_path).columns[0].max_length == 6
    for name, split in splits(tmp_path).items():
        part = report(tmp_path)["lengths"][name]
        length = split.keys % 10 + 2  # the beginning and the number are tokens too
        assert part["truncated"] == (length > 6).sum() > 0
        assert part["tokens"] == (length - 1).sum()
        assert part["percentiles"]["50"] == np.median(length)
        assert part["percentiles"]["100"] == length.max()
        assert split.inputs["length"].tolist() == np.minimum(length, 6).tolist()
    found = profile(tmp_path)["length"]
    assert sum(found["histogram"]["counts"]) == 42
    assert profile(tmp_path)["inputs"] == {}


def test_tokenizer_json_contains_no_truncation(tmp_path):
    put(tmp_path, {"text": [f"a b c {row}" for row in range(60)], "y": columns()["y"]})
    run(tmp_path, texts(max_length=3))
    path = tmp_path / "prepared/tokenizer.json"
    assert json.loads(path.read_bytes())["truncation"] is None
    lengths, unknown = count_tokens(Trained.from_file(str(path)), ["a b c", "a x x"])
    assert lengths.tolist() == [4, 4]
    assert unknown == 2


def test_prepare_of_texts_is_deterministic(tmp_path):
    chance = np.random.default_rng(0)
    words = np.array([f"w{n}" for n in range(40)])[chance.integers(0, 40, (60, 9))]
    put(tmp_path, {"text": [" ".join(row) for row in words], "y": columns()["y"]})
    found = []
    for _ in range(2):
        run(tmp_path, texts(Tokenizer(name="bpe", vocabulary=60)), label_noise=True)
        found.append({p.name: p.read_bytes() for p in (tmp_path / "prepared").iterdir()})
    assert found[0] == found[1]


def test_a_column_of_numbers_is_refused_as_text(tmp_path):
    put(tmp_path, {"text": np.arange(60), "y": columns()["y"]})
    assert "column 'text' is int64; texts are expected" in refusal(tmp_path, texts())
