"""Personal data: sensitive columns are dropped, or written as keyed hashes."""

import hmac
from pathlib import Path

import pyarrow as pa

from tasks.config import Prepare
from tasks.dataset import KEY, TARGET
from tasks.errors import InputError
from tasks.files.convert import convert
from tasks.sources.raw import Raw


def hash_sensitive(raw: Raw, params: Prepare, root: Path) -> dict[str, pa.Array]:
    """The HMAC-SHA256 (N,) of each sensitive column by name; null where a value is missing.

    Values are hashed in the spelling of a category. The key is the content of the salt file without
    surrounding white space. Empty if sensitive columns are dropped.

    Raises:
        InputError: there is no key, or a column cannot be hashed.
    """
    if params.sensitive_rule == "drop" or not params.sensitive:
        return {}
    key = _key(root / str(params.salt_file), str(params.salt_file))
    return {name: _hash(raw, name, key) for name in params.sensitive}


def _key(path: Path, given: str) -> bytes:
    remedy = f"Make one with `openssl rand -hex 32 > {given}`, and keep it out of git and DVC."
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise InputError(f"{path}: the salt file cannot be read: {error}. {remedy}") from error
    if not key:
        raise InputError(f"{path}: the salt file is empty. {remedy}")
    return key


def _hash(raw: Raw, name: str, key: bytes) -> pa.Array:
    if name in (KEY, TARGET):
        raise InputError(
            f"{raw.where}: a hashed column cannot have the name {name!r}, because the prepared "
            "dataset uses it. Rename the column, or set prepare.sensitive_rule to drop."
        )
    values = raw.table[name].combine_chunks()
    # With one spelling, a value has the same hash in every file format.
    spelled = convert(values, "category", name, raw.describe, raw.reading)
    encoded = spelled.dictionary_encode()
    digests = [hmac.digest(key, v.encode(), "sha256").hex() for v in encoded.dictionary.to_pylist()]
    return pa.array(digests, pa.string()).take(encoded.indices)
