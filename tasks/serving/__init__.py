"""Batch inference: shards, quarantine, and the files of a job. `tasks.predict` drives it.

Needs no torch.
"""

MAX_BAD = "0.1%"
"""How many rows may be bad before a job fails, unless somebody says otherwise."""
