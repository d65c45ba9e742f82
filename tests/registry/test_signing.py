"""Signatures of versions: made with a real key, stored and checked."""

import base64
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from databases import execute, fetch
from registry_helpers import make_candidate

from registry import Corrupt, Registry, RegistryError
from registry.integrity import verify
from registry.signing import check_signatures, sign
from registry.transfer.oci import export_version, import_version


class Key:
    """An elliptic-curve key in two PEM files, `name`.pem and `name`.pub.pem."""

    def __init__(self, folder: Path, name: str, curve: ec.EllipticCurve) -> None:
        made = ec.generate_private_key(curve)
        self.private, self.public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
        self.private.write_bytes(pem(made))
        self.public.write_bytes(
            made.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
        der = made.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.id = hashlib.sha256(der).hexdigest()


def pem(key, password=None):
    locked = (
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption()
    )
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    return Key(tmp_path_factory.mktemp("key"), "ours", ec.SECP256R1())


@pytest.fixture(scope="module")
def other_key(tmp_path_factory):
    return Key(tmp_path_factory.mktemp("key"), "other", ec.SECP384R1())


@pytest.fixture
def registry(sqlite_template, tmp_path):
    """A registry with digits:1, in SQLite."""
    shutil.copy(sqlite_template, tmp_path)
    with Registry(f"sqlite:///{tmp_path}/registry.db", tmp_path / "artifacts") as opened:
        opened.register("digits", make_candidate(tmp_path / "bundle"), actor="ada")
        yield opened


def whats(registry, key, name=None):
    return [(p.ref, p.what) for p in check_signatures(registry, key.public, name)]


def tamper(registry, change):
    """Change the one stored signature document, as the owner of the database can."""
    url = registry.database.shown
    drop_triggers(url)
    ((document,),) = fetch(url, "SELECT document FROM version_signatures")
    changed = change(document).replace("'", "''")
    execute(url, f"UPDATE version_signatures SET document = '{changed}'")


def drop_triggers(url):
    triggers = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
    execute(url, *(f'DROP TRIGGER "{name}"' for (name,) in fetch(url, triggers)))


def test_signed_version_verifies_and_has_an_event(database_url, tmp_path, key):
    with Registry(database_url, tmp_path / "artifacts") as registry:
        registry.register("digits", make_candidate(tmp_path / "bundle"), actor="ada")
        assert whats(registry, key) == [("digits:1", "it is not signed")]
        made = sign(registry, "digits:1", key.private, actor="ann")
        assert (made.version.ref, made.key_id, made.created) == ("digits:1", key.id, True)
        assert whats(registry, key) == []
        event = registry.history("digits")[0]
        assert (event.kind, event.actor, event.version) == ("signed", "ann", 1)
        assert event.payload["key"] == key.id
        assert verify(registry).problems == []


def test_sign_again_with_the_same_key_changes_nothing(registry, key, other_key):
    sign(registry, "digits:1", key.private, actor="ann")
    before = registry.history("digits")
    again = sign(registry, "digits:1", key.private, actor="bob")
    assert not again.created
    assert registry.history("digits") == before
    assert sign(registry, "digits:1", other_key.private, actor="bob").created
    assert whats(registry, key) == whats(registry, other_key) == []


def test_check_signatures_reports_a_version_signed_by_another_key(registry, key, other_key):
    sign(registry, "digits:1", other_key.private, actor="ann")
    ((ref, what),) = whats(registry, key)
    assert ref == "digits:1"
    assert what == f"it is not signed by key {key.id[:12]}, but by {other_key.id[:12]}"


def test_check_signatures_reports_only_unsigned_versions(registry, tmp_path, key):
    registry.register("digits", make_candidate(tmp_path / "b", "second"), actor="ada")
    registry.register("letters", make_candidate(tmp_path / "c", "third"), actor="ada")
    sign(registry, "digits:1", key.private, actor="ann")
    assert [ref for ref, _ in whats(registry, key)] == ["digits:2", "letters:1"]
    assert [ref for ref, _ in whats(registry, key, "digits")] == ["digits:2"]


@pytest.mark.parametrize("path", ["model.onnx", "card.md"])
def test_check_signatures_detects_a_changed_byte(registry, key, other_key, path):
    version = sign(registry, "digits:1", key.private, actor="ann").version
    file = registry.open(version)[path]
    content = file.read_bytes()
    file.chmod(0o644)
    file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    ((_, what),) = whats(registry, key)
    assert path in what
    assert "was changed" in what
    with pytest.raises(Corrupt, match=path):
        sign(registry, "digits:1", other_key.private, actor="ann")


def test_check_signatures_detects_replaced_files_and_rows(registry, tmp_path, key):
    sign(registry, "digits:1", key.private, actor="ann")
    forged = make_candidate(tmp_path / "forged", "forged bytes")
    registry.register("forged", forged, actor="eve")
    url = registry.database.shown
    drop_triggers(url)
    # As whoever owns the database could: files, rows and digest fit each other.
    execute(
        url,
        "UPDATE version_artifacts SET (sha256, size) = (SELECT sha256, size FROM "
        "version_artifacts WHERE version_id = 2 AND path = 'model.onnx') "
        "WHERE version_id = 1 AND path = 'model.onnx'",
        "UPDATE versions SET digest = (SELECT digest FROM versions WHERE id = 2) WHERE id = 1",
    )
    ((_, what),) = whats(registry, key, "digits")
    assert "Hash mismatch for 'model.onnx'" in what


def payload_of(document):
    return json.loads(base64.b64decode(json.loads(document)["dsseEnvelope"]["payload"]))


def with_other_payload(document):
    """The document with the digest of its first file changed, and the signature as it was."""
    bundle, payload = json.loads(document), payload_of(document)
    resource = payload["predicate"]["resources"][0]
    resource["digest"] = "0" * 64
    changed = base64.b64encode(json.dumps(payload).encode()).decode()
    bundle["dsseEnvelope"]["payload"] = changed
    return json.dumps(bundle)


def with_other_signature(document):
    bundle = json.loads(document)
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(b"nonsense").decode()
    return json.dumps(bundle)


def without_hint(document):
    bundle = json.loads(with_other_signature(document))
    del bundle["verificationMaterial"]["publicKey"]["hint"]
    return json.dumps(bundle)


@pytest.mark.parametrize(
    "change",
    [
        with_other_payload,
        with_other_signature,
        without_hint,
        lambda _: "",
        lambda _: "{}",
        lambda _: "null",
        lambda document: document[:-10],
    ],
)
def test_check_signatures_detects_an_edited_signature(registry, key, change, capsys):
    sign(registry, "digits:1", key.private, actor="ann")
    tamper(registry, change)
    ((ref, what),) = whats(registry, key)
    assert ref == "digits:1"
    assert what.startswith(f"its signature by key {key.id[:12]} is invalid: ")
    assert capsys.readouterr().out == ""


def test_check_signatures_detects_a_signature_of_another_key(registry, tmp_path, key, other_key):
    sign(registry, "digits:1", key.private, actor="ann")
    with Registry(f"sqlite:///{tmp_path}/other.db", tmp_path / "other") as theirs:
        theirs.register("digits", make_candidate(tmp_path / "bundle"), actor="eve")
        sign(theirs, "digits:1", other_key.private, actor="eve")
        ((document,),) = fetch(theirs.database.shown, "SELECT document FROM version_signatures")
    tamper(registry, lambda _: document)
    ((_, what),) = whats(registry, key)
    assert "is invalid: Key mismatch" in what


def test_sign_includes_files_named_like_git_files(registry, tmp_path, key):
    candidate = make_candidate(tmp_path / "git", "with a .gitattributes")
    hidden = tmp_path / ".gitattributes"
    hidden.write_text("* binary")
    candidate.files[".gitattributes"] = hidden
    registry.register("git", candidate, actor="ada")
    sign(registry, "git:1", key.private, actor="ann")
    documents = fetch(registry.database.shown, "SELECT document FROM version_signatures")
    resources = payload_of(documents[0][0])["predicate"]["resources"]
    assert {r["name"] for r in resources} == {
        ".gitattributes",
        "card.md",
        "model.onnx",
        "signature.json",
    }


def test_model_signing_command_accepts_our_signature(registry, tmp_path, key):
    made = sign(registry, "digits:1", key.private, actor="ann")
    folder = tmp_path / "unpacked"
    folder.mkdir()
    for path, file in registry.open(made.version).items():
        (folder / path).write_bytes(file.read_bytes())
    ((document,),) = fetch(registry.database.shown, "SELECT document FROM version_signatures")
    (tmp_path / "document.json").write_text(document)
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(folder)]
    command += ["--signature", str(tmp_path / "document.json"), "--public_key", str(key.public)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "model.onnx").write_text("other bytes")
    assert subprocess.run(command, capture_output=True).returncode != 0


