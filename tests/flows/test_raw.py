"""Raw data under DVC, and its copies in the worktree of a run."""

import hashlib
import subprocess
from pathlib import Path

import pytest
from projects import Project, make_project, worktree

from flows.raw import copy_salt, version_raw_data
from flows.settings import Settings
from tasks import params
from tasks.config import TabularSource
from tasks.errors import InputError

CANCER = TabularSource(
    kind="tabular", path="data/raw/cancer.csv", example="cancer", target="target"
)
OWN = "a,target\n1,x\n2,y\n"


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Project:
    return make_project(tmp_path_factory.mktemp("raw") / "project")


@pytest.fixture
def own(repository):
    """The user's own data at the path of an example."""
    path = repository.root / CANCER.path
    path.write_text(OWN)
    assert "put data/raw/cancer.csv under DVC" in version_raw_data(CANCER, repository.root)
    yield path
    path.unlink(missing_ok=True)
    path.with_name("cancer.csv.dvc").unlink()


def test_version_raw_data_never_replaces_the_users_data_by_an_example(repository, own):
    own.unlink()
    said = version_raw_data(CANCER, repository.root)
    assert said == "fetched data/raw/cancer.csv from the DVC cache or its remote"
    assert own.read_text() == OWN
    assert version_raw_data(CANCER, repository.root) == "data/raw/cancer.csv is current"


def test_version_raw_data_writes_a_missing_example(repository):
    path = repository.root / CANCER.path
    version_raw_data(CANCER, repository.root)
    assert len(path.read_text().splitlines()) == 570
    path.unlink()
    path.with_name("cancer.csv.dvc").unlink()


def test_version_raw_data_says_why_dvc_cannot_fetch_data(repository, own):
    source = CANCER.model_copy(update={"example": None})
    own.unlink()
    subprocess.run(["rm", "-r", str(repository.root / ".dvc/cache")], check=True)
    with pytest.raises(InputError, match="is missing, and DVC cannot fetch it"):
        version_raw_data(source, repository.root)


def test_version_raw_data_refuses_data_damaged_in_the_cache(repository, own):
    source = CANCER.model_copy(update={"example": None})
    md5 = hashlib.md5(OWN.encode()).hexdigest()
    cached = repository.root / f".dvc/cache/files/md5/{md5[:2]}/{md5[2:]}"
    cached.chmod(0o644)
    cached.write_text(OWN.replace("1", "7"))
    cached.chmod(0o444)
    own.unlink()
    named = rf"is missing, and the DVC cache is damaged \(remove from it \S*{md5[2:]}\)"
    with pytest.raises(InputError, match=named):
        version_raw_data(source, repository.root)
    assert not own.exists()
    cached.unlink()
    own.write_text(OWN)
    version_raw_data(source, repository.root)
    own.unlink()
    version_raw_data(source, repository.root)
    assert own.read_text() == OWN


def test_copy_salt_gives_a_worktree_the_salt_file_without_a_commit(repository):
    root, secret = repository.root, "data/salt"
    (root / secret).write_text("0123456789abcdef")
    settings = Settings(root, "", "", root / "cache", root / "runs")
    changes = [f"prepare.salt_file={secret}", "prepare.sensitive_rule=hash"]
    workspace = worktree(settings, params.load(root / "params.yaml", changes))
    assert not (workspace.root / secret).exists()
    blob = repository.run("git", "hash-object", secret).stdout.strip()
    repository.run("git", "cat-file", "-e", blob, status=1)
    copy_salt(root, workspace.root, secret)
    assert (workspace.root / secret).read_text() == Path(root / secret).read_text()
