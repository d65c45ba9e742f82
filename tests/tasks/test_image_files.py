"""Image files: equal pixels in training and prediction, and how prediction finds them."""

import gzip
import io
import json
import os
import struct
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from prediction_helpers import encoded_batches
from prepare_helpers import report, run, signature, splits, written

from tasks import inputs, sources
from tasks.bundle.signature import Signature
from tasks.columns import ImageColumn, NumberColumn, TextColumn
from tasks.config import ImageSource, Prepare
from tasks.encoding import Encoder
from tasks.errors import InputError
from tasks.files import images

GREY = np.arange(20, dtype=np.uint8).reshape(4, 5) * 12
RGB = np.arange(60, dtype=np.uint8).reshape(4, 5, 3) * 4
ALPHA = (np.arange(20, dtype=np.uint8).reshape(4, 5) * 51) % 255


def encoded(image, form="PNG", **more):
    stream = io.BytesIO()
    image.save(stream, form, **more)
    return stream.getvalue()


def png(depth, colour, pixels, transparent=None):
    """A PNG file in a mode that Pillow cannot write; `pixels` are packed rows of bytes."""
    height, width = pixels.shape[:2]
    samples = pixels.reshape(height, -1)
    if depth == 16:
        rows = [row.astype(">u2").tobytes() for row in samples]
    elif depth == 8:
        rows = [row.astype(np.uint8).tobytes() for row in samples]
    else:
        bits = ["".join(f"{v:0{depth}b}" for v in row) for row in samples]
        rows = [
            bytes(int(b[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(b), 8)) for b in bits
        ]

    def chunk(name, content):
        crc = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + crc

    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))]
    if transparent is not None:
        parts.append(chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent)))
    parts += [chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))]
    return b"\x89PNG\r\n\x1a\n" + b"".join([*parts, chunk(b"IEND", b"")])


def on_white(pixels, alpha):
    mixed = pixels.astype(float) * alpha + 255.0 * (255.0 - alpha)
    return np.floor(mixed / 255 + 0.5).astype(np.uint8)


