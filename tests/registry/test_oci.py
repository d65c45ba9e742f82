"""Export and import of versions as OCI image layouts."""

import hashlib
import io
import itertools
import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from databases import unguarded
from registry_helpers import LINEAGE, make_candidate

from registry import Conflict, InvalidCandidate, Policy, Refused, Registry, Unreachable
from registry.integrity import verify
from registry.transfer.oci import CONFIG, VERSION, export_version, import_version
from registry.upkeep import retain

BLOBS = "blobs/sha256/"


class Places:
    """Registries side by side, each with a database and artifacts of its own."""

    def __init__(self, make_database: Callable[[], str], folder: Path) -> None:
        self._make, self._folder, self._made = make_database, folder, []

    def new(self) -> Registry:
        here = Registry(self._make(), self._folder / f"artifacts-{len(self._made)}")
        here.create()
        self._made.append(here)
        return here

    def close(self) -> None:
        for registry in self._made:
            registry.close()


@pytest.fixture
def any_places(make_database, tmp_path):
    """Once for each kind of database."""
    made = Places(make_database, tmp_path)
    yield made
    made.close()


@pytest.fixture
def places(tmp_path):
    """In SQLite only, for checks that do not involve the database."""
    numbers = itertools.count()
    made = Places(lambda: f"sqlite:///{tmp_path}/{next(numbers)}.db", tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """An archive of digits:1 with small files and everything that a version can have."""
    folder = tmp_path_factory.mktemp("archive")
    with Registry(f"sqlite:///{folder}/registry.db", folder / "artifacts") as registry:
        registry.register("digits", make_full(folder), actor="ada")
        export_version(registry, "digits:1", folder / "digits-1.tar")
    return folder / "digits-1.tar"


def make_full(folder, model="model bytes", **changes):
    return make_candidate(
        folder / "bundle",
        model,
        tags={"team": "risk"},
        params={"train": {"dropout": 0.0, "epochs": 3}},
        lineage=replace(LINEAGE, data={"data/raw/digits.csv": "a" * 32}),
        **changes,
    )


def fill(registry, folder):
    """digits:1, and digits:2 that started from it and was evaluated, approved and promoted."""
    registry.register("digits", make_full(folder), actor="ada")
    child = make_full(folder, "other bytes")
    child = replace(child, lineage=replace(child.lineage, parent="digits:1"))
    registry.register("digits", child, actor="ada")
    registry.evaluate("digits", 2, {"passed": True, "gates": []}, actor="bob")
    registry.promote("digits", 2, expect_revision=0, actor="bob", reason="better")
    registry.tag("digits", 2, "stage", "trial", actor="bob")


def contents(path):
    """The plain files of a tar by name."""
    with tarfile.open(path) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}


def documents(path):
    """index.json, the manifest and the config of an archive."""
    found = contents(path)
    index = json.loads(found["index.json"])
    manifest = json.loads(found[blob(index["manifests"][0])])
    return index, manifest, json.loads(found[blob(manifest["config"])])


def blob(descriptor):
    return BLOBS + descriptor["digest"].removeprefix("sha256:")


def pack(path, files):
    with tarfile.open(path, "w") as tar:
        for name, content in files:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def rebuild(source, target, *, config=None, manifest=None):
    """An archive whose documents were changed by functions and whose digests were recomputed."""
    found = contents(source)
    index, old_manifest, old_config = documents(source)
    del found[blob(index["manifests"][0])], found[blob(old_manifest["config"])]
    if config is not None:
        config(old_config)
    store(found, old_config, old_manifest["config"])
    if manifest is not None:
        manifest(old_manifest)
    store(found, old_manifest, index["manifests"][0])
    found["index.json"] = json.dumps(index).encode()
    return pack(target, found.items())


def store(found, document, descriptor):
    content = json.dumps(document).encode()
    descriptor |= {
        "digest": f"sha256:{hashlib.sha256(content).hexdigest()}",
        "size": len(content),
    }
    found[blob(descriptor)] = content


# There and back


