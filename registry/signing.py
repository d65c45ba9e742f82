"""Signatures over the files of versions: OpenSSF model-signing with an elliptic-curve key.

A signature proves that the holder of a key signed exactly these bytes, even to those who do not
trust the registry. It is a Sigstore bundle that is stored with the version; `model_signing verify
key` can check it, too. Needs the extra `signing`.
"""

import contextlib
import hashlib
import io
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from registry import extras
from registry.digests import seal_json
from registry.errors import Corrupt, NotFound, RegistryError
from registry.queries import blobs, events, models, signatures, versions
from registry.records import Problem, Version
from registry.registry import Registry
from registry.validation.arguments import checked

if TYPE_CHECKING:  # an extra, and slow to import
    from cryptography.hazmat.primitives.asymmetric.ec import (
        EllipticCurvePrivateKey,
        EllipticCurvePublicKey,
    )
    from model_signing.hashing import Config

_CURVES = {"secp256r1", "secp384r1", "secp521r1"}
_SHOWN = 12  # characters of a key's id in messages


@dataclass(frozen=True, slots=True)
class SignedVersion:
    """A version, and the key that signed it."""

    version: Version
    key_id: str
    """SHA-256 of the public key in DER form."""
    created: bool
    """False: that key had signed it before."""


@checked
def sign(registry: Registry, reference: str, private_key: Path, *, actor: str) -> SignedVersion:
    """Sign the files of a version, after checking every byte of them.

    `private_key` is a PEM file with an unencrypted key on P-256, P-384 or P-521. If this key has
    signed the version before, nothing changes.

    Raises:
        InvalidReference: the reference has another form.
        NotFound: the model, alias or version does not exist.
        Corrupt: a file of the version is missing or was changed.
        RegistryError: the file is not such a key, or the extra `signing` is not installed.
    """
    extras.load("model_signing.signing", "signing", "Signing")
    from model_signing.signing import Config

    key_id = _key_id(_private(private_key).public_key())
    version = registry.resolve(reference).version
    with registry.database.read() as c:
        if key_id in signatures.load(c, versions.load_id(c, version.ref)):
            return SignedVersion(version, key_id, created=False)
    with _unpacked(registry, version) as (folder, document):
        signer = Config().set_hashing_config(_hash_all_files())
        signer.use_elliptic_key_signer(private_key=private_key).sign(folder, document)
        created = add_signature(registry, version, key_id, document.read_text(), actor=actor)
    return SignedVersion(version, key_id, created)


def add_signature(
    registry: Registry, version: Version, key_id: str, document: str, *, actor: str
) -> bool:
    """Store a signature document with its event; False if that key has signed the version."""
    with registry.database.write() as c:
        model = models.lock(c, version.model)
        own = versions.load_id(c, version.ref)
        if key_id in signatures.load(c, own):
            return False
        signatures.add(c, own, key_id, document)
        what = {"key": key_id, "document": seal_json(document)}
        events.add(c, model, "signed", actor, version=version.version, payload=what)
        return True


@checked
def check_signatures(
    registry: Registry, public_key: Path, name: str | None = None
) -> list[Problem]:
    """Check that a key signed the present files of every version, of one model or of all.

    Versions whose files were purged are skipped. `public_key` is a PEM file. Returns the versions
    that are not signed, not signed by that key, or signed with other bytes.

    Raises:
        NotFound: the model does not exist.
        RegistryError: the file is not such a key, or the extra `signing` is not installed.
    """
    extras.load("model_signing.signing", "signing", "Signing")
    key_id = _key_id(_public(public_key))
    found = []
    for model in registry.models() if name is None else [registry.model(name)]:
        for number in range(1, model.last_version + 1):
            what = _problem_of(registry, model.name, number, key_id, public_key)
            if what:
                found.append(Problem(f"{model.name}:{number}", "", what))
    return found


def _problem_of(
    registry: Registry, name: str, number: int, key_id: str, public_key: Path
) -> str | None:
    """What is wrong with the signature of a version; None: nothing, or its files were purged."""
    try:
        with registry.database.read() as c:
            version = versions.load(c, name, number)
            signed = signatures.load(c, versions.load_id(c, version.ref))
        what = _problem_with_key(registry, version, signed, key_id, public_key)
        # Afterwards: the files may have been purged while the signature was checked.
        return what if what and not _is_purged(registry, name, number) else None
    except (Corrupt, NotFound) as error:  # its row is missing or cannot be read
        return str(error)


