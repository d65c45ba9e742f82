"""What a stage reads, compared before its code is loaded and again at its end.

DVC hashes what a stage depends on, and reads its parameters, after the command has ended: an edit
in between would be recorded as read. So the command itself compares, and leaves a record of what
it read. DVC keeps that as an output of the stage, beside what it makes.
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
from tasks.workspace import Workspace

# `${prepare.source.path}` in dvc.yaml.
VALUE = re.compile(r"\$\{([\w.]+)\}")
_OTHER_RELEASE = "Take dvc.yaml from the release of modelmint that is installed (`modelmint new`)."


@dataclass(frozen=True)
class Stage:
    """An entry of `dvc.yaml`: paths, and keys of params.yaml."""

    deps: tuple[str, ...]
    params: tuple[str, ...]
    is_recorded: bool = True
    """False without a `dvc.yaml`: then nobody records what the step read."""

    @classmethod
    def of(cls, root: Path, step: Step, given: Params) -> "Stage":
        """The entry of a step; where no `dvc.yaml` has one, the parameters alone.

        Raises:
            InputError: the entry does not name the record or the fingerprint of the code.
        """
        entry = recorded.stages_of(root).get(step.name)
        if entry is None:
            return cls((), step.sections, is_recorded=False)
        record = recorded.record_path(Workspace(root), step.name).relative_to(root).as_posix()
        if record not in recorded.outputs_of(entry):
            raise InputError(
                f"dvc.yaml: the stage {step.name} must name {record} among its outs: there it "
                f"says what it read. {_OTHER_RELEASE}"
            )
        if {fingerprint.FILE: [f"stages.{step.name}"]} not in entry["params"]:
            raise InputError(
                f"dvc.yaml: the stage {step.name} must name {fingerprint.FILE}: "
                f"[stages.{step.name}] among its params: that is its code. {_OTHER_RELEASE}"
            )
        values = given.model_dump(mode="json")
        deps = [VALUE.sub(lambda m: str(_pick(values, m[1])), dep) for dep in entry["deps"]]
        return cls(tuple(deps), tuple(key for key in entry["params"] if isinstance(key, str)))


class StageInputs:
    """What a stage reads in one run of its command, from before its code is loaded to its end."""

    def __init__(self, workspace: Workspace, step: Step, code: RunningCode) -> None:
        """`code` was made before any of the step's code was loaded.

        Raises:
            InputError: the parameters are wrong, the code is not the one that `code.json`
                describes, or what an earlier stage left is not what `dvc.lock` says.
        """
        self._workspace, self._step, self._code = workspace, step, code
        document = parameters.parse(parameters.content(workspace.params), workspace.params)
        self.params = parameters.validate(document, workspace.params.name)
        """What the step is to be given: the file is read once."""
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
        if "DVC_STAGE" in os.environ:  # DVC records nothing of a step that is run by hand
            hashes = {dep: found.md5 for dep, found in self._deps.items() if found}
            recorded.refuse_upstream(workspace, step.name, hashes)
        recorded.record_path(workspace, step.name).unlink(missing_ok=True)

    def refuse_rewritten(self) -> None:
        """The step's function is there. Raises `InputError` if its code changed meanwhile."""
        self._refuse(self._code.rewritten())

    def refuse_changed(self) -> None:
        """The step is done.

        Raises:
            InputError: something that it read changed in the meantime; names it. What the step
                wrote is removed then, since nobody knows any more what it was made from.
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
        """Leave the record of what the step read. Raises `InputError` as `refuse_changed` does."""
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
        """Whether `code.json` says what runs; also true where no `dvc.yaml` asks for it."""
        said = fingerprint.of_stage(self._workspace.root, self._step.name)
        return not self._stage.is_recorded or said == self._fingerprint

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
                f"changed while the stage {self._step.name} ran: {recorded.some(changed)}. So "
                "nobody knows what the stage has read: nothing was recorded, and what it wrote was "
                "removed. The same command runs the stage again, with what is there now."
            )


def _pick(values: Mapping[str, Any], key: str) -> Any:
    """The value of `section.key`; None where there is none."""
    found: Any = values
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _salt_file(params: Prepare, root: Path) -> Path | None:
    """The file whose key the stage `prepare` uses; None where it uses none, or none is there."""
    if not params.sensitive or params.sensitive_rule == "drop" or not params.salt_file:
        return None
    path = root / params.salt_file
    return path if path.is_file() else None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
