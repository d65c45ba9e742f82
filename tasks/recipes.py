"""Which network `modelmint new` proposes for data, and how it is trained: by a few rules.

docs/training.md has the same rules, with their evidence. A recipe is a part of `params.yaml`, so
the user sees and changes every value. Only `train.architecture: auto` leaves a decision to the
stage `train`: the network, by the same rules.
"""

import unicodedata
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.columns.sequence import MAX_LENGTH
from tasks.config.examples import NETWORKS

# Batch size, epochs and patience of tables, by the rows up to which they apply.
TABLES = ((1_000, 32, 100, 25), (10_000, 64, 40, 15), (100_000, 256, 30, 10), (None, 1024, 15, 5))
FEW_ROWS = 10  # for each column
# The same of sequences: about 700 steps or more, with fewer a network has not learnt their shapes.
SEQUENCES = (
    (200, 8, 100, 40),
    (1_000, 16, 80, 30),
    (5_000, 32, 40, 15),
    (20_000, 64, 30, 10),
    (None, 256, 20, 5),
)
# Timesteps; longer sequences are cut: a training on 5,000 rows would take hours on a CPU.
LONGEST = 2048
# Timesteps of a batch of long sequences when it is evaluated: 0.5 GB of memory with `conv1d`.
EVALUATED = 2**18
# The same of images.
IMAGES = ((1_000, 16, 60, 20), (5_000, 32, 40, 15), (20_000, 64, 30, 10), (None, 128, 20, 5))
# Pixels of the shorter and longer side between which `cnn` is better for its seconds than a
# residual network: smaller images have too few pixels for it, and larger ones take it long.
CNN_SIDES = (4, 32)
SHIFTED = 16  # parts of the shorter side, by one of which grey images are shifted
CROPPED = 0.8  # of height and width that is kept of colour images, at least
# Rows of the largest class for each of the smallest, from which accuracy says little.
IMBALANCE, MOST_CLASSES = 4, 10
LANGUAGE_MODEL = "transformer_lm"
TEXTS = 200  # texts from which the script is guessed


@dataclass(frozen=True)
class Recipe:
    """Parts of the sections `train`, `prepare.source` and `evaluate`, and why, for the user."""

    train: dict[str, Any]
    source: dict[str, Any]
    why: str
    evaluate: dict[str, Any] = field(default_factory=dict)


def of_table(rows: int, columns: int) -> Recipe:
    """Small tables need small batches: with large ones an epoch has too few steps. With few rows
    for each column, the waves of its numbers only fit noise."""
    batch, epochs, patience = _by_rows(TABLES, rows)
    train = {
        "architecture": _of_numbers(rows, columns),
        "batch_size": batch,
        "epochs": epochs,
        "patience": patience,
    }
    return Recipe(train, {}, f"{epochs} epochs of batches of {batch}, for {rows} rows")


def of_texts(texts: Sequence[str]) -> Recipe:
    """n-grams of words; of characters in scripts that write no spaces between words."""
    characters = without_spaces(texts)
    train = {
        "architecture": _of_tokens(characters),
        "epochs": 20,
        "patience": 3,
        "optimizer": {"learning_rate": 0.003},
        "schedule": {"name": "constant"},
    }
    if not characters:
        source = {"tokenizer": {"name": "word", "vocabulary": 30_000}, "max_length": 400}
        return Recipe(train, source, "single words and pairs of words")
    source = {"tokenizer": {"name": "character", "vocabulary": 30_000}, "max_length": 1000}
    return Recipe(train, source, "up to three characters, since there are no spaces between words")


