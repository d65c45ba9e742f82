"""What a finished pipeline run offers for registration: its bundle, and where it came from."""

import json
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from flows.base import parent
from flows.git import Code
from registry import Candidate, Lineage
from tasks.config import Params
from tasks.signature import IDENTITY
from tasks.workspace import Workspace

# Of this process; those that trained and exported are in the evaluation.
LIBRARIES = ("modelmint", "dvc", "prefect")


@dataclass(frozen=True)
class Judged:
    """A bundle with its verdicts, before anybody decided over it."""

    candidate: Candidate
    card: str

    @property
    def passed(self) -> bool:
        return self.candidate.evaluation.get("passed") is True

    @property
    def refusals(self) -> list[str]:
        """Each gate that was not met, in words; also parity, if it was not."""
        evaluation = self.candidate.evaluation
        found = [
            f"{g['gate']} is {_figure(g['value'])}, the gate wants {g['condition']}"
            for g in evaluation["gates"]
            if not g["passed"]
        ]
        parity = evaluation["parity"]
        if not parity["passed"]:
            found.append(
                f"ONNX differs from PyTorch: max error {parity['max_error']:.1e}, tolerance "
                f"{parity['tolerance']:g}, {parity['flipped']} labels flipped"
            )
        return found


def collect(
    params: Params, workspace: Workspace, code: Code, flow_run_id: str | None, scratch: Path
) -> Judged:
    """Copy the bundle of a workspace in which every stage is fresh to `scratch`, and read it.

    The copy holds still while it is judged and registered. `lineage.json` is added to it: that
    names the flow run, which no stage may know.
    """
    bundle = scratch / "bundle"
    shutil.copytree(workspace.bundle, bundle)
    lock = YAML(typ="safe").load((workspace.root / "dvc.lock").read_text(encoding="utf-8"))
    prepared = workspace.prepared.relative_to(workspace.root).as_posix()
    stages: dict[str, Any] = lock["stages"]
    dataset = next(out["md5"] for out in stages["prepare"]["outs"] if out["path"] == prepared)
    evaluation = json.loads((bundle / "evaluation.json").read_bytes())
    base = parent(workspace) if params.train.init_from else None
    lineage = Lineage(
        dataset=dataset,
        test_split=evaluation["test_split"]["sha256"],
        git_commit=code.commit,
        git_dirty=code.dirty,
        flow_run_id=flow_run_id,
        libraries=evaluation["libraries"] | {name: version(name) for name in LIBRARIES},
        parent=base["ref"] if base else None,
        data={
            dep["path"]: dep["md5"]
            for dep in stages["prepare"]["deps"]
            if not dep["path"].startswith("tasks/")
        },
    )
    resolved = params.model_dump(mode="json")
    document = {
        "dataset": lineage.dataset,
        "test_split": lineage.test_split,
        "git": {"commit": lineage.git_commit, "dirty": lineage.git_dirty},
        "flow_run_id": flow_run_id,
        "parent": base,
        "libraries": lineage.libraries,
        "parameters": resolved,
        # The hash of every file that each stage read, its code included.
        "read": {name: stage["deps"] for name, stage in stages.items()},
    }
    text = json.dumps(document, indent=2) + "\n"
    (bundle / "lineage.json").write_text(text, encoding="utf-8")
    files = {path.name: path for path in sorted(bundle.iterdir())}
    candidate = Candidate(
        files=files,
        identity=IDENTITY & files.keys(),
        signature=json.loads((bundle / "signature.json").read_bytes()),
        metrics=evaluation["metrics"]["summary"],
        params=resolved,
        evaluation=evaluation,
        lineage=lineage,
    )
    return Judged(candidate, (bundle / "card.md").read_text(encoding="utf-8"))


def _figure(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4f}"
