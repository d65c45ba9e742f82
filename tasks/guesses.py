"""What a column of a user's data looks like: texts, images, an identifier, words for no value.

For proposals only; the user sees and changes what follows from these guesses.
"""

import contextlib
import re
from collections.abc import Iterable
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks import recipes
from tasks.columns.looks import numbers_and_dates
from tasks.dataset import KEY
from tasks.files import suffixes
from tasks.files.convert import fits
from tasks.files.reading import PLAIN, Reading
from tasks.files.spelling import without_blank, without_na

# How programs write a missing value.
MISSING = ("NA", "N/A", "#N/A", "NaN", "nan", "null", "NULL", "None", "?")
# A string column is a category if it has at most this many values, or if most values repeat.
FEW = 20
# Texts have at least this many characters and words on average; shorter ones are names or codes.
TEXT_CHARACTERS, TEXT_WORDS = 20, 4
# In scripts without spaces between words; a name has two to four characters there.
DENSE_CHARACTERS = 8
SEEN = 200  # images whose colours are compared
BLACK = 0.1  # of the brightest pixel


def distinct_values(column: pa.ChunkedArray) -> int | None:
    """How many different values there are; None if Arrow cannot compare this type."""
    try:
        return int(pc.count_distinct(column.drop_null()).as_py())
    except pa.ArrowNotImplementedError:
        return None


def reason_to_ignore(name: str, column: pa.ChunkedArray) -> str:
    """Why a column of a table cannot be a feature; empty if it can."""
    values, distinct = column.drop_null(), distinct_values(column)
    if not len(values):
        return "which has no values"
    if distinct is None:
        return f"of type {column.type}, which cannot be a feature"
    if name == KEY:
        return "the key of a row, which is no feature"
    if not name:
        return "a column without a name, such as the index that pandas writes"
    if distinct == 1:
        return "which has the same value in all rows"
    whole = pa.types.is_integer(column.type) or pa.types.is_string(column.type)
    if distinct == len(column) and whole and re.search(r"(^|_|\b)(id|uuid|index)$", name.lower()):
        return "an identifier: it differs in every row"
    if pa.types.is_string(column.type) and distinct > max(FEW, 0.5 * len(values)):
        # Formatted numbers such as `5 kg` are kept: the error on reading names an option for them.
        plain = pc.utf8_trim_whitespace(values.combine_chunks())
        numbers = pc.sum(numbers_and_dates(plain, PLAIN)[0]).as_py()
        if 2 * numbers <= len(values):
            return f"text whose values hardly repeat ({distinct} different values)"
    return ""


def missing_words(columns: Iterable[pa.ChunkedArray]) -> list[str]:
    """The words of `MISSING` in columns of text that are numbers or dates without them."""
    found = set[str]()
    for column in columns:
        if not pa.types.is_string(column.type):
            continue
        words = {word.strip() for word in column.unique().to_pylist() if word} & set(MISSING)
        rules = Reading(na_values=tuple(words))
        if words and (fits(column, "number", rules) or fits(column, "date", rules)):
            found |= words
    return [word for word in MISSING if word in found]


def without_words(column: pa.ChunkedArray, words: list[str]) -> pa.ChunkedArray:
    """The column with nulls for these words; as numbers, if they are numbers."""
    if not words or not pa.types.is_string(column.type):
        return column
    column = without_blank(without_na(column, Reading(na_values=tuple(words))))
    for kind in (pa.int64(), pa.float64()):
        with contextlib.suppress(pa.ArrowInvalid):
            return pc.utf8_trim_whitespace(column).cast(kind)
    return column


def is_fixed_list(column: pa.ChunkedArray) -> bool:
    kind = column.type
    return bool(pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind))


def has_images(column: pa.ChunkedArray) -> bool:
    """Whether the values are images: tensors, or bytes or paths of image files."""
    if pa.types.is_binary(column.type) or pa.types.is_struct(column.type):
        return True
    if isinstance(column.type, pa.FixedShapeTensorType):
        return True
    return pa.types.is_string(column.type) and bool(
        (first := next(iter(column.drop_null().to_pylist()[:1]), ""))
        and first.lower().endswith(suffixes.IMAGES)
    )


def in_colour(images: pa.FixedShapeTensorArray) -> bool:
    """Whether some of the images (N, H, W, C) have different channels: grey ones are often stored
    with three equal ones."""
    pixels = _some_pixels(images)
    return pixels.shape[3] > 2 and bool((pixels != pixels[..., :1]).any())


def has_black_edges(images: pa.FixedShapeTensorArray) -> bool:
    """Whether the edges of images (N, H, W, C) are mostly black: then a shift, whose new pixels are
    black, changes nothing else."""
    pixels = _some_pixels(images)
    edges = np.concatenate([pixels[:, [0, -1]].ravel(), pixels[:, :, [0, -1]].ravel()])
    return bool(np.abs(np.median(edges)) <= BLACK * np.abs(pixels).max())


def _some_pixels(images: pa.FixedShapeTensorArray) -> NDArray[Any]:
    """About `SEEN` of the images (N, H, W, C)."""
    present = images.drop_null()
    found: NDArray[Any] = present[:: max(1, len(present) // SEEN)].to_numpy_ndarray()
    return found


def has_texts(column: pa.ChunkedArray) -> bool:
    """Whether the first 1000 values are sentences."""
    if not pa.types.is_string(column.type):
        return False
    values = [v for v in islice(column.drop_null().to_pylist(), 1000) if v.strip()]
    if not values or len(set(values)) < 0.5 * len(values):
        return False
    characters = sum(map(len, values)) / len(values)
    words = sum(len(value.split()) for value in values) / len(values)
    if recipes.without_spaces(values):
        return characters >= DENSE_CHARACTERS
    return characters >= TEXT_CHARACTERS and words >= TEXT_WORDS


def has_blanks(column: pa.ChunkedArray) -> bool:
    return pa.types.is_string(column.type) and bool(
        pc.any(pc.equal(pc.utf8_trim_whitespace(column), "")).as_py()
    )
