"""Trains tokenizers, in the file format of the library `tokenizers`.

Ids 0, 1 and 2 are reserved for padding, the unknown token and the start token of each text.
"""

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Trained

from tasks.errors import InputError

if TYPE_CHECKING:  # predictions need no parameters, whose import takes 0.1 s
    from tasks.config import Tokenizer

# Token ids that every tokenizer reserves.
PADDING, UNKNOWN, BEGIN = 0, 1, 2
RESERVED = ["[PAD]", "[UNK]", "[BOS]"]  # in the order of PADDING, UNKNOWN, BEGIN
BATCH = 10_000  # texts encoded at once; each takes a few kB of memory


def train_tokenizer(texts: list[str], params: "Tokenizer") -> Trained:
    """Train a tokenizer on `texts`. The same texts and parameters give the same bytes.

    Raises:
        InputError: no word or character is frequent enough to become a token.
    """
    tokenizer = Trained(_MODELS[params.name](unk_token=RESERVED[UNKNOWN]))
    tokenizer.normalizer = _normalizer(params)
    tokenizer.pre_tokenizer = _pre_tokenizer(params)
    options: dict[str, Any] = {
        "vocab_size": params.vocabulary,
        "min_frequency": params.min_frequency,
        "special_tokens": RESERVED,
        "show_progress": False,
    }
    if params.name == "bpe":
        tokenizer.train_from_iterator(
            _of_common_characters(texts, tokenizer, params), trainers.BpeTrainer(**options)
        )
    else:
        tokenizer.train_from_iterator(texts, trainers.WordLevelTrainer(**options))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{RESERVED[BEGIN]} $A", special_tokens=[(RESERVED[BEGIN], BEGIN)]
    )
    if tokenizer.get_vocab_size() <= len(RESERVED):
        what = "word" if params.name == "word" else "character"
        raise InputError(
            f"no {what} occurs {params.min_frequency} times in the {len(texts)} texts of the "
            "training split; lower prepare.source.tokenizer.min_frequency"
        )
    # Otherwise the library would treat "[PAD]" in a user's text as padding.
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = []
    return Trained.from_str(json.dumps(state))


def count_tokens(tokenizer: Trained, texts: list[str]) -> tuple[NDArray[np.int64], int]:
    """Tokens of each text (N,), including the start token, and how many tokens are unknown."""
    unknown, lengths = 0, []
    for start in range(0, len(texts), BATCH):
        for encoded in tokenizer.encode_batch_fast(texts[start : start + BATCH]):
            lengths.append(len(encoded.ids))
            unknown += encoded.ids.count(UNKNOWN)
    return np.array(lengths, np.int64), unknown


_MODELS: dict[str, Any] = {
    "word": models.WordLevel,
    "character": models.WordLevel,
    "bpe": models.BPE,
}


def _normalizer(params: "Tokenizer") -> normalizers.Sequence:
    forms: dict[str, list[Any]] = {
        "nfc": [normalizers.NFC()],
        "nfkc": [normalizers.NFKC()],
        "none": [],
    }
    steps = forms[params.normalization]
    if params.lowercase:
        steps.append(normalizers.Lowercase())
    if params.strip_accents:
        steps += [normalizers.NFD(), normalizers.StripAccents(), normalizers.NFC()]
    return normalizers.Sequence(
        [*steps, normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    )


def _pre_tokenizer(params: "Tokenizer") -> Any:
    if params.name == "word":
        return pre_tokenizers.Whitespace()  # runs of letters and digits, runs of punctuation
    if params.name == "character":
        return pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    # White space becomes part of the following word, so that tokens mark where words begin (Kudo
    # and Richardson 2018, https://arxiv.org/abs/1808.06226).
    return pre_tokenizers.Metaspace()


def _of_common_characters(texts: list[str], tokenizer: Trained, params: "Tokenizer") -> list[str]:
    """Normalized texts to learn merges from.

    Rare characters are removed, because each would become a token. The text of a reserved token is
    broken up, because merging it would give that token.
    """
    normalized = [tokenizer.normalizer.normalize_str(text) for text in texts]
    counts: Counter[str] = Counter()
    for text in normalized:
        counts.update(text)
    del counts[" "]
    ranked = sorted(counts, key=lambda character: (-counts[character], character))
    room = params.vocabulary - len(RESERVED) - 1  # one more is for white space
    common = {c for c in ranked[:room] if counts[c] >= params.min_frequency}
    rare = {ord(c): " " for c in counts if c not in common}
    for number, text in enumerate(normalized):
        for token in RESERVED:
            text = text.replace(token, f"{token[0]} {token[1:]}")
        normalized[number] = text.translate(rare)
    return normalized