def test_import_keeps_uid_digest_and_documents(any_places, tmp_path):
    ours, theirs = any_places.new(), any_places.new()
    fill(ours, tmp_path)
    sent = ours.resolve("digits:2").version
    export_version(ours, "digits@champion", tmp_path / "out.tar")
    made = import_version(theirs, tmp_path / "out.tar", actor="eve")
    got = made.version
    assert made.created
    for field in ("uid", "digest", "signature", "metrics", "params", "evaluation", "artifacts"):
        assert getattr(got, field) == getattr(sent, field)
    assert got.tags == {"team": "risk", "stage": "trial"}
    assert replace(got.lineage, parent="digits:1") == sent.lineage
    assert (got.ref, got.status, got.aliases, got.created_by) == (
        "digits:1",
        "candidate",
        (),
        "ada",  # who trained it: an approval must come from somebody else, whoever imported it
    )
    assert theirs.search("digits", ["param.train.dropout=0.0"]).versions
    theirs.open(got)
    assert verify(theirs).problems == []


def test_import_event_records_the_origin(any_places, tmp_path):
    ours, theirs = any_places.new(), any_places.new()
    fill(ours, tmp_path)
    export_version(ours, "digits:2", tmp_path / "out.tar")
    import_version(theirs, tmp_path / "out.tar", actor="eve")
    (event,) = theirs.history("digits")
    assert (event.kind, event.actor) == ("imported", "eve")
    origin = event.payload
    assert origin["imported_from"] == "digits:2"
    assert origin["head"] == ours.history("digits")[0].hash
    assert origin["created_by"] == "ada"
    kinds = [was["kind"] for was in origin["events"]]
    assert kinds == ["registered", "evaluated", "approved", "promoted", "tagged"]
    assert [e["report"]["gates"][0]["metric"] for e in origin["earlier_evaluations"]] == [
        "accuracy"
    ]
    assert origin["parent"] == {"version": "digits:1", "uid": ours.resolve("digits:1").version.uid}


def test_imported_version_is_a_candidate_until_it_is_approved(places, tmp_path):
    ours, theirs = places.new(), places.new()
    fill(ours, tmp_path)
    export_version(ours, "digits:2", tmp_path / "out.tar")
    import_version(theirs, tmp_path / "out.tar", actor="eve")
    theirs.approve("digits", 1, actor="ann", reason="looked at")
    assert theirs.resolve("digits:1").version.status == "approved"

    other = places.new()
    failed = make_candidate(tmp_path / "failed", evaluation={})
    other.admit("digits", failed, "imported", actor="ada")
    export_version(other, "digits:1", tmp_path / "failed.tar")
    import_version(theirs, tmp_path / "failed.tar", actor="eve", name="doubtful")
    with pytest.raises(Refused, match="was never evaluated"):
        theirs.approve("doubtful", 1, actor="ann", reason="no")


def test_import_links_a_parent_that_exists_here(places, tmp_path):
    ours, theirs = places.new(), places.new()
    fill(ours, tmp_path)
    theirs.register("digits", make_candidate(tmp_path / "own", "own bytes"), actor="ann")
    for number in (1, 2):
        export_version(ours, f"digits:{number}", tmp_path / f"{number}.tar")
        import_version(theirs, tmp_path / f"{number}.tar", actor="eve")
    assert theirs.resolve("digits:3").version.lineage.parent == "digits:2"
    assert theirs.resolve("digits:2").version.uid == ours.resolve("digits:1").version.uid


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 3, 1), (2, 1, 3)])
def test_import_links_parent_and_child_in_either_order(any_places, tmp_path, order):
    ours, between, theirs = any_places.new(), any_places.new(), any_places.new()
    fill(ours, tmp_path)
    grandchild = make_full(tmp_path, "third bytes")
    grandchild = replace(grandchild, lineage=replace(grandchild.lineage, parent="digits:2"))
    ours.register("other", grandchild, actor="ada")
    refs = {1: "digits:1", 2: "digits:2", 3: "other:1"}
    for number, ref in refs.items():
        export_version(ours, ref, tmp_path / f"direct-{number}.tar")
        direct = tmp_path / f"direct-{number}.tar"
        made = import_version(between, direct, actor="eve", name=f"m{number}")
        if number > 1:  # by way of a registry that may not know the parent
            assert made.version.lineage.parent == f"m{number - 1}:1"
        export_version(between, made.version.ref, tmp_path / f"{number}.tar")
    for number in order:
        import_version(theirs, tmp_path / f"{number}.tar", actor="eve")
        assert verify(theirs).problems == []
    traces = {number: theirs.trace(f"m{number}:1") for number in refs}
    assert [traces[n].version.lineage.parent for n in refs] == [None, "m1:1", "m2:1"]
    assert [traces[n].children for n in refs] == [("m2:1",), ("m3:1",), ()]
    with pytest.raises(Refused, match="another version"):
        theirs.archive("m1", 1, actor="ann", reason="old")
    theirs.set_policy("m1", Policy(keep_days=0), actor="ann")
    assert retain(theirs, "m1", actor="ann", dry_run=True) == []


