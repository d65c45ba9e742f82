"""Files that a batch inference job reads: found, counted, fingerprinted, and read in batches."""

import difflib
import hashlib
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tasks.errors import InputError
from tasks.signature import Signature, Tensor

Batch = tuple[pa.Array | None, dict[str, NDArray[np.generic]]]


@dataclass(frozen=True)
class InputFile:
    """One file, by content; `rows` is what its own header says."""

    path: Path
    sha256: str
    rows: int


def find(paths: Iterable[Path]) -> list[InputFile]:
    """Every readable file that `paths` name, folders included, in the order of their names.

    Raises:
        InputError: a path is missing, a folder has nothing readable, or a file is broken.
    """
    files: list[Path] = []
    for path in paths:
        found = (
            sorted(p for p in path.iterdir() if p.suffix in READERS) if path.is_dir() else [path]
        )
        if not found:
            raise InputError(f"{path} holds no file ending in {', '.join(READERS)}")
        files += found
    return [_inspect(path) for path in files]


def fingerprint(files: Iterable[InputFile]) -> str:
    """SHA-256 over the files' contents, in order; their names do not count."""
    return hashlib.sha256("\n".join(file.sha256 for file in files).encode()).hexdigest()


def batches(file: InputFile, signature: Signature, size: int) -> Iterator[Batch]:
    """The file's `key` column (None where it has none) and inputs, at most `size` rows a time.

    Raises:
        InputError: a column is missing, has the wrong type or shape, or a value is missing.
    """
    done = 0
    for batch in _read(file.path, size):
        names = batch.schema.names
        if len(set(names)) < len(names):
            raise InputError(f"{file.path}: two columns have the same name: {', '.join(names)}")
        for tensor in signature.inputs:
            if tensor.name not in names:
                close = difflib.get_close_matches(tensor.name, names, n=1)
                raise InputError(
                    f"{file.path}: no column {tensor.name!r}"
                    + (f" (did you mean {close[0]!r}?)" if close else "")
                    + f"; it has {', '.join(names)}. The model takes "
                    + ", ".join(map(str, signature.inputs))
                )
        arrays = {t.name: _array(batch[t.name], t, file.path) for t in signature.inputs}
        signature.check(arrays, str(file.path), done)
        done += len(batch)
        yield batch["key"] if "key" in names else None, arrays


def _inspect(path: Path) -> InputFile:
    if path.suffix not in READERS:
        raise InputError(
            f"{path}: a file must end in {', '.join(READERS)}, to be read by that form"
        )
    try:
        with path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        rows = _COUNTERS[path.suffix](path)
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing; give an existing file or folder") from error
    except _BROKEN as error:
        raise InputError(f"{path} is not a readable {path.suffix} file: {error}") from error
    return InputFile(path, sha256, rows)


def _array(column: pa.Array, tensor: Tensor, path: Path) -> NDArray[np.generic]:
    """A column as (rows, *shape), without a copy where Arrow's layout allows."""
    kind, width = column.type, int(np.prod(tensor.shape))
    storage = column.storage if isinstance(kind, pa.FixedShapeTensorType) else column
    values = storage.flatten() if pa.types.is_fixed_size_list(storage.type) else storage
    if column.null_count or values.null_count:  # whole rows, or values within them
        raise InputError(f"{path}: a value is missing in column {tensor.name!r}; fill or remove it")
    array: NDArray[np.generic]
    if isinstance(kind, pa.FixedShapeTensorType):
        array = column.to_numpy_ndarray()
        return array
    if pa.types.is_fixed_size_list(kind) and (kind.list_size, kind.value_type) == (
        width,
        pa.from_numpy_dtype(tensor.dtype),
    ):
        array = values.to_numpy().reshape(len(column), *tensor.shape)
        return array
    if pa.types.is_fixed_size_binary(kind) and kind.byte_width == width and tensor.dtype == "uint8":
        start = column.offset * width
        flat = np.frombuffer(column.buffers()[1], np.uint8)[start : start + len(column) * width]
        return flat.reshape(len(column), *tensor.shape)
    raise InputError(
        f"{path}: column {tensor.name!r} is {kind}; the model takes {tensor}, as a fixed-shape "
        f"tensor, a list of fixed size {width}"
        + (f" or binary of {width} bytes" if tensor.dtype == "uint8" else "")
    )


def _read(path: Path, size: int) -> Iterator[pa.RecordBatch]:
    try:
        yield from READERS[path.suffix](path, size)
    except InputError:
        raise
    except _BROKEN as error:
        raise InputError(f"{path} is not a readable {path.suffix} file: {error}") from error


def _read_parquet(path: Path, size: int) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(batch_size=size)


def _read_arrow(path: Path, size: int) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            for start in range(0, batch.num_rows, size):
                yield batch.slice(start, size)


def _read_npz(path: Path, size: int) -> Iterator[pa.RecordBatch]:
    images = _npz_images(path)
    for start in range(0, len(images), size):
        part = np.ascontiguousarray(images[start : start + size])
        yield pa.record_batch({"image": pa.FixedShapeTensorArray.from_numpy_ndarray(part)})


def _npz_images(path: Path) -> NDArray[np.generic]:
    with np.load(path, allow_pickle=False) as file:
        if "images" not in file.files:
            raise InputError(
                f"{path} holds the arrays {', '.join(file.files) or 'none'}; `images` is wanted"
            )
        images: NDArray[np.generic] = file["images"]
    if images.ndim not in (3, 4) or not (images.dtype == np.uint8 or images.dtype.kind == "f"):
        raise InputError(
            f"{path}: images is {images.dtype}{list(images.shape)}; uint8 or floating point of "
            "shape (N, H, W) or (N, H, W, C) is wanted"
        )
    if images.ndim == 3:
        images = images[..., np.newaxis]
    return images.astype(np.float32) if images.dtype.kind == "f" else images


def _count_parquet(path: Path) -> int:
    return int(pq.read_metadata(path).num_rows)


def _count_arrow(path: Path) -> int:
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        return sum(reader.get_batch(i).num_rows for i in range(reader.num_record_batches))


READERS: dict[str, Callable[[Path, int], Iterator[pa.RecordBatch]]] = {
    ".parquet": _read_parquet,
    ".arrow": _read_arrow,
    ".npz": _read_npz,
}
_COUNTERS: dict[str, Callable[[Path], int]] = {
    ".parquet": _count_parquet,
    ".arrow": _count_arrow,
    ".npz": lambda path: len(_npz_images(path)),
}
_BROKEN = (OSError, TypeError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)
