"""Learning problems by name: one explicit dict, one module for each. Imports no torch.

The losses need torch, so they are in `tasks.training.losses`; `Problem.loss` is their name.
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
# Problems by the task of a signature: `binary` and `multiclass` are both classification.
BY_TASK = {task: problem for problem in PROBLEMS.values() for task in problem.tasks}
METRICS = {metric.name: metric for problem in PROBLEMS.values() for metric in problem.metrics}


def label(metric: str) -> str:
    """The display name of a metric, also of metrics of one class, such as `f1`."""
    known = METRICS.get(metric)
    return known.label if known else metric.replace("_", " ").replace("f1", "F1")
