"""DVC's own commands in a project: remotes, experiments, metrics and plots."""

import json
import shutil

import pytest
from projects import Project, copy_project

IDENTITY = {
    f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
}


@pytest.fixture
def committed(trained: Project, tmp_path) -> Project:
    project = copy_project(trained.root, tmp_path / "project")
    project.environment |= trained.environment | IDENTITY
    project.commit()
    return project


@pytest.mark.whole
def test_dvc_pull_in_a_clone_brings_raw_and_prepared_data_and_nothing_is_stale(committed, tmp_path):
    committed.run("dvc", "remote", "add", "-d", "store", str(tmp_path / "store"))
    committed.commit()
    committed.run("dvc", "push")
    clone = Project(tmp_path / "clone", committed.environment)
    committed.run("git", "clone", "-q", str(committed.root), str(clone.root))
    clone.run("dvc", "pull", "--allow-missing")
    for name in ("data/prepared/test.arrow", "outputs/bundle/model.onnx"):
        assert (clone.root / name).read_bytes() == (committed.root / name).read_bytes()
    # The digits are not under DVC: their stage in data/raw writes them.
    shutil.copy(committed.root / "data/raw/digits.csv.gz", clone.root / "data/raw")
    said = clone.run("dvc", "status").stdout
    assert "up to date" in said


@pytest.mark.whole
def test_dvc_exp_run_changes_a_parameter_and_dvc_compares_metrics_and_plots(committed):
    committed.run("dvc", "exp", "run", "-n", "finer", "-S", "evaluate.calibration_bins=4")
    shown = json.loads(committed.run("dvc", "exp", "show", "--json").stdout)
    workspace = next(one for one in shown if one["rev"] == "workspace")
    params = workspace["data"]["params"]["params.yaml"]["data"]
    assert params["evaluate"]["calibration_bins"] == 4
    assert "accuracy" in workspace["data"]["metrics"]["outputs/metrics.json"]["data"]
    found = json.loads(committed.run("dvc", "metrics", "diff", "--all", "--json").stdout)
    accuracy = found["outputs/metrics.json"]["accuracy"]
    assert accuracy["diff"] == 0  # other bins change no prediction
    committed.run("dvc", "plots", "diff", "-o", "drawn")
    page = (committed.root / "drawn/index.html").read_text()
    assert "calibration.csv" in page
    assert "HEAD" in page
