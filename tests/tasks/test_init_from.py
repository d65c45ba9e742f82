"""`train.init_from`: starting from the weights of a registered version."""

import hashlib
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from training_helpers import WORDS, make_prepared, run, tiny, written

from tasks.architectures import ARCHITECTURES, build
from tasks.bundle.signature import Signature
from tasks.config import Optimizer, Schedule
from tasks.encoding import Encoder
from tasks.errors import InputError
from tasks.training.pretrained import start_from

OTHER_WORDS = ("new", "words", *WORDS[::-1][:8])


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two datasets of texts with different words, and a language model of the first as base."""
    root = tmp_path_factory.mktemp("init")
    make_prepared(root / "texts", "text")
    make_prepared(root / "others", "text", words=OTHER_WORDS + WORDS[8:10])
    run(tiny("transformer_lm", epochs=3), root / "lm", root / "texts")
    as_base(root / "lm/checkpoint", root / "base", "texts-lm:3")
    return root


def as_base(checkpoint, base, ref):
    """The files of a registered version that a flow puts into `base`."""
    base.mkdir(parents=True)
    for name in ("weights.safetensors", "signature.json", "tokenizer.json"):
        if (checkpoint / name).exists():
            shutil.copy(checkpoint / name, base)
    (base / "version.json").write_text(json.dumps({"ref": ref, "digest": "d" * 64}))


def fresh(name, prepared, seed=9):
    torch.manual_seed(seed)
    return build(ARCHITECTURES[name].debug, Signature.read(prepared / "signature.json"))


def test_init_from_starts_a_classifier_from_a_language_model(folders):
    network, before = (fresh("transformer", folders / "texts") for _ in "ab")
    said = start_from(network, "texts-lm@champion", folders / "base", folders / "texts")
    base = load_file(folders / "base/weights.safetensors")
    for name, tensor in network.state_dict().items():
        expected = before.state_dict()[name] if name.startswith("head.") else base[name]
        assert torch.equal(tensor, expected), name
    total = len(network.state_dict())
    assert said == (
        f"starting from texts-lm:3: loaded {total - 2} of {total} tensors; "
        "new: head.weight, head.bias; unused: head.bias"
    )


def test_init_from_copies_embeddings_of_shared_tokens(folders):
    prepared = folders / "others"
    network, before = (fresh("transformer", prepared) for _ in "ab")
    said = start_from(network, "texts-lm:3", folders / "base", prepared)
    here = Encoder.read(prepared).tokenizer.get_vocab()
    there = Encoder.read(folders / "texts").tokenizer.get_vocab()
    name = "front.steps.embedding.weight"
    base = load_file(folders / "base/weights.safetensors")[name]
    for token, number in here.items():
        source = base[there[token]] if token in there else before.state_dict()[name][number]
        assert torch.equal(network.state_dict()[name][number], source), token
    shared = len(here.keys() & there.keys())
    assert 3 < shared < len(here)
    assert f"the tokenizers share {shared} tokens" in said
    assert torch.equal(
        network.body.norm.weight,
        load_file(folders / "base/weights.safetensors")["body.norm.weight"],
    )


def test_init_from_copies_embeddings_and_head_biases_of_shared_tokens(folders):
    prepared = folders / "others"
    network = fresh("transformer_lm", prepared)
    said = start_from(network, "texts-lm", folders / "base", prepared)
    base = load_file(folders / "base/weights.safetensors")
    here = Encoder.read(prepared).tokenizer.get_vocab()
    there = Encoder.read(folders / "texts").tokenizer.get_vocab()
    for name in ("front.steps.embedding.weight", "head.bias"):
        assert torch.equal(network.state_dict()[name][here["hoot"]], base[name][there["hoot"]])
    assert "new:" not in said
    assert "unused:" not in said


def test_init_from_loads_no_vectors_of_ngrams_that_another_tokenizer_hashed(folders, tmp_path):
    run(tiny("bag", epochs=1), tmp_path / "bag", folders / "texts")
    as_base(tmp_path / "bag/checkpoint", tmp_path / "base", "bag:1")
    base = load_file(tmp_path / "base/weights.safetensors")["front.embedding.weight"]
    for name, loaded in (("texts", True), ("others", False)):
        network = fresh("bag", folders / name)
        said = start_from(network, "bag", tmp_path / "base", folders / name)
        assert torch.equal(network.front.embedding.weight, base) == loaded
        assert ("unused: front.embedding.weight" in said) != loaded
        assert network.front.rarity[1:].eq(1).all()  # of the new dataset, which `fit` sets


def test_init_from_does_not_copy_scales(tmp_path):
    old = make_prepared(tmp_path / "old")
    run(tiny("mlp"), tmp_path / "first", old)
    as_base(tmp_path / "first/checkpoint", tmp_path / "second/base", "pets:1")
    new = make_prepared(tmp_path / "new", rows={"train": 50, "validation": 20})
    run(tiny("mlp", init_from="pets"), tmp_path / "second", new)
    profile = json.loads((new / "profile.json").read_bytes())["inputs"]["image"]
    after = load_file(tmp_path / "second/checkpoint/weights.safetensors")
    assert after["front.scale.mean"].tolist() == pytest.approx(profile["mean"])
    base = load_file(tmp_path / "second/base/weights.safetensors")
    assert not torch.equal(after["front.scale.mean"], base["front.scale.mean"])


def test_init_from_with_a_tiny_learning_rate_keeps_the_weights(folders, tmp_path, capsys):
    shutil.copytree(folders / "base", tmp_path / "base")
    params = tiny(
        "transformer",
        init_from="texts-lm:3",
        epochs=1,
        optimizer=Optimizer(name="sgd", learning_rate=1e-9),
        schedule=Schedule(name="constant", warmup=0),
    )
    run(params, tmp_path, folders / "texts")
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("starting from texts-lm:3: loaded ")
    after = load_file(tmp_path / "checkpoint/weights.safetensors")
    base = load_file(tmp_path / "base/weights.safetensors")
    torch.testing.assert_close(after["body.norm.weight"], base["body.norm.weight"])


def test_init_from_is_deterministic(folders, tmp_path):
    for folder in ("a", "b"):
        shutil.copytree(folders / "base", tmp_path / folder / "base")
        run(tiny("transformer", init_from="texts-lm"), tmp_path / folder, folders / "texts")
    run(tiny("transformer"), tmp_path / "c", folders / "texts")
    a, b, c = (written(tmp_path / folder) for folder in "abc")
    assert a == b
    assert a["weights.safetensors"] != c["weights.safetensors"]


def test_init_from_without_fetched_weights_is_refused(folders, tmp_path):
    with pytest.raises(InputError) as caught:
        run(tiny("transformer", init_from="texts-lm@champion"), tmp_path, folders / "texts")
    assert str(caught.value) == (
        f"train.init_from is texts-lm@champion, but its weights are not in {tmp_path / 'base'}. "
        "Run `modelmint train`, which fetches them"
    )


@pytest.mark.parametrize("asked", ["texts-lm:4", "tweets", "tweets@champion"])
def test_init_from_refuses_weights_of_another_version(asked, folders):
    network = fresh("transformer", folders / "texts")
    with pytest.raises(InputError, match=f"is {asked}, but the weights in .* of texts-lm:3"):
        start_from(network, asked, folders / "base", folders / "texts")


def test_init_from_refuses_weights_of_which_none_match(folders):
    network = fresh("gru", folders / "texts")
    with pytest.raises(
        InputError, match="no weight of texts-lm:3 matches a weight of this network"
    ):
        start_from(network, "texts-lm", folders / "base", folders / "texts")


def test_init_from_does_not_load_a_head_of_other_classes(folders, tmp_path):
    prepared = folders / "texts"
    run(tiny("transformer"), tmp_path / "first", prepared)
    as_base(tmp_path / "first/checkpoint", tmp_path / "base", "moods:1")
    changed = tmp_path / "base/signature.json"
    signature = Signature.read(changed)
    taken = start_from(fresh("transformer", prepared), "moods", tmp_path / "base", prepared)
    assert "new:" not in taken
    signature.model_copy(update={"classes": signature.classes[::-1]}).write(changed)
    network, before = (fresh("transformer", prepared) for _ in "ab")
    said = start_from(network, "moods", tmp_path / "base", prepared)
    assert "new: head.weight, head.bias" in said
    assert torch.equal(network.head.weight, before.head.weight)


def test_init_from_refuses_a_version_of_another_table(tmp_path):
    prepared = make_prepared(tmp_path / "table", "tabular")
    run(tiny("mlp"), tmp_path / "first", prepared)
    as_base(tmp_path / "first/checkpoint", tmp_path / "base", "table:1")
    start_from(fresh("mlp", prepared), "table", tmp_path / "base", prepared)
    changed = tmp_path / "base/signature.json"
    signature = Signature.read(changed)
    signature.model_copy(update={"columns": signature.columns[::-1]}).write(changed)
    with pytest.raises(InputError, match="other columns or categories"):
        start_from(fresh("mlp", prepared), "table", tmp_path / "base", prepared)


def test_init_from_refuses_changed_weights(folders, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(folders / "base", base)
    weights = base / "weights.safetensors"
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    document = json.loads((base / "version.json").read_text())
    document["sha256"] = {weights.name: sha256}
    (base / "version.json").write_text(json.dumps(document))
    network = fresh("transformer", folders / "texts")
    assert start_from(network, "texts-lm:3", base, folders / "texts")
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(
        InputError, match=r"weights\.safetensors differs from the registered file of texts-lm:3"
    ):
        start_from(network, "texts-lm:3", base, folders / "texts")