def palette(**transparency):
    image = Image.fromarray((GREY // 12).astype(np.uint8), "P")
    image.putpalette([v for number in range(20) for v in (number, 2 * number, 3 * number)])
    return encoded(image, **transparency)


PALETTE = (GREY // 12)[..., np.newaxis] * np.array([1, 2, 3])
DEEP = GREY.astype(np.uint16) * 257 + 100
TWO_BITS = np.arange(20).reshape(4, 5) % 4
LEFT = np.arange(5) < 2


MODES = (
    "L 1 RGB RGBA LA P P-index P-alphas L-key RGB-key 1-black-key 1-white-key L2-key L4-key "
    "I16 I16-key RGB16 LA16 RGBA16 CMYK"
)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (encoded(Image.fromarray(GREY)), GREY),
        (encoded(Image.fromarray(GREY > 100)), np.where(GREY > 100, 255, 0)),
        (encoded(Image.fromarray(RGB)), RGB),
        (
            encoded(Image.fromarray(np.dstack([RGB, ALPHA]))),
            on_white(RGB, ALPHA[..., np.newaxis]),
        ),
        (encoded(Image.fromarray(np.dstack([GREY, ALPHA]))), on_white(GREY, ALPHA)),
        (palette(), PALETTE),
        (palette(transparency=7), np.where(PALETTE == [7, 14, 21], 255, PALETTE)),
        (
            palette(transparency=bytes([255, 0, 102] + [255] * 17)),
            np.where(
                PALETTE == [1, 2, 3],
                255,
                np.where(PALETTE == [2, 4, 6], [154, 155, 155], PALETTE),
            ),
        ),
        (encoded(Image.fromarray(GREY), transparency=24), np.where(GREY == 24, 255, GREY)),
        (
            encoded(Image.fromarray(RGB), transparency=(0, 4, 8)),
            np.where((RGB == [0, 4, 8]).all(axis=-1, keepdims=True), 255, RGB),
        ),
        (png(1, 0, TWO_BITS % 2, (0,)), np.full((4, 5), 255)),
        (png(1, 0, TWO_BITS % 2, (1,)), TWO_BITS % 2 * 255),
        (png(2, 0, TWO_BITS, (1,)), np.where(TWO_BITS == 1, 255, TWO_BITS * 85)),
        (png(4, 0, TWO_BITS, (2,)), np.where(TWO_BITS == 2, 255, TWO_BITS * 17)),
        (png(16, 0, DEEP), DEEP // 257),
        (png(16, 0, DEEP, (DEEP[0, 1],)), np.where(DEEP[0, 1] == DEEP, 255, DEEP // 257)),
        (png(16, 2, RGB.astype(int) * 257), RGB),
        (png(16, 4, np.dstack([DEEP, np.full_like(DEEP, 65535)])), DEEP >> 8),
        (
            png(16, 6, np.dstack([RGB, np.where(GREY > 100, 255, 0)]).astype(int) * 257),
            np.where(GREY[..., np.newaxis] > 100, RGB, 255),
        ),
        (
            encoded(Image.new("CMYK", (5, 4), (0, 255, 255, 0)), "JPEG", quality=100),
            np.full((4, 5, 3), [255, 0, 0]),
        ),
    ],
    ids=MODES.split(),
)
def test_decode_supports_every_png_and_jpeg_mode(content, expected):
    image = images.decode(content, "x")
    assert image.mode == ("L" if expected.ndim == 2 else "RGB")
    found = np.asarray(image).astype(int)
    assert np.abs(found - expected).max() <= (2 if content[:2] == b"\xff\xd8" else 0)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_every_exif_orientation_is_turned_upright(orientation, form):
    image = np.zeros((16, 24), np.uint8)
    image[:8, :8] = 255  # as the camera's chip had it
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = np.asarray(images.decode(encoded(Image.fromarray(image), form, exif=exif), "x")) > 127
    turned = {
        1: image,
        2: image[:, ::-1],
        3: image[::-1, ::-1],
        4: image[::-1],
        5: image.T,
        6: image.T[:, ::-1],
        7: image.T[::-1, ::-1],
        8: image.T[::-1],
    }
    assert np.array_equal(found, turned[orientation] > 127)


def test_images_that_would_silently_lose_content_are_refused(tmp_path):
    frames = [Image.fromarray(GREY), Image.fromarray(GREY.T[:4, :4]).resize((5, 4))]
    animated = encoded(frames[0], save_all=True, append_images=frames[1:])
    with pytest.raises(
        InputError, match=r"x is not a readable .* it is animated and has 2 pictures"
    ):
        images.decode(animated, "x")
    with pytest.raises(InputError, match="16 bits per channel and a transparent colour"):
        images.decode(png(16, 2, RGB.astype(int) * 257, (0, 4, 8)), "x")
    (tmp_path / "in/a").mkdir(parents=True)
    (tmp_path / "in/a/1.png").write_bytes(png(16, 0, DEEP // 32))
    source = ImageSource(kind="image", path="in")
    with pytest.raises(InputError, match="no value above 1834 of 65535, so only 8 grey tones"):
        sources.read(source, tmp_path)
    (tmp_path / "in/a/2.png").write_bytes(png(16, 0, DEEP))
    assert sources.read(source, tmp_path).changed == {"16 bits a channel, of which 8 were kept": 2}


# A dataset as people have them: glyphs drawn in the alpha channel, of several sizes and modes.


def glyphs(folder, rows=24, seed=5):
    """Image files of two classes with random colours; returns their names."""
    chance = np.random.default_rng(seed)
    names = []
    for row in range(rows):
        label = ("bar", "line")[row % 2]
        height, width = chance.integers(9, 14, 2)
        alpha = np.zeros((height, width), np.uint8)
        if label == "bar":
            alpha[:, 2:5] = 255
        else:
            alpha[2:5] = 255
        alpha[chance.integers(0, height), chance.integers(0, width)] = 128
        colours = np.zeros((height, width, 3), np.uint8)
        name = f"{label}/{row:02}.png"
        (folder / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.dstack([colours, alpha])).save(folder / name)
        names.append(name)
    Image.fromarray(np.full((12, 12, 3), 200 - seed, np.uint8)).save(folder / "line/photo.jpg")
    return sorted([*names, "line/photo.jpg"])


OPTIONS = {"size": [8, 6], "colour": "grey"}


def prepared(root, **source):
    run(root, Prepare(source=ImageSource(kind="image", **source), duplicates="refuse"))
    return Encoder.read(root / "prepared")


def predicted(encoder, path, size=7):
    """Keys and pixels of the input of a prediction."""
    files = inputs.find([path], encoder.signature)
    found = [part for file in files for part in encoded_batches(file, encoder, size)]
    assert sum(file.rows for file in files) == sum(len(a["image"]) for _, a in found)
    keys = [k for part, _ in found if part is not None for k in part.to_pylist()]
    return keys, np.concatenate([arrays["image"] for _, arrays in found])


def trained_pixels(root):
    """The pixels in the prepared dataset by row number in the raw data."""
    return {
        int(key): pixels
        for split in splits(root).values()
        for key, pixels in zip(split.keys, split.inputs["image"], strict=True)
    }


def assert_as_trained(root, pixels, order=None):
    found = trained_pixels(root)
    assert len(found) == len(pixels)
    for key, expected in found.items():
        place = key if order is None else order[key]
        assert np.array_equal(pixels[place], expected), key


def test_prediction_of_a_folder_reads_the_same_pixels_as_training(tmp_path):
    names = glyphs(tmp_path / "in")
    encoder = prepared(tmp_path, path="in", **OPTIONS)
    (column,) = encoder.signature.columns
    assert (column.shape, column.resize, column.colour) == ((8, 6, 1), "bilinear", "grey")
    assert report(tmp_path)["images_changed"] == {"transparent, laid on white": 24}
    (tmp_path / "in/README.md").write_text("about them")
    (tmp_path / "in/bar/.hidden.png").write_text("")
    keys, pixels = predicted(encoder, tmp_path / "in")
    assert keys == names
    assert_as_trained(tmp_path, pixels)
    # Flat, and one by one, as well.
    flat = tmp_path / "flat"
    flat.mkdir()
    for name in names:
        (flat / name.replace("/", "-")).write_bytes((tmp_path / "in" / name).read_bytes())
    keys, again = predicted(encoder, flat)
    assert keys == [name.replace("/", "-") for name in names]
    assert np.array_equal(again, pixels)
    keys, one = predicted(encoder, tmp_path / "in/bar/02.png")
    assert keys == ["02.png"]
    assert np.array_equal(one[0], pixels[names.index("bar/02.png")])


def test_prediction_reads_train_and_test_folders_completely(tmp_path):
    names = glyphs(tmp_path / "in/train")
    glyphs(tmp_path / "in/test", 6, seed=6)
    encoder = prepared(tmp_path, path="in", **OPTIONS)
    keys, pixels = predicted(encoder, tmp_path / "in")
    assert keys[7:] == [f"train/{name}" for name in names]
    order = {row: row + 7 for row in range(25)} | {25 + row: row for row in range(7)}
    assert_as_trained(tmp_path, pixels, order)


def put_tables(root, names):
    """The same images in every table format, as paths or as bytes."""
    contents = [(root / name).read_bytes() for name in names]
    labels = [name.split("/")[0] for name in names]
    numbers = list(range(len(names)))
    head = {"number": numbers, "label": labels}
    lines = [f"{n},{label},{name}" for n, label, name in zip(numbers, labels, names, strict=True)]
    paths, held = root / "paths", root / "held"
    for folder in (paths, held):
        folder.mkdir()
    (paths / "bar").symlink_to(root / "bar")
    (paths / "line").symlink_to(root / "line")
    (paths / "a.csv").write_text("number,label,image\n" + "\n".join(lines) + "\n")
    (root / "a.jsonl").write_text(
        "".join(
            json.dumps({"number": n, "label": label, "image": name}) + "\n"
            for n, label, name in zip(numbers, labels, names, strict=True)
        )
    )
    pq.write_table(pa.table(head | {"image": names}), root / "paths.parquet")
    pq.write_table(pa.table(head | {"image": contents}), held / "a.parquet")
    large = pa.array(contents, pa.large_binary())
    pq.write_table(pa.table(head | {"image": large}), root / "large.parquet")
    structs = [{"bytes": c, "path": f"no/{n}"} for c, n in zip(contents, names, strict=True)]
    structs[3] = {"bytes": None, "path": names[3]}
    pq.write_table(pa.table(head | {"image": structs}), root / "structs.parquet")
    files = ["paths/a.csv", "a.jsonl", "paths.parquet", "held/a.parquet", "large.parquet"]
    return [*files, "structs.parquet", "paths", "held"]


def test_tables_of_paths_and_of_bytes_give_the_same_images(tmp_path):
    root = tmp_path / "in"
    names = glyphs(root)
    tables = put_tables(root, names)
    given = {"column": "image", "target": "label", **OPTIONS}
    for path in ("in/paths", "in/held", "in/held/a.parquet"):
        encoder = prepared(tmp_path, path=path, **given)
        assert encoder.signature.classes == ("bar", "line")
        for table in tables:
            _, pixels = predicted(encoder, root / table)
            assert_as_trained(tmp_path, pixels)


def test_source_column_and_target_name_the_columns_of_an_image_table(tmp_path):
    names = glyphs(tmp_path / "in")
    table = pa.table(
        {
            "photo": [(tmp_path / "in" / name).read_bytes() for name in names],
            "kind": [len(name) for name in names],
            "patient": [str(row // 2) for row in range(len(names))],
        }
    )
    table = table.set_column(1, "kind", pa.array(np.arange(len(names)) % 2))
    pq.write_table(table, tmp_path / "in.parquet")
    source = ImageSource(kind="image", path="in.parquet", column="photo", target="kind", **OPTIONS)
    run(tmp_path, Prepare(source=source, group="patient", duplicates="refuse"))
    assert [c.name for c in signature(tmp_path).columns] == ["photo"]
    assert written(tmp_path)["photo"].type.shape == [8, 6, 1]
    groups = [{key // 2 for key in split.keys} for split in splits(tmp_path).values()]
    assert not groups[0] & groups[2]


def source_refusal(root, **source):
    with pytest.raises(InputError) as caught:
        sources.read(ImageSource(kind="image", **source), root)
    return str(caught.value).replace(f"{root}/", "")


def test_tables_of_images_that_cannot_be_read_are_refused(tmp_path):
    root = tmp_path / "in"
    names = glyphs(root)
    put_tables(root, names)
    # DVC would track only the table, and would not notice changed images.
    said = source_refusal(tmp_path, path="in/paths/a.csv", **OPTIONS)
    assert said.startswith("in/paths/a.csv, row 1, column 'image' names bar/00.png, but DVC would")
    assert "prepare.source.path" in said
    (root / "paths/a.csv").write_text(f"image,label\n{names[0]},a\n../large.parquet,b\n")
    said = source_refusal(tmp_path, path="in/paths", column="image", **OPTIONS)
    assert said.startswith("in/paths/a.csv, row 2, column 'image' names ../large.parquet, which i")
    (root / "paths/a.csv").write_text(f"image,label\n{names[0]},a\nbar/none.png,b\n")
    said = source_refusal(tmp_path, path="in/paths", column="image", **OPTIONS)
    assert said.startswith("in/paths/bar/none.png is missing")
    (root / "paths/a.csv").write_text(f"image,label\n{names[0]},a\nbar,b\n")
    assert "in/paths/bar is not" in source_refusal(tmp_path, path="in/paths", column="image")
    assert "no column 'photo'" in source_refusal(tmp_path, path="in/paths", column="photo")
    pq.write_table(pa.table({"image": [b"no"], "label": ["a"]}), root / "b.parquet")
    said = source_refusal(tmp_path, path="in/b.parquet")
    assert said.startswith("in/b.parquet, row 0, column 'image' is not a readable PNG or JPEG")
    pq.write_table(pa.table({"image": [1.5], "label": ["a"]}), root / "b.parquet")
    assert "column 'image' is double; paths or" in source_refusal(tmp_path, path="in/b.parquet")
    np.savez(root / "c.npz", images=np.zeros((1, 2, 2), np.uint8), labels=[1])
    assert "prepare.source.target is for tables" in source_refusal(
        tmp_path, path="in/c.npz", target="label"
    )


def test_a_table_row_without_an_image_is_a_missing_value(tmp_path):
    names = glyphs(tmp_path / "in")
    contents = [(tmp_path / "in" / name).read_bytes() for name in names]
    contents[4], contents[9] = None, b""
    labels = [name.split("/")[0] for name in names]
    pq.write_table(pa.table({"image": contents, "label": labels}), tmp_path / "in.parquet")
    source = ImageSource(kind="image", path="in.parquet", **OPTIONS)
    with pytest.raises(InputError, match="row 4, column 'image': missing"):
        run(tmp_path, Prepare(source=source))
    run(tmp_path, Prepare(source=source, missing="drop", duplicates="refuse"))
    assert not {4, 9} & trained_pixels(tmp_path).keys()
    encoder = Encoder.read(tmp_path / "prepared")
    with pytest.raises(InputError, match="row 4 of column 'image' is missing"):
        predicted(encoder, tmp_path / "in.parquet", 5)


def test_prediction_accepts_idx_files_and_folders_of_them(tmp_path):
    chance = np.random.default_rng(1)
    found = chance.integers(0, 255, (30, 4, 5)).astype(np.uint8)
    folder = tmp_path / "in"
    folder.mkdir()

    def put(name, array):
        header = struct.pack(f">i{array.ndim}i", 0x800 + array.ndim, *array.shape)
        content = header + array.astype(np.uint8).tobytes()
        (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)

    put("train-images-idx3-ubyte.gz", found[:20])
    put("train-labels-idx1-ubyte.gz", np.arange(20) % 2)
    put("t10k-images-idx3-ubyte", found[20:])
    put("t10k-labels-idx1-ubyte", np.arange(10) % 2)
    encoder = prepared(tmp_path, path="in")
    keys, pixels = predicted(encoder, folder)
    assert keys == []  # without keys, rows are counted through
    assert_as_trained(tmp_path, pixels)
    for name, expected in (
        ("train-images-idx3-ubyte.gz", found[:20]),
        ("t10k-images-idx3-ubyte", found[20:]),
    ):
        assert np.array_equal(predicted(encoder, folder / name)[1][..., 0], expected)
    with pytest.raises(InputError, match="holds labels; name the file of images"):
        inputs.find([folder / "t10k-labels-idx1-ubyte"])
    path = folder / "t10k-images-idx3-ubyte"
    whole = path.read_bytes()
    for content, said in (
        (whole[:-1], "has less data than the 10"),
        (whole + b"x", "has more data than"),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"t10k-images-idx3-ubyte is not .*it {said}"):
            inputs.find([path])


def model(shape=(4, 5, 1), dtype="uint8", **more):
    columns = (ImageColumn(name="image", dtype=dtype, shape=shape, **more),)
    return Encoder(Signature.of("binary", columns, ("a", "b")))


def read_all(encoder, *paths):
    return [
        batch
        for file in inputs.find(paths, encoder.signature)
        for batch in encoded_batches(file, encoder, 2)
    ]


def refusal(encoder, *paths):
    with pytest.raises(InputError) as caught:
        read_all(encoder, *paths)
    return str(caught.value)


def test_a_model_without_resize_accepts_only_images_of_its_size(tmp_path):
    # As signatures of earlier releases are, which do not name these fields.
    old = {"name": "image", "kind": "image", "dtype": "uint8", "shape": [4, 5, 1]}
    assert model().signature.columns[0] == ImageColumn.model_validate(old)
    path = tmp_path / "1.png"
    Image.fromarray(GREY).save(path)
    assert np.array_equal(predicted(model(), path)[1][0, ..., 0], GREY)
    assert np.array_equal(predicted(model((4, 5, 3)), path)[1][0], np.dstack([GREY] * 3))
    assert refusal(model((5, 4, 1)), path) == (
        f"{path} is 4x5 pixels (height x width); the model takes 5x4. Resize the image, or train "
        "with prepare.source.size, so that images are resized automatically"
    )
    assert "and the model takes image: float32[4, 5, 1]" in refusal(model(dtype="float32"), path)
    assert "and the model takes image: uint8[4, 5, 4]" in refusal(model((4, 5, 4)), path)
    Image.fromarray(RGB).save(path)
    assert refusal(model(), path).startswith(f"{path} has colours and the model takes grey images")
    assert predicted(model(colour="grey"), path)[1].shape == (1, 4, 5, 1)


def test_a_broken_image_is_named_in_every_kind_of_input(tmp_path):
    folder = tmp_path / "in/new"
    folder.mkdir(parents=True)
    for number in range(4):
        Image.fromarray(GREY).save(folder / f"{number}.png")
    whole = (folder / "3.png").read_bytes()
    (folder / "3.png").write_bytes(whole[:-25])
    said = refusal(model(), tmp_path / "in")
    assert said.startswith(f"{folder / '3.png'} is not a readable PNG or JPEG file: ")
    # A batch at a time: what comes later has not been opened yet.
    (file,) = inputs.find([tmp_path / "in"])
    keys, _ = next(encoded_batches(file, model(), 2))
    assert keys.to_pylist() == ["new/0.png", "new/1.png"]
    pq.write_table(pa.table({"image": [whole, whole[:-25]]}), tmp_path / "in.parquet")
    said = refusal(model(), tmp_path / "in.parquet")
    assert said.startswith(f"{tmp_path / 'in.parquet'}, row 1, column 'image' is not a readable")
    (tmp_path / "in.csv").write_text("image\nin/new/0.png\nin/new/3.png\n")
    said = refusal(model(), tmp_path / "in.csv")
    assert said.startswith(f"{tmp_path / 'in.csv'}, row 2, column 'image' (in/new/3.png) is not a")


def test_files_of_a_folder_that_would_be_skipped_are_refused(tmp_path):
    folder = tmp_path / "in"
    (folder / "a").mkdir(parents=True)
    Image.fromarray(GREY).save(folder / "a/1.png")
    Image.fromarray(GREY).save(folder / "a/2.bmp")
    assert refusal(model(), folder) == (
        f"{folder / 'a/2.bmp'} is not a PNG or JPEG file; convert, move or remove it"
    )
    (folder / "a/2.bmp").rename(folder / "2.bmp")
    assert "2.bmp is not a PNG" in refusal(model(), folder)
    (folder / "2.bmp").unlink()
    (folder / "new.csv").write_text("image\na/1.png\n")
    assert [file.rows for file in inputs.find([folder], model().signature)] == [1]
    Image.fromarray(GREY).save(folder / "a/3.png")
    assert refusal(model(), folder) == (
        f"{folder} holds new.csv and 1 image files that no table names, such as "
        f"{folder / 'a/3.png'}. Put them apart, or name the files to predict"
    )
    (tmp_path / "other").mkdir()
    Image.fromarray(GREY).save(tmp_path / "other/1.png")
    assert "would have the same key, 1.png" in refusal(model(), folder / "a", tmp_path / "other")
    odd = folder / "a" / os.fsdecode(b"\xff.png")
    odd.write_bytes((folder / "a/1.png").read_bytes())
    assert r"a/\udcff.png': the name is not text that can be printed" in refusal(model(), odd)
    odd.unlink()
    assert "is named twice" in refusal(model(), *[folder / "a/1.png"] * 2)
    keys = [
        k.to_pylist()
        for file in inputs.find([folder / "a/1.png", tmp_path / "other/1.png"])
        for k, _ in encoded_batches(file, model(), 8)
    ]
    assert keys == [["in/a/1.png", "other/1.png"]]


def test_the_input_fingerprint_covers_every_image(tmp_path):
    folder = tmp_path / "in"
    (folder / "a").mkdir(parents=True)
    for number in range(3):
        Image.fromarray(GREY + number).save(folder / f"a/{number}.png")
    (tmp_path / "in.csv").write_text("image\nin/a/0.png\nin/a/1.png\n")
    encoder = model()

    def prints():
        found = [inputs.find([p], encoder.signature) for p in (folder, tmp_path / "in.csv")]
        return [inputs.fingerprint(files) for files in found]

    first = prints()
    (file,) = inputs.find([folder], encoder.signature)
    assert list(file.members) == ["a/0.png", "a/1.png", "a/2.png"]
    assert first == prints()
    (folder / "a/2.png").rename(folder / "a/3.png")  # which is a key
    second = prints()
    assert (second[0] == first[0], second[1] == first[1]) == (False, True)
    (table,) = inputs.find([tmp_path / "in.csv"], encoder.signature)
    Image.fromarray(GREY + 9).save(folder / "a/1.png")
    third = prints()
    assert (third[0] == second[0], third[1] == second[1]) == (False, False)
    for was in (table, inputs.find([folder])[0]):
        Image.fromarray(GREY + np.uint8(len(str(was.path)))).save(folder / "a/1.png")
        with pytest.raises(InputError, match=r"a/1\.png changed while it was read"):
            list(encoded_batches(was, encoder, 1))


def test_find_in_an_inbox_returns_every_supported_file(tmp_path):
    text = Signature.of("binary", (TextColumn(name="t", vocabulary=9, max_length=4),), ("a", "b"))
    table = Signature.of("binary", (NumberColumn(name="x"),), ("a", "b"))
    kinds = {None: None, "image": model().signature, "text": text, "table": table}

    def seen():
        return {name for name, kind in kinds.items() if inputs.anything_in(tmp_path / "in", kind)}

    assert seen() == set()
    (tmp_path / "in/new").mkdir(parents=True)
    (tmp_path / "in/.gitkeep").write_text("")
    assert seen() == set()
    (tmp_path / "in/README.txt").write_text("what this is for")
    assert seen() == {None, "text"}
    Image.fromarray(GREY).save(tmp_path / "in/new/1.JPG", "JPEG")
    assert seen() == {None, "text", "image"}
    (tmp_path / "in/t10k-images-idx3-ubyte").write_bytes(b"")
    assert seen() == set(kinds)
