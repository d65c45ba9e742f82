"""Content-addressed files: bytes in, SHA-256 out. No SQL.

    root/tmp/<random>            a file being written; after a crash, a leftover
    root/sha256/ab/<digest>      complete, synced, read-only; never changed
    root/tmp/<random>.files      a note: the files that a registration will put into sha256/
    root/registry.json           the registry that owns the files; see `registry.ownership`

The store keeps bytes, never the path of a source to read later, and finds files only by their
SHA-256. `Folder` is a store in a folder, `Bucket` one in an S3 bucket.
"""

import os
from pathlib import Path

from registry.artifacts.bucket import Bucket
from registry.artifacts.folder import Folder, name_once, sync
from registry.artifacts.store import (
    BACKUP_README,
    MANIFEST,
    MARKER,
    NOTE,
    Staged,
    Store,
    hide_secrets,
    refuse_others,
)
from registry.errors import Unreachable
from registry.validation.checks import url_scheme

__all__ = [
    "BACKUP_README",
    "MANIFEST",
    "MARKER",
    "NOTE",
    "Bucket",
    "Folder",
    "Staged",
    "Store",
    "name_once",
    "open_store",
    "refuse_others",
    "sync",
    "user_cache",
]


def open_store(root: str | Path, cache: str | Path | None = None) -> Store:
    """The store at a folder, or at `s3://BUCKET/PREFIX`.

    Files of a bucket are opened from the folder `cache`, by default that of the user.

    Raises:
        Unreachable: the root is a URL of an unsupported kind.
    """
    url = str(root)
    if url.startswith("s3://"):
        return Bucket(url, Path(cache or user_cache()).absolute())
    if url_scheme(url):
        raise Unreachable(
            f"{hide_secrets(url)!r} cannot be an artifact store. Set MODELMINT_ARTIFACTS to a "
            "folder, or to s3://BUCKET/PREFIX."
        )
    return Folder(Path(root).absolute())


def user_cache() -> Path:
    """The folder for local copies of files in buckets, shared by all projects of a user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "modelmint"
