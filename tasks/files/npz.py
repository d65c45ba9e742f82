"""NumPy `.npz` files of images or sequences, for training and prediction."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.errors import InputError
from tasks.files.sequences import pack
from tasks.files.tables import reading

Arrays = dict[str, NDArray[np.generic]]


def load(path: Path, *expected: str) -> Arrays:
    """All arrays of a file. Pickled arrays are refused.

    Raises:
        InputError: the file is missing or broken, or has none of the arrays `expected`.
    """
    with reading(path), np.load(path, allow_pickle=False) as file:
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("it is an .npy file, a single array without a name")
        arrays: Arrays = {name: file[name] for name in file.files}
    if expected and not set(expected) & arrays.keys():
        raise InputError(
            f"{path} holds the arrays {', '.join(arrays) or 'none'}; "
            f"{' or '.join(f'`{name}`' for name in expected)} is expected"
        )
    return arrays


def images(arrays: Arrays, path: Path) -> NDArray[np.generic]:
    """The array `images`, (N, H, W) or (N, H, W, C), as (N, H, W, C) of uint8 or float32.

    Raises:
        InputError: it has another shape or dtype.
    """
    found = arrays["images"]
    if found.ndim not in (3, 4) or not (found.dtype == np.uint8 or found.dtype.kind == "f"):
        raise InputError(
            f"{path}: images is {found.dtype}{list(found.shape)}; uint8 or floating point of "
            "shape (N, H, W) or (N, H, W, C) is expected"
        )
    if found.ndim == 3:
        found = found[..., np.newaxis]
    return found.astype(np.float32) if found.dtype.kind == "f" else found


def sequences(arrays: Arrays, path: Path) -> pa.ListArray:
    """The array `sequences`, (N, T) or (N, T, F), truncated to `lengths` (N,) if given.

    Each row is a list of fixed-size lists of float32; a row of length 0 is a missing value.

    Raises:
        InputError: an array has another shape or dtype, or a length is not between 0 and T.
    """
    steps = arrays["sequences"]
    if steps.ndim not in (2, 3) or steps.dtype.kind not in "iuf" or 0 in steps.shape[1:]:
        raise InputError(
            f"{path}: sequences is {steps.dtype}{list(steps.shape)}; numbers of shape (N, T) or "
            "(N, T, F) are expected"
        )
    count, longest = steps.shape[:2]
    if steps.ndim == 2:
        steps = steps[..., np.newaxis]
    lengths = arrays.get("lengths", np.full(count, longest))
    if lengths.shape != (count,) or lengths.dtype.kind not in "iu":
        raise InputError(
            f"{path}: lengths is {lengths.dtype}{list(lengths.shape)}; {count} integers are "
            "expected, one for each sequence"
        )
    lengths = lengths.astype(np.int64)
    wrong = (lengths < 0) | (lengths > longest)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(
            f"{path}, row {row}: the length {lengths[row]} is not between 0 and {longest}, the "
            "number of timesteps in `sequences`"
        )
    valid = steps[np.arange(longest) < lengths[:, np.newaxis]].astype(np.float32)
    return pack(valid, lengths)


def labels(arrays: Arrays, rows: int, path: Path) -> pa.Array:
    """The array `labels` (N,): integers, booleans, floating point or strings (empty means null).

    Raises:
        InputError: it is missing, has another length than `rows`, or another dtype.
    """
    if "labels" not in arrays:
        raise InputError(f"{path} holds the arrays {', '.join(arrays)}; `labels` is expected too")
    found = arrays["labels"]
    if found.shape != (rows,) or found.dtype.kind not in "iubfUS":
        raise InputError(
            f"{path}: labels is {found.dtype}{list(found.shape)}; {rows} numbers or strings are "
            "expected, one for each row"
        )
    if found.dtype.kind not in "US":
        native = found.astype(found.dtype.newbyteorder("="))
        return pa.array(native.astype(np.float32) if native.dtype == np.float16 else native)
    try:
        text = found.astype(str)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: labels of bytes must be ASCII: {error}") from error
    return pa.array([str(label) or None for label in text], pa.string())