def of_sequences(rows: int, longest: int) -> Recipe:
    """Convolutions see a shape wherever in a sequence it is. Few rows need small batches, as in
    tables. `longest` is the number of timesteps of the longest sequence."""
    batch, epochs, patience = _by_rows(SEQUENCES, rows)
    train = {
        "architecture": {"name": "conv1d"},
        "batch_size": batch,
        "epochs": epochs,
        "patience": patience,
    }
    why = f"{epochs} epochs of batches of {batch}, for {rows} rows"
    kept = min(longest, LONGEST)
    if kept <= MAX_LENGTH:
        return Recipe(train, {}, why)
    why += f"; {kept} of {longest} timesteps"
    return Recipe(train, {"max_length": kept}, why, {"batch_size": EVALUATED // kept})


def of_images(
    rows: int, size: tuple[int, int], *, colour: bool, black_edges: bool, classes: bool
) -> Recipe:
    """Plain convolutions for small images, a residual network for larger ones. `size` is height and
    width in pixels.

    Images of classes are varied: those in colour are photos or drawings, which may be mirrored
    and cropped; those in grey may be letters or digits, so they are only shifted, and only if their
    edges are black, as the pixels are that a shift adds. A number may depend on the side and the
    place of what is seen, so images of numbers stay as they are.
    """
    batch, epochs, patience = _by_rows(IMAGES, rows)
    train: dict[str, Any] = {
        "architecture": _of_sides(size),
        "batch_size": batch,
        "epochs": epochs,
        "patience": patience,
    }
    why = [
        f"{epochs} epochs of batches of {batch}, for {rows} rows of {size[0]} x {size[1]} pixels"
    ]
    shift = min(size) // SHIFTED
    if classes and colour:
        train["augmentation"] = {"flip": True, "crop": CROPPED}
        why.append("mirrored and cropped; set flip: false if left and right differ, as in letters")
    elif classes and shift and black_edges:
        train["augmentation"] = {"shift": shift}
        why.append(f"shifted by up to {shift} pixels; new pixels are black")
    return Recipe(train, {}, "; ".join(why))


def of_others(kind: str) -> Recipe:
    """The network for a kind of data, with the defaults of its parameters."""
    return Recipe({"architecture": NETWORKS[kind]}, {}, "")


@dataclass(frozen=True)
class Seen:
    """What decides on the network for prepared data."""

    rows: int
    columns: int
    characters: bool
    """Whether the tokens of its texts are single characters."""
    size: tuple[int, int]
    """Height and width of its images."""


def network(data: str, seen: Seen) -> dict[str, Any]:
    """The network for prepared data of a kind."""
    rule = RULES.get(data)
    return rule(seen) if rule else {"name": NETWORKS[data]}


def _of_numbers(rows: int, columns: int) -> dict[str, Any]:
    return {"name": "tabular"} | ({"periodic": 0} if rows < FEW_ROWS * columns else {})


def _of_sides(size: tuple[int, int]) -> dict[str, Any]:
    least, most = CNN_SIDES
    return {"name": "cnn" if least <= min(size) and max(size) <= most else "resnet_d"}


def _of_tokens(characters: bool) -> dict[str, Any]:
    return {"name": "bag", "ngrams": 3 if characters else 2}


RULES: dict[str, Callable[[Seen], dict[str, Any]]] = {
    "tabular": lambda seen: _of_numbers(seen.rows, seen.columns),
    "text": lambda seen: _of_tokens(seen.characters),
    "image": lambda seen: _of_sides(seen.size),
}
"""By the kind of data, where it alone does not decide."""


def imbalanced(counts: Collection[int]) -> bool:
    """Whether the accuracy of classes with these numbers of rows says little: few classes, of which
    one is rare."""
    return 1 < len(counts) <= MOST_CLASSES and max(counts) >= IMBALANCE * min(counts)


def without_spaces(texts: Sequence[str]) -> bool:
    """Whether most letters are of a script without spaces, such as Chinese, Japanese or Thai."""
    letters = [c for text in texts[:TEXTS] for c in text[:TEXTS] if c.isalpha()]
    other = sum(unicodedata.category(c) == "Lo" and not _spaced(c) for c in letters)
    return 2 * other > len(letters)


def _by_rows(rule: tuple[tuple[int | None, int, int, int], ...], rows: int) -> list[int]:
    """Batch size, epochs and patience."""
    return next(given for most, *given in rule if not most or rows <= most)


def _spaced(character: str) -> bool:
    """Letters without case of scripts that write spaces between words."""
    name = unicodedata.name(character, "")
    return name.startswith(("ARABIC", "HEBREW", "HANGUL", "DEVANAGARI", "BENGALI", "TAMIL"))
