"""How text becomes tokens: a tokenizer, trained on the training split alone.

Ids 0, 1 and 2 are reserved for padding, an unknown token and the beginning of each text. What is
written is the file format of the library `tokenizers`.
"""

import json
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Trained

from tasks.config import Tokenizer
from tasks.errors import InputError

# Token ids that every tokenizer reserves; the third is the beginning of each text.
PADDING, UNKNOWN, BEGIN = 0, 1, 2
RESERVED = ["[PAD]", "[UNK]", "[BOS]"]  # in the order of PADDING, UNKNOWN, BEGIN
BATCH = 10_000  # texts that are encoded at once; each takes a few kB until it is counted


def train_tokenizer(texts: list[str], params: Tokenizer) -> Trained:
    """A tokenizer of `texts`; the same texts and parameters give the same one, byte for byte.

    Raises:
        InputError: nothing in the texts is frequent enough to become a token.
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
            f"no {what} stands {params.min_frequency} times in the {len(texts)} texts of the "
            "training split; lower prepare.source.tokenizer.min_frequency"
        )
    # The library would take "[PAD]" in a user's text for padding; for us it is but text.
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = []
    return Trained.from_str(json.dumps(state))


def count_tokens(tokenizer: Trained, texts: list[str]) -> tuple[NDArray[np.int64], int]:
    """Tokens of each text (N,), its beginning included, and how many of all are unknown."""
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


def _normalizer(params: Tokenizer) -> normalizers.Sequence:
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


def _pre_tokenizer(params: Tokenizer) -> Any:
    if params.name == "word":
        return pre_tokenizers.Whitespace()  # runs of letters and digits, runs of other signs
    if params.name == "character":
        return pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    # White space becomes part of the word that follows (Kudo and Richardson 2018,
    # https://arxiv.org/abs/1808.06226), so that tokens tell where words begin.
    return pre_tokenizers.Metaspace()


def _of_common_characters(texts: list[str], tokenizer: Trained, params: Tokenizer) -> list[str]:
    """Normalized texts to learn pairs from.

    Without their rare characters, each of which would become a token, and with what spells a
    reserved token broken up: merged, it would be that token.
    """
    normalized = [tokenizer.normalizer.normalize_str(text) for text in texts]
    counts: Counter[str] = Counter()
    for text in normalized:
        counts.update(text)
    del counts[" "]
    ranked = sorted(counts, key=lambda character: (-counts[character], character))
    room = params.vocabulary - len(RESERVED) - 1  # one is for white space
    common = {c for c in ranked[:room] if counts[c] >= params.min_frequency}
    rare = {ord(c): " " for c in counts if c not in common}
    for number, text in enumerate(normalized):
        for token in RESERVED:
            text = text.replace(token, f"{token[0]} {token[1:]}")
        normalized[number] = text.translate(rare)
    return normalized
