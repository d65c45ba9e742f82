"""Compares two versions on one test split: both ONNX files predict the same rows."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry import Registry, Version
from tasks.bundle.files import Bundle
from tasks.bundle.signature import Signature
from tasks.config import Evaluate
from tasks.dataset import read_split
from tasks.encoding import Encoder
from tasks.errors import InputError
from tasks.problems import METRICS, Problem, refuse_not_finite
from tasks.session import open_session
from tasks.snapshot import Stamp


@dataclass(frozen=True)
class Comparison:
    """A metric of the challenger beside that of the champion, on the challenger's test split."""

    metric: str
    challenger: float
    champion: float
    share: float
    """The share of draws of the test rows in which the challenger is better: a paired bootstrap
    (Efron 1979)."""

    @property
    def better(self) -> bool:
        """Whether the challenger's metric is better. A tie is not."""
        return bool(METRICS[self.metric].better(self.challenger, self.champion))


def compare_versions(
    registry: Registry,
    champion: Version,
    challenger: Version,
    *,
    metric: str,
    prepared: Path,
    evaluation: Evaluate,
) -> Comparison:
    """Evaluate the verified ONNX files of both on the test split of the challenger in `prepared`.

    Raises:
        InputError: they have other inputs or classes, the data was prepared again since, or the
            metric is not defined for these rows.
    """
    bundles = [Bundle(registry.open(version)) for version in (challenger, champion)]
    encoders = [Encoder.of(bundle.files) for bundle in bundles]
    signature = Signature.model_validate(challenger.signature)
    _check_comparable(encoders[1].signature, signature, challenger)
    problem = signature.problem
    if problem.token_bound:
        first, second = (bundle.tokenizer.read_bytes() for bundle in bundles)
        if first != second:
            raise _incomparable("its tokens differ", challenger)
    stamp = _stamp_of_split(prepared, challenger)
    models = [
        _scored(bundle, encoder, prepared, evaluation)
        for bundle, encoder in zip(bundles, encoders, strict=True)
    ]
    if stamp != _stamp_of_split(prepared, challenger):
        raise _other_split(prepared, challenger)
    return _compare(problem, metric, models, evaluation.seed, challenger)


def _scored(bundle: Bundle, encoder: Encoder, prepared: Path, evaluation: Evaluate) -> Any:
    """What the problem computes metrics from: targets and outputs of the test split."""
    signature = encoder.signature
    test = read_split(prepared, "test", encoder)
    session = open_session(bundle.model, "cpu")
    outputs = session.run_all(
        signature, test.inputs, signature.problem.evaluated, evaluation.batch_size
    )
    refuse_not_finite(outputs, "row {} of the test split".format)
    return signature.problem.scored(signature, test.targets, outputs, evaluation.calibration_bins)


def _compare(
    problem: Problem, name: str, models: list[Any], seed: int, challenger: Version
) -> Comparison:
    """The metric `name` of both models, challenger first, and in draws of the same rows."""
    metric = METRICS[name]
    challenging, current = (metric.compute(scored) for scored in models)
    if challenging is None or current is None:
        raise _incomparable(f"{name} is not defined for this test split", challenger)
    drawn = [of_model[name] for of_model in problem.redrawn(models, [name], seed)]
    return Comparison(name, challenging, current, float(metric.better(*drawn).mean()))


def _stamp_of_split(prepared: Path, challenger: Version) -> Stamp:
    """Stamp of the test split on which the challenger was evaluated.

    Raises:
        InputError: the data was prepared again since, with another test split.
    """
    path = prepared / "test.arrow"
    try:
        stamp = Stamp.of(path)
        if hashlib.sha256(path.read_bytes()).hexdigest() == challenger.lineage.test_split:
            return stamp
    except OSError:
        pass
    raise _other_split(prepared, challenger)


def _other_split(prepared: Path, challenger: Version) -> InputError:
    return InputError(
        f"{prepared} does not have the test split that {challenger.ref} was evaluated on, so the "
        f"two cannot be compared. To promote it anyway: modelmint models promote {challenger.ref}"
    )


def _check_comparable(champion: Signature, challenger: Signature, version: Version) -> None:
    """Check that both can be evaluated on one test split; vocabularies and fills may differ."""

    def interface(signature: Signature) -> object:
        columns = [(column.name, column.kind) for column in signature.columns]
        return signature.task, signature.classes, signature.quantile, columns, signature.inputs

    if interface(champion) != interface(challenger):
        raise _incomparable("its inputs, classes or quantile differ from the challenger's", version)


def _incomparable(why: str, challenger: Version) -> InputError:
    return InputError(
        f"{why}, so the two cannot be evaluated on one test split. To promote {challenger.ref} "
        f"anyway: modelmint models promote {challenger.ref}"
    )
