"""Creates a project: a git and DVC repository with parameters for its data and without code."""

import errno
import shutil
import tempfile
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template

from flows import versioning
from flows.git import git
from flows.raw import version_raw_data
from tasks import fingerprint
from tasks.config import Params
from tasks.config.writing import explained
from tasks.errors import InputError
from tasks.pipeline import STEPS
from tasks.proposal import Proposal, for_digits, propose

_OF_DVC = {".dvc", ".dvcignore", "dvc.yaml", "dvc.lock"}
# No template is named dvc.yaml: DVC would run it as a pipeline of this repository.
_TEMPLATES = files("flows") / "templates"


@dataclass(frozen=True)
class NewProject:
    """A project that was made; `uncommitted` is the reason if git could not commit it."""

    root: Path
    model: str
    assumptions: list[str]
    uncommitted: str


def new_project(folder: Path, data: Path | None) -> NewProject:
    """Make a project in `folder` for a copy of `data`, by default for the digits.

    It is made in a temporary folder and then renamed, so it appears complete or not at all.

    Raises:
        InputError: the folder is not empty, or the data cannot be read.
    """
    folder = folder.absolute()
    _check_folder(folder, data)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
    try:
        draft.chmod(0o755)  # mkdtemp makes it 0700
        proposal = _fill(draft, folder.name, data)
        uncommitted = _commit(draft)
        draft.replace(folder)
    except InputError as error:
        if data is None:
            raise
        # The copy is removed with the draft, so the message names the file that was given.
        copy = draft / "data/raw" / data.resolve().name
        raise InputError(str(error).replace(str(copy), str(data))) from error
    except OSError as error:
        if error.errno == errno.EBUSY:  # such as the volume of a container
            raise InputError(f"{folder} is a mount point; name a new folder in it") from error
        raise InputError(f"cannot make {folder}: {error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    name = proposal.params.registration.name
    assumptions = [text.replace(f"{draft}/", "") for text in proposal.assumptions]
    return NewProject(folder, name, assumptions, uncommitted)


def _check_folder(folder: Path, data: Path | None) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists and is not an empty folder; name a new one")
    if folder == Path.cwd():
        raise InputError(f"{folder} is the current folder; name a new one, or run this above it")
    if data is not None and not data.exists():
        raise InputError(f"--from: {data} does not exist")
    if set(str(folder)) & set("{}"):
        raise InputError(f"{folder}: DVC cannot work in a path with {{ or }}; name another folder")
    if data is not None and data.is_dir():
        _check_data(folder, data)


def _check_data(folder: Path, data: Path) -> None:
    """Raises `InputError` if copying `data` would never end, or if it has files of DVC."""
    source = data.resolve()
    if folder.resolve().is_relative_to(source):
        raise InputError(f"{folder} is inside the data; name a folder outside of {data}")
    for path in source.rglob("*"):
        if path.is_symlink() and path.is_dir() and source.is_relative_to(path.resolve()):
            raise InputError(f"--from: the link {path} leads back into the data; remove it")
        if path.name in _OF_DVC or path.suffix == ".dvc":
            raise InputError(f"--from: {path} is a file of DVC; remove it from the data")


def _fill(root: Path, title: str, data: Path | None) -> Proposal:
    """Write every file of the project and put its data under DVC."""
    git(root, "init", "-q", "-b", "main")
    versioning.init_repository(root)
    for folder in ("raw", "base", "inbox"):
        (root / "data" / folder).mkdir(parents=True)
    (root / "data/raw/.gitignore").write_text(_template("raw.gitignore"), encoding="utf-8")
    (root / "data/base/.gitignore").write_text(_template("base.gitignore"), encoding="utf-8")
    if data is None:
        # The digits come with scikit-learn, so a stage writes them; no remote is needed.
        (root / "data/raw/dvc.yaml").write_text(_template("digits.yaml"), encoding="utf-8")
        proposal = Proposal(for_digits(), [])
    else:
        copy = root / "data/raw" / data.resolve().name
        (shutil.copytree if data.is_dir() else shutil.copyfile)(data, copy)
        proposal = propose(root, copy.relative_to(root).as_posix())
    _write_files(root, title, proposal.params)
    version_raw_data(proposal.params.prepare.source, root)
    return proposal


def _write_files(root: Path, title: str, params: Params) -> None:
    values = {"title": title, "name": params.registration.name}
    written = {
        "params.yaml": explained(params),
        "dvc.yaml": _template("pipeline.yaml"),
        "prefect.yaml": Template(_template("prefect.yaml")).substitute(values),
        "README.md": Template(_template("README.md")).substitute(values),
        ".gitignore": _template("gitignore"),
    }
    for name, text in written.items():
        (root / name).write_text(text, encoding="utf-8")
    fingerprint.record_code(root, fingerprint.installed_code(STEPS))


def _commit(root: Path) -> str:
    """Commit everything. Returns the reason if git cannot, such as a missing user.name."""
    git(root, "add", "-A")
    try:
        git(root, "commit", "-q", "-m", "New modelmint project")
    except InputError as error:
        return str(error)
    return ""


def _template(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")
