"""`train.architecture: auto`: the network for the columns and the number of rows."""

from pathlib import Path

from pydantic import TypeAdapter
from tokenizers import Tokenizer

from tasks import formats, recipes
from tasks.bundle.files import Bundle
from tasks.columns.tokenizing import RESERVED
from tasks.config import Architecture, Train
from tasks.config.examples import NETWORKS
from tasks.encoding import Encoder
from tasks.errors import InputError


def with_network(params: Train, prepared: Path) -> Train:
    """The parameters with the network that `auto` stands for, which is printed; others unchanged.

    The same prepared dataset gives the same network.

    Raises:
        InputError: there is no rule for such a mixture of columns.
    """
    if params.architecture.name != "auto":
        return params
    dataset = Encoder.read(prepared)
    signature = dataset.signature
    rows = formats.read(Bundle.at(prepared).profile, formats.PROFILE)["rows"]
    if signature.problem.target is None:
        network = {"name": recipes.LANGUAGE_MODEL}
    elif signature.data not in NETWORKS:
        raise InputError(
            f"train.architecture: auto has no network for {signature.data} data. Name the "
            "columns to use, or an architecture that takes them"
        )
    else:
        characters = dataset.tokenizer is not None and _of_characters(dataset.tokenizer)
        height, width = (*signature.inputs[0].shape, 0, 0)[:2]
        seen = recipes.Seen(rows, len(signature.columns), characters, (height or 0, width or 0))
        network = recipes.network(signature.data, seen)
    shown = ", ".join(f"{name}: {value}" for name, value in network.items())
    print(f"train.architecture: auto is {{{shown}}}, for {rows} rows", flush=True)
    chosen: Architecture = TypeAdapter(Architecture).validate_python(network)
    return params.model_copy(update={"architecture": chosen})


def _of_characters(tokenizer: Tokenizer) -> bool:
    """Whether each token is one character."""
    return all(len(token) == 1 for token in set(tokenizer.get_vocab()) - set(RESERVED))
