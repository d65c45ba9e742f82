"""`modelmint models backup` and `modelmint models verify --backup`."""

import sys
from pathlib import Path

import pytest
from registry_helpers import make_candidate

from cli.main import main
from registry import Registry


class Here:
    """A project of which only the registry is used; `name` chooses which."""

    def __init__(self, folder: Path, monkeypatch, capfd) -> None:
        self.folder, self.monkeypatch, self.capfd = folder, monkeypatch, capfd
        (folder / "dvc.yaml").touch()
        monkeypatch.chdir(folder)

    def places(self, name: str) -> tuple[str, str]:
        return f"sqlite:///{self.folder}/{name}.db", str(self.folder / name)

    def models(self, name: str, *arguments: str, status: int = 0) -> str:
        """What a command says, once it has ended with that status."""
        url, artifacts = self.places(name)
        self.monkeypatch.setenv("MODELMINT_DATABASE_URL", url)
        self.monkeypatch.setenv("MODELMINT_ARTIFACTS", artifacts)
        self.monkeypatch.setattr(sys, "argv", ["modelmint", "models", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = "".join(self.capfd.readouterr())
        assert (ended.value.code or 0) == status, said
        return " ".join(said.split())

    def fill(self, name: str) -> None:
        with Registry(*self.places(name)) as registry:
            registry.register("digits", make_candidate(self.folder / "b", name), actor="ada")


@pytest.fixture
def here(tmp_path, monkeypatch, capfd) -> Here:
    made = Here(tmp_path, monkeypatch, capfd)
    made.fill("mine")
    return made


def test_backup_of_another_registry_needs_replace(here):
    here.fill("other")
    assert "1 models, 1 versions" in here.models("mine", "backup", "backup")
    said = here.models("mine", "verify", "--backup", "backup")
    assert "the backup is complete: 1 models, 1 versions" in said
    assert "continues each of these histories" in said
    said = here.models("other", "backup", "backup", status=3)
    assert "would be lost: the backup is of registry" in said
    assert "--replace" in said
    said = here.models("other", "verify", "--backup", "backup", status=1)
    assert "is of registry" in said
    assert "is complete" not in said
    assert "are in" in here.models("other", "backup", "backup", "--replace")
    assert "the backup is complete" in here.models("other", "verify", "--backup", "backup")
    assert "is of registry" in here.models("mine", "verify", "--backup", "backup", status=1)


def test_verify_backup_works_without_a_registry(here):
    here.models("mine", "backup", "backup")
    (here.folder / "nowhere.db").mkdir()
    said = here.models("nowhere", "verify", "--backup", "backup")
    assert "The backup was not compared with your registry" in said
    assert "the backup is complete: 1 models" in said
    next(here.folder.glob("backup/sha256/*/*")).unlink()
    said = here.models("nowhere", "verify", "--backup", "backup", status=1)
    assert "is complete" not in said


def test_verify_backup_of_an_empty_registry_says_so(here):
    with Registry(*here.places("empty")) as registry:
        registry.create()
    here.models("empty", "backup", "backup")
    said = here.models("empty", "verify", "--backup", "backup")
    assert "of an EMPTY registry" in said


@pytest.mark.parametrize(
    "command",
    [
        ["backup", "s3://bucket/x"],
        ["backup", "server:/backups/x"],
        ["restore", "https://ada:secret@host/x"],
        ["verify", "--backup", "s3://bucket/x"],
        ["export", "digits:1", "gs://bucket/x.tar"],
        ["import", "file:///tmp/x.tar"],
    ],
)
def test_backup_refuses_a_url_as_folder(command, here):
    said = here.models("mine", *command, status=2)
    assert "is a URL" in said
    assert "secret" not in said
    assert not [path for path in here.folder.iterdir() if ":" in path.name]


def test_verify_backup_removes_no_other_file(here):
    (here.folder / "last-hashed.txt").write_text("my notes")
    said = here.models("mine", "verify", "--backup", ".", status=1)
    assert "is not a backup" in said
    assert (here.folder / "last-hashed.txt").read_text() == "my notes"