def test_check_signatures_skips_purged_versions(registry, key):
    from registry.upkeep import purge

    registry.archive("digits", 1, actor="ada", reason="old")
    assert [ref for ref, _ in whats(registry, key)] == ["digits:1"]
    purge(registry, actor="ada", dry_run=False)
    assert whats(registry, key) == []


# Signatures travel


def test_import_keeps_signatures(registry, tmp_path, key):
    sign(registry, "digits:1", key.private, actor="ann")
    export_version(registry, "digits:1", tmp_path / "out.tar")
    with Registry(f"sqlite:///{tmp_path}/other.db", tmp_path / "other") as theirs:
        for _ in range(2):
            import_version(theirs, tmp_path / "out.tar", actor="eve", name="numbers")
        assert whats(theirs, key) == []
        kinds = [event.kind for event in theirs.history("numbers")]
        assert kinds == ["signed", "imported"]
        assert verify(theirs).problems == []


def test_import_again_adds_no_signature_to_an_existing_version(registry, tmp_path, key):
    export_version(registry, "digits:1", tmp_path / "before.tar")
    with Registry(f"sqlite:///{tmp_path}/other.db", tmp_path / "other") as theirs:
        import_version(theirs, tmp_path / "before.tar", actor="eve")
        sign(registry, "digits:1", key.private, actor="ann")
        export_version(registry, "digits:1", tmp_path / "after.tar")
        assert not import_version(theirs, tmp_path / "after.tar", actor="eve").created
        assert whats(theirs, key) == [("digits:1", "it is not signed")]


