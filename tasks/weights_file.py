"""A file of weights in the format safetensors, for `train.init_from`.

https://huggingface.co/docs/safetensors/index#format
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open

from tasks.config.start import PICKLE, SUFFIX
from tasks.errors import InputError

# How a pickle begins: a zip archive, which torch.save writes, or the pickle itself.
_PICKLED = (b"PK\x03\x04", b"\x80")


class Stored(NamedTuple):
    """How a tensor is stored."""

    shape: tuple[int, ...]
    dtype: str
    """As the format names it: F32, BF16, I64."""


def read_header(path: Path, name: str) -> Mapping[str, Stored]:
    """Shape and dtype of each tensor of a file, by name. No tensor is read.

    They are in the order of their names, `layer.2` before `layer.10`. `name` is what the user calls
    the file.

    Raises:
        InputError: there is no such file, it is not a whole safetensors file, or it is empty.
    """
    try:
        if not path.is_file():
            raise InputError(f"train.init_from: {_missing(path, name)}")
        with safe_open(path, framework="np") as file:
            parts = {key: file.get_slice(key) for key in sorted(file.keys(), key=_numbers_in)}
            found = {k: Stored(tuple(p.get_shape()), p.get_dtype()) for k, p in parts.items()}
    except OSError as error:
        raise InputError(f"train.init_from: {name} cannot be read ({error})") from error
    except SafetensorError as error:
        # Only now: the length of a header may begin like a pickle.
        with path.open("rb") as file:
            if file.read(4).startswith(_PICKLED):
                raise InputError(f"train.init_from: {name} {PICKLE}") from error
        raise InputError(
            f"train.init_from: {name} is not a whole {SUFFIX} file ({error}). Download or convert "
            "it again"
        ) from error
    if not found:
        raise InputError(f"train.init_from: {name} has no weights. Name another file")
    if odd := [key for key in found if not key.isprintable()]:
        # They are printed, and may come from anybody.
        raise InputError(
            f"train.init_from: {name} has the name {odd[0]!r}, which cannot be printed. Name its "
            "weights otherwise"
        )
    return found


def _numbers_in(name: str) -> list[tuple[int, str]]:
    parts = re.split(r"([0-9]+)", name)
    # By their length, because `int` refuses more than 4300 digits.
    return [(len(n := part.lstrip("0")), n) if part.isdecimal() else (0, part) for part in parts]


def _missing(path: Path, name: str) -> str:
    if path.is_dir():
        return f"{name} is a folder. Give the path of a {SUFFIX} file"
    if path.with_name(path.name + ".dvc").is_file():
        return f"{name} is missing, but DVC tracks it: `dvc pull {name}.dvc` fetches it"
    there = sorted(p.name for p in path.parent.glob(f"*{SUFFIX}"))
    beside = f"; {path.parent} has {', '.join(there[:5])}" if there else ""
    return f"there is no file {path}{beside}. Give its path, relative to the project"
