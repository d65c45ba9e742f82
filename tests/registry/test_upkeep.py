"""`gc`, `purge` and `retain`: what they remove and what they keep."""

import os
import signal
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from databases import execute, fetch, unguarded
from fork_context import fork_context
from registry_helpers import (
    LINEAGE,
    Place,
    make_candidate,
    numbers,
    outcome,
    promote,
    register_versions,
)
from stores import files_among

from registry import (
    NotFound,
    Policy,
    Refused,
    Unreachable,
    ownership,
)
from registry.artifacts import Folder
from registry.integrity import verify
from registry.queries import blobs, summaries
from registry.upkeep import gc, purge, retain

DAY_US = 86_400_000_000


def files(place) -> set[str]:
    """The stored files, without marker and notes."""
    stored = (file for file in (place.folder / "artifacts").rglob("*") if file.is_file())
    return files_among(file.name for file in stored)


def announce(place, text: str, *, seconds_ago: int = 0) -> Path:
    """A file that was announced and stored by a registration that was killed."""
    with place.open() as registry:
        registry.create()
        ownership.claim(registry.database, registry.files)
        source = place.folder / "source"
        source.write_text(text)
        staged = registry.files.stage(source)
        with registry.database.write() as c:
            file = (staged.sha256, staged.size)
            blobs.touch(c, [file], registry.database.dialect.CLOCK)
        registry.files.note([staged.sha256])
        registry.files.publish(staged)
        registry.files.discard(staged)
    back = f"touched - {seconds_ago * 1_000_000}"
    execute(place.url, f"UPDATE blobs SET touched = {back} WHERE sha256 = '{staged.sha256}'")
    return Path(registry.files.path_of(staged.sha256))


def noted(place) -> set[str]:
    with place.open() as registry:
        return ownership.noted(registry.files)


# Collecting


def test_gc_removes_unreferenced_files_once_they_are_old(place):
    register_versions(place, 2)
    needed = files(place)
    old = announce(place, "old", seconds_ago=90_000)
    young = announce(place, "young", seconds_ago=80_000)
    with place.open() as registry:
        listed = gc(registry, dry_run=True)
        assert [(stray.path, stray.size, stray.removable) for stray in listed] == [
            (str(old), 3, True),
            (str(young), 5, False),
        ]
        assert files(place) == needed | {old.name, young.name}
        assert [stray.removable for stray in gc(registry, dry_run=False)] == [True, False]
        assert files(place) == needed | {young.name}
        assert len(gc(registry, dry_run=False, grace_s=0)) == 1
        assert (
            files(place)
            == needed
            == {row[0] for row in fetch(place.url, "SELECT sha256 FROM blobs")}
        )
        assert gc(registry, dry_run=False, grace_s=0) == verify(registry).problems == []


def test_gc_and_purge_keep_files_in_use(place):
    register_versions(place, 3)
    with place.open() as registry:
        promote(registry, 2)
        for version in (1, 3):
            registry.archive("digits", version, actor="ada", reason="old")
        execute(place.url, "UPDATE blobs SET touched = 0")
        assert gc(registry, dry_run=False, grace_s=0) == []
        purge(registry, actor="ada", dry_run=False)
        gc(registry, dry_run=False, grace_s=0)
        assert (
            registry.open(registry.resolve("digits").version)["model.onnx"].read_text() == "model 2"
        )
        assert verify(registry).problems == []


def test_register_stores_announced_and_removed_files_again(place):
    stored = announce(place, "model 1", seconds_ago=90_000)
    with place.open() as registry:
        gc(registry, dry_run=False)
        assert not stored.exists()
    register_versions(place, 1)
    assert stored.read_text() == "model 1"


