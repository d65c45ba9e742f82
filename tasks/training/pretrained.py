"""Starts a training from the weights of a registered version: loads what fits, lists the rest."""

from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from tasks.architectures import Network
from tasks.architectures.bag import Ngrams
from tasks.architectures.fronts import Tokens
from tasks.bundle.files import Bundle
from tasks.bundle.signature import Signature
from tasks.checkpoint import weights_of
from tasks.errors import InputError
from tasks.training.base import is_scale, read_marker


class SharedTokens(NamedTuple):
    """Ids of the tokens that the new tokenizer and the one of the base share, (S,) int64 each."""

    here: Tensor
    base: Tensor
    known: int
    """Number of all tokens of the base."""


def start_from(network: Network, init_from: str, base: Path, prepared: Path) -> str:
    """Load the weights in `base` with matching names and shapes; returns a line for the log.

    The head is loaded only if the classes are the same, and the network of a table only if the
    columns are the same, because weights of equal shape may mean something else. If the tokenizers
    differ, the rows of shared tokens are copied, and no vectors of hashed n-grams are loaded.

    Raises:
        InputError: `base` is empty, has another version or one of another table, or no weights
            match.
    """
    ref, files = read_marker(base, init_from), Bundle.at(base)
    there, here = Signature.read(files.signature), network.signature
    if any(t.is_vector for t in here.inputs) and there.columns != here.columns:
        raise InputError(
            f"train.init_from: {ref} was trained on other columns or categories than this dataset, "
            "so its weights mean something else. Start from a version of the same table."
        )
    given = {n: t for n, t in load_file(files.weights).items() if not is_scale(n)}
    into = {n: t for n, t in weights_of(network).items() if not is_scale(n)}
    names = [name for name in into if name in given]
    if (there.task, there.classes) != (here.task, here.classes):
        # An equal number of outputs may belong to other classes.
        names = [name for name in names if not name.startswith("head.")]
    shared = _shared_tokens(base, prepared)
    if shared is not None:
        # Other ids of tokens have other hashes, so no row of a vector has its meaning.
        hashed = tuple(f"{name}." for name, m in network.named_modules() if isinstance(m, Ngrams))
        names = [name for name in names if not name.startswith(hashed)]
    of_tokens = _token_tensors(network) if shared else set()
    loaded = [
        name
        for name in names
        if _copy(given[name], into[name], shared if name in of_tokens else None)
    ]
    if not any(name in loaded for name, _ in network.named_parameters()):
        raise InputError(
            f"train.init_from: no weight of {ref} matches a weight of this network in name and "
            "shape. Use the same architecture and widths for both, or remove train.init_from."
        )
    lines = [f"starting from {ref}: loaded {len(loaded)} of {len(into)} tensors"]
    if shared is not None and of_tokens & set(loaded):
        lines.append(f"the tokenizers share {len(shared.here):,} tokens, whose rows were copied")
    for what, tensors in (("new", into), ("unused", given)):
        left = [name for name in tensors if name not in loaded]
        lines += [f"{what}: {', '.join(left)}"] if left else []
    return "; ".join(lines)


def _copy(given: Tensor, into: Tensor, shared: SharedTokens | None) -> bool:
    """Copy a tensor, or its rows of `shared` tokens; returns False if the shapes do not match."""
    if shared is None:
        if given.shape != into.shape:
            return False
        into.copy_(given)
        return True
    if given.shape[1:] != into.shape[1:] or len(given) < shared.known:
        return False
    into[shared.here] = given[shared.base]
    return True


def _shared_tokens(base: Path, prepared: Path) -> SharedTokens | None:
    """The shared tokens; None if the tokenizers are the same, or if there is no text."""
    paths = [Bundle.at(folder).tokenizer for folder in (prepared, base)]
    if not all(path.is_file() for path in paths):
        return None
    here, there = (Tokenizer.from_file(str(path)).get_vocab() for path in paths)
    if here == there:
        return None
    texts = sorted(here.keys() & there.keys())
    return SharedTokens(
        torch.tensor([here[text] for text in texts], dtype=torch.int64),
        torch.tensor([there[text] for text in texts], dtype=torch.int64),
        len(there),
    )


def _token_tensors(network: Network) -> set[str]:
    """Names of the tensors with one row for each token."""
    modules = network.named_modules()
    names = {f"{name}.embedding.weight" for name, m in modules if isinstance(m, Tokens)}
    # A network without a target predicts the next token, so its head has one row for each.
    return names if network.signature.problem.target else names | {"head.bias"}
