"""Every architecture on all kinds of data and tasks that it supports, at debug size."""

import math

import pytest
import torch
from network_helpers import rows
from pydantic import TypeAdapter
from torch import nn

from tasks.architectures import (
    ARCHITECTURES,
    build,
    signature_for,
)
from tasks.architectures.timesteps import Positions
from tasks.bundle.signature import Signature
from tasks.columns import (
    BooleanColumn,
    CategoryColumn,
    ImageColumn,
    NumberColumn,
    SequenceColumn,
    TextColumn,
)
from tasks.config import Architecture, Cnn, Linear, Logistic, Lstm, Mlp, Transformer
from tasks.config.architectures import expand
from tasks.errors import InputError

COLUMNS = {
    # A name that other kinds give to a tensor of their own.
    "image": (ImageColumn(name="length", dtype="uint8", shape=(8, 12, 3)),),
    "tabular": (
        NumberColumn(name="age"),
        CategoryColumn(name="city", values=("Bern", "Oslo", "Rome")),
        BooleanColumn(name="open"),
        CategoryColumn(name="colour", values=("blue", "red")),
    ),
    "text": (TextColumn(name="review", vocabulary=19, max_length=16),),
    "sequence": (SequenceColumn(name="walk", features=3, max_length=16),),
}
CLASSES = {"binary": ("no", "yes"), "multiclass": ("cat", "dog", "owl")}
CASES = [
    (name, kind, task)
    for name, entry in ARCHITECTURES.items()
    for kind in sorted({column.data for column in entry.fronts})
    for task in sorted(entry.tasks)
]
OF_STEPS = [case for case in CASES if case[1] in ("text", "sequence")]


@pytest.fixture(autouse=True)
def _deterministic():
    torch.manual_seed(0)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


def signature_of(kind, task):
    return Signature.of(task, COLUMNS[kind], CLASSES.get(task, ()))


def profile_of(signature):
    inputs = {
        t.name: {"mean": [5.0] * t.shape[-1], "std": [3.0] * t.shape[-1]}
        if t.dtype == "float32"
        else {"mean": [127.0] * 3, "std": [70.0] * 3}
        for t in signature.inputs
        if t.dtype != "int64"
    }
    return {"rows": 9, "inputs": inputs, "target": {"mean": 50.0, "std": 4.0, "no": 4, "yes": 5}}


def network_for(name, kind, task, **changes):
    architecture = ARCHITECTURES[name].debug.model_copy(update=changes)
    network = build(architecture, signature_of(kind, task))
    network.normalise_by(profile_of(network.signature))
    return network


@pytest.mark.parametrize(("name", "kind", "task"), CASES)
def test_network_outputs_match_the_signature(name, kind, task):
    network = network_for(name, kind, task).eval()
    inputs = rows(network.signature, [4, 9, 1, 6, 9])

    scores = network(inputs)
    outputs = network.outputs(inputs, scores)

    wanted = {"regression": (5,), "language_model": (5, 9, 19)}
    assert scores.shape == wanted.get(task, (5, len(network.signature.classes)))
    assert [*outputs] == [output.name for output in network.signature.outputs]
    for output in network.signature.outputs:
        assert outputs[output.name].shape == (5, *output.shape)
        assert str(outputs[output.name].dtype) == f"torch.{output.dtype}"
        assert outputs[output.name].isfinite().all()
    if "probabilities" in outputs:
        assert torch.allclose(outputs["probabilities"].sum(1), torch.ones(5))


@pytest.mark.parametrize(("name", "kind", "task"), CASES)
def test_every_weight_gets_a_gradient(name, kind, task):
    network = network_for(name, kind, task).train()
    inputs = rows(network.signature, [4, 9, 1, 6, 9, 2, 3, 8])

    network(inputs).square().sum().backward()

    for weight_name, weight in network.named_parameters():
        assert weight_name.split(".")[0] in ("front", "body", "head")
        assert weight.grad is not None, weight_name
        assert weight.grad.abs().sum() > 0, weight_name


