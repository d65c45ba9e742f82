"""Starting from a registered version's weights: what matches is loaded, the rest reported."""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from tasks.architectures import Network
from tasks.architectures.fronts import Tokens
from tasks.bundle.signature import Signature
from tasks.checkpoint import weights_of
from tasks.encoding import TOKENIZER
from tasks.errors import InputError

WEIGHTS, VERSION = "weights.safetensors", "version.json"
# Taken from the dataset that is trained on, never from another.
SCALES = {"mean", "std", "target_mean", "target_std"}


class SharedTokens(NamedTuple):
    """Numbers of the tokens that two tokenizers know, (S,) int64 each."""

    here: Tensor
    base: Tensor
    known: int
    """Tokens of the base, shared or not."""


def start_from(network: Network, init_from: str, base: Path, prepared: Path) -> str:
    """Load what matches from `base` by name and shape, and say what did.

    The head is loaded only for the same classes, and a table's network only for the same columns:
    there, equal shapes may mean other things. Where the tokenizers differ, the rows of tokens that
    both know are copied by the token's text.

    Raises:
        InputError: `base` is empty or holds another version, one of another table, or nothing of
            it matches.
    """
    ref = _version(init_from, base)
    there, here = Signature.read(base / "signature.json"), network.signature
    if any(t.is_vector for t in here.inputs) and there.columns != here.columns:
        raise InputError(
            f"train.init_from: {ref} was trained on other columns or categories than this dataset "
            "has, so its weights mean something else. Start from a version of the same table."
        )
    same_outputs = (there.task, there.classes) == (here.task, here.classes)
    given = {n: t for n, t in load_file(base / WEIGHTS).items() if not _is_scale(n)}
    into = {n: t for n, t in weights_of(network).items() if not _is_scale(n)}
    shared = _shared_tokens(base, prepared)
    of_tokens = set() if shared is None else _token_tensors(network)
    loaded = []
    for name in (name for name in into if name in given):
        if name.startswith("head.") and not same_outputs:
            continue  # as many outputs may be, but of other classes
        if shared is not None and name in of_tokens:
            fits = (
                given[name].shape[1:] == into[name].shape[1:] and len(given[name]) >= shared.known
            )
            if fits:
                into[name][shared.here] = given[name][shared.base]
        elif fits := given[name].shape == into[name].shape:
            into[name].copy_(given[name])
        if fits:
            loaded.append(name)
    if not any(name in loaded for name, _ in network.named_parameters()):
        raise InputError(
            f"train.init_from: no weight of {ref} has the name and shape of one of this network. "
            "Give both the same architecture with the same widths, or remove train.init_from."
        )
    said = [f"starting from {ref}: loaded {len(loaded)} of {len(into)} tensors"]
    if shared is not None and of_tokens & set(loaded):
        said.append(f"of tokens, the rows of the {len(shared.here):,} that both tokenizers know")
    for what, names in (("new", into), ("unused", given)):
        left = [name for name in names if name not in loaded]
        said += [f"{what}: {', '.join(left)}"] if left else []
    return "; ".join(said)


def _is_scale(name: str) -> bool:
    return name.rpartition(".")[2] in SCALES


def _version(init_from: str, base: Path) -> str:
    """The version that lies in `base`, as `NAME:NUMBER`."""
    if not (base / VERSION).is_file():
        raise InputError(
            f"train.init_from names {init_from}, whose weights are not in {base}; "
            "`modelmint train` fetches them"
        )
    document = json.loads((base / VERSION).read_bytes())
    for name, sha256 in document.get("sha256", {}).items():
        file = base / name
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != sha256:
            raise InputError(
                f"train.init_from: {file} is not the file of {document['ref']}; somebody "
                "changed it. `modelmint train` fetches it again"
            )
    ref: str = document["ref"]
    found = ref if ":" in init_from else ref.partition(":")[0]
    if found != init_from.partition("@")[0]:
        raise InputError(
            f"train.init_from names {init_from}, but the weights in {base} are those of {ref}; "
            "`modelmint train` fetches the right ones"
        )
    return ref


def _shared_tokens(base: Path, prepared: Path) -> SharedTokens | None:
    """None where the numbers of all tokens are the same, or there is no text."""
    paths = [folder / TOKENIZER for folder in (prepared, base)]
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
    """Names of the tensors that have one row for each token."""
    modules = network.named_modules()
    names = {f"{name}.embedding.weight" for name, m in modules if isinstance(m, Tokens)}
    return names | {"head.bias"} if network.signature.task == "language_model" else names
