"""Which files `train.init_from` reads, and what is said about the others."""

import pickle
import struct
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save_file

from tasks import params as parameters
from tasks.config.start import is_weights_file
from tasks.errors import InputError
from tasks.weights_file import Stored, read_header

NAME = "weights/own.safetensors"


@pytest.fixture
def path(tmp_path):
    path = tmp_path / NAME
    path.parent.mkdir()
    tensors = {
        "layer10.weight": np.ones((2, 3), np.float32),
        "layer2.weight": np.ones(4, np.float16),
        "layer2.count": np.array(3),
    }
    save_file(tensors, path)
    return path


def test_a_header_has_shapes_and_types_in_the_order_of_names(path):
    assert list(read_header(path, NAME).items()) == [
        ("layer2.count", Stored((), "I64")),
        ("layer2.weight", Stored((4,), "F16")),
        ("layer10.weight", Stored((2, 3), "F32")),
    ]


def spoil_end(path):
    path.write_bytes(path.read_bytes()[:-1])


def spoil_header(path):
    path.write_bytes(path.read_bytes()[:50])


def spoil_length(path):
    path.write_bytes(struct.pack("<Q", 10**12) + path.read_bytes()[8:])


def spoil_json(path):
    path.write_bytes(struct.pack("<Q", 4) + b"{abc" + path.read_bytes())


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (spoil_end, "incomplete metadata, file not fully covered"),
        (spoil_header, "invalid header length"),
        (spoil_length, "header too large"),
        (spoil_json, "invalid JSON in header"),
        (empty, "header too small"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(spoil, why, path):
    spoil(path)
    with pytest.raises(InputError) as caught:
        read_header(path, NAME)
    said = str(caught.value)
    assert said.startswith(f"train.init_from: {NAME} is not a whole .safetensors file (")
    assert why in said
    assert said.endswith("). Download or convert it again")
    assert "\n" not in said


def test_a_pickle_under_another_name_is_refused_unread(path):
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(InputError, match=rf"{NAME} is a pickle, .*weights_only=True"):
        read_header(path, NAME)
    with zipfile.ZipFile(path, "w") as file:  # as PyTorch writes
        file.writestr("archive/data.pkl", b"")
    with pytest.raises(InputError, match=rf"{NAME} is a pickle"):
        read_header(path, NAME)


def test_a_header_whose_length_begins_like_a_pickle_is_read(path):
    save_file({f"l{number}.weight": np.ones(2, np.float32) for number in range(18)}, path)
    assert path.read_bytes().startswith(b"\x80\x04")  # the protocol of today's pickles
    assert len(read_header(path, NAME)) == 18


def test_names_may_have_more_digits_than_a_number(path):
    long = "9" * 5000
    save_file({f"l{number}": np.ones(1) for number in (long, "10", "010", "9", "0")}, path)
    assert list(read_header(path, NAME)) == ["l0", "l9", "l010", "l10", f"l{long}"]


def test_a_file_without_weights_or_a_missing_one_is_refused(path, tmp_path):
    missing = tmp_path / "weights/owm.safetensors"
    with pytest.raises(InputError, match=rf"no file {missing}; {path.parent} has own.safetensors"):
        read_header(missing, "weights/owm.safetensors")
    (tmp_path / "weights/owm.safetensors.dvc").write_text("")
    with pytest.raises(InputError, match=r"`dvc pull weights/owm.safetensors.dvc` fetches it"):
        read_header(missing, "weights/owm.safetensors")
    with pytest.raises(InputError, match="weights is a folder"):
        read_header(path.parent, "weights")
    save_file({"layer\x1b[2J": np.ones(1)}, path)
    with pytest.raises(InputError, match=r"has the name 'layer\\x1b\[2J', which cannot be printed"):
        read_header(path, NAME)
    save_file({}, path)
    with pytest.raises(InputError, match=f"{NAME} has no weights"):
        read_header(path, NAME)


def parsed(*assignments):
    data = parameters.override({"train": {"architecture": "mlp"}}, assignments)
    data |= {
        "prepare": {"source": {"kind": "digits", "path": "x"}},
        "evaluate": {"gates": {}},
        "registration": {"name": "digits"},
    }
    return parameters.validate(data, "params.yaml").train


def test_a_file_may_have_keys_and_a_version_may_be_named_like_a_file():
    given = parsed("train.init_from=weights/a.safetensors", "train.init_keys={layer1.0: body.2}")
    assert given.init_keys == {"layer1.0": "body.2"}
    for version in ("digits", "digits:3", "a.safetensors@champion", "b.pt:1"):
        assert not is_weights_file(version)
        assert parsed(f"train.init_from={version}").init_from == version


@pytest.mark.parametrize("name", ["a@b.safetensors", "a:1.safetensors", "a@b:1.safetensors"])
def test_a_file_may_have_the_signs_of_a_reference_in_its_name(name):
    assert is_weights_file(name)
    assert parsed(f"train.init_from={name}", "train.init_keys={a: b}").init_from == name


@pytest.mark.parametrize(
    ("assignments", "says"),
    [
        (["init_from=weights/a.pth"], "init_from: weights/a.pth is a pickle, as PyTorch"),
        (["init_from=pytorch_model.bin"], "init_from: pytorch_model.bin is a pickle"),
        (["init_from=epoch=9@best.ckpt"], "init_from: epoch=9@best.ckpt is a pickle"),
        (["init_from=weights/a.h5"], "init_from: weights/a.h5 is neither a registered version"),
        (["init_keys={a: b}"], "init_keys renames the weights of a file, but init_from is null"),
        (["init_keys={a: b}", "init_from=a.safetensors@x"], "but init_from is a.safetensors@x"),
        (["init_from=a.safetensors", "init_keys={a.: b}"], "init_keys: 'a.' is not a name or"),
        (["init_from=a.safetensors", "init_keys={a: ''}"], "init_keys: '' is not a name or"),
        (["init_from=a.safetensors", "init_keys={0: b}"], "train.init_keys.0: input should be"),
    ],
)
def test_what_is_neither_a_version_nor_a_safetensors_file_is_refused(assignments, says):
    with pytest.raises(InputError) as caught:
        parsed(*(f"train.{one}" for one in assignments))
    assert says in str(caught.value)
