"""`train.init_from`: starting from a user's file of weights, under names that `init_keys` maps."""

import hashlib
import json
import re
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML
from safetensors.torch import load_file, save_file
from torch import nn
from training_helpers import make_prepared, run, tiny

from tasks.architectures import ARCHITECTURES, build
from tasks.bundle.signature import Signature
from tasks.checkpoint import weights_of
from tasks.config import Train
from tasks.errors import InputError
from tasks.training.from_file import start_from_file
from tasks.training.renaming import rename
from tasks.weights_file import read_header

ROOT = Path(__file__).parents[2]
FILE = "weights/own.safetensors"
BLOCK = {
    "conv1": "residual.0.0",
    "bn1": "residual.0.1",
    "conv2": "residual.2.0",
    "bn2": "residual.2.1",
    "downsample": "shortcut",
}
"""Names within a block of a residual network: of torchvision, and here."""
STAGES = {"layer1.0": "body.2", "layer2.0": "body.3"}
VIT = {
    "patch_embed.proj": "front.steps.patches",
    "blocks": "body.layers",
    "attn.qkv.weight": "self_attn.in_proj_weight",
    "attn.qkv.bias": "self_attn.in_proj_bias",
    "attn.proj": "self_attn.out_proj",
    "mlp.fc1": "linear1",
    "mlp.fc2": "linear2",
    "norm": "body.norm",
}
"""Names of a vision transformer of timm, and here."""


class Basic(nn.Module):
    """torchvision.models.resnet.BasicBlock."""

    def __init__(self, channels, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = None
        if stride != 1:
            convolution = nn.Conv2d(channels, width, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(convolution, nn.BatchNorm2d(width))

    def forward(self, x):
        inner = self.bn2(self.conv2(nn.functional.relu(self.bn1(self.conv1(x)))))
        return nn.functional.relu(inner + (self.downsample(x) if self.downsample else x))


class Attention(nn.Module):
    """timm.layers.Attention, with its fused queries, keys and values."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.qkv, self.proj = (
            heads,
            nn.Linear(width, 3 * width),
            nn.Linear(width, width),
        )

    def forward(self, x):
        rows, time, width = x.shape
        parts = self.qkv(x).reshape(rows, time, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        found = (q @ k.mT / (width // self.heads) ** 0.5).softmax(-1) @ v
        return self.proj(found.transpose(1, 2).reshape(rows, time, width))


class VitBlock(nn.Module):
    """timm.models.vision_transformer.Block."""

    def __init__(self, width, heads, feedforward):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        layers = {"fc1": nn.Linear(width, feedforward), "act": nn.GELU()}
        self.mlp = nn.Sequential(OrderedDict(layers, fc2=nn.Linear(feedforward, width)))

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return make_prepared(tmp_path_factory.mktemp("file") / "images")


@pytest.fixture(scope="module")
def resnet():
    """The blocks of a residual network and its first and last layer, with torchvision's names."""
    torch.manual_seed(3)
    network = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 4, 7, bias=False),
            bn1=nn.BatchNorm2d(4),
            layer1=nn.Sequential(Basic(4, 4, 1)),
            layer2=nn.Sequential(Basic(4, 6, 2)),
            fc=nn.Linear(6, 3),
        )
    )
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.uniform_(-0.1, 0.1)
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    return network.eval()


def fresh(name, prepared, seed=9):
    torch.manual_seed(seed)
    return build(ARCHITECTURES[name].debug, Signature.read(prepared / "signature.json"))


def place(weights, base):
    """The copy of a file of weights that a flow puts into `base`."""
    base.mkdir(parents=True)
    copied = base / "weights.safetensors"
    save_file(weights, copied)
    sha256 = {copied.name: hashlib.sha256(copied.read_bytes()).hexdigest()}
    (base / "version.json").write_text(json.dumps({"file": FILE, "sha256": sha256}))
    return base


