"""Every SQL statement of the registry, by the table it is about. Each function takes its
caller's transaction and never commits; it returns a record, an id or nothing.

Locks are taken in one order everywhere, so that no two writers wait for each other: blobs by
their digest, then the model's row, then the rest.
"""