def test_export_keeps_the_uid_of_a_missing_parent(places, tmp_path):
    ours, between, theirs = places.new(), places.new(), places.new()
    fill(ours, tmp_path)
    export_version(ours, "digits:2", tmp_path / "child.tar")
    import_version(between, tmp_path / "child.tar", actor="eve")
    export_version(between, "digits:1", tmp_path / "again.tar")
    child = import_version(theirs, tmp_path / "again.tar", actor="eve").version
    assert child.lineage.parent is None
    export_version(ours, "digits:1", tmp_path / "parent.tar")
    import_version(theirs, tmp_path / "parent.tar", actor="eve")
    assert theirs.resolve(child.ref).version.lineage.parent == "digits:2"
    assert import_version(theirs, tmp_path / "again.tar", actor="eve").ignored == ()
    assert verify(theirs).problems == []


@pytest.mark.parametrize("edit", ["NULL", f"'{'0' * 32}'"])
@pytest.mark.parametrize("parent_first", [True, False])
def test_verify_reports_an_edited_parent(places, tmp_path, edit, parent_first):
    ours, theirs = places.new(), places.new()
    fill(ours, tmp_path)
    for number in (1, 2) if parent_first else (2, 1):
        export_version(ours, f"digits:{number}", tmp_path / f"{number}.tar")
        import_version(theirs, tmp_path / f"{number}.tar", actor="eve")
    with unguarded(theirs.database.shown) as connection:
        connection.exec_driver_sql(
            f"UPDATE versions SET parent_uid = {edit} WHERE parent_uid IS NOT NULL"
        )
    (found,) = verify(theirs).problems
    assert (found.ref, found.what) == (
        f"digits:{1 + parent_first}",
        "the uid of its parent was edited",
    )


def test_import_twice_returns_the_same_version_and_restores_files(places, archive):
    registry = places.new()
    first = import_version(registry, archive, actor="eve")
    lost = first.version.artifacts[1]
    registry.files.remove(registry.files.path_of(lost.sha256))
    second = import_version(registry, archive, actor="ann")
    assert (first.created, second.created) == (True, False)
    assert second.version == first.version
    assert len(registry.history("digits")) == 1
    registry.open(first.version)


def test_import_into_the_original_registry_returns_the_version(places, tmp_path):
    registry = places.new()
    fill(registry, tmp_path)
    before = registry.resolve("digits:2").version
    export_version(registry, "digits:2", tmp_path / "out.tar")
    made = import_version(registry, tmp_path / "out.tar", actor="eve")
    assert (made.created, made.version) == (False, before)


def test_import_refuses_a_second_name_for_the_same_version(places, archive):
    registry = places.new()
    made = import_version(registry, archive, actor="eve", name="numbers")
    assert made.version.ref == "numbers:1"
    assert import_version(registry, archive, actor="eve").version.ref == "numbers:1"
    with pytest.raises(Conflict, match="already has this version, as numbers:1"):
        import_version(registry, archive, actor="eve", name="figures")


def test_import_refuses_a_known_uid_with_other_bytes(any_places, archive, tmp_path):
    registry = any_places.new()
    uid = documents(archive)[2]["version"]["uid"]
    other = make_candidate(tmp_path / "other", "other bytes")
    registry.admit("digits", other, "imported", actor="ada", uid=uid)
    with pytest.raises(Conflict, match="same uid"):
        import_version(registry, archive, actor="eve")
    assert registry.model("digits").last_version == 1


def test_imported_version_can_be_exported_again(places, archive, tmp_path):
    second, third = places.new(), places.new()
    import_version(second, archive, actor="eve")
    export_version(second, "digits:1", tmp_path / "again.tar")
    made = import_version(third, tmp_path / "again.tar", actor="ann").version
    assert made.uid == documents(archive)[2]["version"]["uid"]
    (event,) = third.history("digits")
    assert event.payload["events"][0]["payload"]["imported_from"] == "digits:1"