def test_blocks_with_torchvisions_names_compute_the_same_here(prepared, resnet, tmp_path):
    network = fresh("resnet", prepared)
    base = place(resnet.state_dict(), tmp_path / "base")
    said = start_from_file(network, FILE, STAGES | BLOCK, base)
    network.eval()
    images = torch.rand(2, 4, 8, 8)
    for here, there in ((2, resnet.layer1), (3, resnet.layer2)):
        assert (there(images) > 0).float().mean() > 0.2
        torch.testing.assert_close(network.body[here](images), there(images))
    # 12 of the first block, 18 of the second, which has a shortcut.
    assert said == (
        f"starting from {FILE}: loaded 30 of 38 tensors; "
        "new: body.0.0.weight, body.0.1.weight, body.0.1.bias, body.0.1.running_mean, "
        "body.0.1.running_var, body.0.1.num_batches_tracked, head.weight, head.bias; "
        "unused: bn1.bias, bn1.num_batches_tracked, bn1.running_mean, bn1.running_var, bn1.weight, "
        "conv1.weight, fc.bias, fc.weight"
    )


def test_a_block_with_timms_names_computes_the_same_here(prepared, tmp_path):
    torch.manual_seed(5)
    there = nn.ModuleDict(
        {
            "patch_embed": nn.ModuleDict({"proj": nn.Conv2d(1, 8, 4, stride=4)}),
            "blocks": nn.ModuleList(VitBlock(8, 2, 16) for _ in range(2)),
            "norm": nn.LayerNorm(8),
            "head": nn.Linear(8, 3),
        }
    )
    network = fresh("transformer", prepared)
    base = place(there.state_dict(), tmp_path / "base")
    said = start_from_file(network, FILE, VIT, base)
    network.eval()
    steps = torch.rand(2, 4, 8)
    for here, block in zip(network.body.layers, there["blocks"], strict=True):
        torch.testing.assert_close(here(steps), block(steps))
    assert torch.equal(network.front.steps.patches.weight, there["patch_embed"]["proj"].weight)
    assert not torch.equal(network.head.weight, there["head"].weight)
    assert said.endswith("; new: front.positions.table, head.weight, head.bias; "
                         "unused: head.bias, head.weight")  # fmt: skip


def test_front_and_head_are_loaded_only_if_a_key_names_them(prepared, tmp_path):
    # They mean the columns and classes of the file's own data, whatever their shape.
    names = weights_of(fresh("transformer", prepared))
    given = {name: torch.rand_like(tensor) for name, tensor in names.items()}
    base = place(given, tmp_path / "base")
    own = {"head.weight": "head.weight", "front.positions": "front.positions"}  # said to be right
    for keys, more in (({}, set()), (own, {"head.weight", "front.positions.table"})):
        network = fresh("transformer", prepared)
        start_from_file(network, FILE, keys, base)
        loaded = {name for name, t in weights_of(network).items() if torch.equal(t, given[name])}
        assert loaded == {name for name in given if name.startswith("body.")} | more