def _is_purged(registry: Registry, name: str, number: int) -> bool:
    with registry.database.read() as c:
        archived = versions.load(c, name, number).status == "archived"
        return archived and bool(blobs.purged_of(c, name, number))


def _problem_with_key(
    registry: Registry, version: Version, signed: dict[str, str], key_id: str, public_key: Path
) -> str | None:
    """What is wrong with the signature of a version by a key; None: nothing."""
    if not signed:
        return "it is not signed"
    if key_id not in signed:
        others = ", ".join(other[:_SHOWN] for other in signed)
        return f"it is not signed by key {key_id[:_SHOWN]}, but by {others}"
    try:
        with _unpacked(registry, version) as (folder, document):
            document.write_text(signed[key_id])
            why = _why_invalid(folder, document, public_key)
    except Corrupt as error:
        return str(error)
    return why and f"its signature by key {key_id[:_SHOWN]} is invalid: {why}"


def _why_invalid(folder: Path, document: Path, public_key: Path) -> str | None:
    """Why a document is not a valid signature of a folder by a key; None if it is."""
    from model_signing.verifying import Config

    verifier = Config().set_hashing_config(_hash_all_files())
    verifier.use_elliptic_key_verifier(public_key=public_key)
    try:
        # The library prints advice about older formats, and our standard output may be JSON.
        with contextlib.redirect_stdout(io.StringIO()):
            verifier.verify(folder, document)
    # A stored document may be anything, and the library raises errors of any kind.
    except Exception as error:
        return str(error) or "it was not made by that key over these files"
    return None


@contextlib.contextmanager
def _unpacked(registry: Registry, version: Version) -> Iterator[tuple[Path, Path]]:
    """The checked files of a version in a temporary folder, and the path for a signature."""
    files = registry.open(version)
    with TemporaryDirectory(prefix="modelmint-signing-") as place:
        # The signature contains the folder's name; the digest is the same in every registry.
        folder = Path(place) / version.digest
        try:
            for path, source in files.items():
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                _link(source, target)
        except OSError as error:
            raise RegistryError(
                f"The files of {version.ref} cannot be copied to {place} ({error.strerror}). Set "
                "TMPDIR to a folder with room for them."
            ) from error
        yield folder, Path(place) / "signature.json"


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or a file of another user
        shutil.copyfile(source, target)


def _hash_all_files() -> "Config":
    """Hash every file: by default the library skips files of git."""
    from model_signing.hashing import Config

    return Config().set_ignored_paths(paths=(), ignore_git_paths=False)


# Keys


def _private(path: Path) -> "EllipticCurvePrivateKey":
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(_read(path), password=None)
    except TypeError as error:
        raise RegistryError(
            f"The key in {path} is encrypted. Give a file that only you may read, without a "
            f"password: openssl pkey -in {path} -out PLAIN.pem"
        ) from error
    except ValueError as error:
        raise _no_key(path, "private", error) from error
    if not isinstance(key, EllipticCurvePrivateKey) or key.curve.name not in _CURVES:
        raise _no_key(path, "private", "it is another kind of key")
    return key


def _public(path: Path) -> "EllipticCurvePublicKey":
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(_read(path))
    except ValueError as error:
        raise _no_key(path, "public", error) from error
    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name not in _CURVES:
        raise _no_key(path, "public", "it is another kind of key")
    return key


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RegistryError(
            f"{path} cannot be read ({error.strerror}). Give a PEM file with a key."
        ) from error


def _no_key(path: Path, kind: str, why: object) -> RegistryError:
    return RegistryError(
        f"{path} is not a {kind} key on P-256, P-384 or P-521 in PEM form ({why}). Make one: "
        "openssl ecparam -name prime256v1 -genkey -noout -out key.pem; "
        "openssl ec -in key.pem -pubout -out key.pub.pem"
    )


def _key_id(key: "EllipticCurvePublicKey") -> str:
    from cryptography.hazmat.primitives import serialization

    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(der).hexdigest()
