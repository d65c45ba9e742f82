"""Reads PNG and JPEG files as arrays of pixels, for training and prediction.

An image is read as a viewer shows it: upright (EXIF), transparent pixels on white, the first
picture of a JPEG file with several, 8 bits per channel. A 16-bit grey value v becomes v // 257; of
16-bit colours, and of grey with an alpha channel, the upper 8 bits are kept. Palettes, CMYK and
other modes become RGB; colour profiles are not applied.
"""

import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.errors import InputError
from tasks.files import suffixes
from tasks.files.tables import reading

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = suffixes.IMAGES
# Picture files that are not supported; skipping one beside supported images would be a mistake.
OTHER_PICTURES = (".gif", ".bmp", ".tif", ".tiff", ".webp", ".avif", ".heic", ".jp2", ".svg")
_PNG = b"\x89PNG\r\n\x1a\n"
_GREY_WITH_ALPHA = 4  # the colour type of a PNG file
CHANNELS = {"L": 1, "RGB": 3}
# If no 16-bit image is brighter than this, they have at most 12 bits, of which 4 would be left.
DARK = 4096


class Notes:
    """What was changed in the images of a dataset to get 8 bits per channel."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.brightest: int | None = None
        """The highest value of 16-bit grey images that lose values in 8 bits."""

    def add(self, what: str) -> None:
        self.counts[what] += 1

    def refuse_dark(self, where: str) -> None:
        """Raises `InputError` if 16-bit grey images are so dark that 8 bits lose most values."""
        if self.brightest is not None and self.brightest < DARK:
            raise InputError(
                f"{where}: the 16-bit grey images have no value above {self.brightest} of 65535, "
                f"so only {self.brightest // 257 + 1} grey tones would be left in 8 bits. Scale "
                "them to the whole range, or store them as float32 in a .npz file"
            )


@dataclass(frozen=True)
class Form:
    """The array that every image is converted to, and parts of messages about misfits."""

    shape: tuple[int, int, int]
    """Height, width, channels."""
    resize: bool
    """Whether images of another size are resized; otherwise they are refused."""
    keeps_colour: bool
    """Whether a colour image is refused, not converted, if grey is expected."""
    is_bytes: bool
    """Whether pixels are uint8, like those of image files."""
    expected: str
    """The column, for messages."""
    other_size: str
    other_colour: str

    @classmethod
    def of_first(
        cls,
        image: "Image.Image",
        where: str,
        name: str,
        size: list[int] | None,
        colour: Literal["grey", "rgb"] | None,
    ) -> "Form":
        """For training: `size` and `colour` if given, else those of the first image."""
        channels = {"grey": 1, "rgb": 3}.get(colour or "", CHANNELS[image.mode])
        height, width = size or (image.height, image.width)
        return cls(
            (height, width, channels),
            resize=size is not None,
            keeps_colour=colour is None,
            is_bytes=True,
            expected=name,
            other_size=f"{where} is {height}x{width}. Set prepare.source.size to [height, width] "
            "to resize all images",
            other_colour=f"{where} is grey; set prepare.source.colour to grey or rgb",
        )


def read_file(path: Path, sha256: str | None = None) -> bytes:
    """The content of a file.

    Raises:
        InputError: it is missing or unreadable, or its hash is not `sha256`.
    """
    with reading(path):
        content = path.read_bytes()
    if sha256 and hashlib.sha256(content).hexdigest() != sha256:
        raise InputError(
            f"{path} changed while it was read, so nothing was predicted. Write files under "
            "another name and move them into place; the same command predicts what is there now."
        )
    return content


def decode(content: bytes, where: str, notes: Notes | None = None) -> "Image.Image":
    """Decode an image to mode `L` or `RGB`, upright, with 8 bits per channel.

    Raises:
        InputError: it is not PNG or JPEG, is broken or animated; the message begins with `where`.
    """
    from PIL import Image, ImageOps

    notes = notes or Notes()
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as file:
            frames = getattr(file, "n_frames", 1)
            if file.format == "PNG" and frames > 1:
                raise ValueError(f"it is animated and has {frames} pictures")
            file.load()
            depth, kind = content[24:26] if content.startswith(_PNG) else (8, 0)
            if depth == 16:
                notes.add("16 bits a channel, of which 8 were kept")
            flat = _flat(file, depth, notes)
            if kind == _GREY_WITH_ALPHA:
                flat = flat.convert("L")  # Pillow reads 16 bits of it as three equal channels
            flat.info = file.info  # has the orientation
            return ImageOps.exif_transpose(flat)
    except Exception as error:  # Pillow raises many types for broken files
        raise InputError(
            f"{where} is not a readable PNG or JPEG file: {error}. Repair or remove it"
        ) from error


def _flat(image: "Image.Image", depth: int, notes: Notes) -> "Image.Image":
    """Convert to mode `L` or `RGB`, on white; `depth` is the number of bits per channel."""
    from PIL import Image

    key = image.info.get("transparency")
    if image.mode.startswith("I"):
        deep = np.asarray(image).astype(np.int64)
        if (deep % 257).any():
            notes.brightest = max(notes.brightest or 0, int(deep.max()))
        grey = (deep // 257).astype(np.uint8)
        return Image.fromarray(_keyed(grey, None if key is None else deep == key, notes))
    if image.mode in ("1", "L"):
        grey = np.asarray(image.convert("L"))
        if key is not None and image.mode == "L" and depth < 8:
            key = key * 255 // (2**depth - 1)  # pixels were scaled to 8 bits
        return Image.fromarray(_keyed(grey, None if key is None else grey == key, notes))
    if image.mode == "RGB" and key is not None:
        if depth == 16:
            raise ValueError("it has 16 bits per channel and a transparent colour")
        colours = np.asarray(image)
        return Image.fromarray(_keyed(colours, (colours == key).all(axis=-1), notes))
    if image.mode in ("LA", "RGBA") or key is not None:
        if image.mode not in ("LA", "RGBA"):
            image = image.convert("RGBA")
        pixels = np.asarray(image).astype(np.int64)
        alpha = pixels[..., -1:]
        if (alpha < 255).any():
            notes.add("transparent, laid on white")
        blended = (pixels[..., :-1] * alpha + 255 * (255 - alpha) + 127) // 255
        array = blended.astype(np.uint8)
        return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
    if image.mode == "CMYK":
        notes.add("CMYK, made RGB without a colour profile")
    return image.convert("RGB")


def _keyed(
    pixels: NDArray[np.uint8], transparent: NDArray[np.bool_] | None, notes: Notes
) -> NDArray[np.uint8]:
    """Make pixels white where `transparent` (H, W) is True."""
    if transparent is None or not transparent.any():
        return pixels
    notes.add("transparent, laid on white")
    return np.where(transparent[..., np.newaxis] if pixels.ndim == 3 else transparent, 255, pixels)


def pixels_of(image: "Image.Image", form: Form, where: str) -> NDArray[np.uint8]:
    """The pixels (H, W, C), converted to `form`.

    Raises:
        InputError: the image has another colour mode or size, and `form` forbids the conversion.
    """
    from PIL import Image

    height, width, channels = form.shape
    mode = next((mode for mode, count in CHANNELS.items() if count == channels), None)
    if not form.is_bytes or mode is None:
        raise InputError(
            f"{where}: image files have 8 bits of grey or RGB, and the model takes "
            f"{form.expected}. Give arrays: a .npz file with `images`, or a table with a tensor "
            "column"
        )
    if mode == "L" and image.mode == "RGB" and form.keeps_colour:
        raise InputError(f"{where} has colours and {form.other_colour}")
    image = image.convert(mode)
    if form.resize:
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    if (image.height, image.width) != (height, width):
        raise InputError(
            f"{where} is {image.height}x{image.width} pixels (height x width); {form.other_size}"
        )
    return np.asarray(image).reshape(height, width, channels)


def every(folder: Path) -> list[Path]:
    """All image files in a folder and its sub-folders; other files are ignored."""
    return _walk(folder, frozenset())[0]


def below(folder: Path) -> list[Path]:
    """All image files in a folder and its sub-folders, by class and name, except hidden ones.

    Raises:
        InputError: there are other files in a sub-folder, or unsupported pictures anywhere.
    """
    with reading(folder):
        found, others = _walk(folder, frozenset())
    if found:
        refuse_others((file.relative_to(folder).as_posix() for file in others), str(folder))
    return found


def refuse_others(names: Iterable[str], folder: str) -> None:
    """Raises `InputError` for a file beside images, by its path in their folder: in a sub-folder
    any, and unsupported pictures anywhere."""
    for name in names:
        if "/" in name or name.lower().endswith(OTHER_PICTURES):
            raise InputError(
                f"{folder}/{name} is not a PNG or JPEG file; convert, move or remove it"
            )


def _walk(folder: Path, above: frozenset[Path]) -> tuple[list[Path], list[Path]]:
    """Image files and other files. Links to folders are followed, except in circles."""
    images: list[Path] = []
    others: list[Path] = []
    above |= {folder.resolve()}
    for path in sorted(folder.glob("[!.]*")):
        if path.is_dir():
            if path.resolve() not in above:
                inner = _walk(path, above)
                images += inner[0]
                others += inner[1]
        elif path.suffix.lower() in SUFFIXES:
            images.append(path)
        else:
            others.append(path)
    return images, others


@dataclass(frozen=True)
class Cell:
    """An image in a row of a table: encoded bytes, or the path of a file."""

    content: bytes | None
    path: str | None

    @property
    def missing(self) -> bool:
        return self.content is None and self.path is None


def holds_files(kind: pa.DataType) -> bool:
    """Whether a column may hold image files: paths, encoded bytes, or Hugging Face's structs."""
    types = pa.types
    if types.is_dictionary(kind):
        return holds_files(kind.value_type)
    if types.is_struct(kind):
        return {field.name for field in kind} <= {"bytes", "path"}
    found = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    return any(test(kind) for test in found)


def names_files(kind: pa.DataType) -> bool:
    """Whether a column of image files may hold paths."""
    binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    return holds_files(kind) and not binary


def cells(column: pa.Array | pa.ChunkedArray) -> Iterator[Cell]:
    """The images of a column that `holds_files`; a cell without bytes or path is missing."""
    for scalar in column:
        value: Any = scalar.as_py()
        content = path = None
        if isinstance(value, dict):
            content, path = value.get("bytes"), value.get("path")
        elif isinstance(value, bytes):
            content = value
        else:
            path = value
        if content or not (path and path.strip()):
            path = None
        yield Cell(content or None, path)


def as_column(pixels: NDArray[np.uint8], present: NDArray[np.bool_]) -> pa.Array:
    """A column with images (P, H, W, C) in the rows that are `present` (N,), and null elsewhere."""
    if present.all():
        return pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(pixels))
    every = np.zeros((len(present), *pixels.shape[1:]), np.uint8)
    every[present] = pixels
    kind = pa.FixedShapeTensorArray.from_numpy_ndarray(every).type
    mask = pa.array(~present)
    storage = pa.FixedSizeListArray.from_arrays(every.ravel(), every[0].size, mask=mask)
    return pa.ExtensionArray.from_storage(kind, storage)
