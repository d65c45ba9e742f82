"""Workspace: the named paths of one run."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Workspace:
    """A project folder in which the stages run: the user's own, or a worktree of one run."""

    root: Path

    @property
    def params(self) -> Path:
        return self.root / "params.yaml"

    @property
    def prepared(self) -> Path:
        """The prepared dataset."""
        return self.root / "data/prepared"

    @property
    def base(self) -> Path:
        """Weights to start from, of a version or a file; empty without `train.init_from`."""
        return self.root / "data/base"

    @property
    def resume(self) -> Path:
        """State of an unfinished training."""
        return self.root / "outputs/resume"

    @property
    def repeats(self) -> Path:
        """Trainings with other seeds, until `export` has ended."""
        return self.root / "outputs/repeats"

    @property
    def checkpoint(self) -> Path:
        """Best weights, and what is needed to rebuild the network."""
        return self.root / "outputs/checkpoint"

    @property
    def history(self) -> Path:
        """One CSV row for each epoch."""
        return self.root / "outputs/history.csv"

    @property
    def metrics(self) -> Path:
        """Metrics of the PyTorch network on the test split."""
        return self.root / "outputs/metrics.json"

    @property
    def plots(self) -> Path:
        """CSV files for `dvc plots`."""
        return self.root / "outputs/plots"

    @property
    def read(self) -> Path:
        """Records of what each stage read, one file each; for DVC, outputs of the stages."""
        return self.root / "outputs/read"

    @property
    def bundle(self) -> Path:
        """The bundle to register: ONNX file, signature, evaluation and so on."""
        return self.root / "outputs/bundle"
