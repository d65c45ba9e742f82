"""A new project: a git and DVC repository with parameters for its data, without any code."""

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
# None of them is called dvc.yaml: DVC would take it for a pipeline of this repository.
_TEMPLATES = files("flows") / "templates"


@dataclass(frozen=True)
class NewProject:
    """What was made; `uncommitted` says why git has not committed it, if it has not."""

    root: Path
    model: str
    assumptions: list[str]
    uncommitted: str


def new_project(folder: Path, data: Path | None) -> NewProject:
    """Make a project in `folder`, for a copy of `data` or, without any, for the digits.

    The folder appears complete or not at all: it is made beside its place and moved there.

    Raises:
        InputError: the folder is not empty, or the data has no form that can be read.
    """
    folder = folder.absolute()
    _refuse(folder, data)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
    try:
        draft.chmod(0o755)  # mkdtemp gives it to this user alone
        proposal = _fill(draft, folder.name, data)
        uncommitted = _commit(draft)
        draft.replace(folder)
    except OSError as error:
        raise InputError(f"cannot make {folder}: {error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    name = proposal.params.registration.name
    return NewProject(folder, name, proposal.assumptions, uncommitted)


def _refuse(folder: Path, data: Path | None) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists and is not an empty folder; name a new one")
    if folder == Path.cwd():
        raise InputError(f"{folder} is the current folder; name a new one, or run this above it")
    if data is not None and not data.exists():
        raise InputError(f"--from: {data} does not exist")
    if set(str(folder)) & set("{}"):
        raise InputError(f"{folder}: DVC cannot work in a path with {{ or }}; name another folder")
    if data is not None and data.is_dir():
        _refuse_data(folder, data)


def _refuse_data(folder: Path, data: Path) -> None:
    """Raises `InputError` if a copy of the folder `data` would not end, or means more to DVC."""
    source = data.resolve()
    if folder.resolve().is_relative_to(source):
        raise InputError(f"{folder} lies in the data; name a folder outside of {data}")
    for path in source.rglob("*"):
        if path.is_symlink() and path.is_dir() and source.is_relative_to(path.resolve()):
            raise InputError(f"--from: the link {path} leads back into the data; remove it")
        if path.name in _OF_DVC or path.suffix == ".dvc":
            raise InputError(f"--from: {path} belongs to DVC; leave it out of the data")


def _fill(root: Path, title: str, data: Path | None) -> Proposal:
    """Write every file of the project, and put its data under DVC."""
    git(root, "init", "-q", "-b", "main")
    versioning.init(root)
    for folder in ("raw", "base", "inbox"):
        (root / "data" / folder).mkdir(parents=True)
    (root / "data/raw/.gitignore").write_text(_template("raw.gitignore"), encoding="utf-8")
    (root / "data/base/.gitignore").write_text(_template("base.gitignore"), encoding="utf-8")
    if data is None:
        # The digits come with a package: a stage puts them there, in place of a remote.
        (root / "data/raw/dvc.yaml").write_text(_template("digits.yaml"), encoding="utf-8")
        proposal = Proposal(for_digits(), [])
    else:
        place = root / "data/raw" / data.resolve().name
        (shutil.copytree if data.is_dir() else shutil.copyfile)(data, place)
        proposal = propose(root, place.relative_to(root).as_posix())
    _write(root, title, proposal.params)
    version_raw_data(proposal.params.prepare.source, root)
    return proposal


def _write(root: Path, title: str, params: Params) -> None:
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
    """Commit everything; the reason if git cannot, such as that it knows no author yet."""
    git(root, "add", "-A")
    try:
        git(root, "commit", "-q", "-m", "New modelmint project")
    except InputError as error:
        return str(error)
    return ""


def _template(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")
