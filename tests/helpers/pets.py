"""A small project with a registry of real models, for tests of the Python interface and its
documentation: two versions that classify cats and dogs by size, colour and date of birth.
"""

from dataclasses import replace
from pathlib import Path

from registry_helpers import bundle_candidate
from training_helpers import make_prepared, run, tiny

from registry import Registry
from tasks.bundle.signature import Signature
from tasks.config import Evaluate, Export, Optimizer
from tasks.workspace import Workspace

RANGES = {"size": (-1.0, 2.0), "born": (19_000.0, 19_015.0)}


def make(root: Path) -> None:
    """Train and register `pets:1` and `pets:2` with different seeds; 2 is the champion."""
    from tasks.export import export

    workspace = Workspace(root)
    make_prepared(workspace.prepared, "tabular", "binary")
    _note_ranges(workspace.prepared / "signature.json")
    (root / "dvc.yaml").write_text("stages: {}\n")
    (root / "notebooks").mkdir()
    for seed, accuracy in ((1, 0.9), (2, 1.0)):
        params = tiny("mlp", seed=seed, epochs=6, optimizer=Optimizer(learning_rate=0.03))
        run(params, workspace.checkpoint.parent, workspace.prepared)
        export(
            Export(),
            Evaluate(gates={"accuracy": 0.5}),
            prepared=workspace.prepared,
            checkpoint=workspace.checkpoint,
            bundle=workspace.bundle,
            base=workspace.base,
            repeats=workspace.repeats,
        )
        # Register different metrics, so that comparisons show a difference.
        offered = bundle_candidate(workspace, accuracy=accuracy, macro_f1=accuracy)
        offered = replace(offered, params={"train": {"epochs": 6, "seed": seed}})
        with Registry(f"sqlite:///{root}/modelmint.db", root / "artifacts") as registry:
            version = registry.register("pets", offered, actor="ada").version
            registry.promote(
                "pets", version.version, expect_revision=None, actor="ada", reason="better"
            )


def _note_ranges(path: Path) -> None:
    signature = Signature.read(path)
    columns = tuple(
        column.model_copy(update=dict(zip(("low", "high"), RANGES[column.name], strict=True)))
        if column.name in RANGES
        else column
        for column in signature.columns
    )
    signature.model_copy(update={"columns": columns}).write(path)
