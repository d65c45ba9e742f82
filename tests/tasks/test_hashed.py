"""Files that are hashed in another thread while libraries are imported."""

import hashlib
import os

import pytest

from tasks import hashed
from tasks.hashed import HashedFile


@pytest.fixture
def large(tmp_path):
    path = tmp_path / "large"
    path.write_bytes(os.urandom(hashed.BLOCK + 5))
    return path


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_large_file_is_hashed_before_it_is_asked_for(large, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hashed.begin([large, tmp_path / "missing", tmp_path])
    begun = hashed._begun[large]
    assert begun.result(timeout=60).sha256 == sha256(large)
    asked = HashedFile.of(large.relative_to(tmp_path))
    assert (asked.sha256, asked.path) == (sha256(large), large.relative_to(tmp_path))
    assert asked.unchanged
    assert not hashed._begun


def test_a_file_that_changes_after_it_was_hashed_is_not_unchanged(large):
    hashed.begin([large])
    hashed._begun[large].result(timeout=60)
    with large.open("ab") as stream:
        stream.write(b"more")
    assert not HashedFile.of(large).unchanged
    again = HashedFile.of(large)  # what was begun is used once
    assert again.sha256 == sha256(large)


def test_small_files_are_not_hashed_before(tmp_path):
    (tmp_path / "small").write_bytes(b"few")
    hashed.begin([tmp_path / "small"])
    assert not hashed._begun
    assert HashedFile.of(tmp_path / "small").sha256 == sha256(tmp_path / "small")
