"""Collects what a finished pipeline run offers for registration: its bundle and its lineage."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flows.git import Code, differs
from flows.pretrained import Start, read_start
from registry import Candidate, Lineage
from registry.values import SHA256
from tasks import fingerprint, formats, recorded, snapshot
from tasks.bundle.evaluation import Evaluation
from tasks.bundle.files import IDENTITY, Bundle
from tasks.config import Params
from tasks.errors import InputError
from tasks.workspace import Workspace

# Versions of this process; the evaluation has those of the training and export processes.
LIBRARIES = ("modelmint", "dvc", "prefect")


@dataclass(frozen=True)
class EvaluatedBundle:
    """A bundle and its evaluation, before it is registered or refused."""

    candidate: Candidate
    evaluation: Evaluation
    card: str

    @property
    def passed(self) -> bool:
        """Whether the evaluation passed, and every gate and the parity check agree."""
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


def collect_candidate(
    params: Params,
    workspace: Workspace,
    checkout: Path,
    code: Code,
    flow_run_id: str | None,
    scratch: Path,
    study: Mapping[str, Any] | None = None,
) -> EvaluatedBundle:
    """Copy the bundle of a workspace whose stages are all fresh to `scratch`, and read it.

    A copy, because the workspace may change while the bundle is registered. Files are added:
    `lineage.json`, with the flow run that the stages do not know, `history.csv`, the training
    curves, and `study.json`, if `modelmint tune` has found the parameters.

    Raises:
        InputError: `dvc.lock` does not match what a stage read, or the bundle; or the file of
            weights in the `checkout` has changed.
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
            f"{workspace.bundle} does not match dvc.lock: it has just changed, so nothing was "
            "registered. Run the same command again to evaluate the present files."
        )
    _copy_history(workspace, stages["train"], Bundle.at(folder).history)
    bundle = Bundle.at(folder)
    evaluation = Evaluation.read(bundle.evaluation)
    start = read_start(workspace, checkout) if params.train.init_from else Start()
    data = {dep["path"]: dep["md5"] for dep in stages["prepare"]["deps"]}
    if start.weights:
        data[start.weights["file"]] = SHA256 + start.weights["sha256"]
    lineage = Lineage(
        dataset=dataset,
        test_split=evaluation.test_split.sha256,
        git_commit=code.commit,
        # `code` was read before the stages ran, so compare the code with that commit again.
        git_dirty=code.dirty or code.commit is None or _code_differs(workspace, code.commit),
        flow_run_id=flow_run_id,
        libraries=evaluation.libraries | {name: version(name) for name in LIBRARIES},
        parent=start.parent["ref"] if start.parent else None,
        data=data,
    )
    # When it trains by itself, and what was searched, makes no other version.
    resolved = params.model_dump(mode="json", exclude={"retrain", "tune"})
    document = {
        "format": formats.LINEAGE,
        "dataset": lineage.dataset,
        "test_split": lineage.test_split,
        "git": {"commit": lineage.git_commit, "dirty": lineage.git_dirty},
        "flow_run_id": flow_run_id,
        "parent": start.parent,
        "weights": start.weights,
        "libraries": lineage.libraries,
        "parameters": resolved,
        # By stage: the hash of every file that it read, and the fingerprint of its code.
        "read": {name: stage["deps"] for name, stage in stages.items()},
        "code": {name: recorded.code_of(stage) for name, stage in stages.items()},
    }
    text = json.dumps(document, indent=2) + "\n"
    bundle.lineage.write_text(text, encoding="utf-8")
    if study is not None:
        bundle.study.write_text(json.dumps(study, indent=2) + "\n", encoding="utf-8")
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


def _copy_history(workspace: Workspace, stage: dict[str, Any], copied: Path) -> None:
    """Copy the training curves to the bundle, if they match `dvc.lock`."""
    try:
        shutil.copyfile(workspace.history, copied)
        same = snapshot.file_md5(copied) == _hash_of(workspace.history, workspace, stage)
    except FileNotFoundError:
        same = False
    if not same:
        raise InputError(
            f"{workspace.history} does not match dvc.lock, so nothing was registered. Restore it "
            "with `dvc checkout` or train again."
        )


def _hash_of(path: Path, workspace: Workspace, stage: dict[str, Any]) -> str:
    """The hash that `dvc.lock` has for an output of a stage."""
    name = path.relative_to(workspace.root).as_posix()
    return next(str(out["md5"]) for out in stage["outs"] if out["path"] == name)


def _code_differs(workspace: Workspace, commit: str) -> bool:
    """Whether the stages ran code that differs from a commit's."""
    return differs(workspace.root, commit, [fingerprint.FILE])
