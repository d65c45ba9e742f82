"""Processes that are killed at any moment while they register, promote, collect and back up."""

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from databases import fetch
from fork_context import fork_context
from registry_helpers import Place, make_candidate, promote, register_versions
from stores import files_among

from registry import Conflict, Registry
from registry.integrity import verify
from registry.transfer.backup import backup, verify_backup
from registry.upkeep import gc

KILLS = int(os.environ.get("MODELMINT_TEST_KILLS", "12"))
"""For each kind of database."""

GRACE_S = 0.3
"""Short, so that collections and registrations do meet."""

BEFORE_S = 0.15
"""A process is killed within so long from when it began to work."""


@pytest.fixture
def place(place: Place, tmp_path: Path) -> Place:
    """With files on a disk, where writing takes long enough to be hit by a kill."""
    return Place(tmp_path, place.url)


def write_for_ever(registry: Registry, folder: Path, name: str, _done) -> None:
    chance = random.Random(name)
    for number in range(10_000):
        text = f"model {name} {number}" * 20_000
        candidate = make_candidate(folder / name.split()[0], text)
        try:
            made = registry.register("digits", candidate, actor="victim")
        except Conflict:
            continue  # a collection with so short a grace may take a file away
        promote(registry, chance.randint(1, made.version.version))


def collect_for_ever(registry: Registry, _folder: Path, _name: str, done) -> None:
    while True:
        gc(registry, dry_run=False, grace_s=GRACE_S)
        done.release()


def verify_for_ever(registry: Registry, _folder: Path, _name: str, done) -> None:
    while True:
        assert verify(registry).problems == []
        done.release()


def back_up_for_ever(registry: Registry, folder: Path, _name: str, done) -> None:
    while True:
        backup(registry, folder / "backup")
        done.release()


def begin(work: Callable[..., None], place: Place, name: str, done, begun) -> None:
    with place.open() as registry:
        begun.send("begun")
        work(registry, place.folder, name, done)


class Victims:
    """Two writers, a collector, a verifier and a backup; each is restarted after it was killed.

    A full `verify` takes longer than the others live, so it and the backup are killed less often.
    """

    WORK = (write_for_ever, write_for_ever, collect_for_ever, verify_for_ever, back_up_for_ever)
    WRITERS, OTHERS = (0, 1), (2, 3, 4)
    WEIGHTS = (8, 8, 8, 1, 1)

    def __init__(self, place: Place) -> None:
        self._place, self._forks = place, fork_context()
        self._turns = self.kills = 0
        self._running = {}
        self._done = [self._forks.Semaphore(0) for _ in self.WORK]
        """Of each: raised whenever it came to an end of what it does."""
        for index in self.OTHERS:  # before the writers: each comes to its end once
            self.start(index)
        for index in self.OTHERS:
            while not self._done[index].acquire(timeout=1):
                self._check_alive(index)
        for index in self.WRITERS:
            self.start(index)

    def start(self, index: int) -> None:
        self._turns += 1
        name = f"writer-{index} {self._turns}"
        seen, begun = self._forks.Pipe(duplex=False)
        given = (self.WORK[index], self._place, name, self._done[index], begun)
        process = self._forks.Process(target=begin, args=given)
        process.start()
        begun.close()
        assert seen.recv() == "begun"
        self._running[index] = process

    def kill(self, index: int) -> None:
        self._check_alive(index)
        process = self._running[index]
        process.kill()
        process.join()
        self.kills += 1

    def _check_alive(self, index: int) -> None:
        process = self._running[index]
        work = self.WORK[index].__name__
        assert process.is_alive(), f"{work} ended by itself, exit status {process.exitcode}"


def kill_in_the_middle(place: Place, victims: Victims, chance: random.Random) -> None:
    """Kill both writers repeatedly until one leaves files; the other processes have ended."""
    for _ in range(100):
        for index in victims.WRITERS:
            victims.kill(index)
        wait_until_alone(place)
        with place.open() as registry:
            if gc(registry, dry_run=True, grace_s=0):
                return
        for index in victims.WRITERS:
            victims.start(index)
        time.sleep(chance.uniform(0, BEFORE_S))
    raise AssertionError("no kill hit a registration in its middle")


def wait_until_alone(place: Place) -> None:
    """Wait: a server continues the statement of a killed client for a moment."""
    others = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
    while place.url.startswith("postgresql") and len(fetch(place.url, others)) > 1:
        time.sleep(0.01)


def test_killed_process_leaves_a_valid_registry_without_leftovers(place):
    chance = random.Random(7)
    register_versions(place, 1)  # a store of which the database knows nothing is not collected
    victims = Victims(place)
    while victims.kills < KILLS - 5:
        time.sleep(chance.uniform(0, BEFORE_S))
        (index,) = chance.choices(range(5), victims.WEIGHTS)
        victims.kill(index)
        victims.start(index)
    for index in victims.OTHERS:
        victims.kill(index)
    kill_in_the_middle(place, victims, chance)
    with place.open() as registry:
        found = verify(registry)
        assert found.problems == []
        last = registry.model("digits").last_version
        assert found.versions == last >= KILLS / 4
        kinds = [event.kind for event in registry.history("digits")]
        assert kinds.count("registered") == last
        strays = gc(registry, dry_run=False, grace_s=0)
        assert strays
        assert gc(registry, dry_run=True, grace_s=0) == []
        backup(registry, place.folder / "backup")
        assert verify_backup(place.folder / "backup", registry).problems == []
    print(f"{victims.kills} kills, {last} versions, {len(strays)} strays before gc, 0 problems")
    needed = {row[0] for row in fetch(place.url, "SELECT DISTINCT sha256 FROM version_artifacts")}
    assert {row[0] for row in fetch(place.url, "SELECT sha256 FROM blobs")} == needed
    assert files_of(place.folder / "artifacts") == needed
    numbers = fetch(place.url, "SELECT version FROM versions ORDER BY version")
    assert [number for (number,) in numbers] == list(range(1, last + 1))


def files_of(folder: Path) -> set[str]:
    return files_among(file.name for file in folder.rglob("*") if file.is_file())
