"""Detects whether the inputs of a stage change while it runs, and records what it read.

DVC hashes dependencies and reads parameters after the command of a stage has ended: an edit during
the run would be recorded as if the stage had read it. So the command itself compares its inputs at
its start and its end, and writes a record of them. For DVC, this record is an output of the stage.
"""

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks import fingerprint, recorded, snapshot
from tasks import params as parameters
from tasks.config import Params, Prepare
from tasks.errors import InputError
from tasks.fingerprint import RunningCode
from tasks.pipeline import Step
from tasks.snapshot import Snapshot
from tasks.words import some
from tasks.workspace import Workspace

# `${prepare.source.path}` in dvc.yaml.
VALUE = re.compile(r"\$\{([\w.]+)\}")
_OTHER_RELEASE = "Take dvc.yaml from the release of modelmint that is installed (`modelmint new`)."


@dataclass(frozen=True)
class Stage:
    """A stage in `dvc.yaml`: paths it depends on, and keys of params.yaml."""

    deps: tuple[str, ...]
    params: tuple[str, ...]
    is_recorded: bool = True
    """False without a `dvc.yaml`: DVC does not record such a run."""

    @classmethod
    def of(cls, root: Path, step: Step, given: Params) -> "Stage":
        """The stage of a step; without an entry in `dvc.yaml`, only its parameters.

        Raises:
            InputError: the entry lacks the record among its outs, or the code fingerprint among
                its params.
        """
        entry = recorded.stages_of(root).get(step.name)
        if entry is None:
            return cls((), step.sections, is_recorded=False)
        record = recorded.record_path(Workspace(root), step.name).relative_to(root).as_posix()
        if record not in recorded.outputs_of(entry):
            raise InputError(
                f"dvc.yaml: the stage {step.name} must name {record} among its outs; it is the "
                f"record of what the stage read. {_OTHER_RELEASE}"
            )
        if {fingerprint.FILE: [f"stages.{step.name}"]} not in entry["params"]:
            raise InputError(
                f"dvc.yaml: the stage {step.name} must name {fingerprint.FILE}: "
                f"[stages.{step.name}] among its params; it is the fingerprint of its code. "
                f"{_OTHER_RELEASE}"
            )
        values = given.model_dump(mode="json")
        deps = [VALUE.sub(lambda m: str(_pick(values, m[1])), dep) for dep in entry["deps"]]
        return cls(tuple(deps), tuple(key for key in entry["params"] if isinstance(key, str)))


class StageInputs:
    """The inputs of one run of a stage, as they were before its code was loaded."""

    def __init__(self, workspace: Workspace, step: Step, code: RunningCode) -> None:
        """Read parameters and hashes. `code` must have been created before the step's imports.

        Raises:
            InputError: the parameters are invalid, the code differs from `code.json`, or the
                output of an earlier stage differs from `dvc.lock`.
        """
        self._workspace, self._step, self._code = workspace, step, code
        document = parameters.parse(parameters.content(workspace.params), workspace.params)
        self.params = parameters.validate(document, workspace.params.name)
        """The parameters for the step. The file is read only once, so they match the record."""
        self._stage = stage = Stage.of(workspace.root, step, self.params)
        self._values = {key: _pick(document, key) for key in stage.params}
        self._ignored = snapshot.ignore_rules(workspace.root)
        self._fingerprint = code.read(step.name)
        if not self._is_recorded_code():
            fingerprint.refuse_changed(workspace.root, [step.name])
        self._deps = {dep: self._take(workspace.root / dep) for dep in stage.deps}
        self._salt = self._mark = None
        if step.name == "prepare" and (path := _salt_file(self.params.prepare, workspace.root)):
            self._salt, self._mark = self._take(path), recorded.salt_mark(path)
        if "DVC_STAGE" in os.environ:  # set by DVC; a step that is run by hand is not recorded
            hashes = {dep: found.md5 for dep, found in self._deps.items() if found}
            recorded.refuse_upstream(workspace, step.name, hashes)
        recorded.record_path(workspace, step.name).unlink(missing_ok=True)

    def refuse_rewritten(self) -> None:
        """Call after importing the step. Raises `InputError` if its code changed meanwhile."""
        self._refuse(self._code.rewritten())

    def refuse_changed(self) -> None:
        """Call after the step.

        Raises:
            InputError: an input changed during the run; names it. The outputs of the step are
                removed, because it is unknown which version of the input they come from.
        """
        changed = self._changed_params()
        for dep, found in self._found():
            names = found.changed(self._ignored)
            changed += ["/".join(filter(None, (dep, name))) for name in names]
        root = self._workspace.root
        changed += [d for d, found in self._deps.items() if not found and (root / d).exists()]
        if self._salt and self._salt.changed(self._ignored):
            changed.append(str(self.params.prepare.salt_file))
        changed += self._code.changed(self._step.name)
        changed += [] if self._is_recorded_code() else [fingerprint.FILE]
        if changed:
            for name in self._step.writes:
                _remove(getattr(self._workspace, name))
        self._refuse(list(dict.fromkeys(changed)))

    def end(self) -> None:
        """Write the record of what the step read. Raises `InputError` as `refuse_changed` does."""
        self.refuse_changed()
        recorded.write_record(
            self._workspace,
            self._step.name,
            deps={dep: found.md5 if found else None for dep, found in self._deps.items()},
            params=self._values,
            code=self._fingerprint,
            salt=self._mark,
        )

    def _is_recorded_code(self) -> bool:
        """Whether the code matches `code.json`; also true without a `dvc.yaml`."""
        recorded_code = fingerprint.of_stage(self._workspace.root, self._step.name)
        return not self._stage.is_recorded or recorded_code == self._fingerprint

    def _take(self, path: Path) -> Snapshot | None:
        return snapshot.take(path, self._ignored)

    def _found(self) -> list[tuple[str, Snapshot]]:
        return [(dep, found) for dep, found in self._deps.items() if found]

    def _changed_params(self) -> list[str]:
        path = self._workspace.params
        try:
            now = parameters.parse(parameters.content(path), path)
        except InputError as error:
            return [f"{path.name} ({error})"]
        present = {key: _pick(now, key) for key in self._values}
        return recorded.differences(self._values, present, "{0} before, {1} now")

    def _refuse(self, changed: list[str]) -> None:
        """Raises `InputError` if anything changed."""
        if changed:
            raise InputError(
                f"changed while the stage {self._step.name} ran: {some(changed, 3)}. "
                "It is unknown which version the stage has read, so nothing was recorded and its "
                "outputs were removed. Give the same command again to run the stage on the present "
                "files."
            )


def _pick(values: Mapping[str, Any], key: str) -> Any:
    """The value of `section.key`; None if it is missing."""
    found: Any = values
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _salt_file(params: Prepare, root: Path) -> Path | None:
    """The salt file that `prepare` reads; None if it needs none, or the file is missing."""
    if not params.sensitive or params.sensitive_rule == "drop" or not params.salt_file:
        return None
    path = root / params.salt_file
    return path if path.is_file() else None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
