"""Stored bytes: tampering, loss, repair and garbage collection."""

import hashlib
import os
import time
from dataclasses import replace

import pytest
from registry_helpers import database_url, make_candidate, open_registry, register_versions

from registry import Artifact, Conflict, Corrupt, Registry, Unreachable, digest
from registry.artifacts import ArtifactStore


def stored(registry_folder, artifact):
    return ArtifactStore(registry_folder / "artifacts").path(artifact.sha256)


def flip_a_byte(path):
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


def test_opening_a_version_gives_its_files_by_logical_path(tmp_path):
    register_versions(tmp_path, 1)
    with open_registry(tmp_path) as registry:
        files = registry.open(registry.resolve("digits:1").version)
    assert {path: file.read_text() for path, file in files.items()} == {
        "card.md": "# card",
        "model.onnx": "model 1",
        "signature.json": "{}",
    }


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_flipped_byte_in_any_file_is_found_before_use(tmp_path, which):
    register_versions(tmp_path, 2)
    with open_registry(tmp_path) as registry:
        version = registry.resolve("digits:1").version
        artifact = version.artifacts[which]
        flip_a_byte(stored(tmp_path, artifact))
        with pytest.raises(Corrupt, match=f"digits:1 must not be used. {artifact.path}: .*changed"):
            registry.open(version)
        (problem, *_) = registry.verify("digits")[::-1]
        assert (problem.ref, problem.path) == ("digits:1", artifact.path)


def test_a_missing_or_shortened_file_is_found_before_use(tmp_path):
    register_versions(tmp_path, 1)
    with open_registry(tmp_path) as registry:
        version = registry.resolve("digits:1").version
        card, model, _ = version.artifacts
        stored(tmp_path, card).unlink()
        stored(tmp_path, model).chmod(0o644)
        stored(tmp_path, model).write_text("model")
        with pytest.raises(Corrupt, match=r"cannot be read.*; model.onnx: .*5 bytes instead of 7"):
            registry.open(version)
        assert [problem.path for problem in registry.verify()] == ["card.md", "model.onnx"]


def test_a_version_whose_files_do_not_make_its_digest_is_refused(tmp_path):
    register_versions(tmp_path, 1)
    with open_registry(tmp_path) as registry:
        version = registry.resolve("digits:1").version
        with pytest.raises(Corrupt, match="do not make digest 000"):
            registry.open(replace(version, digest="0" * 64))


def test_everything_in_order_is_no_problem(tmp_path):
    register_versions(tmp_path, 2)
    with open_registry(tmp_path) as registry:
        assert registry.verify() == registry.verify("digits") == []


def test_registering_again_restores_lost_and_damaged_files(tmp_path):
    register_versions(tmp_path, 1)
    with open_registry(tmp_path) as registry:
        version = registry.resolve("digits:1").version
        stored(tmp_path, version.artifacts[0]).unlink()
        flip_a_byte(stored(tmp_path, version.artifacts[1]))
        assert len(registry.verify()) == 2
        again = registry.register("digits", make_candidate(tmp_path / "b", "model 1"), actor="ada")
        assert not again.created
        assert registry.verify() == []


def test_a_dry_run_names_strays_and_keeps_them(tmp_path):
    register_versions(tmp_path, 1)
    stray, orphan = leave_a_stray_and_an_orphan(tmp_path)
    with open_registry(tmp_path) as registry:
        found = registry.gc(dry_run=True, grace_s=0)
        assert {(s.path, s.removable) for s in found} == {(stray, True), (orphan, True)}
        assert stray.exists()
        assert orphan.exists()


def test_a_collection_removes_strays_and_keeps_what_versions_need(tmp_path):
    register_versions(tmp_path, 2)
    stray, orphan = leave_a_stray_and_an_orphan(tmp_path)
    with open_registry(tmp_path) as registry:
        assert len(registry.gc(dry_run=False, grace_s=0)) == 2
        assert not stray.exists()
        assert not orphan.exists()
        assert registry.verify() == []
        assert registry.gc(dry_run=True, grace_s=0) == []


