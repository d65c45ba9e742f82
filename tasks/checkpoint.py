"""A checkpoint: weights as safetensors, and what is needed to rebuild the network and its inputs.

Loading a checkpoint does not need `params.yaml`. `Encoder.read(folder)` makes the network's inputs.
"""

import json
import shutil
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from safetensors.torch import load_model, save_file
from torch import Tensor

from tasks.architectures import Network, build
from tasks.architectures.target_transforms import TRANSFORMS
from tasks.bundle.files import Bundle
from tasks.bundle.signature import Signature
from tasks.config import Architecture, Train

LIBRARIES = ("torch", "lightning-fabric", "numpy")
CONFIG = "config.json"


def weights_of(network: Network) -> dict[str, Tensor]:
    """Weights and buffers by name; a weight that two modules share is listed once."""
    named = {name for name, _ in chain(network.named_parameters(), network.named_buffers())}
    return {name: t for name, t in network.state_dict().items() if name in named}


def save(
    folder: Path, network: Network, params: Train, results: dict[str, Any], prepared: Path
) -> None:
    """Write weights, signature, training parameters and `results` (JSON values) to `folder`.

    For text, also copies the tokenizer of the dataset in `prepared`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = Bundle.at(folder)
    save_file({n: t.contiguous() for n, t in weights_of(network).items()}, files.weights)
    network.signature.write(files.signature)
    if network.signature.tokenized:
        shutil.copyfile(Bundle.at(prepared).tokenizer, files.tokenizer)
    config = {
        "architecture": params.architecture.model_dump(),
        "parameters": params.model_dump(),
        "results": results,
        "libraries": {name: version(name) for name in LIBRARIES},
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load(folder: Path) -> tuple[Network, dict[str, Any]]:
    """The network on the CPU, in evaluation mode, and the configuration with its `signature`."""
    config = json.loads((folder / CONFIG).read_bytes())
    files = Bundle.at(folder)
    signature = Signature.read(files.signature)
    config["signature"] = signature.model_dump(mode="json")
    architecture: Architecture = TypeAdapter(Architecture).validate_python(config["architecture"])
    network = build(architecture, signature)
    # Checkpoints of earlier releases have no transform.
    transform = TRANSFORMS.get(config["parameters"].get("target_transform", "none"))
    network.target_transform = transform() if transform else None
    load_model(network, files.weights)
    network.eval()
    return network, config
