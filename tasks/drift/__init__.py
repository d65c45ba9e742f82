"""Drift: what a batch job has in common with the rows that its model was trained on."""