def test_what_is_younger_than_the_grace_stays_and_says_so(tmp_path):
    register_versions(tmp_path, 1)
    stray, orphan = leave_a_stray_and_an_orphan(tmp_path)
    an_hour_ago = time.time() - 3600
    os.utime(orphan, (an_hour_ago, an_hour_ago))
    with open_registry(tmp_path) as registry:
        found = registry.gc(dry_run=False, grace_s=1800)
        assert [(s.path, s.removable) for s in found] == [(orphan, True), (stray, False)]
        assert 3599 < found[0].age_s < 3700
        assert found[1].size == len("nobody's")
        assert stray.exists()
        assert not orphan.exists()


def test_a_strangers_file_in_the_store_is_not_touched(tmp_path):
    register_versions(tmp_path, 1)
    note = tmp_path / "artifacts" / "sha256" / "ab" / "README.txt"
    note.parent.mkdir(exist_ok=True)
    note.write_text("mounted from the big disk")
    with open_registry(tmp_path) as registry:
        assert registry.gc(dry_run=False, grace_s=0) == []
    assert note.exists()


def test_files_that_vanish_during_registration_are_a_conflict(tmp_path):
    class Sweeping(ArtifactStore):
        """A store that a collection with too short a grace empties after the last file."""

        def put(self, source):
            result = super().put(source)
            if source.name == "signature.json":
                for stray in self.strays(set(), 0):
                    self.remove(stray)
            return result

    with open_registry(tmp_path) as registry:
        registry._files = Sweeping(tmp_path / "artifacts")
        with pytest.raises(Conflict, match=r"model\.onnx, signature\.json vanished"):
            registry.register("digits", make_candidate(tmp_path / "b"), actor="ada")
        assert registry.models() == []


def test_stored_files_are_read_only_and_shared_by_versions(tmp_path):
    register_versions(tmp_path, 2)
    with open_registry(tmp_path) as registry:
        newest, oldest = registry.versions("digits")
        assert oldest.artifacts[0].sha256 == newest.artifacts[0].sha256
        for artifact in newest.artifacts:
            assert stored(tmp_path, artifact).stat().st_mode & 0o222 == 0
    assert list((tmp_path / "artifacts" / "tmp").iterdir()) == []


def test_the_digest_is_a_documented_hash_that_order_does_not_change():
    model = Artifact("model.onnx", "a" * 64, 3, identity=True)
    signature = Artifact("é.json", "b" * 64, 5, identity=True)
    card = Artifact("card.md", "c" * 64, 7, identity=False)
    # By hand: bundles registered by an earlier release must keep their identity.
    text = (
        f'[{{"path":"model.onnx","sha256":"{"a" * 64}","size":3}},'
        f'{{"path":"é.json","sha256":"{"b" * 64}","size":5}}]'
    )
    expected = hashlib.sha256(text.encode("utf-8")).hexdigest()
    assert digest([model, signature]) == digest([card, signature, model]) == expected


@pytest.mark.parametrize("root", ["s3://bucket/models", "gs://b", "file:///srv/models"])
def test_a_url_as_the_artifact_store_is_refused(tmp_path, root):
    with pytest.raises(Unreachable, match=r"local folder only\. Set MODELMINT_ARTIFACTS"):
        Registry(database_url(tmp_path), root)


def test_an_artifact_store_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "artifacts").write_text("a file where the folder should be")
    with open_registry(tmp_path) as registry:
        with pytest.raises(Unreachable, match=r"cannot be written \(.*MODELMINT_ARTIFACTS"):
            registry.register("digits", make_candidate(tmp_path / "b"), actor="ada")
        assert registry.models() == []


def leave_a_stray_and_an_orphan(tmp_path):
    source = tmp_path / "nobody"
    source.write_text("nobody's")
    store = ArtifactStore(tmp_path / "artifacts")
    sha256, _ = store.put(source)
    orphan = tmp_path / "artifacts" / "tmp" / "half-written"
    orphan.write_bytes(b"ha")
    return store.path(sha256), orphan
