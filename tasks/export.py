"""export: write the best weights as an ONNX file and evaluate that file in ONNX Runtime."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

import onnx
import torch

from tasks import formats
from tasks.architectures import ExportWrapper, Network, dynamic_shapes, example_inputs
from tasks.architectures.target_transforms import target_scale
from tasks.baselines import fit_baselines
from tasks.bundle.card import write_card
from tasks.bundle.evaluation import (
    Evaluation,
    Gate,
    Parity,
    Repeat,
    TestSplit,
    below_baseline,
    check_gates,
    check_single_class,
    spreads,
)
from tasks.bundle.files import Bundle
from tasks.bundle.signature import Signature
from tasks.checkpoint import load
from tasks.config import Evaluate, Export, Train
from tasks.dataset import REPORT, read_split
from tasks.drift.reference import with_predictions
from tasks.encoding import Encoder
from tasks.evaluate import inference, with_threshold
from tasks.parity import compare_outputs
from tasks.session import open_session

LIBRARIES = ("onnx", "onnxscript", "onnxruntime-gpu", "scikit-learn", "pyarrow")
# The fields of the dataset's report that the evaluation repeats, for the person who promotes.
REPORTED = ("rows_in", "dropped", "rows", "duplicates", "test_rows_also_in_train", "notices")


@dataclass(frozen=True)
class ExportReport:
    """Metrics, gates and parity of the ONNX file."""

    summary: dict[str, float]
    gates: list[Gate]
    parity: Parity
    rule: str
    """The threshold or quantile that is predicted by; empty without one."""
    baselines: list[str]
    """For each, its name, metrics, rows and seconds."""
    spread: str
    """Of the headline metrics over the seeds; empty without `evaluate.repeat`."""

    def __str__(self) -> str:
        lines = ["exported to ONNX", str(self.parity), self.rule, *map(str, self.gates)]
        return "\n".join(filter(None, [*lines, *self.baselines, self.spread]))


def export(
    params: Export,
    evaluation: Evaluate,
    *,
    prepared: Path,
    checkpoint: Path,
    base: Path,
    bundle: Path,
    repeats: Path,
    confirm: Callable[[], None] = lambda: None,
) -> ExportReport:
    """Write the bundle: model, signature, evaluation, profile, weights, card.

    `repeats` holds the trainings with other seeds and is removed at the end. `confirm` is called
    before that; it raises if the result must be discarded. `base` is as in `train`.

    A failed gate or parity check is recorded in `evaluation.json` and is not an error here; the
    registration refuses such a bundle. Metrics are computed from ONNX Runtime's outputs.

    Raises:
        InputError: an output of the model is NaN or infinite, or a training with another seed
            failed.
    """
    bundle.mkdir(parents=True, exist_ok=True)
    files = Bundle.at(bundle)
    network, config = load(checkpoint)
    encoder = Encoder.read(checkpoint)
    signature = with_threshold(evaluation, network, encoder, prepared)
    problem = signature.problem
    _write_onnx(network, signature, params.opset, files.model)

    test = read_split(prepared, "test", encoder)
    session = open_session(files.model, "cpu")
    expected = inference(network, [output.name for output in signature.outputs])
    profile = formats.read(Bundle.at(prepared).profile, formats.PROFILE)
    centre, unit = target_scale(profile) if problem.standardised else (0.0, 1.0)
    size = evaluation.batch_size
    parity = compare_outputs(
        session, signature, test.inputs, expected, size, params.tolerance, unit, centre
    )
    outputs = session.run_all(signature, test.inputs, problem.evaluated, size)
    metrics = problem.compute_metrics(
        signature, test.targets, outputs, evaluation.calibration_bins, evaluation.seed
    )
    timed = list(fit_baselines(evaluation, prepared, encoder))
    baselines = [baseline for baseline, _ in timed]
    others: list[Repeat] = []
    if evaluation.repeat > 1:
        from tasks.repeats import train_repeats  # Lightning, 1 s, which few need

        trained_with = Train.model_validate(config["parameters"])
        others = list(train_repeats(evaluation, trained_with, test, prepared, base, repeats))
    single, warnings = check_single_class(metrics, evaluation.single_class == "allow")
    gates = [*check_gates(evaluation.gates, metrics.summary, baselines), *single]
    result = Evaluation(
        passed=parity.passed and all(gate.passed for gate in gates),
        gates=gates,
        parity=parity,
        test_split=TestSplit(
            len(test), hashlib.sha256((prepared / "test.arrow").read_bytes()).hexdigest()
        ),
        metrics=metrics,
        threshold=signature.threshold,
        baselines=baselines,
        repeats=others,
        warnings=warnings + below_baseline(metrics, baselines),
        data=_reported(prepared / REPORT),
        libraries={name: version(name) for name in LIBRARIES} | config["libraries"],
        parameters={"export": params.model_dump(), "evaluate": evaluation.model_dump()},
    )
    signature.write(files.signature)
    _write_json(files.evaluation, result.as_dict())
    _write_json(files.architecture, config["architecture"])
    trained = Bundle.at(checkpoint)
    shutil.copyfile(trained.weights, files.weights)
    if encoder.tokenizer is not None:
        shutil.copyfile(trained.tokenizer, files.tokenizer)
    _write_json(files.profile, with_predictions(profile, signature, outputs, test.targets))
    write_card(files.card, config, signature, result)
    lines = [
        f"baseline in {seconds:.1f} s: {one.summary(metrics.headline)}" for one, seconds in timed
    ]
    confirm()
    shutil.rmtree(repeats, ignore_errors=True)
    rule = signature.rule
    return ExportReport(metrics.summary, gates, parity, rule, lines, spreads(metrics, others))


def _reported(path: Path) -> dict[str, Any]:
    """The fields `REPORTED` of the dataset's report; empty if it lacks any of them."""
    report = formats.read(path, formats.REPORT) if path.exists() else {}
    return {name: report[name] for name in REPORTED} if report.keys() >= set(REPORTED) else {}


def _write_onnx(network: Network, signature: Signature, opset: int, path: Path) -> None:
    """Export with a dynamic batch size and, for sequences, a dynamic length.

    The same weights give the same bytes in any folder.
    """
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it recommends torchvision
    with catch_warnings():
        simplefilter("ignore", (DeprecationWarning, FutureWarning, UserWarning))
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
    # The exporter writes source lines and absolute paths on every node: they are private, and
    # differ between folders. Keep only the release of torch, without its build label.
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
    """Check that each dimension that is dynamic in the signature is dynamic in the graph."""
    for tensor, found in zip(signature.inputs, model.graph.input, strict=True):
        dims = found.type.tensor_type.shape.dim
        for expected, dim in zip((None, *tensor.shape), dims, strict=True):
            if expected is None and not dim.dim_param:
                raise RuntimeError(f"the exporter fixed a dimension of {tensor} to {dim.dim_value}")


def _write_json(path: Path, document: object) -> None:
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
