"""What a finished pipeline run offers for registration: its bundle, and where it came from."""

import json
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flows.git import Code, differs
from flows.pretrained import parent
from registry import Candidate, Lineage
from tasks import fingerprint, formats, recorded, snapshot
from tasks.bundle.evaluation import Evaluation
from tasks.bundle.files import IDENTITY, Bundle
from tasks.config import Params
from tasks.errors import InputError
from tasks.workspace import Workspace

# Of this process; those that trained and exported are in the evaluation.
LIBRARIES = ("modelmint", "dvc", "prefect")


@dataclass(frozen=True)
class EvaluatedBundle:
    """A bundle and its evaluation, before it is registered or refused."""

    candidate: Candidate
    evaluation: Evaluation
    card: str

    @property
    def passed(self) -> bool:
        """Whether the evaluation says so, and its gates and its parity say the same."""
        evaluation = self.evaluation
        complete = bool(evaluation.gates) and evaluation.parity is not None
        return evaluation.passed is True and complete and not evaluation.refusals

    @property
    def refusals(self) -> list[str]:
        """A sentence for each gate that failed, and for parity if it failed."""
        found = self.evaluation.refusals
        if not (found or self.passed):
            found.append("evaluation.json does not say that every gate and the parity check passed")
        return found


def collect(
    params: Params, workspace: Workspace, code: Code, flow_run_id: str | None, scratch: Path
) -> EvaluatedBundle:
    """Copy the bundle of a workspace in which every stage is fresh to `scratch`, and read it.

    Nothing changes the copy while it is read and registered. `lineage.json` is added to it, which
    names the flow run, unknown to the stages, and `history.csv`, the curves of the training.

    Raises:
        InputError: `dvc.lock` says something else of what a stage read, or of the bundle.
    """
    folder = scratch / "bundle"
    shutil.copytree(workspace.bundle, folder)
    stages = recorded.locked_stages(workspace.root)
    for name in stages:
        recorded.refuse_misrecorded(workspace, name)
    dataset = _hash_of(workspace.prepared, workspace, stages["prepare"])
    copied = snapshot.take(folder, lambda path, is_folder: False)
    if not copied or copied.md5 != _hash_of(workspace.bundle, workspace, stages["export"]):
        raise InputError(
            f"{workspace.bundle} is not what dvc.lock names: it changed just now, so nothing was "
            "registered. The same command evaluates what is there now."
        )
    _take_history(workspace, stages["train"], Bundle.at(folder).history)
    bundle = Bundle.at(folder)
    evaluation = Evaluation.read(bundle.evaluation)
    base = parent(workspace) if params.train.init_from else None
    lineage = Lineage(
        dataset=dataset,
        test_split=evaluation.test_split.sha256,
        git_commit=code.commit,
        # The commit was looked up before the stages ran.
        git_dirty=code.dirty or code.commit is None or _other_code(workspace, code.commit),
        flow_run_id=flow_run_id,
        libraries=evaluation.libraries | {name: version(name) for name in LIBRARIES},
        parent=base["ref"] if base else None,
        data={dep["path"]: dep["md5"] for dep in stages["prepare"]["deps"]},
    )
    resolved = params.model_dump(mode="json")
    document = {
        "format": formats.LINEAGE,
        "dataset": lineage.dataset,
        "test_split": lineage.test_split,
        "git": {"commit": lineage.git_commit, "dirty": lineage.git_dirty},
        "flow_run_id": flow_run_id,
        "parent": base,
        "libraries": lineage.libraries,
        "parameters": resolved,
        # The hash of every file that each stage read, and the fingerprint of its code.
        "read": {name: stage["deps"] for name, stage in stages.items()},
        "code": {name: recorded.code_of(stage) for name, stage in stages.items()},
    }
    text = json.dumps(document, indent=2) + "\n"
    bundle.lineage.write_text(text, encoding="utf-8")
    files = {path.name: path for path in sorted(folder.iterdir())}
    candidate = Candidate(
        files=files,
        identity=IDENTITY & files.keys(),
        signature=json.loads(bundle.signature.read_bytes()),
        metrics=evaluation.metrics.summary,
        params=resolved,
        evaluation=json.loads(bundle.evaluation.read_bytes()),
        lineage=lineage,
    )
    return EvaluatedBundle(candidate, evaluation, bundle.card.read_text(encoding="utf-8"))


def _take_history(workspace: Workspace, stage: dict[str, Any], copied: Path) -> None:
    """Put the curves of the training beside the bundle, as they are in `dvc.lock`."""
    try:
        shutil.copyfile(workspace.history, copied)
        same = snapshot.file_md5(copied) == _hash_of(workspace.history, workspace, stage)
    except FileNotFoundError:
        same = False
    if not same:
        raise InputError(
            f"{workspace.history} is not what dvc.lock names, so nothing was registered. "
            "`dvc checkout` brings it back, and so does a new training."
        )


def _hash_of(path: Path, workspace: Workspace, stage: dict[str, Any]) -> str:
    """What `dvc.lock` names as the hash of one of a stage's outputs."""
    name = path.relative_to(workspace.root).as_posix()
    return next(str(out["md5"]) for out in stage["outs"] if out["path"] == name)


def _other_code(workspace: Workspace, commit: str) -> bool:
    """Whether the stages ran other code than a commit describes."""
    return differs(workspace.root, commit, [fingerprint.FILE])