def test_gc_removes_rows_without_files_and_files_without_rows(place):
    register_versions(place, 1)  # a database that knows no file at all may be another's
    needed = files(place)
    without_file = announce(place, "no file", seconds_ago=90_000)
    without_file.unlink()
    without_row = announce(place, "no row")
    execute(place.url, f"DELETE FROM blobs WHERE sha256 = '{without_row.name}'")
    assert noted(place) == {without_file.name, without_row.name}
    with place.open() as registry:
        assert len(gc(registry, dry_run=False, grace_s=0)) == 2
        rows = {row[0] for row in fetch(place.url, "SELECT sha256 FROM blobs")}
        assert files(place) == rows == needed


class Stubborn(Folder):
    """A store with a file that cannot be removed."""

    def remove(self, path):
        if path.endswith("0"):
            raise Unreachable(f"{path} cannot be removed.")
        super().remove(path)


def test_gc_names_files_it_cannot_remove_and_removes_the_rest(tmp_path):
    register_versions(tmp_path, 1)
    place = Place(tmp_path)
    needed = files(place)
    stray = next(
        text for n in range(99) if sha256((text := str(n)).encode()).hexdigest()[-1] == "0"
    )
    for text in ("a", stray, "b"):
        announce(place, text, seconds_ago=90_000)
    left = [tmp_path / "artifacts" / "tmp" / (digit * 32) for digit in "01"]
    for path in left:
        path.touch()
    kept = {sha256(stray.encode()).hexdigest(), left[0].name}
    with place.open() as registry:
        registry.files = Stubborn(tmp_path / "artifacts")
        for _ in range(2):
            with pytest.raises(Unreachable) as said:
                gc(registry, dry_run=False, grace_s=0)
            assert all(name in str(said.value) for name in kept)
            assert files(place) == needed | kept
    with place.open() as registry:
        assert len(gc(registry, dry_run=False, grace_s=0)) == 2
        assert verify(registry).problems == []


# Purging


def purge_and_die(place):
    with place.open() as registry:
        remove = registry.files.remove

        def die(path):
            remove(path)
            os.kill(os.getpid(), signal.SIGKILL)

        registry.files.remove = die
        purge(registry, actor="ada", dry_run=False)


def test_killed_purge_marks_removed_files_as_purged(tmp_path):
    register_versions(tmp_path, 2)
    place = Place(tmp_path)
    before = files(place)
    with place.open() as registry:
        for version in (1, 2):
            registry.archive("digits", version, actor="ada", reason="old")
    victim = fork_context().Process(target=purge_and_die, args=(place,))
    victim.start()
    victim.join()
    assert victim.exitcode == -signal.SIGKILL
    assert len(before - files(place)) == 1
    with place.open() as registry:
        for call in (
            lambda: registry.unarchive("digits", 1, actor="ada", reason="back"),
            lambda: registry.approve("digits", 1, actor="ada", reason="good"),
            lambda: promote(registry, 1),
        ):
            assert outcome(call) == "Refused"
        found = verify(registry)
        assert (found.problems, found.purged) == ([], 5)
        assert len(gc(registry, dry_run=False, grace_s=0)) == 2
        assert len(purge(registry, actor="ada", dry_run=False)) == 1  # of the other version
        assert (files(place), verify(registry).problems) == (set(), [])
    register_versions(tmp_path, 1)
    with place.open() as registry:
        registry.unarchive("digits", 1, actor="ada", reason="back")
        assert registry.open(registry.resolve("digits:1").version).keys() >= {"model.onnx"}


def test_purge_names_files_it_cannot_remove_and_removes_the_rest(tmp_path):
    register_versions(tmp_path, 2)
    place = Place(tmp_path)
    with place.open() as registry:
        for version in (1, 2):
            registry.archive("digits", version, actor="ada", reason="old")
        (path,) = (
            Path(registry.files.path_of(a.sha256))
            for a in registry.resolve("digits:1").version.artifacts
            if a.path == "model.onnx"
        )
        path.unlink()
        (path / "somebody's").mkdir(parents=True)
        with pytest.raises(Unreachable, match=rf"{path} cannot be removed"):
            purge(registry, actor="ada", dry_run=False)
        assert files(place) == set()
        found = verify(registry)
        assert (found.problems, found.purged) == ([], 6)
        for version in (1, 2):
            with pytest.raises(Refused, match="were purged"):
                registry.unarchive("digits", version, actor="ada", reason="back")