# The archive


def test_export_is_deterministic(places, tmp_path):
    registry = places.new()
    fill(registry, tmp_path)
    first = export_version(registry, "digits:2", tmp_path / "a.tar")
    second = export_version(registry, "digits:2", tmp_path / "b.tar")
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    assert first == second
    assert first.size == (tmp_path / "a.tar").stat().st_size
    registry.tag("digits", 2, "stage", None, actor="bob")
    assert export_version(registry, "digits:2", tmp_path / "c.tar").digest != first.digest


def test_export_follows_the_oci_image_layout_specification(archive):
    # image-spec 1.1: image-layout.md, image-index.md, manifest.md, descriptor.md
    found = contents(archive)
    index, manifest, _ = documents(archive)
    assert json.loads(found["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    assert (index["schemaVersion"], manifest["schemaVersion"]) == (2, 2)
    assert index["mediaType"] == "application/vnd.oci.image.index.v1+json"
    assert manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    (named,) = index["manifests"]
    assert named["mediaType"] == manifest["mediaType"]
    assert named["artifactType"] == manifest["artifactType"] == VERSION
    assert named["annotations"] == {"org.opencontainers.image.ref.name": "1"}
    assert manifest["config"]["mediaType"] == CONFIG
    titles = {
        layer["annotations"]["org.opencontainers.image.title"]: layer["mediaType"]
        for layer in manifest["layers"]
    }
    assert titles == {
        "card.md": "text/markdown",
        "model.onnx": "application/octet-stream",
        "signature.json": "application/json",
    }
    described = [named, manifest["config"], *manifest["layers"]]
    for descriptor in described:
        assert len(found[blob(descriptor)]) == descriptor["size"]
        assert hashlib.sha256(found[blob(descriptor)]).hexdigest() in descriptor["digest"]
    assert found.keys() == {"oci-layout", "index.json"} | {blob(d) for d in described}
    created = manifest["annotations"]["org.opencontainers.image.created"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00", created)  # RFC 3339


def test_export_has_no_times_or_user_names(archive):
    with tarfile.open(archive) as tar:
        for entry in tar:
            assert (entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname) == (
                0,
                0,
                0,
                "",
                "",
            )


def test_export_stores_equal_files_as_one_blob(places, tmp_path):
    ours, theirs = places.new(), places.new()
    candidate = make_full(tmp_path)
    twin = tmp_path / "bundle" / "twin.md"
    twin.write_bytes(candidate.files["card.md"].read_bytes())
    twins = {**candidate.files, "docs/twin.md": twin}
    ours.register("digits", replace(candidate, files=twins), actor="ada")
    export_version(ours, "digits:1", tmp_path / "out.tar")
    got = import_version(theirs, tmp_path / "out.tar", actor="eve").version
    assert theirs.open(got)["docs/twin.md"].read_text() == "# card"


def test_export_refuses_an_existing_path(places, tmp_path, monkeypatch):
    registry = places.new()
    fill(registry, tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    (out / "folder").mkdir()
    (out / "link").symlink_to("nowhere")
    (out / "late").write_bytes(b"here since the export began")
    export_version(registry, "digits:1", out / "before.tar")
    before = (out / "before.tar").read_bytes()
    names = sorted(path.name for path in out.iterdir())
    for name in ("folder", "link", "before.tar"):
        with pytest.raises(Refused, match=f"{name} exists, and an export does not replace"):
            export_version(registry, "digits:2", out / name)
    answers = iter([False, True])
    monkeypatch.setattr("os.path.lexists", lambda _path: next(answers))
    with pytest.raises(Refused, match="late exists"):
        export_version(registry, "digits:2", out / "late")
    assert sorted(path.name for path in out.iterdir()) == names
    assert (out / "before.tar").read_bytes() == before
    assert (out / "late").read_bytes() == b"here since the export began"


def test_failed_export_leaves_no_file(places, tmp_path):
    registry = places.new()
    fill(registry, tmp_path)
    with pytest.raises(Unreachable, match="in a folder that exists"):
        export_version(registry, "digits:2", tmp_path / "nowhere" / "digits.tar")


# Other tools

skopeo = pytest.mark.skipif(
    shutil.which("skopeo") is None, reason="skopeo is not installed; `make test-tools` does it"
)


@skopeo
def test_skopeo_copies_an_archive_that_can_be_imported(places, archive, tmp_path):
    seen = run("skopeo", "inspect", "--raw", f"oci-archive:{archive}")
    assert json.loads(seen)["artifactType"] == VERSION
    policy = ("skopeo", "--insecure-policy", "copy")
    run(*policy, f"oci-archive:{archive}:1", f"oci:{tmp_path}/layout:1")
    run(*policy, f"oci:{tmp_path}/layout:1", f"oci-archive:{tmp_path}/copy.tar:1")
    made = import_version(places.new(), tmp_path / "copy.tar", actor="eve")
    assert made.version.uid == documents(archive)[2]["version"]["uid"]


def test_import_accepts_an_archive_repacked_by_tar(places, archive, tmp_path):
    folder = tmp_path / "layout"
    folder.mkdir()
    run("tar", "-xf", str(archive), "-C", str(folder))
    run("tar", "-cf", str(tmp_path / "packed.tar"), "-C", str(folder), ".")
    assert import_version(places.new(), tmp_path / "packed.tar", actor="eve").created


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


# Archives that are not taken in


def refuse(registry, path, says):
    with pytest.raises(InvalidCandidate, match=says):
        import_version(registry, path, actor="eve")
    assert registry.models() == []
    assert list(registry.files.files()) == []


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """One registry for all refused archives; it stays empty."""
    folder = tmp_path_factory.mktemp("refusing")
    with Registry(f"sqlite:///{folder}/registry.db", folder / "artifacts") as opened:
        opened.create()
        yield opened


def test_import_refuses_a_truncated_archive(registry, archive, tmp_path):
    whole = archive.read_bytes()
    with tarfile.open(archive) as tar:
        last = tar.getmembers()[-1]
    end = last.offset_data + last.size
    for length in [0, 1, 511, *range(512, end, 256), end - 1]:
        cut = tmp_path / "cut.tar"
        cut.write_bytes(whole[:length])
        refuse(registry, cut, "cannot be imported")


def test_import_detects_any_changed_byte(registry, archive, tmp_path):
    whole = archive.read_bytes()
    with tarfile.open(archive) as tar:
        blobs = [m for m in tar if m.isfile() and m.name.startswith(BLOBS)]
    for member in blobs:
        for at in (0, member.size // 2, member.size - 1):
            place = member.offset_data + at
            changed = tmp_path / "changed.tar"
            changed.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            refuse(registry, changed, "was changed: its SHA-256 is")


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../outside", "blobs/sha256/../../outside", "notes.txt", BLOBS + "a" * 64],
)
def test_import_refuses_an_unexpected_member(registry, archive, tmp_path, name):
    found = [*contents(archive).items(), (name, b"hello")]
    refuse(registry, pack(tmp_path / "more.tar", found), "which its manifest does not name")


def test_import_refuses_a_duplicate_member(registry, archive, tmp_path):
    found = contents(archive)
    twice = [*found.items(), ("index.json", b"{}")]
    refuse(registry, pack(tmp_path / "twice.tar", twice), "'index.json' twice")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, b"S"])
def test_import_refuses_members_that_are_not_regular_files(registry, archive, tmp_path, kind):
    path = tmp_path / "odd.tar"
    with tarfile.open(path, "w") as tar:
        for name, content in contents(archive).items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        entry = tarfile.TarInfo("blobs/sha256/" + "b" * 64)
        entry.type, entry.linkname = kind, "/etc/passwd"
        tar.addfile(entry)
    refuse(registry, path, "not a regular file|damaged")


def test_import_refuses_a_compressed_archive(registry, archive, tmp_path):
    with tarfile.open(tmp_path / "small.tar.gz", "w:gz") as tar:
        tar.add(archive, "index.json")
    refuse(registry, tmp_path / "small.tar.gz", "damaged or not a tar file")


@pytest.mark.parametrize("name", ["oci-layout", "index.json", "manifest", "config", "layer"])
def test_import_refuses_an_archive_with_a_missing_member(registry, archive, tmp_path, name):
    found = contents(archive)
    index, manifest, _ = documents(archive)
    places = {
        "manifest": blob(index["manifests"][0]),
        "config": blob(manifest["config"]),
        "layer": blob(manifest["layers"][0]),
    }
    del found[places.get(name, name)]
    refuse(registry, pack(tmp_path / "less.tar", found.items()), "is missing")


def test_import_refuses_a_blob_whose_size_differs_from_its_descriptor(registry, archive, tmp_path):
    def lie(manifest):
        manifest["layers"][0]["size"] = 1 << 40

    path = rebuild(archive, tmp_path / "lie.tar", manifest=lie)
    refuse(registry, path, "bytes instead of 1099511627776")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m.update(artifactType="application/vnd.other"), "it is a"),
        (lambda m: m["config"].update(mediaType="application/vnd.other"), "it is a"),
        (lambda m: m.update(schemaVersion=1), "one of its documents is invalid"),
        (
            lambda m: m["layers"][0].update(digest="md5:" + "a" * 32),
            "one of its documents is invalid",
        ),
        (
            lambda m: m["layers"][0].update(digest="sha256:../../etc"),
            "one of its documents is invalid",
        ),
        (lambda m: m["layers"][0].update(size=-1), "one of its documents is invalid"),
        (lambda m: m["layers"].reverse(), "layers are not the files"),
        (lambda m: m["layers"].pop(), "which its manifest does not name"),
        (lambda m: m["layers"].append(m["layers"][0]), "layers are not the files"),
        (lambda m: m["layers"][0].pop("annotations"), "layers are not the files"),
    ],
)
def test_import_refuses_a_crafted_manifest(registry, archive, tmp_path, change, says):
    refuse(registry, rebuild(archive, tmp_path / "crafted.tar", manifest=change), says)


