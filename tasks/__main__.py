"""`python -m tasks STEP`: run one step in the current folder; the command of a DVC stage."""

import gc
import os
import sys
from pathlib import Path

from tasks.process import die_with_flow, uncollected


def main(arguments: list[str]) -> int:
    """Exit status: 0 done, 2 the input was wrong; anything else is a traceback and 1."""
    die_with_flow()  # before anything takes its time
    from tasks import params
    from tasks.errors import InputError
    from tasks.pipeline import STEPS
    from tasks.workspace import Workspace

    if len(arguments) != 1 or arguments[0] not in STEPS:
        print(f"usage: python -m tasks {{{','.join(STEPS)}}}", file=sys.stderr)
        return 2
    # Before torch is loaded: its idle threads would burn the cores that others need.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    workspace, step = Workspace(Path.cwd()), STEPS[arguments[0]]
    try:
        given = params.load(workspace.params)
        if added := params.complete(workspace.params):  # before DVC looks for what this stage read
            print(added, flush=True)
        with uncollected():
            step.function()
        report = step.run(given, workspace)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        gc.freeze()  # nor need the end of the process look through them all
    print(report, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
