"""export: the best weights become an ONNX file, and that file is judged."""

import hashlib
import json
import logging
import shutil
import warnings
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx
import torch

from tasks.architectures import ExportWrapper, Network, dynamic_shapes, example_inputs
from tasks.bundle.signature import Signature
from tasks.card import write_card
from tasks.checkpoint import WEIGHTS, load
from tasks.config import Evaluate, Export
from tasks.dataset import read_split
from tasks.encoding import TOKENIZER, Encoder
from tasks.evaluate import inference
from tasks.metrics import JUDGED, Verdict, judge, measure
from tasks.parity import Parity, compare
from tasks.session import open_session

LIBRARIES = ("onnx", "onnxscript", "onnxruntime-gpu", "scikit-learn", "pyarrow")
# What whoever decides over a bundle must know of the preparation of its data.
REPORTED = ("rows_in", "dropped", "rows", "duplicates", "test_rows_also_in_train", "notices")


@dataclass(frozen=True)
class ExportReport:
    """What the judges of the ONNX file found."""

    summary: dict[str, float]
    verdicts: list[Verdict]
    parity: Parity

    def __str__(self) -> str:
        return "\n".join(["exported to ONNX", str(self.parity), *map(str, self.verdicts)])


def export(
    params: Export, evaluation: Evaluate, *, prepared: Path, checkpoint: Path, bundle: Path
) -> ExportReport:
    """Write the bundle: model, signature, evaluation, profile, weights, card.

    A failed gate or parity check is a verdict in `evaluation.json`, not an error: the evidence
    is kept, and whoever registers reads it. Metrics are those of ONNX Runtime.

    Raises:
        InputError: an output of the model is NaN or infinite.
    """
    bundle.mkdir(parents=True, exist_ok=True)
    network, config = load(checkpoint)
    encoder = Encoder.read(checkpoint)
    signature = encoder.signature
    model = bundle / "model.onnx"
    _write_onnx(network, signature, params.opset, model)

    test = read_split(prepared, "test", encoder)
    session = open_session(model, "cpu")
    expected = inference(network, [output.name for output in signature.outputs])
    size = evaluation.batch_size
    unit, centre = 1.0, 0.0
    if signature.task == "regression":
        unit, centre = network.target_std.item(), network.target_mean.item()
    parity = compare(
        session, signature, test.inputs, expected, size, params.tolerance, unit, centre
    )
    outputs = session.run_all(signature, test.inputs, JUDGED[signature.task], size)
    metrics = measure(signature, test.targets, outputs, evaluation.calibration_bins)
    verdicts = judge(evaluation.gates, metrics.summary)
    data = _reported(prepared / "report.json")

    document = {
        "passed": parity.passed and all(v.passed for v in verdicts),
        "gates": [asdict(verdict) for verdict in verdicts],
        "parity": parity.as_dict(),
        "test_split": {
            "rows": len(test),
            "sha256": hashlib.sha256((prepared / "test.arrow").read_bytes()).hexdigest(),
        },
        "metrics": metrics.as_dict(),
        "data": data,
        "libraries": {name: version(name) for name in LIBRARIES} | config["libraries"],
        "parameters": {"export": params.model_dump(), "evaluate": evaluation.model_dump()},
    }
    signature.write(bundle / "signature.json")
    _write_json(bundle / "evaluation.json", document)
    _write_json(bundle / "architecture.json", config["architecture"])
    shutil.copyfile(checkpoint / WEIGHTS, bundle / WEIGHTS)
    if encoder.tokenizer is not None:
        shutil.copyfile(checkpoint / TOKENIZER, bundle / TOKENIZER)
    shutil.copyfile(prepared / "profile.json", bundle / "profile.json")
    write_card(bundle / "card.md", config, signature, metrics, verdicts, parity, data)
    return ExportReport(metrics.summary, verdicts, parity)


def _reported(path: Path) -> dict[str, Any]:
    """What the report of `prepare` says of the data; nothing where it is missing or older."""
    report = json.loads(path.read_bytes()) if path.exists() else {}
    return {name: report[name] for name in REPORTED} if report.keys() >= set(REPORTED) else {}


def _write_onnx(network: Network, signature: Signature, opset: int, path: Path) -> None:
    """Export with a dynamic batch, and dynamic lengths where rows have some.

    The same weights give the same bytes in any folder.
    """
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it recommends torchvision
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", (DeprecationWarning, FutureWarning, UserWarning))
        program = torch.onnx.export(
            ExportWrapper(network).eval(),
            example_inputs(signature),
            input_names=[tensor.name for tensor in signature.inputs],
            output_names=[output.name for output in signature.outputs],
            dynamic_shapes=dynamic_shapes(signature),
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
    _check_shapes(model, signature)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _check_shapes(model: onnx.ModelProto, signature: Signature) -> None:
    """That every dimension the signature leaves open was left open by the exporter."""
    for tensor, found in zip(signature.inputs, model.graph.input, strict=True):
        dims = found.type.tensor_type.shape.dim
        for wanted, dim in zip((None, *tensor.shape), dims, strict=True):
            if wanted is None and not dim.dim_param:
                raise RuntimeError(f"the exporter fixed a dimension of {tensor} to {dim.dim_value}")


def _write_json(path: Path, document: object) -> None:
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
