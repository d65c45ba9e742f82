"""scikit-learn's handwritten digits: Alpaydin and Kaynak 1998, UCI, 1,797 images of 8x8.

The raw file is the CSV in scikit-learn, byte for byte: 64 values from 0 to 16 and the digit on each
line.
"""

import gzip
import importlib.resources
import zlib
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pyarrow as pa

from tasks.config import DigitsSource
from tasks.errors import InputError
from tasks.sources.raw import Origin, Raw


def put(path: Path) -> None:
    """Write the file as scikit-learn ships it."""
    path.write_bytes(
        (importlib.resources.files("sklearn.datasets.data") / "digits.csv.gz").read_bytes()
    )


def read(source: DigitsSource, path: Path, reserved: Collection[str]) -> Raw:
    """Images (8, 8, 1) as uint8, or float32 where a value is not a whole number from 0 to 255."""
    try:
        text = gzip.decompress(path.read_bytes()).decode("ascii")
    except FileNotFoundError as error:
        raise InputError(
            f"{path} is missing. Run `python -m tasks.sources` to copy the digits there."
        ) from error
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise InputError(f"{path} is not a gzipped CSV file: {error}") from error
    lines = text.splitlines()
    rows = np.full((len(lines), 64), np.nan, np.float32)
    labels: list[str | None] = [None] * len(lines)
    for number, line in enumerate(lines):
        values = line.split(",")
        if len(values) != 65:
            raise InputError(
                f"{path}, row {number + 1}: {len(values)} values; 64 pixels and one digit are "
                "expected"
            )
        try:
            # An empty field is a missing value; `prepare.missing` says what happens to it.
            rows[number] = [float(v) if v.strip() else np.nan for v in values[:64]]
            labels[number] = str(int(values[64])) if values[64].strip() else None
        except ValueError as error:
            raise InputError(f"{path}, row {number + 1}: {error}") from error
    if not lines:
        raise InputError(f"{path} has no rows")
    images = rows.reshape(-1, 8, 8, 1)
    whole = np.isfinite(images).all() and np.array_equal(images, images.astype(np.uint8))
    column = pa.FixedShapeTensorArray.from_numpy_ndarray(
        images.astype(np.uint8) if whole else images
    )
    return Raw(
        source,
        pa.table({"image": column, "label": pa.array(labels, pa.string())}),
        {"image": "image"},
        "label",
        str(path),
        (Origin(str(path), len(lines)),),
    )
