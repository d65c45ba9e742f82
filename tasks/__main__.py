"""`python -P -m tasks STEP`: run one step in the current folder; the command of a DVC stage."""

import gc
import os
import sys
from pathlib import Path

from tasks.fingerprint import RunningCode
from tasks.process import die_with_flow, uncollected


def main(arguments: list[str]) -> int:
    """Exit status: 0 done, 2 the input was wrong; anything else is a traceback and 1."""
    die_with_flow()  # first: everything after it takes time
    code = RunningCode()  # before any more of it is loaded
    from tasks import params
    from tasks.errors import InputError
    from tasks.lineage import StageInputs
    from tasks.pipeline import STEPS
    from tasks.workspace import Workspace

    if len(arguments) != 1 or arguments[0] not in STEPS:
        print(f"usage: python -m tasks {{{','.join(STEPS)}}}", file=sys.stderr)
        return 2
    # Before torch is loaded: its idle threads would burn the cores that others need.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    workspace, step = Workspace(Path.cwd()), STEPS[arguments[0]]
    try:
        params.load(workspace.params)  # a file with mistakes is not written to
        if added := params.complete(workspace.params):  # before DVC looks for what this stage read
            print(added, flush=True)
        read = StageInputs(workspace, step, code)
        with uncollected():
            step.function()
        read.refuse_rewritten()
        try:
            report = step.run(read.params, workspace, read.refuse_changed)
        except Exception:
            read.refuse_changed()  # half a file can look broken in any way
            raise
        read.end()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        gc.freeze()  # what is left need not be searched for garbage when the process ends
    print(report, flush=True)
    return 0


if __name__ == "__main__":
    ended = main(sys.argv[1:])
    sys.stdout.flush()
    # At once: what is edited between the last comparison and DVC's own would go unnoticed.
    os._exit(ended)
