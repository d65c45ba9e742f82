"""Learning problems by name: one explicit dict, one module for each. Imports no torch.

The losses, which need torch, are in `tasks.training.losses`, by the name that a problem gives.
"""

from tasks.problems.classification import Classification
from tasks.problems.language_model import LanguageModel
from tasks.problems.problem import Metric, Metrics, Problem, refuse_not_finite
from tasks.problems.regression import Regression

__all__ = [
    "BY_TASK",
    "METRICS",
    "PROBLEMS",
    "Metric",
    "Metrics",
    "Problem",
    "label",
    "refuse_not_finite",
]

PROBLEMS: dict[str, Problem] = {
    "classification": Classification(),
    "regression": Regression(),
    "language_model": LanguageModel(),
}
# By the task of a signature: `binary` and `multiclass` are both classification.
BY_TASK = {task: problem for problem in PROBLEMS.values() for task in problem.tasks}
METRICS = {metric.name: metric for problem in PROBLEMS.values() for metric in problem.metrics}


def label(metric: str) -> str:
    """A metric as people write it; also those of one class, such as `f1`."""
    known = METRICS.get(metric)
    return known.label if known else metric.replace("_", " ").replace("f1", "F1")
