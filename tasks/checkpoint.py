"""A checkpoint: weights as safetensors, with the configuration that rebuilds their network.

Whoever loads one needs no `params.yaml`.
"""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from safetensors.torch import load_model, save_model

from tasks.architectures import Network, build
from tasks.config import Architecture, Train
from tasks.signature import Signature

LIBRARIES = ("torch", "lightning-fabric", "numpy")
WEIGHTS, CONFIG = "weights.safetensors", "config.json"


def save(
    folder: Path, network: Network, signature: Signature, params: Train, results: dict[str, Any]
) -> None:
    """Write weights, signature, training parameters and results (JSON values) to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    save_model(network, str(folder / WEIGHTS))
    config = {
        "architecture": params.architecture.model_dump(),
        "signature": signature.model_dump(mode="json"),
        "parameters": params.model_dump(),
        "results": results,
        "libraries": {name: version(name) for name in LIBRARIES},
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load(folder: Path) -> tuple[Network, dict[str, Any]]:
    """The network on the CPU, ready to evaluate, and its configuration."""
    config = json.loads((folder / CONFIG).read_bytes())
    architecture: Architecture = TypeAdapter(Architecture).validate_python(config["architecture"])
    network = build(architecture, Signature.model_validate(config["signature"]))
    load_model(network, folder / WEIGHTS)
    network.eval()
    return network, config
