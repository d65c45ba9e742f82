"""Image columns: arrays of pixels of one size, or paths or bytes of PNG and JPEG files."""

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.columns import image_rows
from tasks.columns.base import (
    Arrays,
    CleanColumn,
    Column,
    EncodeContext,
    Fitted,
    RawColumn,
    Tensor,
)
from tasks.columns.distributions import moments
from tasks.errors import InputError
from tasks.files import images, npz, suffixes
from tasks.files.convert import Kind
from tasks.measures import Measure
from tasks.reasons import NOT_FINITE

SAMPLED = 512  # values of an image for its brightness: its standard error is 1/23 of the contrast


BASELINE_BLOCKS = 32
"""The quick model sees at most so many blocks of pixels along a side."""


class ImageColumn(Column):
    """Images of one shape, (height, width, channels); `tasks.files.images` reads image files.

    The tensor has the name, dtype and shape of the column.
    """

    kind: Literal["image"] = "image"
    dtype: Literal["uint8", "float32"]
    shape: tuple[int, int, int]
    resize: Literal["bilinear"] | None = None
    """How image files are resized; without it, files of another size are refused."""
    colour: Literal["grey", "rgb"] | None = None
    """The mode image files are converted to. Without it, grey files are converted to RGB if
    needed, but colour files are never converted to grey."""

    data: ClassVar[str] = "image"
    read_as: ClassVar[Kind | None] = "text"  # the path of a file
    reads_text: ClassVar[bool] = False
    cleaned_as_read: ClassVar[bool] = True
    equal_is_copy: ClassVar[bool] = True
    file_forms: ClassVar[tuple[str, ...]] = (suffixes.ARRAYS, *suffixes.IDX, suffixes.FOLDER)
    names_files: ClassVar[bool] = True
    is_array: ClassVar[bool] = True
    baseline_sees: ClassVar[str] = "pixels"

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join(map(str, self.shape))}]"

    def describe(self) -> str:
        return f"image: {self.dtype}[{', '.join(map(str, self.shape))}]"

    @classmethod
    def read(cls, values: pa.ChunkedArray, raw: RawColumn) -> pa.Array | pa.ChunkedArray:
        """Fixed-shape tensors (H, W, C), null where a row has no image."""
        path = Path(raw.where)
        if isinstance(values.type, pa.FixedShapeTensorType):
            refuse_options(raw.source, raw.where)
            return values.combine_chunks()
        if not images.holds_files(values.type):
            raise InputError(
                f"{path}: column {raw.name!r} is {values.type}; paths or bytes of PNG or JPEG "
                "files, or a fixed-shape tensor, are expected"
            )
        found = list(images.cells(values))
        present = np.array([not cell.missing for cell in found])
        if not present.any():
            raise InputError(f"{path}: column {raw.name!r} has no image in any row")

        def contents() -> Iterator[tuple[str, bytes]]:
            for row, cell in enumerate(found):
                where = raw.cell(row)
                if cell.path is not None:
                    content = images.read_file(_tracked(path, cell.path, where))
                    yield f"{where} ({cell.path})", content
                elif cell.content is not None:
                    yield where, cell.content

        pixels, notes = decode_all(raw.source, raw.name, contents(), int(present.sum()))
        notes.refuse_dark(str(path))
        raw.changed.update(notes.counts)
        return images.as_column(pixels, present)

    @classmethod
    def clean(cls, values: pa.Array, raw: RawColumn) -> CleanColumn:
        """Missing: also images with a pixel that is NaN or infinite."""
        missing = values.is_null().to_numpy(zero_copy_only=False)
        if pa.types.is_floating(values.type.value_type):
            present = values.drop_null() if values.null_count else values
            pixels = present.to_numpy_ndarray().reshape(len(present), -1)
            missing[~missing] = ~np.isfinite(pixels).all(axis=1)
        return CleanColumn(values, missing)

    @classmethod
    def fit(cls, train: pa.Array, every: pa.ChunkedArray, raw: RawColumn) -> Fitted:
        return Fitted(
            cls(
                name=raw.name,
                dtype="uint8" if train.type.value_type == pa.uint8() else "float32",
                shape=tuple(train.type.shape),
                resize="bilinear" if getattr(raw.source, "size", None) else None,
                colour=getattr(raw.source, "colour", None),
            )
        )

    def read_file(
        self, form: str, path: Path, members: Mapping[str, str], start: int, size: int
    ) -> Iterator[pa.RecordBatch]:
        if form == suffixes.FOLDER:
            return image_rows.of_files(list(members)[start:], self.name, size)
        if form == suffixes.ARRAYS:
            return image_rows.of_npz(path, self.name, start, size)
        return image_rows.of_idx(path, self.name, start, size)

    def read_cells(
        self,
        rows: pa.RecordBatch,
        folder: Path,
        members: Mapping[str, str] | None,
        describe: Callable[[int], str],
    ) -> pa.RecordBatch:
        return image_rows.with_pixels(rows, folder, members, self, describe)

    def of_arrays(self, values: Any, where: Path) -> pa.Array | None:
        if isinstance(values, list):
            single = [isinstance(value, np.ndarray) for value in values]
            if not all(single):
                row = single.index(False)
                raise InputError(f"{where}: row {row} has no image; remove such rows")
            if len({value.shape for value in values}) > 1:
                shapes = ", ".join(sorted({str(value.shape) for value in values}))
                raise InputError(
                    f"{where}: the images have different shapes: {shapes}; one shape is expected"
                )
            values = np.stack(values)
        pixels = np.ascontiguousarray(npz.images({"images": values}, where))
        return pa.FixedShapeTensorArray.from_numpy_ndarray(pixels) if len(pixels) else None

    def form(self) -> images.Form:
        """The form of array that image files are converted to for prediction."""
        height, width, _ = self.shape
        return images.Form(
            self.shape,
            resize=self.resize is not None,
            keeps_colour=self.colour is None,
            is_bytes=self.dtype == "uint8",
            expected=str(self),
            other_size=f"the model takes {height}x{width}. Resize the image, or train with "
            "prepare.source.size, so that images are resized automatically",
            other_colour="the model takes grey images. Convert the image to grey, or train with "
            "prepare.source.colour",
        )

    def tensors(self) -> tuple[Tensor, ...]:
        return (Tensor(name=self.name, dtype=self.dtype, shape=self.shape),)

    def encode(self, values: pa.Array, context: EncodeContext) -> Arrays:
        """Encodes without a copy where Arrow's layout allows."""
        context.counts.add(self.name, len(values))
        location = context.location
        tensor = isinstance(values.type, pa.FixedShapeTensorType)
        storage = values.storage if tensor else values
        flat = storage.flatten() if pa.types.is_fixed_size_list(storage.type) else storage
        if values.null_count:
            raise location.missing(self.name, values.is_null().to_numpy(zero_copy_only=False))
        if flat.null_count:  # null pixels within an image
            gone = flat.is_null().to_numpy(zero_copy_only=False).reshape(len(values), -1)
            raise location.missing(self.name, gone.any(axis=1))
        array = values.to_numpy_ndarray() if tensor else self._unpack(values, flat)
        if array is None or str(array.dtype) != self.dtype or array.shape[1:] != self.shape:
            given = str(values.type)
            if tensor and array is not None:
                given = f"{array.dtype}[{', '.join(map(str, array.shape[1:]))}]"
            width = math.prod(self.shape)
            raise InputError(
                f"{location.file}: column {self.name!r} is {given}; the model takes {self}, as a "
                f"fixed-shape tensor, a list of fixed size {width}"
                + (f" or binary of {width} bytes" if self.dtype == "uint8" else "")
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            bad = ~np.isfinite(array.reshape(len(array), -1)).all(axis=1)
            raise location.missing(self.name, bad, "NaN or infinite", NOT_FINITE)
        return {self.name: array}

    def _unpack(self, values: pa.Array, flat: pa.Array) -> NDArray[Any] | None:
        """Images from a fixed-size list or binary column; None for other types or sizes."""
        kind, width = values.type, math.prod(self.shape)
        if pa.types.is_fixed_size_list(kind) and kind.list_size == width:
            if pa.types.is_boolean(kind.value_type):
                return None
            pixels: NDArray[Any] = flat.to_numpy()
        elif pa.types.is_fixed_size_binary(kind) and kind.byte_width == width:
            start = values.offset * width
            content = np.frombuffer(values.buffers()[1], np.uint8)
            pixels = content[start : start + len(values) * width]
        else:
            return None
        return pixels.reshape(len(values), *self.shape)

    def profile(self, values: pa.Array, context: EncodeContext) -> dict[str, Any]:
        pixels = self.encode(values, context)[self.name]
        return {"inputs": {self.name: moments(pixels.reshape(-1, self.shape[-1]))}}

    def baseline_features(self, values: pa.Array, context: EncodeContext) -> tuple[Any, Any]:
        """(N, pixels): means of square blocks, so that no side has more than 32 of them."""
        from sklearn.preprocessing import StandardScaler

        pixels, (side, rows, columns) = self.encode(values, context)[self.name], self._blocks()
        kept = pixels[:, : rows * side, : columns * side]
        shape = (len(kept), rows, side, columns, side, self.shape[2])
        means = kept.reshape(shape).mean(axis=(2, 4), dtype=np.float32)
        return StandardScaler(), means.reshape(len(kept), -1)

    def baseline_cells(self, values: pa.Array) -> float:
        _, rows, columns = self._blocks()
        return rows * columns * self.shape[2]

    def _blocks(self) -> tuple[int, int, int]:
        """The side of a block in pixels, and the rows and columns of blocks; at least one."""
        height, width, _ = self.shape
        side = min(height, width, math.ceil(max(height, width) / BASELINE_BLOCKS))
        return side, height // side, width // side

    def measures(self) -> tuple[Measure, ...]:
        """The mean of an image's values, and their standard deviation."""
        return (
            Measure(
                "brightness",
                lambda arrays: _sampled(self.name, arrays).mean(axis=1),
                computed=True,
            ),
            Measure(
                "contrast", lambda arrays: _sampled(self.name, arrays).std(axis=1), computed=True
            ),
        )


def _sampled(name: str, arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    """(N, up to about `SAMPLED`): values on an even grid of each image.

    All values of 28x28x3 would take 13 µs an image, as much as a small network takes.
    """
    pixels = arrays[name]
    step = max(1, math.isqrt(math.prod(pixels.shape[1:]) // SAMPLED))
    grid: NDArray[np.float64] = pixels[:, ::step, ::step].astype(np.float64)
    return grid.reshape(len(grid), -1)


def decode_all(
    source: Any, name: str, contents: Iterable[tuple[str, bytes]], rows: int
) -> tuple[NDArray[np.uint8], images.Notes]:
    """Decode `rows` image files to (N, H, W, C). `contents` has the location and bytes of each.

    Size and colour are those of `source`, or else those of the first image.

    Raises:
        InputError: a file is not an image, or differs from the first in size or colour and `source`
            does not set it.
    """
    form, notes = None, images.Notes()
    size, colour = getattr(source, "size", None), getattr(source, "colour", None)
    pixels = np.empty((0, 0, 0, 0), np.uint8)
    for row, (where, content) in enumerate(contents):
        image = images.decode(content, where, notes)
        if form is None:
            form = images.Form.of_first(image, where, name, size, colour)
            pixels = np.empty((rows, *form.shape), np.uint8)
        pixels[row] = images.pixels_of(image, form, where)
    return pixels, notes


def refuse_options(source: Any, where: str) -> None:
    """Raises `InputError` if `source` has options for image files; these images are arrays."""
    if getattr(source, "size", None) or getattr(source, "colour", None):
        raise InputError(
            f"{where}: the images are arrays, but prepare.source.size and prepare.source.colour "
            "apply only to image files. Remove them"
        )


def _tracked(folder: Path, named: str, where: str) -> Path:
    """The path of the file in a row. It must be in `folder`, which DVC tracks."""
    if not folder.is_dir():
        raise InputError(
            f"{where} names {named}, but DVC would track only {folder.name}, not the images, and "
            "would not notice changed images. Put the table and the images into one folder; set "
            f"prepare.source.path to this folder and prepare.source.pattern to {folder.name}"
        )
    file = Path(os.path.normpath(folder / named))
    if not file.is_relative_to(os.path.normpath(folder)):
        raise InputError(
            f"{where} names {named}, which is outside of {folder}, so DVC would not track it. Move "
            "the file into that folder"
        )
    return file
