"""Parameters that need two classes, compared with the prepared data before a long training."""

from tasks.bundle.files import Bundle
from tasks.config import Params
from tasks.errors import InputError
from tasks.workspace import Workspace


def refuse_for_classes(params: Params, workspace: Workspace) -> None:
    """Refuse a threshold, gate or metric for two classes, if the prepared data have more.

    Raises:
        InputError: names the parameter.
    """
    # Only here: they import pyarrow, and the command line asks for the names of the steps.
    from tasks.bundle.signature import Signature
    from tasks.problems import METRICS
    from tasks.problems.thresholds import MOST_PROBABLE, for_two_classes

    classes = Signature.read(Bundle.at(workspace.prepared).signature).classes
    evaluate, metric = params.evaluate, params.registration.metric
    used = {
        f"evaluate.threshold: {evaluate.threshold}": evaluate.threshold != MOST_PROBABLE,
        **{f"evaluate.gates: {name}": METRICS[name].two_classes for name in evaluate.gates},
        f"registration.metric: {metric}": metric is not None and METRICS[metric].two_classes,
    }
    for what, needs_two in used.items():
        if needs_two and len(classes) > 2:
            raise InputError(for_two_classes(what, classes))
