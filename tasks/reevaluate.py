"""Evaluates an exported model on labelled rows, in ONNX Runtime. Imports no torch.

The evaluation has the format that `export` writes, without parity and without the report on the
raw data, which are known only in training.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from tasks.bundle.evaluation import Evaluation, TestSplit, check_gates, check_single_class
from tasks.bundle.files import MODEL, SIGNATURE
from tasks.columns import Arrays
from tasks.config import Evaluate
from tasks.counts import Counts, summary
from tasks.encoding import Encoder
from tasks.errors import InputError
from tasks.hashed import held_still
from tasks.inputs import InputFile, fingerprint, first_row, hashed
from tasks.labelled import batches
from tasks.problems import Metrics, refuse_not_finite
from tasks.session import Device, Session, open_session

LIBRARIES = ("scikit-learn", "pyarrow")


def reevaluate(
    model: Path,
    encoder: Encoder,
    files: list[InputFile],
    evaluation: Evaluate,
    *,
    target: str | None = None,
    device: Device = "auto",
    progress: Callable[[int], None] = lambda rows: None,
) -> Evaluation:
    """Evaluate the model's predictions against the targets in `files`.

    `target` is as in `tasks.labelled.batches`. `progress` is called with the row count of each
    batch.

    Raises:
        InputError: the files do not fit the model, changed meanwhile or have no rows; a target is
            missing or unknown; a prediction is NaN or infinite; a gate names a metric that the
            problem does not have; or the model cannot be loaded.
    """
    where = ", ".join(str(file.path) for file in files)
    if not sum(file.rows for file in files):
        raise InputError(f"{where}: no rows to evaluate with")
    encoder = replace(encoder, counts=Counts())  # counts of these rows only
    session = _session(model, encoder, device)
    with held_still(hashed(files)):
        outputs, targets = _predict(session, encoder, files, target, evaluation, progress)
    encoder.counts.refuse_unknown(encoder.signature.columns, where)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about metrics undefined on these rows
        metrics = encoder.signature.problem.compute_metrics(
            encoder.signature, targets, outputs, evaluation.calibration_bins, evaluation.seed
        )
    _refuse_other_gates(evaluation, metrics, encoder.signature.task)
    metrics, notices = _measured(metrics)
    if substituted := summary(encoder.counts.columns):
        notices.append(f"substituted in more than 1 % of the rows: {substituted}")
    gates = check_gates(evaluation.gates, metrics.summary)
    single, warned = check_single_class(metrics, evaluation.single_class == "allow")
    if sum(found["support"] > 0 for found in metrics.per_class.values()) > 1:
        gates += single if evaluation.gates else []
    return Evaluation(
        passed=all(gate.passed for gate in gates),
        gates=gates,
        test_split=TestSplit(metrics.rows, _sha256(files)),
        metrics=metrics,
        threshold=encoder.signature.threshold,
        warnings=warned,
        data={"notices": notices},
        evaluated_on={
            "files": [
                {"path": str(file.path), "sha256": file.identity, "rows": file.rows}
                for file in files
            ],
            "target": target,
            "provider": session.provider,
            "nodes": session.nodes,
            "substituted": encoder.counts.columns,
        },
        libraries={"onnxruntime": onnxruntime.__version__}
        | {name: version(name) for name in LIBRARIES},
        parameters={"evaluate": evaluation.model_dump(exclude={"threshold"})},
    )


def _predict(
    session: Session,
    encoder: Encoder,
    files: list[InputFile],
    target: str | None,
    evaluation: Evaluate,
    progress: Callable[[int], None],
) -> tuple[Arrays, NDArray[Any]]:
    """The outputs that metrics are computed from, and the targets (N,)."""
    names = encoder.signature.problem.evaluated
    outputs, targets = [], []
    for file in files:
        done = 0
        for inputs, expected in batches(file, encoder, target, evaluation.batch_size):
            found = session.run(encoder.signature.trim_padding(inputs), names)
            first = first_row(file) + done
            refuse_not_finite(found, lambda row, f=file, n=first: f"{f.path}, row {n + row}")  # type: ignore[misc]
            outputs.append(found)
            targets.append(expected)
            done += len(expected)
            progress(len(expected))
    whole = {name: np.concatenate([found[name] for found in outputs]) for name in names}
    return whole, np.concatenate(targets)


def _sha256(files: list[InputFile]) -> str:
    """The hash of a single file, as `export` records it; else a fingerprint of all files."""
    return files[0].identity if len(files) == 1 else fingerprint(files)


def _session(model: Path, encoder: Encoder, device: Device) -> Session:
    """The model in ONNX Runtime, after a check of its inputs and outputs."""
    try:
        session = open_session(model, device)
    except InputError:
        raise
    except Exception as error:  # ONNX Runtime has an unrelated class for each cause
        message = " ".join(str(error).split())[:300]
        raise InputError(f"{MODEL} cannot be loaded by ONNX Runtime: {message}") from error
    signature = encoder.signature
    sides = (
        ("has the inputs", session.inner.get_inputs(), [t.name for t in signature.inputs]),
        ("has the outputs", session.inner.get_outputs(), list(signature.problem.evaluated)),
    )
    for verb, found, expected in sides:
        names = [tensor.name for tensor in found]
        if lost := [name for name in expected if name not in names]:
            raise InputError(
                f"{MODEL} {verb} {', '.join(names)}, but {SIGNATURE} expects "
                f"{', '.join(lost)} too. The two files do not belong together"
            )
    return session


def _refuse_other_gates(evaluation: Evaluate, metrics: Metrics, task: str) -> None:
    for gate in evaluation.gates:
        if gate not in metrics.summary:
            raise InputError(
                f"the gate {gate} is not measured for {task.replace('_', ' ')}; "
                f"allowed: {', '.join(metrics.summary)}"
            )


def _measured(metrics: Metrics) -> tuple[Metrics, list[str]]:
    """The metrics that are finite on these rows, and notices about those that are not."""
    kept = {name: value for name, value in metrics.summary.items() if math.isfinite(value)}
    lost = [name for name in metrics.summary if name not in kept]
    notices = [f"not measured on these rows: {', '.join(lost)}"] if lost else []
    absent = [name for name, found in metrics.per_class.items() if not found["support"]]
    if absent:
        notices.append(f"no row is of the class {', '.join(absent[:20])}, which counts as F1 0")
    headline = [name for name in metrics.headline if name in kept]
    return replace(metrics, summary=kept, headline=headline), notices
