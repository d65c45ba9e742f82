"""STEPS: which parameters and which paths each step gets.

`dvc.yaml` lists the stages in their order; a test compares it with `STEPS`.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tasks.config import Params
from tasks.needed_classes import refuse_for_classes
from tasks.workspace import Workspace


@dataclass(frozen=True)
class Step:
    """A pure function `tasks.<name>.<name>` and its arguments.

    The function gets the `sections` of the parameters by position, and the paths of a `Workspace`
    that `reads`, `writes` and `keeps` name by keyword. What a step `keeps` survives a killed run;
    it is not an output in `dvc.yaml`, because DVC removes the outputs before it reruns a stage. A
    step that keeps something also gets `confirm`, which it calls before it removes that.
    """

    name: str
    sections: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    keeps: tuple[str, ...] = ()
    check: Callable[[Params, Workspace], None] = lambda params, workspace: None
    """Raises `InputError` before a long step, if a later one would refuse the parameters."""

    def function(self) -> Callable[..., Any]:
        """The step's function, imported late so that `prepare` does not import torch."""
        found: Callable[..., Any] = getattr(
            importlib.import_module(f"tasks.{self.name}"), self.name
        )
        return found

    def run(
        self,
        params: Params,
        workspace: Workspace,
        confirm: Callable[[], None] = lambda: None,
    ) -> Any:
        """Run the step in this process and return its report."""
        self.check(params, workspace)
        function = self.function()
        sections = [getattr(params, section) for section in self.sections]
        paths = self.reads + self.writes + self.keeps
        given = {name: getattr(workspace, name) for name in paths}
        return function(*sections, **given, **({"confirm": confirm} if self.keeps else {}))


STEPS = {
    step.name: step
    for step in (
        Step("prepare", ("prepare",), reads=("root",), writes=("prepared",)),
        Step(
            "train",
            ("train",),
            reads=("prepared", "base"),
            writes=("checkpoint", "history"),
            keeps=("resume",),
            check=refuse_for_classes,
        ),
        Step(
            "evaluate",
            ("evaluate",),
            reads=("prepared", "checkpoint"),
            writes=("metrics", "plots"),
        ),
        Step(
            "export",
            ("export", "evaluate"),
            reads=("prepared", "checkpoint", "base"),
            writes=("bundle",),
            keeps=("repeats",),
        ),
    )
}