def of_version(**changes):
    return lambda config: config["version"].update(changes)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.clear(), "config is invalid"),
        (lambda c: c.update(version=[]), "config is invalid"),
        (lambda c: c.update(head=7), "config is invalid"),
        (of_version(digest="a" * 64), "do not match digest"),
        (of_version(uid="../" + "a" * 29), "is not a uid"),
        (lambda c: c.update(parent_uid="../x"), "is not a uid"),
        (lambda c: c.update(parent_uid=c["version"]["uid"]), "its version is its own parent"),
        (of_version(artifacts=[]), "layers are not the files"),
        (of_version(metrics={"f1": "high"}), "config is invalid"),
        (of_version(metrics={"f1": float("nan")}), "nan"),
        (of_version(params={"n": 2**60}), "not plain JSON"),
        (of_version(tags={"team": "a\0b"}), "NUL"),
        (lambda c: c["events"][0]["payload"].update(n=2**60), "not plain JSON"),
        (lambda c: c["version"]["artifacts"][0].update(path="../../x"), "layers are not the files"),
    ],
)
def test_import_refuses_a_crafted_config(registry, archive, tmp_path, change, says):
    refuse(registry, rebuild(archive, tmp_path / "crafted.tar", config=change), says)


def test_import_refuses_a_path_outside_the_bundle(registry, archive, tmp_path):
    def climb(config):
        config["version"]["artifacts"][0]["path"] = "../card.md"

    def climb_too(manifest):
        manifest["layers"][0]["annotations"]["org.opencontainers.image.title"] = "../card.md"

    path = rebuild(archive, tmp_path / "climb.tar", config=climb, manifest=climb_too)
    refuse(registry, path, "cannot be a path in a bundle")


def test_import_refuses_a_deeply_nested_config(registry, archive, tmp_path):
    found = contents(archive)
    index, manifest, _ = documents(archive)
    deep = b'{"version":' + b"[" * 100_000
    manifest["config"] |= {
        "digest": f"sha256:{hashlib.sha256(deep).hexdigest()}",
        "size": len(deep),
    }
    del found[blob(index["manifests"][0])]
    found = {n: c for n, c in found.items() if b"imported_from" not in c and b'"uid"' not in c}
    found[blob(manifest["config"])] = deep
    store(found, manifest, index["manifests"][0])
    found["index.json"] = json.dumps(index).encode()
    refuse(registry, pack(tmp_path / "deep.tar", found.items()), "config is invalid")


def test_import_of_a_missing_file_is_a_readable_error(registry, tmp_path):
    refuse(registry, tmp_path / "nowhere.tar", "cannot be read")