def test_a_part_of_a_name_is_replaced_where_it_stands_between_dots():
    names = ["conv1.weight", "layer1.0.conv1.weight", "layer1.0.conv10.weight", "layer10.0.b"]
    names.append("layer3.conv1.weight")
    keys = {
        "layer1.0.conv1": "x.y",  # the longest that fits
        "layer1.0": "body.2",
        "layer1": "no",
        "conv1.weight": "stem",  # the whole name of a weight: only that one
    }
    found = {old: new.name for old, new in rename(names, keys).items()}
    assert found == {
        "conv1.weight": "stem",
        "layer1.0.conv1.weight": "x.y.weight",
        "layer1.0.conv10.weight": "body.2.conv10.weight",
        "layer10.0.b": "layer10.0.b",
        "layer3.conv1.weight": "layer3.conv1.weight",
    }
    assert rename(names, dict(reversed(keys.items()))) == rename(names, keys)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        (
            {"layer7.0": "body.9"},
            "layer7.0 is not a part of a name in weights/own.safetensors, or longer keys are taken "
            "in its place. Names in the file: ",
        ),
        (
            STAGES | BLOCK | {"conv1": "residual.5.0"},
            "conv1: residual.5.0 leads to no weight of this network; layer1.0.conv1.weight becomes "
            "body.2.residual.5.0.weight. Weights of the network: body.2.residual.2.0.weight, ",
        ),
        (
            {"layer1.0.bn1": "body.2.residual.0.1", "layer1.0.bn2": "body.2.residual.0.1"},
            "layer1.0.bn1.bias and layer1.0.bn2.bias of weights/own.safetensors both become "
            "body.2.residual.0.1.bias. Change the entry of one of them",
        ),
        (
            {"layer1.0.bn1.weight": "front.scale.mean"},  # always of the new dataset
            "layer1.0.bn1.weight: front.scale.mean leads to no weight of this network",
        ),
    ],
)
def test_keys_that_do_not_fit_are_refused(keys, says, prepared, resnet, tmp_path):
    base = place(resnet.state_dict(), tmp_path / "base")
    with pytest.raises(InputError, match=re.escape(f"train.init_keys: {says}")):
        start_from_file(fresh("resnet", prepared), FILE, keys, base)


