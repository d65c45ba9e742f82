"""export: the best weights become an ONNX file, and that file is judged."""

import hashlib
import json
import logging
import shutil
import warnings
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from tasks.architectures import Network
from tasks.card import write_card
from tasks.checkpoint import WEIGHTS, load
from tasks.config import Evaluate, Export
from tasks.dataset import read_split
from tasks.evaluate import infer
from tasks.metrics import Verdict, judge, score
from tasks.parity import Parity, compare
from tasks.session import open_session
from tasks.signature import Signature

LIBRARIES = ("onnx", "onnxscript", "onnxruntime-gpu", "scikit-learn", "pyarrow")


@dataclass(frozen=True)
class ExportReport:
    """What the judges of the ONNX file found."""

    summary: dict[str, float]
    verdicts: list[Verdict]
    parity: Parity

    def __str__(self) -> str:
        return "\n".join(["exported to ONNX", str(self.parity), *map(str, self.verdicts)])


class _Served(nn.Module):
    """The network with both outputs that the signature names."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.network(image)
        return logits, torch.softmax(logits, dim=1)


def export(
    params: Export, evaluation: Evaluate, *, prepared: Path, checkpoint: Path, bundle: Path
) -> ExportReport:
    """Write the bundle: model, signature, evaluation, profile, weights, card.

    A failed gate or parity check is a verdict in `evaluation.json`, not an error: the evidence
    is kept, and whoever registers reads it. Metrics are those of ONNX Runtime.
    """
    bundle.mkdir(parents=True, exist_ok=True)
    network, config = load(checkpoint)
    signature = Signature.model_validate(config["signature"])
    model = bundle / "model.onnx"
    _write_onnx(network, signature, params.opset, model)

    test = read_split(prepared, "test", signature)
    session = open_session(model, "cpu")
    expected = infer(network, test.inputs["image"], evaluation.batch_size)
    parity = compare(session, test.inputs, expected, params.tolerance)
    probabilities = session.run_all(test.inputs, "probabilities", evaluation.batch_size)
    metrics = score(test.labels, probabilities, signature.classes, evaluation.calibration_bins)
    verdicts = judge(evaluation.gates, metrics.summary)

    document = {
        "passed": parity.passed and all(v.passed for v in verdicts),
        "gates": [asdict(verdict) for verdict in verdicts],
        "parity": parity.as_dict(),
        "test_split": {
            "rows": len(test),
            "sha256": hashlib.sha256((prepared / "test.arrow").read_bytes()).hexdigest(),
        },
        "metrics": metrics.as_dict(),
        "libraries": {name: version(name) for name in LIBRARIES} | config["libraries"],
        "parameters": {"export": params.model_dump(), "evaluate": evaluation.model_dump()},
    }
    signature.write(bundle / "signature.json")
    _write_json(bundle / "evaluation.json", document)
    _write_json(bundle / "architecture.json", config["architecture"])
    shutil.copyfile(checkpoint / WEIGHTS, bundle / WEIGHTS)
    shutil.copyfile(prepared / "profile.json", bundle / "profile.json")
    write_card(bundle / "card.md", config, signature, metrics, verdicts, parity)
    return ExportReport(metrics.summary, verdicts, parity)


def _write_onnx(network: Network, signature: Signature, opset: int, path: Path) -> None:
    """Export with a dynamic batch; the same weights give the same bytes in any folder."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it recommends torchvision
    tensor = signature.inputs[0]
    # Two rows: a batch of one would let the exporter specialise the dimension.
    example = torch.zeros((2, *tensor.shape), dtype=getattr(torch, tensor.dtype))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", (DeprecationWarning, FutureWarning))
        program = torch.onnx.export(
            _Served(network).eval(),
            (example,),
            input_names=[tensor.name],
            output_names=[output.name for output in signature.outputs],
            dynamic_shapes=({0: "batch"},),
            opset_version=opset,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    # The exporter notes source lines and absolute paths on every node: private, and different in
    # every folder. Recorded instead: the release of torch, without its build label.
    graph = model.graph
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        del part.metadata_props[:]
    del graph.metadata_props[:], graph.value_info[:], model.metadata_props[:]
    model.producer_name = "pytorch"
    model.producer_version = torch.__version__.partition("+")[0]
    onnx.checker.check_model(model, full_check=True)
    batch = model.graph.input[0].type.tensor_type.shape.dim[0]
    if not batch.dim_param:
        raise RuntimeError(f"the exporter fixed the batch size to {batch.dim_value}")
    path.write_bytes(model.SerializeToString(deterministic=True))


def _write_json(path: Path, document: object) -> None:
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
