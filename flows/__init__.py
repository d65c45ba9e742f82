"""The pipeline under Prefect: the only package that imports it."""

import gc
import os

from flows.alive import FLOW_RUN_ID
from flows.git import forget_the_callers_repository

# Every command and flow process imports this package before it uses DVC or starts a child process.
forget_the_callers_repository()
if FLOW_RUN_ID in os.environ:
    # A scheduled run has just imported Prefect. Garbage collection need not visit those objects
    # during our imports: 0.4 of 2.5 s of CPU. Not elsewhere: a notebook's objects would never go.
    gc.freeze()
