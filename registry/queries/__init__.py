"""Every SQL statement of the registry, by table. Each function uses its caller's transaction and
never commits.

Locks are taken in one order everywhere, so that writers never deadlock: blobs by their digest, then
the model's row, then the rest.
"""
