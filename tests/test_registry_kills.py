"""Processes that are killed at any moment, while they register, promote, and collect."""

import os
import random
import time
from pathlib import Path

import pytest
from databases import fetch
from registry_helpers import Place, clean_forks, make_candidate, promote
from stores import files_among

from registry import Conflict
from registry.integrity import verify
from registry.upkeep import gc

KILLS = int(os.environ.get("MODELMINT_TEST_KILLS", "20"))
"""For each kind of database."""

GRACE_S = 0.3
"""Short, so that collections and registrations do meet."""

BEFORE_S = 0.15
"""A process is killed within so long from when it began to work."""


@pytest.fixture
def place(place: Place, tmp_path: Path) -> Place:
    """With its files on the disk: there, writing them takes the time that a kill is to hit."""
    return Place(tmp_path, place.url)


def write_for_ever(place: Place, index: int, turn: int, begun) -> None:
    chance = random.Random(f"{index} {turn}")
    with place.open() as registry:
        begun.send("begun")
        for number in range(10_000):
            text = f"model {index} {turn} {number}" * 20_000
            candidate = make_candidate(place.folder / f"bundle-{index}", text)
            try:
                made = registry.register("digits", candidate, actor="victim")
            except Conflict:
                continue  # a collection with so short a grace may take a file away
            promote(registry, chance.randint(1, made.version.version))


def collect_for_ever(place: Place, _index: int, _turn: int, begun) -> None:
    with place.open() as registry:
        begun.send("begun")
        while True:
            gc(registry, dry_run=False, grace_s=GRACE_S)


class Victims:
    """Two writers and a collector, each begun anew after it was killed."""

    WRITERS, COLLECTOR = (0, 1), 2

    def __init__(self, place: Place) -> None:
        self._place, self._forks = place, clean_forks()
        self._turns = self.kills = 0
        self._running = {}
        for index in (*self.WRITERS, self.COLLECTOR):
            self.start(index)

    def start(self, index: int) -> None:
        self._turns += 1
        work = collect_for_ever if index == self.COLLECTOR else write_for_ever
        seen, begun = self._forks.Pipe(duplex=False)
        process = self._forks.Process(target=work, args=(self._place, index, self._turns, begun))
        process.start()
        begun.close()
        assert seen.recv() == "begun"
        self._running[index] = process

    def kill(self, index: int) -> None:
        process = self._running[index]
        assert process.is_alive(), f"it ended by itself, exit status {process.exitcode}"
        process.kill()
        process.join()
        self.kills += 1


def kill_in_the_middle(place: Place, victims: Victims, chance: random.Random) -> None:
    """Kill both writers, again and again until one leaves something over; the collector is gone."""
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
    """A server goes on for a moment with what a client that was killed had asked for."""
    others = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
    while place.url.startswith("postgresql") and len(fetch(place.url, others)) > 1:
        time.sleep(0.01)


def test_whoever_is_killed_the_registry_is_whole_and_nothing_is_left_over(place):
    chance = random.Random(7)
    victims = Victims(place)
    while victims.kills < KILLS - 3:
        time.sleep(chance.uniform(0, BEFORE_S))
        index = chance.randrange(3)
        victims.kill(index)
        victims.start(index)
    victims.kill(victims.COLLECTOR)
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
    print(f"{victims.kills} kills, {last} versions, {len(strays)} strays before gc, 0 problems")
    needed = {row[0] for row in fetch(place.url, "SELECT DISTINCT sha256 FROM version_artifacts")}
    assert {row[0] for row in fetch(place.url, "SELECT sha256 FROM blobs")} == needed
    assert files_of(place.folder / "artifacts") == needed
    numbers = fetch(place.url, "SELECT version FROM versions ORDER BY version")
    assert [number for (number,) in numbers] == list(range(1, last + 1))


def files_of(folder: Path) -> set[str]:
    return files_among(file.name for file in folder.rglob("*") if file.is_file())
