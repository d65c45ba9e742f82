"""The artifact store, in a folder and in a bucket: changed and lost files, and their repair."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from registry_helpers import make_candidate, register_versions
from stores import flipped, place_of, store_file

from registry import Artifact, Conflict, Corrupt, InvalidCandidate, Registry, Unreachable, digest
from registry.integrity import verify

SIZES = [0, 5, 20_000_000]  # a bucket takes the last in parts


def damage(kept, artifact):
    name = place_of(artifact.sha256)
    kept.behind.write(name, flipped(kept.behind.read(name)))


@pytest.mark.parametrize("size", SIZES)
def test_stored_file_is_fetched_by_its_sha256(kept, size):
    content = os.urandom(size)
    store = kept.store()
    sha256 = store_file(store, kept.folder, content)
    assert sha256 == hashlib.sha256(content).hexdigest()
    assert kept.behind.names() == {place_of(sha256)}
    assert kept.behind.read(place_of(sha256)) == content
    assert store.has(sha256, size)
    assert not store.has(sha256, size + 1)
    store.verify(sha256, size)
    for _ in range(2):
        assert store.fetch(sha256, size).read_bytes() == content


def test_missing_file_raises_corrupt_only_when_it_is_read(kept):
    store = kept.store()
    assert not store.has("0" * 64, 3)
    for need in (store.verify, store.fetch):
        with pytest.raises(Corrupt, match=f"{'0' * 64} (is missing|cannot be read)"):
            need("0" * 64, 3)
    assert list(store.files()) == list(store.leftovers()) == []


def test_publishing_again_repairs_a_damaged_file(kept):
    store = kept.store()
    sha256 = store_file(store, kept.folder, b"hello")
    for damaged, complaint in ((b"hallo", "was changed"), (b"hell", "4 bytes instead of 5")):
        kept.behind.write(place_of(sha256), damaged)
        for need in (store.verify, store.fetch):
            with pytest.raises(Corrupt, match=complaint):
                need(sha256, 5)
        assert store_file(store, kept.folder, b"hello") == sha256
        store.verify(sha256, 5)
        assert store.fetch(sha256, 5).read_bytes() == b"hello"
        if kept.folder.joinpath("cache").exists():  # or the next turn would not ask the bucket
            kept.folder.joinpath("cache", place_of(sha256)).unlink()


def test_stage_names_a_source_that_cannot_be_read(kept):
    with pytest.raises(InvalidCandidate, match=r"nowhere cannot be read \(No such file"):
        kept.store().stage(kept.folder / "nowhere")
    assert kept.behind.names() == set()


def test_files_lists_each_stored_file_until_it_is_removed(kept):
    store = kept.store()
    contents = [str(number).encode() * number for number in range(1, 30)]
    stored = {store_file(store, kept.folder, content) for content in contents}
    listed = dict(store.files())
    assert listed.keys() == stored
    one = hashlib.sha256(b"333").hexdigest()
    assert (listed[one].path, listed[one].size) == (store.path_of(one), 3)
    assert 0 <= listed[one].age_s < 60
    for stray in (*listed.values(), *listed.values()):  # what is gone already is no error
        store.remove(stray.path)
    assert kept.behind.names() == set()


def test_concurrent_processes_can_store_the_same_bytes(kept, monkeypatch):
    # The test's server answers 500 where an object is replaced while its ETag is computed.
    monkeypatch.delenv("AWS_MAX_ATTEMPTS", raising=False)
    content = os.urandom(1000)
    (kept.folder / "source").write_bytes(content)
    store = kept.store()

    def publish(_):
        staged = store.stage(kept.folder / "source")
        store.publish(staged)
        return store.fetch(staged.sha256, len(content)).read_bytes() == content

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(publish, range(16))) == [True] * 16
    assert kept.behind.names() == {place_of(hashlib.sha256(content).hexdigest())}


@pytest.mark.parametrize("size", [5, 1_000_000])  # small ones are not even copied
def test_discarding_a_staged_file_keeps_its_source(kept, size):
    store, content = kept.store(), os.urandom(size)
    sha256 = store_file(store, kept.folder, content)
    staged = store.stage(kept.folder / "source")
    assert (staged.sha256, staged.size) == (sha256, size)
    store.discard(staged)
    assert list(store.leftovers()) == []
    assert (kept.folder / "source").read_bytes() == content
    store.verify(sha256, size)


def test_publish_restores_a_file_that_the_store_lost(kept):
    store = kept.store()
    sha256 = store_file(store, kept.folder, b"hello")
    staged = store.stage(kept.folder / "source")
    store.remove(store.path_of(sha256))
    store.publish(staged)
    store.verify(sha256, 5)
    assert (kept.folder / "source").read_bytes() == b"hello"
    assert list(store.leftovers()) == []


def test_publish_refuses_a_source_changed_after_staging(kept):
    store = kept.store()
    (kept.folder / "source").write_bytes(b"hello")
    staged = store.stage(kept.folder / "source")
    (kept.folder / "source").write_bytes(b"hallo")
    if store.remote:
        with pytest.raises(Conflict, match="was changed while it was registered"):
            store.publish(staged)
        assert kept.behind.names() == set()
    else:  # a folder has its own copy of what was staged
        store.publish(staged)
        store.verify(staged.sha256, 5)
    assert list(store.leftovers()) == []


def test_failed_publish_leaves_no_staged_copy(kept):
    store = kept.store()
    (kept.folder / "source").write_bytes(b"hello")
    lost = store.stage(kept.folder / "source")
    (kept.folder / "new").write_bytes(os.urandom(1_000_000))
    new = store.stage(kept.folder / "new")
    (kept.folder / "source").write_bytes(b"hallo")
    if not store.remote:
        lost.path.unlink()  # as a collection with too short a grace does
    with pytest.raises(Conflict, match=r"Nothing was stored|Try again"):
        store.publish(new, lost)
    for staged in (new, lost):
        store.discard(staged)
    assert list(store.leftovers()) == []
    # A bucket has no copies: what was sent before is what `gc` collects.
    assert kept.behind.names() == ({place_of(new.sha256)} if store.remote else set())


def test_open_returns_files_by_logical_path(kept):
    register_versions(kept, 1)
    with kept.open() as registry:
        files = registry.open(registry.resolve("digits:1").version)
    assert {path: file.read_text() for path, file in files.items()} == {
        "card.md": "# card",
        "model.onnx": "model 1",
        "signature.json": "{}",
    }


@pytest.mark.parametrize("which", [0, 1, 2])
def test_open_detects_a_flipped_byte(kept, which):
    register_versions(kept, 1)
    with kept.open() as registry:
        version = registry.resolve("digits:1").version
        artifact = version.artifacts[which]
        damage(kept, artifact)
        with pytest.raises(Corrupt, match=f"digits:1 must not be used. {artifact.path}: .*changed"):
            registry.open(version)
        (problem,) = verify(registry, "digits").problems
        assert (problem.ref, problem.path) == ("digits:1", artifact.path)


def test_open_detects_a_missing_or_truncated_file(kept):
    register_versions(kept, 1)
    with kept.open() as registry:
        version = registry.resolve("digits:1").version
        card, model, _ = version.artifacts
        kept.behind.delete(place_of(card.sha256))
        kept.behind.write(place_of(model.sha256), b"model")
        missing = r"(is missing|cannot be read).*; model.onnx: .*5 bytes instead of 7"
        with pytest.raises(Corrupt, match=missing):
            registry.open(version)
        assert [problem.path for problem in verify(registry).problems] == ["card.md", "model.onnx"]


def test_open_refuses_files_that_do_not_match_the_digest(kept):
    register_versions(kept, 1)
    with kept.open() as registry:
        version = registry.resolve("digits:1").version
        with pytest.raises(Corrupt, match="do not match its digest 000"):
            registry.open(replace(version, digest="0" * 64))


def test_verify_reads_every_byte_once_and_finds_no_problem(kept):
    register_versions(kept, 2)
    with kept.open() as registry:
        found = verify(registry)
        assert found.problems == verify(registry, "digits").problems == []
        # The signature and the card are the same file in both versions.
        assert (found.files, found.bytes) == (4, len("model 1model 2{}# card"))


def test_register_again_restores_lost_and_damaged_files(kept):
    register_versions(kept, 1)
    with kept.open() as registry:
        version = registry.resolve("digits:1").version
        kept.behind.delete(place_of(version.artifacts[0].sha256))
        damage(kept, version.artifacts[1])
        assert len(verify(registry).problems) == 2
        candidate = make_candidate(kept.folder / "b", "model 1")
        assert not registry.register("digits", candidate, actor="ada").created
        assert verify(registry).problems == []


def test_stored_files_are_read_only_and_shared_by_versions(tmp_path):
    register_versions(tmp_path, 2)
    with Registry(f"sqlite:///{tmp_path}/registry.db", tmp_path / "artifacts") as registry:
        oldest, newest = (registry.resolve(f"digits:{n}").version for n in (1, 2))
        assert oldest.artifacts[0].sha256 == newest.artifacts[0].sha256
        for path in registry.open(newest).values():
            assert path.stat().st_mode & 0o222 == 0
    assert list((tmp_path / "artifacts" / "tmp").iterdir()) == []


def test_digest_is_documented_and_independent_of_order():
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


REFUSED = [
    "gs://b",
    "file:///srv/models",
    "s3:/bucket",
    "s3://",
    "s3://b?x=1",
    "s3://b/../c",
    "s3://me:secret@b/x",
]


@pytest.mark.parametrize("root", REFUSED)
def test_unsupported_artifact_url_is_refused_without_its_secrets(tmp_path, root):
    with pytest.raises(Unreachable, match=r"Set MODELMINT_ARTIFACTS to .*s3://BUCKET") as caught:
        Registry(f"sqlite:///{tmp_path}/registry.db", root)
    assert "secret" not in str(caught.value)
    assert not (tmp_path / "registry.db").exists()


def test_unwritable_artifact_store_is_a_readable_error(tmp_path):
    (tmp_path / "artifacts").write_text("a file where the folder should be")
    with (
        Registry(f"sqlite:///{tmp_path}/registry.db", tmp_path / "artifacts") as registry,
        pytest.raises(Unreachable, match=r"cannot be read \(Not a dir.*MODELMINT_ARTIFACTS"),
    ):
        registry.register("digits", make_candidate(tmp_path / "b"), actor="ada")
    assert not (tmp_path / "registry.db").exists()
