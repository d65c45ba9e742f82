"""Workspace: the named paths of one run."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Workspace:
    """A checkout in which the stages run: the user's own, or a worktree made for one run."""

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
        """Weights of a registered version to start from; empty where none are."""
        return self.root / "data/base"

    @property
    def resume(self) -> Path:
        """State of an unfinished training."""
        return self.root / "outputs/resume"

    @property
    def checkpoint(self) -> Path:
        """Best weights and what rebuilds their network."""
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
        """What each stage read: one record for each, which DVC carries with what it wrote."""
        return self.root / "outputs/read"

    @property
    def bundle(self) -> Path:
        """What is registered: ONNX, signature, and the evidence beside them."""
        return self.root / "outputs/bundle"
