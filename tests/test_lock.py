"""requirements.lock is complete, names only releases, and pip checks its hashes."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
TORCH = (ROOT / "requirements-torch.lock").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def entries(text: str) -> list[tuple[Requirement, list[str]]]:
    """The pins of a lock file, each with its hashes."""
    lines = [line for line in text.replace("\\\n", " ").splitlines() if not line.startswith("#")]
    parts = [line.split("--hash=") for line in lines if line.strip()]
    return [(Requirement(first), [h.strip() for h in hashes]) for first, *hashes in parts]


def test_every_direct_dependency_has_a_bound_and_a_pin():
    pins = {canonicalize_name(r.name): r.specifier for r, _ in entries(LOCK) + entries(TORCH)}
    direct = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]
    for requirement in map(Requirement, direct):
        assert requirement.specifier, f"{requirement.name} has no bound"
        (pin,) = pins[canonicalize_name(requirement.name)]
        assert pin.operator == "=="
        assert requirement.specifier.contains(pin.version)


def test_every_pin_except_torch_has_hashes():
    assert [str(pin) for pin, hashes in entries(LOCK) if not hashes] == []
    assert [pin.name for pin, _ in entries(TORCH)] == ["torch"]


def test_the_lock_has_only_releases_without_cuda_libraries():
    for part in ("+", "://", "nvidia", "triton"):
        assert part not in LOCK


@pytest.mark.whole
def test_pip_refuses_a_file_with_a_wrong_hash(tmp_path):
    (whole,) = re.findall(r"^idna==.*\n(?: .*\n)+", LOCK, re.MULTILINE)
    # Change the first digit of each hash.
    changed = re.sub(r"sha256:(.)", lambda m: f"sha256:{int(m[1], 16) ^ 1:x}", whole)
    outcomes = []
    for name, text in (("whole", whole), ("changed", changed)):
        (tmp_path / f"{name}.lock").write_text(text)
        command = ["pip", "install", "--require-hashes", "--no-deps", "--target", tmp_path / name]
        done = subprocess.run(
            [sys.executable, "-m", *command, "-r", tmp_path / f"{name}.lock"],
            capture_output=True,
            text=True,
        )
        outcomes.append((done.returncode, done.stderr))
    assert outcomes[0][0] == 0, outcomes[0][1]
    assert outcomes[1][0] == 1
    assert "DO NOT MATCH THE HASHES" in outcomes[1][1]
    assert not (tmp_path / "changed").exists()
