"""What importing the package `flows` does."""

import os
import subprocess
import sys

import pytest
from projects import ROOT

from flows.alive import FLOW_RUN_ID


@pytest.mark.whole
@pytest.mark.parametrize(("variables", "frozen"), [({FLOW_RUN_ID: "id"}, True), ({}, False)])
def test_only_the_process_of_a_scheduled_run_exempts_what_it_has_imported_from_collection(
    variables, frozen
):
    environment = {k: v for k, v in os.environ.items() if k != FLOW_RUN_ID} | variables
    code = "import gc, flows; print(gc.get_freeze_count() > 0, gc.isenabled())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{frozen} True\n"