def test_without_a_matching_name_both_lists_and_a_map_are_shown(prepared, resnet, tmp_path, capsys):
    base = place(resnet.state_dict(), tmp_path / "base")
    with pytest.raises(InputError) as caught:
        start_from_file(fresh("resnet", prepared), FILE, {}, base)
    assert str(caught.value) == (
        f"train.init_from: no weight of {FILE} has the name and the shape of a weight of this "
        "network. The lines above list both. Of the same shape: layer1.0.conv1.weight and "
        "body.2.residual.0.0.weight, layer1.0.conv2.weight and body.2.residual.2.0.weight, "
        "layer2.0.conv1.weight and body.3.residual.0.0.weight and 3 more. Map parts of names with "
        "train.init_keys, such as {layer1.0.conv1: body.2.residual.0.0}"
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "weights in the file:"
    assert "  conv1.weight (4, 3, 7, 7)" in lines
    assert "  body.0.0.weight (4, 1, 3, 3)" in lines[lines.index("weights of the network:") :]


def test_weights_of_other_shapes_are_listed_or_refused(prepared, tmp_path):
    one = {"stem.weight": torch.rand(4, 3, 7, 7)}
    keys = {"stem": "body.0.0"}
    base = place(one, tmp_path / "one")
    with pytest.raises(InputError) as caught:
        start_from_file(fresh("resnet", prepared), FILE, keys, base)
    different = "stem.weight (4, 3, 7, 7) for body.0.0.weight (4, 1, 3, 3)"
    assert f"Of another shape: {different}. Set the widths of train" in str(caught.value)
    base = place(one | {"body.0.1.weight": torch.rand(4)}, tmp_path / "two")
    said = start_from_file(fresh("resnet", prepared), FILE, keys, base)
    assert f"loaded 1 of 38 tensors; another shape: {different}; new: body.0.1.bias" in said
    assert "unused" not in said


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_types_are_converted(dtype, prepared, tmp_path):
    given = {"body.0.0.weight": torch.rand(4, 1, 3, 3).to(dtype), "body.0.1.bias": torch.rand(4)}
    network = fresh("resnet", prepared)
    said = start_from_file(network, FILE, {}, place(given, tmp_path / "base"))
    assert network.body[0][0].weight.dtype == torch.float32
    assert torch.equal(network.body[0][0].weight, given["body.0.0.weight"].float())
    name = {torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64"}[dtype]
    assert f"loaded 2 of 38 tensors; converted 1 tensor from {name}; new" in said


@pytest.mark.parametrize(
    ("weight", "says"),
    [
        (
            torch.ones(4, dtype=torch.int8),
            "has the type I8, but body.0.1.weight takes F64, F32, F16, BF16",
        ),
        (torch.ones(4).to(torch.float8_e4m3fn), "has the type F8_E4M3, but"),
        (torch.tensor([1, 2, torch.nan, 4]), "has values that are infinite or not a number"),
        (torch.tensor([1e300], dtype=torch.float64).repeat(4), "has values that are infinite"),
    ],
)
def test_weights_that_cannot_be_learned_from_are_refused(weight, says, prepared, tmp_path):
    base = place({"body.0.1.weight": weight}, tmp_path / "base")
    with pytest.raises(InputError, match=f"body.0.1.weight of {FILE} {says}"):
        start_from_file(fresh("resnet", prepared), FILE, {}, base)


def test_a_count_is_not_loaded_from_a_float(prepared, tmp_path):
    given = {"body.0.1.weight": torch.ones(4), "body.0.1.num_batches_tracked": torch.tensor(2.5)}
    base = place(given, tmp_path / "base")
    with pytest.raises(
        InputError, match=r"num_batches_tracked of .* has the type F32, but .* takes I64\."
    ):
        start_from_file(fresh("resnet", prepared), FILE, {}, base)


def test_the_documented_resnet_18_is_converted_and_loaded(prepared, tmp_path, monkeypatch):
    """The page's lines, on a file with the names and shapes of torchvision's ResNet-18."""
    page = (ROOT / "docs/training.md").read_text(encoding="utf-8")
    section = page.partition("### Of a file")[2]
    given = YAML(typ="safe").load(section.partition("```yaml\n")[2].partition("```")[0])["train"]
    network = resnet_18()
    monkeypatch.chdir(tmp_path)
    torch.save(network.state_dict(), "resnet18.pth")
    exec(section.partition("```py\n")[2].partition("```")[0], {})
    with pytest.raises(InputError, match=r"resnet18\.pth is a pickle"):
        read_header(tmp_path / "resnet18.pth", "resnet18.pth")
    params = Train.model_validate(given)
    base = place(load_file("resnet18.safetensors"), tmp_path / "base")
    here = build(params.architecture, Signature.read(prepared / "signature.json"))
    said = start_from_file(here, FILE, params.init_keys, base)
    assert f"loaded 114 of {len(network.state_dict())} tensors; new: body.0.0.weight, " in said
    there = network.state_dict()
    for number in range(8):
        block = f"layer{number // 2 + 1}.{number % 2}"
        mine = here.body[2 + number].residual[2][0].weight
        assert torch.equal(mine, there[f"{block}.conv2.weight"]), block


def resnet_18():
    """torchvision.models.resnet18, with random weights."""
    layers = {"conv1": nn.Conv2d(3, 64, 7, bias=False), "bn1": nn.BatchNorm2d(64)}
    before = 64
    for number, width in enumerate((64, 128, 256, 512), start=1):
        first = Basic(before, width, 1 if number == 1 else 2)
        layers[f"layer{number}"] = nn.Sequential(first, Basic(width, width, 1))
        before = width
    return nn.Sequential(OrderedDict(layers, fc=nn.Linear(512, 1000)))


def test_a_training_starts_from_a_file_and_refuses_another(prepared, tmp_path, capsys):
    given = {"norm.weight": torch.full((8,), 3.0)}
    place(given, tmp_path / "base")
    changes = {"epochs": 1, "freeze": ["body.norm.weight"]}
    params = tiny("transformer", init_from=FILE, init_keys={"norm": "body.norm"}, **changes)
    run(params, tmp_path, prepared)
    assert f"starting from {FILE}: loaded 1 of " in capsys.readouterr().out
    assert '"init_keys": {\n   ' in (tmp_path / "checkpoint/config.json").read_text()
    for asked, keys in (("weights/other.safetensors", {"norm": "body.norm"}), ("digits:3", {})):
        changed = tiny("transformer", init_from=asked, init_keys=keys, epochs=1)
        with pytest.raises(
            InputError, match=f"init_from is {asked}, but the weights in .* are those of {FILE}"
        ):
            run(changed, tmp_path, prepared)
    (tmp_path / "base/weights.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match=r"weights\.safetensors differs from the file of weights/"):
        run(params, tmp_path, prepared)
