"""STEPS: which parameters and which paths each step gets. The one place that says so.

`dvc.yaml` says which stages there are and in what order; a test keeps the two in agreement.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tasks.config import Params
from tasks.workspace import Workspace


@dataclass(frozen=True)
class Step:
    """A pure function `tasks.<name>.<name>` and what it is given.

    `sections` of the parameters come first, then `reads`, `writes` and `keeps`: names of paths of
    a `Workspace`, passed by keyword. What it keeps is its own, from an attempt that was killed to
    the next; DVC knows nothing of it, for DVC removes what a stage wrote before it runs it again. A
    step that keeps something is also given `confirm`, to call before that goes.
    """

    name: str
    sections: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    keeps: tuple[str, ...] = ()

    def function(self) -> Callable[..., Any]:
        """The step's function, imported now: `prepare` does not pay for the torch of `train`."""
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
        ),
        Step(
            "evaluate",
            ("evaluate",),
            reads=("prepared", "checkpoint"),
            writes=("metrics", "plots"),
        ),
        Step(
            "export", ("export", "evaluate"), reads=("prepared", "checkpoint"), writes=("bundle",)
        ),
    )
}
