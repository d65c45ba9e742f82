"""Random changes to images and texts of the training split."""

import pytest
import torch
from training_helpers import make_prepared, run, tiny, written

from tasks.checkpoint import load
from tasks.config import Augmentation
from tasks.dataset import read_split
from tasks.encoding import Encoder
from tasks.errors import InputError
from tasks.training.augmentation import change_images, drop_tokens


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(3)


def images(rows=400, height=9, width=7, channels=2):
    """Images whose pixels have distinct values, none of them black."""
    values = torch.arange(height * width * channels).reshape(height, width, channels) + 20
    return values.to(torch.uint8).expand(rows, -1, -1, -1).contiguous()


def moved(image, dy, dx):
    """The image moved down by dy and right by dx; new pixels are black."""
    there = torch.zeros_like(image)
    height, width = image.shape[:2]
    there[max(0, dy) : height + min(0, dy), max(0, dx) : width + min(0, dx)] = image[
        max(0, -dy) : height - max(0, dy), max(0, -dx) : width - max(0, dx)
    ]
    return there


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_augmentation_shift_moves_images_by_whole_pixels(dtype):
    given = images().to(dtype)
    places = [(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)]
    expected = [moved(given[0], dy, dx) for dy, dx in places]
    seen = set()
    for image in change_images(given, Augmentation(shift=2)):
        assert image.dtype == dtype
        near = [torch.allclose(image.float(), e.float(), atol=1e-3) for e in expected]
        seen.add(near.index(True))
    assert len(seen) == 25


def test_augmentation_flip_mirrors_about_half_of_the_images():
    given = images()
    changed = change_images(given, Augmentation(flip=True))
    mirrored = (changed == given.flip(2)).flatten(1).all(1)
    assert torch.equal(changed[~mirrored], given[~mirrored])
    assert 0.4 < mirrored.float().mean() < 0.6


def test_augmentation_crop_resizes_a_part_to_the_full_size():
    # A ramp from left to right: what is seen says where the part begins and how wide it is.
    ramp = torch.linspace(0, 1, 50)[None, None, :, None].expand(300, 40, -1, -1)
    changed = change_images(ramp.contiguous(), Augmentation(crop=0.5))
    assert changed.shape == ramp.shape
    seen = (changed[:, 20, -2, 0] - changed[:, 20, 1, 0]) / (47 / 49)
    assert 0.49 < seen.min() < 0.6
    assert 0.9 < seen.max() < 1.01
    assert changed[:, 20, 0, 0].min() >= 0
    assert changed[:, 20, 0, 0].max() > 0.2


def test_augmentation_erase_blackens_one_rectangle_in_a_share_of_the_images():
    given = images(height=20, width=20, channels=1).clamp(min=20)
    black = (change_images(given, Augmentation(erase=0.25)) == 0).squeeze(3)
    erased = black.flatten(1).any(1)
    assert 0.18 < erased.float().mean() < 0.32
    for mask in black[erased]:
        rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
        area = (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
        assert mask.sum() == area
    share = black[erased].float().mean((1, 2))
    assert 0.01 < share.min() < 0.1
    assert 0.3 < share.max() < 0.45


def test_augmentation_differs_between_images_and_between_batches():
    params = Augmentation(shift=2, flip=True, crop=0.7, erase=0.5)
    first, second = (change_images(images(50), params) for _ in range(2))
    assert len({image.numpy().tobytes() for image in first}) > 45
    assert not torch.equal(first, second)
    torch.manual_seed(3)
    assert torch.equal(change_images(images(50), params), first)


def test_token_dropout_keeps_padding_and_the_start_token():
    tokens = torch.randint(3, 50, (200, 12))
    tokens[:, 0] = 2
    tokens[:, 9:] = 0
    dropped = drop_tokens(tokens, 0.3)
    changed = dropped != tokens
    assert (dropped[changed] == 1).all()
    assert not changed[:, 0].any()
    assert not changed[:, 9:].any()
    assert 0.25 < changed[:, 1:9].float().mean() < 0.35


def test_augmentation_changes_only_the_training_split(tmp_path):
    data = make_prepared(tmp_path / "data")
    params = tiny("logistic", augmentation=Augmentation(shift=1, erase=1.0))
    report, _ = run(params, tmp_path, data)
    network, _ = load(tmp_path / "checkpoint")
    split = read_split(data, "validation", Encoder.read(data))
    with torch.no_grad():
        scores = network({"image": torch.tensor(split.inputs["image"])})
    loss = torch.nn.functional.cross_entropy(scores, torch.tensor(split.targets))
    assert report.validation_loss == pytest.approx(loss.item(), rel=1e-5)


def test_a_training_with_augmentation_is_deterministic(tmp_path):
    data = make_prepared(tmp_path / "data", dtype="float32")
    params = tiny("cnn", augmentation=Augmentation(shift=1, flip=True, crop=0.8, erase=0.3))
    for folder in ("a", "b"):
        run(params, tmp_path / folder, data)
    assert written(tmp_path / "a") == written(tmp_path / "b")


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("text", {"augmentation": Augmentation(flip=True)}, "applies to image data"),
        ("image", {"token_dropout": 0.1}, "applies to text data"),
    ],
)
def test_train_refuses_augmentation_of_another_kind_of_data(kind, changes, said, tmp_path):
    data = make_prepared(tmp_path / "data", kind)
    with pytest.raises(InputError, match=f"{said}, but this dataset is {kind}. Remove train."):
        run(tiny("gru" if kind == "text" else "mlp", **changes), tmp_path, data)
