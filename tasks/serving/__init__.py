"""Batch inference: shards, quarantine, and the files of a job. `tasks.predict` drives it.

Needs no torch.
"""