def test_purge_keeps_files_registered_again_meanwhile(place, monkeypatch):
    register_versions(place, 1)
    before = files(place)
    with place.open() as registry:
        registry.archive("digits", 1, actor="ada", reason="old")
        write, calls = registry.database.write, []

        def registered_meanwhile(**options):
            calls.append(options)
            if len(calls) == 2:  # the first marked them
                register_versions(place, 1)
            return write(**options)

        monkeypatch.setattr(registry.database, "write", registered_meanwhile)
        assert len(purge(registry, actor="ada", dry_run=False)) == 3
        monkeypatch.undo()
        assert len(calls) == 4
        assert files(place) == before
        registry.unarchive("digits", 1, actor="ada", reason="back")
        assert verify(registry).problems == []


def test_gc_removes_purged_files_stored_by_an_interrupted_registration(place):
    register_versions(place, 1)
    again = make_candidate(place.folder / "again", "model 1")

    with place.open() as registry:
        publish = registry.files.publish

        def interrupted(*staged):
            publish(*staged)
            raise KeyboardInterrupt

        registry.archive("digits", 1, actor="ada", reason="old")
        purge(registry, actor="ada", dry_run=False)
        assert files(place) == set()
        registry.files.publish = interrupted
        with pytest.raises(KeyboardInterrupt):
            registry.register("digits", again, actor="ada")
        brought = files(place)
        assert len(brought) == 3
        assert {stray.removable for stray in gc(registry, dry_run=False)} == {False}
        assert files(place) == brought  # young: of a registration that may be going on
        assert len(gc(registry, dry_run=False, grace_s=0)) == 3
        assert (files(place), verify(registry).problems) == (set(), [])
        assert gc(registry, dry_run=True, grace_s=0) == []
        del registry.files.publish
        assert not registry.register("digits", again, actor="ada").created
        assert (files(place), gc(registry, dry_run=True, grace_s=0)) == (brought, [])


def test_purge_removes_files_only_archived_versions_use(place):
    register_versions(place, 2)
    with place.open() as registry:
        registry.archive("digits", 1, actor="ada", reason="old")
        gone = registry.resolve("digits:1").version
        model = next(a.sha256 for a in gone.artifacts if a.path == "model.onnx")
        before = files(place)
        (planned,) = purge(registry, actor="ada", dry_run=True)
        assert (Path(planned.path).name, files(place)) == (model, before)
        assert registry.history("digits")[0].kind == "archived"
        assert purge(registry, actor="ada", dry_run=False) == [planned]
        assert files(place) == before - {model}
        newest = registry.history("digits")[0]
        assert (newest.kind, newest.version, newest.payload) == ("purged", 1, {"files": [model]})
        found = verify(registry)
        assert (found.problems, found.purged) == ([], 1)
        assert purge(registry, actor="ada", dry_run=False) == []
        assert registry.resolve("digits:1").version.digest == gone.digest
        with pytest.raises(Refused, match=r"digits:1 was archived, and its files were removed"):
            registry.open(gone)
        with pytest.raises(Refused, match="Register the same files again"):
            registry.unarchive("digits", 1, actor="ada", reason="back")
    register_versions(place, 1)
    with place.open() as registry:
        assert files(place) == before
        registry.unarchive("digits", 1, actor="ada", reason="back")
        assert registry.open(registry.resolve("digits:1").version).keys() >= {"model.onnx"}
        assert verify(registry).purged == 0


# Retention


def aged(place, days_of: dict[int, int]) -> None:
    """Give a version an age in days; no event records it, so `verify` would report it."""
    with unguarded(place.url) as connection:
        for version, days in days_of.items():
            back = f"created_at - {days * DAY_US}"
            connection.exec_driver_sql(
                f"UPDATE versions SET created_at = {back} WHERE version = {version}"
            )