@pytest.mark.parametrize(("name", "kind", "task"), OF_STEPS)
def test_padding_does_not_change_the_outputs(name, kind, task):
    network = network_for(name, kind, task).eval()
    together = rows(network.signature, [5, 11, 0])
    alone = {n: t[:1] if n == "length" else t[:1, :5] for n, t in together.items()}

    with torch.no_grad():
        of_all = network.outputs(together, network(together))
        of_one = network.outputs(alone, network(alone))

    for output, values in of_all.items():
        assert values.isfinite().all()
        assert torch.allclose(values[:1], of_one[output], atol=1e-5)


def test_a_language_model_does_not_attend_to_later_tokens():
    network = network_for("transformer_lm", "text", "language_model").eval()
    inputs = rows(network.signature, [9])
    changed = {**inputs, "tokens": inputs["tokens"].clone()}
    changed["tokens"][0, 6] = inputs["tokens"][0, 6] % 18 + 1

    scores, after = network(inputs), network(changed)

    assert torch.allclose(scores[:, :6], after[:, :6], atol=1e-6)
    assert not torch.allclose(scores[:, 6:], after[:, 6:], atol=1e-3)


def test_a_language_model_outputs_the_log_likelihood_of_each_text():
    network = network_for("transformer_lm", "text", "language_model").eval()
    inputs = rows(network.signature, [4, 7, 1])

    with torch.no_grad():
        scores = network(inputs)
        outputs = network.outputs(inputs, scores)

    for row, length in enumerate([4, 7, 1]):
        expected = 0.0
        for place in range(1, length):
            logits = scores[row, place - 1].double()
            token = inputs["tokens"][row, place]
            expected += math.log(logits.exp()[token] / logits.exp().sum())
        assert outputs["log_likelihood"][row].item() == pytest.approx(expected, abs=1e-4)
        assert outputs["scored"][row] == length - 1
        assert torch.equal(outputs["logits"][row], scores[row, length - 1])


def test_a_classifier_can_load_the_weights_of_a_language_model():
    model = network_for("transformer_lm", "text", "language_model")
    classifier = network_for("transformer", "text", "multiclass")

    found = {n: w.shape for n, w in model.state_dict().items() if not n.startswith("head.")}
    wanted = {n: w.shape for n, w in classifier.state_dict().items() if not n.startswith("head.")}

    assert found == wanted
    assert any(n.startswith("front.positions") for n in found)
    assert any(n.startswith("body.layers.1") for n in found)


def test_a_language_model_accepts_a_labelled_dataset():
    signature = signature_for(ARCHITECTURES["transformer_lm"].debug, signature_of("text", "binary"))

    assert signature == signature_of("text", "language_model")
    assert signature_for(ARCHITECTURES["transformer_lm"].debug, signature) == signature


@pytest.mark.parametrize(
    ("name", "kind", "task", "message"),
    [
        ("cnn", "text", "binary", "cnn takes image data; this dataset is text. Allowed for bin"),
        ("cnn", "text", "binary", "text data: bag, rnn, lstm, gru, attention, transformer$"),
        ("linear", "tabular", "binary", "linear is for regression; this dataset is for binary"),
        (
            "logistic",
            "tabular",
            "regression",
            "for regression on tabular data: linear, mlp, tabular$",
        ),
        ("lstm", "text", "language_model", "language_model on text data: transformer_lm$"),
        ("transformer_lm", "sequence", "binary", "takes text data; this dataset is sequence"),
    ],
)
def test_build_refuses_an_architecture_that_does_not_support_the_dataset(name, kind, task, message):
    with pytest.raises(InputError, match=message):
        build(ARCHITECTURES[name].debug, signature_of(kind, task))


