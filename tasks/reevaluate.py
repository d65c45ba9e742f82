"""An exported model on labelled rows, in ONNX Runtime: new evidence for an old version.

Imports no torch. The document has the form that `export` writes, less what only the training knew:
parity with PyTorch, and what was done to the raw data.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from tasks.config import Evaluate
from tasks.counts import Counts, summary
from tasks.encoding import Encoder
from tasks.errors import InputError
from tasks.hashed import held_still
from tasks.inputs import InputFile, fingerprint, first_row, hashed
from tasks.labelled import batches
from tasks.metrics import JUDGED, Metrics, Verdict, judge, measure
from tasks.predict import Device
from tasks.session import Session, open_session, refuse_not_finite

LIBRARIES = ("scikit-learn", "pyarrow")


@dataclass(frozen=True)
class Reevaluation:
    """What a model reached on rows, and what its gates say of that."""

    metrics: Metrics
    verdicts: list[Verdict]
    document: dict[str, Any]
    """For the registry."""

    @property
    def passed(self) -> bool:
        """False without gates."""
        return bool(self.document["passed"])


def reevaluate(
    model: Path,
    encoder: Encoder,
    files: list[InputFile],
    evaluation: Evaluate,
    *,
    target: str | None = None,
    device: Device = "auto",
    progress: Callable[[int], None] = lambda rows: None,
) -> Reevaluation:
    """Compare the model's answers with those in `files`; see `tasks.labelled` for `target`.

    Raises:
        InputError: the files do not fit the model, changed meanwhile or have no rows; an answer is
            missing or unknown; a prediction is NaN or infinite; a gate names a metric that the
            task has no figure for; or the model cannot be loaded.
    """
    where = ", ".join(str(file.path) for file in files)
    if not sum(file.rows for file in files):
        raise InputError(f"{where}: no rows to evaluate with")
    encoder = replace(encoder, counts=Counts())  # of these rows alone
    session = _session(model, encoder, device)
    names = JUDGED[encoder.signature.task]
    outputs: dict[str, list[Any]] = {name: [] for name in names}
    targets = []
    with held_still(hashed(files)):
        for file in files:
            done = 0
            for inputs, wanted in batches(file, encoder, target, evaluation.batch_size):
                found = session.run(encoder.signature.trim_padding(inputs), names)
                first = first_row(file) + done
                refuse_not_finite(found, lambda row, f=file, n=first: f"{f.path}, row {n + row}")  # type: ignore[misc]
                for name in names:
                    outputs[name].append(found[name])
                targets.append(wanted)
                done += len(wanted)
                progress(len(wanted))
    encoder.counts.refuse_unknown(encoder.signature.columns, where)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of figures that these rows do not give
        metrics = measure(
            encoder.signature,
            np.concatenate(targets),
            {name: np.concatenate(parts) for name, parts in outputs.items()},
            evaluation.calibration_bins,
        )
    _refuse_other_gates(evaluation, metrics, encoder.signature.task)
    metrics, notices = _measured(metrics)
    if told := summary(encoder.counts.columns):
        notices.append(f"substituted in more than 1 % of the rows: {told}")
    verdicts = judge(evaluation.gates, metrics.summary)
    document = {
        "passed": all(verdict.passed for verdict in verdicts),
        "gates": [asdict(verdict) for verdict in verdicts],
        "test_split": {"rows": metrics.rows, "sha256": _sha256(files)},
        "metrics": metrics.as_dict(),
        "data": {"notices": notices},
        "evaluated_on": {
            "files": [
                {"path": str(file.path), "sha256": file.identity, "rows": file.rows}
                for file in files
            ],
            "target": target,
            "provider": session.provider,
            "nodes": session.nodes,
            "substituted": encoder.counts.columns,
        },
        "libraries": {"onnxruntime": onnxruntime.__version__}
        | {name: version(name) for name in LIBRARIES},
        "parameters": {"evaluate": evaluation.model_dump()},
    }
    return Reevaluation(metrics, verdicts, document)


def _sha256(files: list[InputFile]) -> str:
    """Of one file its own, as `export` notes that of the test split."""
    return files[0].identity if len(files) == 1 else fingerprint(files)


def _session(model: Path, encoder: Encoder, device: Device) -> Session:
    """The model, with the inputs and outputs that its signature says."""
    try:
        session = open_session(model, device)
    except InputError:
        raise
    except Exception as error:  # of ONNX Runtime, which has classes of its own for each cause
        said = " ".join(str(error).split())[:300]
        raise InputError(f"model.onnx cannot be loaded by ONNX Runtime: {said}") from error
    signature = encoder.signature
    sides = (
        ("takes", session.inner.get_inputs(), [tensor.name for tensor in signature.inputs]),
        ("gives", session.inner.get_outputs(), list(JUDGED[signature.task])),
    )
    for verb, found, wanted in sides:
        names = [tensor.name for tensor in found]
        if lost := [name for name in wanted if name not in names]:
            raise InputError(
                f"model.onnx {verb} {', '.join(names)}; its signature.json wants "
                f"{', '.join(lost)} too, so the two do not belong together"
            )
    return session


def _refuse_other_gates(evaluation: Evaluate, metrics: Metrics, task: str) -> None:
    for gate in evaluation.gates:
        if gate not in metrics.summary:
            raise InputError(
                f"the gate {gate} is not measured for {task.replace('_', ' ')}; measured are "
                f"{', '.join(metrics.summary)}"
            )


def _measured(metrics: Metrics) -> tuple[Metrics, list[str]]:
    """The metrics that these rows give, and what to know of the others."""
    kept = {name: value for name, value in metrics.summary.items() if math.isfinite(value)}
    lost = [name for name in metrics.summary if name not in kept]
    notices = [f"not measured on these rows: {', '.join(lost)}"] if lost else []
    absent = [name for name, found in metrics.per_class.items() if not found["support"]]
    if absent:
        notices.append(f"no row is of the class {', '.join(absent[:20])}, which counts as F1 0")
    headline = [name for name in metrics.headline if name in kept]
    return replace(metrics, summary=kept, headline=headline), notices
