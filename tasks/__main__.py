"""`python -P -m tasks STEP`: run one step in the current folder; the command of a DVC stage."""

import gc
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.fingerprint import RunningCode
from tasks.process import die_with_flow, paused_gc
from tasks.warm import in_warm_process

if TYPE_CHECKING:
    from tasks.pipeline import Step
    from tasks.workspace import Workspace


def main(arguments: list[str]) -> int:
    """Run the step. Returns the exit status: 0 when done, 1 if a training lost a process, 2 for
    wrong input; a bug raises."""
    die_with_flow()  # first, because the imports below take time
    if (status := in_warm_process(arguments)) is not None:
        return status
    code = RunningCode()  # before any other module of this package is imported
    from tasks import params
    from tasks.errors import InputError, ProcessLost
    from tasks.lineage import StageInputs
    from tasks.pipeline import STEPS
    from tasks.workspace import Workspace

    if len(arguments) != 1 or arguments[0] not in STEPS:
        print(f"usage: python -m tasks {{{','.join(STEPS)}}}", file=sys.stderr)
        return 2
    # Before torch is imported: its idle threads would spin and use up cores that others need.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    workspace, step = Workspace(Path.cwd()), STEPS[arguments[0]]
    try:
        if _one_of_several(step):
            _train_with_first(step, workspace)
            return 0
        params.load(workspace.params)  # refuses mistakes before the next line writes to the file
        if added := params.add_missing_sections(workspace.params):
            print(added, flush=True)
        inputs = StageInputs(workspace, step, code)
        with paused_gc():
            step.function()
        inputs.refuse_rewritten()
        try:
            report = step.run(inputs.params, workspace, inputs.refuse_changed)
        except Exception:
            inputs.refuse_changed()  # the step may have failed on a half-written file
            raise
        inputs.end()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ProcessLost as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        gc.freeze()  # skips the garbage collection at the end of the process
    print(report, flush=True)
    return 0


def _one_of_several(step: "Step") -> bool:
    """Whether torchrun started this process beside a first one.

    Raises:
        InputError: the step does not run in several processes.
    """
    from tasks.errors import InputError

    if os.environ.get("WORLD_SIZE", "1") != "1" and step.name != "train":
        raise InputError(
            f"WORLD_SIZE is set, as torchrun does, but only the step train runs in several "
            f"processes. Run {step.name} without torchrun, or unset WORLD_SIZE."
        )
    return os.environ.get("RANK", "0") != "0"


def _train_with_first(step: "Step", workspace: "Workspace") -> None:
    """Compute a part of a training. The first process writes and prints, and compares the data,
    parameters and code of all."""
    from tasks import params

    with open(os.devnull, "w") as nothing, redirect_stdout(nothing):
        step.run(params.load(workspace.params), workspace)


if __name__ == "__main__":
    ended = main(sys.argv[1:])
    sys.stdout.flush()
    # At once: DVC hashes the inputs after this process ends, and would record an edit made between
    # our last comparison and its own.
    os._exit(ended)