def retired(registry, **asked):
    return [summary.version for summary in retain(registry, actor="ada", dry_run=True, **asked)]


def test_retain_archives_only_unused_versions(place):
    register_versions(place, 8)
    with place.open() as registry:
        promote(registry, 1)
        promote(registry, 2, "canary")
        resolved = registry.resolve("digits:3")
        registry.start_job(resolved, input_sha256="b" * 64, output="/out")
        lineage = replace(LINEAGE, parent="digits:4")
        child = make_candidate(place.folder / "child", "child", lineage=lineage)
        registry.register("derived", child, actor="ada")
        assert retired(registry) == []  # no policy
        registry.set_policy("digits", Policy(keep_last=2), actor="ada")
        assert retired(registry) == retired(registry, name="digits") == [5, 6]
        assert retired(registry, name="derived") == []
        done = retain(registry, actor="bo", dry_run=False)
        assert [summary.version for summary in done] == [5, 6]
        assert numbers(registry.search("digits", ["status=archived"])) == [6, 5]
        newest = registry.history("digits")[0]
        assert (newest.kind, newest.actor, newest.reason) == ("archived", "bo", "retention policy")
        assert retain(registry, actor="bo", dry_run=False) == []
        with pytest.raises(NotFound, match="Did you mean 'digits'"):
            retain(registry, "digts", actor="bo", dry_run=True)


def test_retain_keeps_a_version_if_any_rule_does(place):
    register_versions(place, 5)
    aged(place, {1: 40, 2: 10, 3: 40, 4: 40, 5: 40})
    with place.open() as registry:
        registry.set_policy("digits", Policy(keep_days=30), actor="ada")
        assert retired(registry) == [1, 3, 4, 5]
        registry.set_policy("digits", Policy(keep_days=30, keep_last=2), actor="ada")
        assert retired(registry) == [1, 3]
        registry.set_policy("digits", Policy(keep_days=0, keep_last=1), actor="ada")
        assert retired(registry) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "policy", [Policy(keep_last=0), Policy(keep_days=-1), Policy(keep_holders=-1)]
)
def test_set_policy_refuses_negative_limits(place, policy):
    register_versions(place, 1)
    with place.open() as registry:
        with pytest.raises(Refused, match="retention keeps"):
            registry.set_policy("digits", policy, actor="ada")
        assert registry.model("digits").policy == Policy()


def champions(place, *versions: int) -> None:
    with place.open() as registry:
        for version in versions:
            promote(registry, version)


@pytest.mark.parametrize(
    ("keep", "archived"),
    [(2, [1, 2, 6]), (1, [1, 2, 3, 6, 7]), (0, [1, 2, 3, 4, 6, 7]), (9, [1, 6])],
)
def test_retain_keeps_champions_for_rollback(place, keep, archived):
    register_versions(place, 8)
    champions(place, 2, 3, 2, 4, 3, 4, 7)
    with place.open() as registry:
        registry.rollback("digits", actor="ada", reason="bad")  # which goes back over 7
        registry.unset("digits", "champion", actor="ada", reason="for a moment")
    champions(place, 4, 5)
    with place.open() as registry:
        registry.set_policy("digits", Policy(keep_last=1, keep_holders=keep), actor="ada")
        assert retired(registry) == archived
        assert verify(registry).problems == []


def test_rollback_works_after_retain_and_purge(place):
    register_versions(place, 7)
    champions(place, 1, 2, 3, 4, 5)
    with place.open() as registry:
        registry.reject("digits", 3, actor="ada", reason="biased")
        registry.set_policy("digits", Policy(keep_last=1), actor="ada")
        done = [summary.version for summary in retain(registry, actor="ada", dry_run=False)]
        assert done == [1, 3, 6]  # one that was rejected is passed over, and two stay
        purge(registry, actor="ada", dry_run=False)
        for expected in (4, 2):
            registry.rollback("digits", actor="ada", reason="bad")
            version = registry.resolve("digits@champion").version
            assert (version.version, registry.open(version).keys() >= {"model.onnx"}) == (
                expected,
                True,
            )
        assert verify(registry).problems == []


