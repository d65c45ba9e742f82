"""Many processes at once, and processes that are killed."""

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from registry_helpers import in_processes, make_candidate, open_registry, register_versions

ROOT = Path(__file__).parent.parent


def register_ten(index, folder):
    numbers = []
    with open_registry(folder) as registry:
        for turn in range(10):
            candidate = make_candidate(folder / f"bundle-{index}", f"model {index} {turn}")
            numbers.append(registry.register("digits", candidate, actor=str(index)).version.version)
    return numbers


def test_numbers_are_gapless_when_eight_processes_register(tmp_path):
    results = in_processes(8, register_ten, tmp_path)
    assert all(isinstance(numbers, list) for numbers in results), results
    assert sorted(number for numbers in results for number in numbers) == list(range(1, 81))
    with open_registry(tmp_path) as registry:
        assert [version.version for version in registry.versions("digits")] == list(
            range(80, 0, -1)
        )
        assert len(registry.history("digits")) == 80
        assert registry.verify() == registry.gc(dry_run=True, grace_s=0) == []


def register_the_same(index, folder):
    with open_registry(folder) as registry:
        candidate = make_candidate(folder / f"bundle-{index}")
        made = registry.register("digits", candidate, actor=str(index))
        return made.version.version, made.created


def test_eight_processes_registering_the_same_bytes_make_one_version(tmp_path):
    results = in_processes(8, register_the_same, tmp_path)
    assert Counter(results) == {(1, True): 1, (1, False): 7}


def promote_once(index, folder, expected):
    with open_registry(folder) as registry:
        registry.promote(
            "digits", index + 1, expect_revision=expected, actor=str(index), reason="race"
        )
        return "won"


def test_exactly_one_of_eight_racing_promotions_wins(tmp_path):
    register_versions(tmp_path, 9)
    with open_registry(tmp_path) as registry:
        for expected in (0, 2):
            results = in_processes(8, promote_once, tmp_path, expected)
            lost = [result for result in results if result != "won"]
            assert len(lost) == 7, results
            assert {name for name, _ in lost} == {"Conflict"}
            # Nobody races for version 9: what holds the alias already would win beside another.
            held = registry.promote("digits", 9, expect_revision=None, actor="ada", reason="next")
            assert held.revision == expected + 2
        moves = [event for event in registry.history("digits") if event.kind == "promoted"]
        assert len(moves) == 4


def open_once(_index, folder):
    with open_registry(folder) as registry:
        return registry.models()


def test_eight_processes_can_open_an_empty_place_at_once(tmp_path):
    for turn in range(4):
        assert in_processes(8, open_once, tmp_path / f"new-{turn}") == [[]] * 8


REGISTERING = """
import sys
from pathlib import Path
from registry_helpers import make_candidate, open_registry

folder, turn = Path(sys.argv[1]), sys.argv[2]
with open_registry(folder) as registry:
    for number in range(10_000):
        text = f"model {turn} {number}" * 20_000
        registry.register("digits", make_candidate(folder / "bundle", text), actor="victim")
        if number == 0:
            print("registering", flush=True)
"""


def test_a_registering_process_may_be_killed_at_any_moment(tmp_path):
    chance = random.Random(7)
    path = f"{ROOT}:{Path(__file__).parent}"
    for turn in range(15):
        victim = subprocess.Popen(
            [sys.executable, "-c", REGISTERING, str(tmp_path), str(turn)],
            stdout=subprocess.PIPE,
            env={"PYTHONPATH": path},
        )
        assert victim.stdout.readline() == b"registering\n"
        time.sleep(chance.uniform(0, 0.1))
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        victim.stdout.close()
    with open_registry(tmp_path) as registry:
        versions = registry.versions("digits")
        assert [v.version for v in versions] == list(range(len(versions), 0, -1))
        assert len(versions) >= 15
        assert len(registry.history("digits")) == len(versions)
        assert registry.verify() == []
        needed = {artifact.sha256 for version in versions for artifact in version.artifacts}
        listed = registry.gc(dry_run=False, grace_s=0)
        assert listed, "no kill hit a registration in its middle: widen the window"
    left = {file.name for file in (tmp_path / "artifacts").rglob("*") if file.is_file()}
    assert left == needed