def test_numbers_are_standardised_with_the_profile():
    network = build(Linear(name="linear"), signature_of("tabular", "regression"))
    # The second never changed.
    numbers = {"mean": [40.0, 1.0], "std": [8.0, 0.0]}
    network.normalise_by({"inputs": {"numbers": numbers}, "target": {"mean": 100.0, "std": 20.0}})
    inputs = {"numbers": torch.tensor([[48.0, 1.0]]), "categories": torch.zeros(1, 2).long()}
    nn.init.ones_(network.head.weight)
    nn.init.zeros_(network.head.bias)

    scores = network(inputs)

    assert scores.tolist() == [1.0]
    assert network.outputs(inputs, scores)["prediction"].tolist() == [120.0]


def test_a_constant_target_is_predicted_without_nan():
    network = build(Linear(name="linear"), signature_of("tabular", "regression"))
    numbers = {"mean": [0.0, 0.0], "std": [1.0, 1.0]}
    network.normalise_by({"inputs": {"numbers": numbers}, "target": {"mean": 7.0, "std": 0.0}})

    assert network.outputs({}, torch.zeros(2))["prediction"].tolist() == [7.0, 7.0]


@pytest.mark.parametrize("embedding", [None, 3])
def test_an_unseen_category_is_encoded_as_zeros(embedding):
    network = build(Mlp(name="mlp", embedding=embedding), signature_of("tabular", "binary"))
    numbers = torch.zeros(3, 2)
    codes = torch.tensor([[0, 0], [3, 0], [0, 1]])

    unseen, third_city, first_colour = network.front({"numbers": numbers, "categories": codes})

    size = embedding or 0
    assert unseen.tolist() == [0.0] * (2 + (2 * size or 5))
    if embedding is None:
        assert third_city.tolist() == [0, 0, 0, 0, 1, 0, 0]
        assert first_colour.tolist() == [0, 0, 0, 0, 0, 1, 0]
    else:
        # Row 0 is the unseen value's, then come three cities, then two colours.
        assert torch.equal(third_city[2:5], network.front.embedding.weight[3])
        assert torch.equal(first_colour[5:8], network.front.embedding.weight[4])


def test_a_table_front_accepts_only_numbers_or_only_categories():
    for columns in (COLUMNS["tabular"][:1], COLUMNS["tabular"][1:2]):
        signature = Signature.of("binary", columns, CLASSES["binary"])
        network = build(Logistic(name="logistic"), signature)
        network.normalise_by(profile_of(signature))
        assert network(rows(signature, [1, 1])).shape == (2, 2)


def test_the_lenet_preset_has_the_layer_shapes_of_lenet_5():
    signature = Signature.of(
        "multiclass",
        (ImageColumn(name="image", dtype="uint8", shape=(32, 32, 3)),),
        tuple("abcdefghij"),
    )
    lenet = TypeAdapter(Architecture).validate_python(expand("lenet"))

    network = build(lenet, signature)

    shapes = [tuple(w.shape) for n, w in network.named_parameters() if n.endswith("weight")]
    assert shapes == [(6, 3, 5, 5), (16, 6, 5, 5), (120, 16 * 5 * 5), (84, 120), (10, 84)]
    assert network(rows(signature, [1, 1])).shape == (2, 10)


def test_cnn_refuses_an_image_too_small_for_its_blocks():
    signature = signature_of("image", "binary")
    with pytest.raises(InputError, match=r"has 4 blocks.*8x12 allows 3 blocks\. Give fewer"):
        build(Cnn(name="cnn", channels=[2] * 4), signature)
    with pytest.raises(InputError, match=r"removes 8 pixels.*allows 0.*padding"):
        build(Cnn(name="cnn", kernel=5, padding=False), signature)


def test_transformer_refuses_a_patch_size_that_does_not_divide_the_image():
    with pytest.raises(InputError, match=r"is 5, but the image size 8x12 is not .*: 1, 2, 4$"):
        build(Transformer(name="transformer", patch=5), signature_of("image", "binary"))


