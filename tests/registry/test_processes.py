"""Concurrent processes and threads."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import pytest
from amounts import usual
from registry_helpers import (
    LINEAGE,
    Place,
    in_processes,
    make_candidate,
    numbers,
    outcome,
    promote,
    register_versions,
    together,
)

from registry import Refused, schema
from registry.integrity import verify
from registry.upkeep import gc, purge

EACH = usual(5, 25)
"""Registrations of each of 8 processes."""

NEW = usual(4, 10)
"""Models that 8 processes make at the same time."""


def problems(registry):
    return verify(registry).problems


# Registering


def register_own(index, place):
    with place.open() as registry:
        found = []
        for turn in range(EACH):
            candidate = make_candidate(place.folder / f"bundle-{index}", f"model {index} {turn}")
            made = registry.register("digits", candidate, actor=str(index))
            found.append((made.version.version, made.version.digest))
        return found


def test_eight_processes_register_versions_without_a_gap(place):
    results = in_processes(8, register_own, place)
    assert all(isinstance(found, list) for found in results), results
    made = dict(pair for found in results for pair in found)
    assert sorted(made) == list(range(1, 8 * EACH + 1))
    with place.open() as registry:
        page = registry.search("digits", limit=1000)
        assert {summary.version: summary.digest for summary in page.versions} == made
        # Across models the order is that of ids, which go up as numbers do.
        assert [s.version for s in registry.search(limit=1000).versions] == sorted(made)[::-1]
        assert len(registry.history("digits")) == 8 * EACH
        assert problems(registry) == gc(registry, dry_run=True, grace_s=0) == []


def register_shared(index, place):
    """Register the same bytes repeatedly, each time from other data, so as another version."""
    with place.open() as registry:
        for turn in range(EACH):
            lineage = replace(LINEAGE, dataset=f"{index}-{turn}")
            candidate = make_candidate(place.folder / f"bundle-{index}", lineage=lineage)
            registry.register("digits", candidate, actor=str(index))
        return "done"


def test_eight_processes_that_store_the_same_files_do_not_deadlock(place):
    assert in_processes(8, register_shared, place) == ["done"] * 8
    with place.open() as registry:
        assert registry.model("digits").last_version == 8 * EACH
        assert verify(registry).files == 3
        assert problems(registry) == []


def register_the_same(index, place, request_id, text):
    with place.open() as registry:
        candidate = make_candidate(place.folder / f"bundle-{index}", text)
        made = registry.register("digits", candidate, actor=str(index), request_id=request_id)
        return made.version.version, made.created


def test_eight_processes_registering_the_same_bytes_make_one_version(place):
    results = in_processes(8, register_the_same, place, None, "model")
    assert Counter(results) == {(1, True): 1, (1, False): 7}


def test_eight_processes_repeating_a_request_make_one_version(place):
    results = in_processes(8, register_the_same, place, "flow run 7", "model")
    assert Counter(results) == {(1, True): 1, (1, False): 7}
    name, says = in_processes(1, register_the_same, place, "flow run 7", "other bytes")[0]
    assert name == "Conflict"
    assert "Request 'flow run 7' registered version 1" in says


def register_in_new_models(index, place):
    with place.open() as registry:
        for turn in range(NEW):
            candidate = make_candidate(place.folder / f"bundle-{index}", f"model {index}")
            registry.register(f"model-{turn}", candidate, actor=str(index))
        return "done"


def test_eight_processes_can_register_into_a_new_model(place):
    assert in_processes(8, register_in_new_models, place) == ["done"] * 8
    with place.open() as registry:
        assert [model.last_version for model in registry.models()] == [8] * NEW
        assert problems(registry) == []


def make_once(_index, place):
    with place.open() as registry:
        registry.create()
        return registry.id, registry.models()


def test_eight_processes_creating_a_registry_make_one(make_database, tmp_path):
    for _turn in range(usual(1, 3)):
        place = Place(tmp_path, make_database())
        found = in_processes(8, make_once, place)
        assert found == [found[0]] * 8
        assert found[0][1] == []


# Promoting


def promote_in_threads(index, place, expected, threads):
    with place.open() as registry:

        def race():
            promote(registry, index + 1, expect_revision=expected, actor=str(index))
            return "won"

        return together(*[race] * threads)


@pytest.mark.parametrize("threads", usual([5], [5, 8]))
def test_one_of_many_promotions_with_the_same_expected_revision_wins(place, threads):
    register_versions(place, 9)
    with place.open() as registry:
        promote(registry, 9)
        results = in_processes(8, promote_in_threads, place, 1, threads)
        outcomes = Counter(outcome for found in results for outcome in found)
        assert outcomes == {"won": 1, "Conflict": 8 * threads - 1}
        assert registry.alias("digits").revision == 2
        moves = [event for event in registry.history("digits") if event.kind == "promoted"]
        assert len(moves) == 2


def test_concurrent_rollback_and_promote_raise_one_conflict(place):
    register_versions(place, 3)
    with place.open() as registry:
        for turn in range(usual(4, 20)):
            promote(registry, 1)
            revision = promote(registry, 2).revision
            asked = {"expect_revision": revision, "actor": "bo", "reason": str(turn)}
            back, on = together(
                lambda asked=asked: registry.rollback("digits", **asked),
                lambda asked=asked: registry.promote("digits", 3, **asked),
            )
            assert [back, on].count("Conflict") == 1
            assert registry.alias("digits").revision == revision + 1
        assert problems(registry) == []


# Archiving against all that would use the version


def use_as_alias(registry, _place, version):
    promote(registry, version, "canary")


def use_in_job(registry, _place, version):
    resolved = registry.resolve(f"digits:{version}")
    registry.start_job(resolved, input_sha256="b" * 64, output=f"/out/{version}")


def use_as_parent(registry, place, version):
    lineage = replace(LINEAGE, parent=f"digits:{version}")
    candidate = make_candidate(place.folder / "child", f"child of {version}", lineage=lineage)
    registry.register("derived", candidate, actor="ada")


ROUNDS = usual(6, 40)
USES = {"an alias": use_as_alias, "a job": use_in_job, "a child": use_as_parent}


@pytest.mark.parametrize("what", USES)
def test_concurrent_archive_and_use_never_both_succeed(place, what):
    use = USES[what]
    register_versions(place, ROUNDS)
    with place.open() as registry:
        for version in range(1, ROUNDS + 1):
            outcomes = together(
                lambda version=version: use(registry, place, version),
                lambda version=version: registry.archive(
                    "digits", version, actor="bo", reason="old"
                ),
            )
            status = registry.resolve(f"digits:{version}").version.status
            assert outcomes in (["Refused", None], [None, "Refused"])
            assert (status == "archived") == (outcomes[1] is None)
            if what == "an alias" and outcomes[0] is None:
                registry.unset("digits", "canary", actor="ada", reason="next")
        assert problems(registry) == []


def begin_job(connection, version):
    connection.execute(
        schema.jobs.insert().values(
            id="job",
            version_id=version,
            reference="digits:1",
            state="running",
            input_sha256="b" * 64,
            output="/out",
            started_at=int(time.time() * 1e6),
        )
    )


def begin_child(connection, version):
    row = connection.execute(schema.versions.select()).mappings().one()
    own = {"id": 9, "uid": "u", "version": 2, "digest": "9" * 64}
    own |= {"parent_id": version, "parent_uid": row["uid"]}
    connection.execute(schema.versions.insert().values({**row, **own}))


@pytest.mark.parametrize("begin", [begin_job, begin_child])
def test_archive_waits_for_an_open_use_and_is_refused(place, begin):
    register_versions(place, 1)
    with place.open() as registry, ThreadPoolExecutor() as pool:

        def archive():
            return outcome(lambda: registry.archive("digits", 1, actor="bo", reason="old"))

        with registry.database.write() as connection:
            begin(connection, 1)
            archiving = pool.submit(archive)
            with pytest.raises(TimeoutError):
                archiving.result(timeout=0.3)
        assert archiving.result(timeout=60) == "Refused"


@pytest.mark.parametrize("begin", [begin_job, begin_child])
def test_use_waits_for_an_open_archive_and_is_refused(place, begin):
    register_versions(place, 1)
    with place.open() as registry, ThreadPoolExecutor() as pool:

        def use():
            with registry.database.write() as connection:
                begin(connection, 1)

        with registry.database.write() as connection:
            connection.execute(schema.version_state.update().values(status="archived"))
            using = pool.submit(outcome, use)
            with pytest.raises(TimeoutError):
                using.result(timeout=0.3)
        assert using.result(timeout=60) == "Refused"


# Jobs, collecting and purging


def start_jobs(index, place):
    with place.open() as registry:
        resolved = registry.resolve("digits:1")
        return [
            registry.start_job(resolved, input_sha256="b" * 64, output=f"/out/{turn}").state
            for turn in range(5)
        ]


def test_one_job_per_output_is_running(place):
    register_versions(place, 1)
    assert in_processes(8, start_jobs, place) == [["running"] * 5] * 8
    with place.open() as registry:
        running = Counter(job.output for job in registry.jobs() if job.state == "running")
        assert running == {f"/out/{turn}": 1 for turn in range(5)}
        assert Counter(job.state for job in registry.jobs()) == {"running": 5, "lost": 35}


def collect_or_register(index, place):
    with place.open() as registry:
        outcomes = []
        for turn in range(usual(12, 30)):
            if index < 2:
                with suppress(Refused):  # until the first version is there, it knows no file
                    gc(registry, dry_run=False, grace_s=0)
                continue
            text = f"model {turn % 3}"
            lineage = replace(LINEAGE, dataset=f"{index}-{turn}")
            candidate = make_candidate(place.folder / f"bundle-{index}", text, lineage=lineage)
            name = f"model-{index}"
            outcomes += together(
                lambda name=name, candidate=candidate: (
                    registry.register(name, candidate, actor="ada").created
                )
            )
        return outcomes


def test_gc_without_grace_keeps_every_registered_file(place):
    with place.open():
        pass  # marks the folder; a marker that is being written is a file without grace, too
    results = in_processes(5, collect_or_register, place)
    outcomes = Counter(outcome for found in results for outcome in found)
    assert set(outcomes) <= {True, "Conflict"}, outcomes
    with place.open() as registry:
        assert problems(registry) == []
        assert sum(model.last_version for model in registry.models()) == outcomes[True] > 0


def test_concurrent_purge_and_unarchive_lose_no_file(place):
    register_versions(place, 1)
    with place.open() as registry:
        for turn in range(usual(4, 25)):
            registry.archive("digits", 1, actor="ada", reason="old")
            purged, back = together(
                lambda: purge(registry, actor="bo", dry_run=False),
                lambda turn=turn: registry.unarchive("digits", 1, actor="ada", reason=str(turn)),
            )
            if back is None:
                assert purged == []
            else:
                assert (back, len(purged)) == ("Refused", 3)
                register_versions(place, 1)  # restores the files
                registry.unarchive("digits", 1, actor="ada", reason=str(turn))
            registry.open(registry.resolve("digits:1").version)
        assert problems(registry) == []


def test_version_with_an_alias_cannot_be_deleted(place):
    register_versions(place, 2)
    with place.open() as registry:
        promote(registry, 1)
        promote(registry, 2, "canary")
        for version in (1, 2):
            with pytest.raises(Refused, match="move or unset the alias first"):
                registry.archive("digits", version, actor="ada", reason="old")
        assert numbers(registry.search("digits")) == [2, 1]
        assert problems(registry) == []