# Keys and packages that are not as they should be


def test_sign_with_an_encrypted_key_is_a_readable_error(registry, tmp_path):
    locked = tmp_path / "locked.pem"
    locked.write_bytes(pem(ec.generate_private_key(ec.SECP256R1()), b"secret"))
    with pytest.raises(RegistryError, match=r"locked\.pem is encrypted\. Give"):
        sign(registry, "digits:1", locked, actor="ann")


def test_sign_with_an_unsupported_key_is_a_readable_error(registry, tmp_path, key):
    files = {
        "text.pem": b"hello",
        "empty.pem": b"",
        "rsa.pem": pem(rsa.generate_private_key(65537, 2048)),
        "curve.pem": pem(ec.generate_private_key(ec.SECP256K1())),
        "public.pem": key.public.read_bytes(),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(RegistryError, match=f"{name} is not a private key on P-256"):
            sign(registry, "digits:1", tmp_path / name, actor="ann")
    with pytest.raises(RegistryError, match="is not a public key on P-256"):
        check_signatures(registry, key.private)
    with pytest.raises(RegistryError, match="cannot be read"):
        sign(registry, "digits:1", tmp_path / "nowhere.pem", actor="ann")
    with pytest.raises(RegistryError, match="cannot be read"):
        check_signatures(registry, tmp_path)


def test_a_missing_package_is_a_readable_error(registry, key, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "model_signing"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "model_signing", None)
    with pytest.raises(RegistryError, match=r"pip install 'modelmint\[signing\]'"):
        sign(registry, "digits:1", key.private, actor="ann")
    with pytest.raises(RegistryError, match=r"pip install 'modelmint\[signing\]'"):
        check_signatures(registry, key.public)