def test_sinusoidal_positions_match_the_paper():
    table = Positions("sinusoidal", 7, 6).table * math.sqrt(6)

    for place in range(7):
        for pair in range(3):
            angle = place / 10_000 ** (2 * pair / 6)
            assert table[place, 2 * pair].item() == pytest.approx(math.sin(angle), abs=1e-5)
            assert table[place, 2 * pair + 1].item() == pytest.approx(math.cos(angle), abs=1e-5)


@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
@pytest.mark.parametrize("name", ["attention", "transformer"])
def test_positions_make_the_order_of_tokens_matter(name, positions):
    network = network_for(name, "text", "binary", positions=positions).eval()
    inputs = rows(network.signature, [6])
    turned = {**inputs, "tokens": inputs["tokens"].flip(1)}

    assert not torch.allclose(network(inputs), network(turned), atol=1e-4)


def test_last_pooling_uses_the_last_valid_timestep_of_each_direction():
    network = build(
        Lstm(name="lstm", width=4, hidden=3, dropout=0.0), signature_of("text", "binary")
    )
    inputs = rows(network.signature, [5, 8])
    states, _ = network.body.rnn(network.front(inputs)[:1, :5])

    last = network.body(network.front(inputs), inputs["length"])[0]

    assert torch.allclose(last, torch.cat([states[0, 4, :3], states[0, 0, 3:]]), atol=1e-6)


def latent_rows(count, generator, mixing):
    """(count, 1024) mixtures of 8 hidden numbers, and a noisy function of them with variance 1."""
    hidden = torch.randn(count, 8, generator=generator)
    numbers = (hidden @ mixing + torch.randn(count, 1024, generator=generator)) / 3
    target = hidden.sum(1) / math.sqrt(8) + 0.5 * torch.sin(2 * hidden[:, 0])
    return numbers, (target + 0.2 * torch.randn(count, generator=generator)) / 1.2


def ten_narrowing_layers(normalization):
    """1024-512-256-128-64-32-16-8-4-2-1."""
    columns = tuple(NumberColumn(name=f"n{i}") for i in range(1024))
    widths = [512, 256, 128, 64, 32, 16, 8, 4, 2]
    return build(
        Mlp(name="mlp", widths=widths, normalization=normalization, dropout=0.0),
        Signature.of("regression", columns, ()),
    )


def test_a_ten_layer_mlp_trains_with_batch_normalisation():
    network, steps = ten_narrowing_layers("batch"), 300
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(8, 1024, generator=generator)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.002)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.002, total_steps=steps)
    for _ in range(steps):
        numbers, target = latent_rows(128, generator, mixing)
        loss = nn.functional.mse_loss(network({"numbers": numbers}), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()

    network.eval()
    numbers, target = latent_rows(2000, generator, mixing)
    with torch.no_grad():
        error = nn.functional.mse_loss(network({"numbers": numbers}), target)
    assert 1 - (error / target.var()).item() > 0.8


def test_a_ten_layer_mlp_loses_the_signal_with_default_torch_weights():
    numbers = torch.randn(128, 1024)
    network = ten_narrowing_layers("none")
    for module in network.body:
        if isinstance(module, nn.Linear):
            module.reset_parameters()

    assert network.body(numbers).std(0).max() < 0.01
    assert ten_narrowing_layers("batch").body(numbers).std(0).min() > 0.3


@pytest.mark.parametrize("normalization", ["none", "batch", "layer"])
@pytest.mark.parametrize("activation", ["relu", "gelu", "tanh"])
def test_a_ten_layer_mlp_keeps_the_scale_of_the_signal(normalization, activation):
    columns = tuple(NumberColumn(name=f"n{i}") for i in range(256))
    widths = [256] * 10
    network = build(
        Mlp(name="mlp", widths=widths, normalization=normalization, activation=activation),
        Signature.of("regression", columns, ()),
    )

    assert 0.2 < network.body(torch.randn(64, 256)).std() < 3
