"""Starts a training from a file of weights: loads what fits, lists the rest."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor

from tasks.architectures import Network
from tasks.bundle.files import Bundle
from tasks.checkpoint import weights_of
from tasks.errors import InputError
from tasks.training.base import is_scale, read_marker
from tasks.training.renaming import refuse_two_for_one, refuse_wrong_keys, rename
from tasks.weights_file import Stored, read_header
from tasks.words import counted, some

_FLOATS = ("F64", "F32", "F16", "BF16")
# How many batches a batch normalisation has seen.
_COUNTS = ("I64",)
# What these mean depends on the columns, words or classes of the data, which a file does not say.
_OF_THE_DATA = ("front.", "head.")
SHOWN = 3


class Pair(NamedTuple):
    """A tensor of the file and the one of the network that it is for."""

    old: str
    stored: Stored
    name: str
    into: Tensor

    @property
    def fits(self) -> bool:
        return self.stored.shape == tuple(self.into.shape)

    def __str__(self) -> str:
        here = tuple(self.into.shape)
        return f"{self.old} {self.stored.shape} for {self.name} {here}"


def start_from_file(network: Network, file: str, keys: Mapping[str, str], base: Path) -> str:
    """Load the weights of `file`, which is in `base`, under the names that `keys` give them.

    Weights of other shapes are not loaded, nor those of the front and the head, unless `keys` name
    them: they depend on the columns, words or classes. The scales come from the new dataset. Any
    floating-point type becomes that of the network. Returns a line for the log.

    Raises:
        InputError: `base` has another file, `keys` do not fit, no weights match, or a weight is
            not of floating point or not finite. If none match, both lists are printed first.
    """
    read_marker(base, file)
    path = Bundle.at(base).weights
    stored = read_header(path, file)
    into = {name: t for name, t in weights_of(network).items() if not is_scale(name)}
    renamed = rename(stored, keys)
    refuse_wrong_keys(renamed, keys, into, file)
    pairs = [
        Pair(old, stored[old], new.name, into[new.name])
        for old, new in renamed.items()
        if new.name in into and (new.by or not new.name.startswith(_OF_THE_DATA))
    ]
    refuse_two_for_one(((pair.old, pair.name) for pair in pairs), file)
    loaded = [pair for pair in pairs if pair.fits]
    parameters = {name for name, _ in network.named_parameters()}
    if not any(pair.name in parameters for pair in loaded):
        print(_both(stored, into), flush=True)
        raise InputError(_none(file, pairs, stored, into))
    converted = Counter[str]()
    with safe_open(path, framework="pt") as tensors:
        for pair in loaded:
            _refuse_type(pair, file)
            given = tensors.get_tensor(pair.old)
            converted[pair.stored.dtype] += given.dtype != pair.into.dtype
            given = given.to(pair.into.dtype)
            if not torch.isfinite(given).all():
                raise InputError(
                    f"train.init_from: {pair.old} of {file} has values that are infinite or not a "
                    "number, so a network could not learn from it. Take another file"
                )
            pair.into.copy_(given)
    report = _report(loaded, pairs, +converted, stored, into)
    return f"starting from {file}: {'; '.join(report)}"


def _refuse_type(pair: Pair, file: str) -> None:
    """Raises `InputError` if a tensor has another kind of numbers than that of the network."""
    allowed = _FLOATS if pair.into.is_floating_point() else _COUNTS
    if pair.stored.dtype not in allowed:
        raise InputError(
            f"train.init_from: {pair.old} of {file} has the type {pair.stored.dtype}, but "
            f"{pair.name} takes {', '.join(allowed)}. Take a file that is not quantized"
        )


def _report(
    loaded: list[Pair],
    pairs: list[Pair],
    converted: Mapping[str, int],
    stored: Mapping[str, Stored],
    into: Mapping[str, Tensor],
) -> Iterator[str]:
    yield f"loaded {len(loaded)} of {len(into)} tensors"
    for dtype, number in sorted(converted.items()):
        yield f"converted {counted(number, 'tensor')} from {dtype}"
    used, meant = {pair.old for pair in pairs}, {pair.name for pair in pairs}
    lists = {
        "another shape": [str(pair) for pair in pairs if not pair.fits],
        "new": [name for name in into if name not in meant],
        "unused": [name for name in stored if name not in used],
    }
    yield from (f"{what}: {', '.join(names)}" for what, names in lists.items() if names)


def _both(stored: Mapping[str, Stored], into: Mapping[str, Tensor]) -> str:
    """All names and shapes of file and network, one a line."""
    there = [f"  {name} {one.shape}" for name, one in stored.items()]
    here = [f"  {name} {tuple(tensor.shape)}" for name, tensor in into.items()]
    return "\n".join(["weights in the file:", *there, "weights of the network:", *here])


def _none(
    file: str, pairs: list[Pair], stored: Mapping[str, Stored], into: Mapping[str, Tensor]
) -> str:
    """The message if nothing can be loaded."""
    lead = (
        f"train.init_from: no weight of {file} has the name and the shape of a weight of this "
        "network. The lines above list both."
    )
    if pairs:
        return (
            f"{lead} Of another shape: {some(map(str, pairs), SHOWN)}. Set the widths of "
            "train.architecture to those of the file"
        )
    alike = list(_alike(stored, into))
    if not alike:
        return f"{lead} No shapes are equal either: set the widths of train.architecture first"
    old, new = alike[0]
    while "." in old and "." in new and old.rpartition(".")[2] == new.rpartition(".")[2]:
        old, new = old.rpartition(".")[0], new.rpartition(".")[0]
    listed = some((f"{old} and {new}" for old, new in alike), SHOWN)
    return (
        f"{lead} Of the same shape: {listed}. Map parts of names with train.init_keys, such as "
        f"{{{old}: {new}}}"
    )


def _alike(stored: Mapping[str, Stored], into: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """Names in the file and in the network with the same last part and shape, matrices only.

    The first of a shape belong together, and so on: both have their layers in some order.
    """
    left = [name for name, one in stored.items() if len(one.shape) > 1]
    for name, tensor in into.items():
        last = name.rpartition(".")[2]
        for old in left:
            if old.rpartition(".")[2] == last and stored[old].shape == tuple(tensor.shape):
                left.remove(old)
                yield old, name
                break
