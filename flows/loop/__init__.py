"""The loop: drift, labels, new data or a schedule start one training; labels may end a champion.

Imports no Prefect; the flow is `flows/retrain.py`. What happened is entries in the history of the
model (`registry.operations.entries`), so there is no state beside the registry.
"""