def test_retain_keeps_a_version_that_was_rolled_back(place):
    register_versions(place, 5)
    champions(place, 1, 2, 3)
    with place.open() as registry:
        registry.rollback("digits", actor="ada", reason="slow")
        registry.set_policy("digits", Policy(keep_last=1), actor="ada")
        assert retired(registry) == [4]  # 2 is champion, 1 before it, and 3 was gone back over
        champions(place, 3)
        assert registry.resolve("digits@champion").version.version == 3


LONG_AGO = "UPDATE jobs SET started_at = started_at - {days} * 86400000000 WHERE state = 'running'"


@pytest.mark.parametrize(
    ("days", "run", "dead"), [(8, None, True), (6, None, False), (8, "r", False)]
)
def test_retain_keeps_the_version_of_a_killed_job_for_a_week(place, days, run, dead):
    register_versions(place, 4)
    with place.open() as registry:
        registry.set_policy("digits", Policy(keep_last=1), actor="ada")
        for number in (1, 2):
            used = registry.resolve(f"digits:{number}")
            registry.start_job(used, input_sha256="1" * 64, output=f"o{number}", flow_run_id=run)
        with unguarded(place.url) as connection:
            connection.exec_driver_sql(LONG_AGO.format(days=days))
        assert retired(registry) == ([1, 2, 3] if dead else [3])
        if dead:
            registry.archive("digits", 1, actor="ada", reason="old")
        done = [summary.version for summary in retain(registry, actor="ada", dry_run=False)]
        assert done == ([2, 3] if dead else [3])
        assert {job.state for job in registry.jobs("digits")} == {"lost" if dead else "running"}
        assert len(registry.running_jobs("digits")) == (0 if dead else 2)
        assert verify(registry).problems == []


def test_archive_accepts_a_former_champion(place):
    register_versions(place, 3)
    champions(place, 1, 2, 3)
    with place.open() as registry:
        registry.set_policy("digits", Policy(keep_last=1), actor="ada")
        registry.archive("digits", 2, actor="ada", reason="a decision")
        assert retired(registry) == []
        assert registry.rollback("digits", actor="ada", reason="bad").version == 1


def test_retain_keeps_a_version_promoted_meanwhile(place, monkeypatch):
    register_versions(place, 4)
    with place.open() as registry:
        registry.set_policy("digits", Policy(keep_last=1), actor="ada")
        load = summaries.load

        def promoted_meanwhile(c, rows):
            found = load(c, rows)
            champions(place, 1, 4)
            return found

        monkeypatch.setattr(summaries, "load", promoted_meanwhile)
        done = [summary.version for summary in retain(registry, actor="ada", dry_run=False)]
        assert done == [2, 3]


@pytest.mark.parametrize(
    ("end", "stays"), [("running", True), ("completed", True), ("failed", False), ("lost", False)]
)
def test_retain_keeps_versions_with_running_or_completed_jobs(place, end, stays):
    register_versions(place, 3)
    with place.open() as registry:
        job = registry.start_job(registry.resolve("digits:1"), input_sha256="b" * 64, output="/o")
        if end == "completed":
            registry.finish_job(job, rows=3, provider="CPU", onnxruntime="1")
        elif end == "failed":
            registry.fail_job(job, "no memory")
        elif end == "lost":
            other = registry.resolve("digits:3")
            registry.start_job(other, input_sha256="b" * 64, output="/o")
        registry.set_policy("digits", Policy(keep_last=1), actor="ada")
        assert retired(registry) == ([2] if stays else [1, 2])
        if stays:
            with pytest.raises(Refused, match="a batch job"):
                registry.archive("digits", 1, actor="ada", reason="old")
            return
        registry.archive("digits", 1, actor="ada", reason="old")
        purge(registry, actor="ada", dry_run=False)
        assert [job.state for job in registry.trace("digits:1").jobs] == [end]
        assert verify(registry).problems == []
