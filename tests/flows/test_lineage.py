"""DVC's record of a stage equals what the stage read, whatever is edited while it runs."""

import hashlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from amounts import usual
from projects import DEBUG, ROOT, Project, copy_project, make_project
from registry_helpers import make_candidate, open_registry
from ruamel.yaml import YAML
from safetensors.numpy import save_file

from flows.candidate import collect_candidate
from flows.git import Code, differs
from flows.pretrained import Start, place_pretrained, read_start
from flows.versioning import why_stale
from registry import Registry
from tasks import params as parameters
from tasks.errors import InputError
from tasks.recorded import locked_stages
from tasks.training.base import read_marker
from tasks.workspace import Workspace

# A stage that does nothing. Arguments: its name, code to run after its inputs are hashed, and code
# to run after the imported code is checked.
STAGE = """
import os, shutil, sys
from pathlib import Path
root = Path.cwd()
from tasks.fingerprint import RunningCode
code = RunningCode()
from tasks.errors import InputError
from tasks.lineage import StageInputs
from tasks.pipeline import STEPS
from tasks.workspace import Workspace
workspace, step = Workspace(root), STEPS[sys.argv[1]]
def write(name, text):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)
def replace(name, old, new):
    text = (root / name).read_text()
    assert old in text
    write(name, text.replace(old, new))
def append(name):
    with (root / name).open("ab") as file:
        file.write(b"\\n")
def statement(name):
    with (root / name).open("a") as file:
        file.write("EDITED = True\\n")
def rewrite(name):
    (root / name).write_bytes((root / name).read_bytes())
try:
    read = StageInputs(workspace, step, code)
    exec(sys.argv[2])
    read.refuse_rewritten()
    exec(sys.argv[3])
    for name in step.writes:
        path = getattr(workspace, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch() if path.suffix else path.mkdir(exist_ok=True)
    read.end()
except InputError as error:
    sys.exit(str(error))
"""


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Project:
    """A project with a prepared dataset, whose stages are not under DVC yet."""
    made = make_project(tmp_path_factory.mktemp("lineage") / "project", DEBUG)
    made.run(sys.executable, "-m", "tasks", "prepare")
    return made


@pytest.fixture
def whole(own_trained) -> Project:
    """A project in which every stage ran under DVC, and nothing is registered."""
    for path in own_trained.root.glob("modelmint.db*"):
        path.unlink()
    shutil.rmtree(own_trained.root / "artifacts")
    return own_trained


@pytest.fixture
def project(template, tmp_path) -> Project:
    return copy_project(template.root, tmp_path / "project")


def run_edited_stage(project: Project, stage: str, edit: str, before: str = "") -> str:
    """The stage's error after an edit; empty if it recorded what it read."""
    done = project.python(STAGE, stage, before, edit, status=None)
    record = project.root / f"outputs/read/{stage}.json"
    assert record.exists() == (done.returncode == 0), done.stderr
    assert not done.stderr or len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


# What changes while a stage runs, several things at a time, and how each is named.
REFUSED = {
    "a parameter, code, prepared data": (
        "train",
        "replace('params.yaml', 'learning_rate: 0.02', 'learning_rate: 0.1');"
        "statement('tasks/train.py'); append('data/prepared/train.arrow')",
        (
            "train.optimizer.learning_rate (0.02 before, 0.1 now)",
            "tasks/train.py",
            "data/prepared/train.arrow",
        ),
    ),
    "a parameter that is new": (
        "train",
        "replace('params.yaml', 'freeze: []', 'frieze: []')",
        ("train.freeze ([] before, null now), train.frieze (null before, [] now)",),
    ),
    "a parameter of another type, raw data": (
        "prepare",
        "replace('params.yaml', 'label_noise: false', 'label_noise: 0');"
        "append('data/raw/digits.csv.gz')",
        ("prepare.label_noise (false before, 0 now)", "data/raw/digits.csv.gz"),
    ),
    "one of two sections": (
        "export",
        "replace('params.yaml', 'accuracy: 0.5', 'accuracy: 0.4')",
        ("evaluate.gates.accuracy (0.5 before, 0.4 now)",),
    ),
    "the parameters are half written": (
        "train",
        "write('params.yaml', 'a: [')",
        ("params.yaml (",),
    ),
    "the parameters, code and raw data are gone": (
        "prepare",
        "os.remove('params.yaml'); os.remove('tasks/prepare.py');"
        "os.remove('data/raw/digits.csv.gz')",
        ("params.yaml (", "tasks/prepare.py", "data/raw/digits.csv.gz"),
    ),
    "code in a folder, a file more, a file less": (
        "train",
        "statement('tasks/training/state.py'); write('data/base/version.json', '{}');"
        "os.remove('data/prepared/profile.json')",
        ("tasks/training/state.py", "data/base/version.json", "data/prepared/profile.json"),
    ),
    "code that is half written, the fingerprint": (
        "train",
        "write('tasks/train.py', 'def'); os.remove('code.json')",
        ("tasks/train.py", "code.json"),
    ),
    "code that was imported while it was changed, raw data that came back": (
        "prepare",
        "replace('tasks/preparing/noise.py', 'MOST', 'LEAST'); import tasks.preparing.noise;"
        "replace('tasks/preparing/noise.py', 'LEAST', 'MOST');"
        "rewrite('data/raw/digits.csv.gz')",
        ("tasks/preparing/noise.py", "data/raw/digits.csv.gz"),
    ),
    "more than three": (
        "train",
        "statement('tasks/train.py'); statement('tasks/device.py'); statement('tasks/errors.py');"
        "statement('tasks/dataset.py')",
        ("and 1 more",),
    ),
}


@pytest.mark.parametrize(("stage", "edit", "named"), REFUSED.values(), ids=REFUSED)
def test_a_stage_fails_and_names_an_input_that_changed_while_it_ran(stage, edit, named, project):
    printed = run_edited_stage(project, stage, edit)
    assert printed.startswith(f"changed while the stage {stage} ran: ")
    assert [name for name in named if name not in printed] == []
    assert "Give the same command again" in printed
    written = {
        "prepare": ["data/prepared"],
        "train": ["outputs/checkpoint", "outputs/history.csv"],
        "evaluate": ["outputs/metrics.json", "outputs/plots"],
        "export": ["outputs/bundle"],
    }
    assert not [path for path in written[stage] if (project.root / path).exists()]


ACCEPTED = {
    "prepare": {
        "parameters of other stages": "replace('params.yaml', 'seed: 0', 'seed: 5')",
        "code of other stages": "statement('tasks/train.py')",
    },
    "train": {
        "a comment in the parameters": "append('params.yaml')",
        "code saved as it was": "rewrite('tasks/train.py')",
        "a comment in code": "append('tasks/train.py')",
        "code that nothing imports": "write('tasks/architectures/new.py', '')",
        "what Python leaves beside code": "write('tasks/config/__pycache__/a.pyc', '')",
        "raw data once they were prepared": "append('data/raw/digits.csv.gz')",
    },
}


@pytest.mark.parametrize("stage", ACCEPTED)
def test_files_that_a_stage_does_not_read_may_change(stage, project):
    shutil.rmtree(project.root / "data/prepared") if stage == "prepare" else None
    assert run_edited_stage(project, stage, "; ".join(ACCEPTED[stage].values())) == ""


def test_a_stage_refuses_code_rewritten_while_it_was_imported(project):
    printed = run_edited_stage(project, "train", "pass", before="rewrite('tasks/train.py')")
    assert "changed while the stage train ran: tasks/train.py" in printed


def test_a_stage_detects_changes_of_raw_data_outside_the_project(project, tmp_path):
    outside = tmp_path / "elsewhere.csv.gz"
    shutil.move(project.root / "data/raw/digits.csv.gz", outside)
    for path in (str(outside), "../elsewhere.csv.gz"):
        project.change_params({"prepare": {"source": {"kind": "digits", "path": path}}})
        shutil.rmtree(project.root / "data/prepared", ignore_errors=True)
        assert path in run_edited_stage(project, "prepare", f"append({path!r})")
        shutil.rmtree(project.root / "data/prepared", ignore_errors=True)
        assert run_edited_stage(project, "prepare", "pass") == ""


def test_a_stage_detects_a_changed_salt_file_that_dvc_does_not_track(project):
    (project.root / "salt").write_text("one key")
    hashing = {"sensitive": ["name"], "sensitive_rule": "hash", "salt_file": "salt"}
    project.change_params({"prepare": hashing})
    shutil.rmtree(project.root / "data/prepared")
    assert "ran: salt. " in run_edited_stage(project, "prepare", "write('salt', 'another key')")
    assert run_edited_stage(project, "prepare", "pass") == ""
    record = (project.root / "outputs/read/prepare.json").read_text()
    assert json.loads(record)["salt"]
    assert "another key" not in record


def test_a_stage_without_its_record_among_the_outs_is_refused(project):
    path = project.root / "dvc.yaml"
    path.write_text(path.read_text().replace("      - outputs/read/train.json\n", ""))
    assert "train must name outputs/read/train.json among its outs" in run_edited_stage(
        project, "train", "pass"
    )


def test_a_stage_without_its_code_fingerprint_is_refused(project):
    path = project.root / "dvc.yaml"
    path.write_text(path.read_text().replace("      - code.json: [stages.train]\n", ""))
    assert "train must name code.json: [stages.train] among its params" in run_edited_stage(
        project, "train", "pass"
    )


def run_with_edit(project: Project, command: list[str], line: str, edit) -> tuple[int, str]:
    """Run a command; when it prints `line`, stop it for the duration of `edit`."""
    process = subprocess.Popen(
        command,
        cwd=project.root,
        env={**project.variables, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    printed, made = "", False
    for found in process.stdout:
        printed += found
        if not made and re.search(line, found):
            os.killpg(process.pid, signal.SIGSTOP)
            edit()
            made = True
            os.killpg(process.pid, signal.SIGCONT)
    process.stdout.close()
    assert made, printed
    return process.wait(), printed


def learning_rates(project: Project) -> tuple[float, float]:
    """The learning rate in `dvc.lock`, and the one that was used."""
    params = locked_stages(project.root)["train"]["params"]["params.yaml"]
    history = (project.root / "outputs/history.csv").read_text().splitlines()
    return params["train"]["optimizer"]["learning_rate"], float(history[1].split(",")[-1])


def test_repro_after_parameters_changed_during_training_uses_the_new_ones(project):
    def edit(value):
        project.change_params({"train": {"optimizer": {"learning_rate": value}}})

    project.change_params({"train": {"epochs": 30, "patience": 30}})
    before = locked_stages(project.root)["train"]
    status, text = run_with_edit(
        project, ["dvc", "repro", "train"], "epoch 20/30", lambda: edit(0.001)
    )
    assert status != 0
    assert "error: changed while the stage train ran: train.optimizer.learning_rate (0.02" in text
    assert locked_stages(project.root)["train"] == before
    # With the old value again, the training resumes.
    edit(0.02)
    text = project.run("dvc", "repro", "train").stdout
    assert "resuming after epoch" in text
    assert learning_rates(project) == (0.02, 0.02)
    edit(0.001)
    assert "Running stage 'train'" in project.run("dvc", "repro", "train").stdout
    assert learning_rates(project) == (0.001, 0.001)
    assert "up to date" in project.run("dvc", "status", "train").stdout


@pytest.mark.release  # the tests of single stages above: each kind of edit
def test_repro_refuses_code_edited_during_training(project):
    code = project.root / "tasks/training/objective.py"
    project.change_params({"train": {"epochs": 20, "patience": 20}})
    before = locked_stages(project.root)["train"]

    def edit():
        code.write_text(code.read_text() + "\nEDITED = True\n")

    status, printed = run_with_edit(project, ["dvc", "repro"], "epoch 3/20", edit)
    assert status != 0
    assert "changed while the stage train ran: tasks/training/objective.py" in printed
    assert locked_stages(project.root)["train"] == before


@pytest.mark.release  # the same
def test_repro_refuses_raw_data_replaced_during_prepare(project):
    raw = project.root / "data/raw/digits.csv.gz"
    before = locked_stages(project.root)["prepare"]

    def edit():
        raw.with_name("new").write_bytes(raw.read_bytes() + b"\n")
        raw.with_name("new").replace(raw)

    status, printed = run_with_edit(project, ["dvc", "repro"], "reading data/raw", edit)
    assert status != 0
    assert "changed while the stage prepare ran: data/raw/digits.csv.gz" in printed
    assert locked_stages(project.root)["prepare"] == before


def misrecord(project: Project, value: float = 0.5) -> None:
    """Simulate an edit between the end of a stage and DVC's reading of its inputs."""
    project.change_params({"train": {"optimizer": {"learning_rate": value}}})
    path = project.root / "dvc.lock"
    lock = YAML(typ="safe").load(path.read_text())
    train = lock["stages"]["train"]["params"]["params.yaml"]["train"]
    train["optimizer"]["learning_rate"] = value
    with path.open("w") as file:
        YAML(typ="safe", pure=True).dump(lock, file)
    # DVC does not notice.
    assert "up to date" in project.run("dvc", "status").stdout


def test_the_next_stage_refuses_a_wrong_dvc_record_and_repro_repairs_it(whole):
    misrecord(whole)
    done = whole.run("dvc", "repro", "-sf", "evaluate", status=None)
    assert done.returncode != 0
    assert (
        "error: the stage train did not read what DVC has recorded, or it has changed since: "
        "train.optimizer.learning_rate (0.02 was read, 0.5 is recorded). Give the same command "
        "again"
    ) in done.stdout + done.stderr
    assert "Running stage 'train'" in whole.run("dvc", "repro", "train").stdout
    assert learning_rates(whole) == (0.5, 0.5)
    assert "up to date" in whole.run("dvc", "status", "train").stdout


def damage(project: Project, name: str) -> Path:
    """Change one byte of a file in the DVC cache."""
    record = {
        out["path"]: out["md5"] for s in locked_stages(project.root).values() for out in s["outs"]
    }
    folder, _, within = name.rpartition("/")
    cache = project.root / ".dvc/cache/files/md5"
    if name in record:
        md5 = record[name]
    else:
        listing = (cache / record[folder][:2] / record[folder][2:]).read_bytes()
        md5 = next(e["md5"] for e in json.loads(listing) if e["relpath"] == within)
    path = cache / md5[:2] / md5[2:]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(0o444)
    return path.relative_to(project.root)


def test_the_next_stage_names_a_damaged_cache_file_and_its_repair(whole):
    path = damage(whole, "data/prepared/train.arrow")
    shutil.rmtree(whole.root / "data/prepared")
    whole.change_params({"train": {"seed": 9}})
    done = whole.run("dvc", "repro", "train", status=None)
    assert done.returncode != 0
    (line,) = (found for found in done.stderr.splitlines() if found.startswith("error: "))
    remedy = f"rm -f {path} && dvc repro -sf prepare"
    assert line == (
        "error: data/prepared/train.arrow: the content differs from the one in dvc.lock (stage "
        f"prepare). The DVC cache is damaged; repair it: {remedy}"
    )
    whole.run("sh", "-c", remedy)
    whole.run("dvc", "repro", "train")
    assert "up to date" in whole.run("dvc", "status", "train").stdout


@pytest.mark.timeout(600)  # several flows, and a fixture that runs all stages
def test_train_registers_nothing_misrecorded_or_damaged(whole):
    project = whole
    project.commit()
    misrecord(project, 0.05)
    outcome = project.train()
    how = {step["name"]: step["how"] for step in outcome["steps"]}
    assert (how["prepare"], how["train"]) == ("Fresh", "Completed")
    assert learning_rates(project) == (0.05, 0.05)
    # A stage that is fresh for DVC is verified, whether its output was restored or existed.
    path = damage(project, "outputs/bundle/model.onnx")
    shutil.rmtree(project.root / "outputs/bundle")
    for _ in usual("a", "ab"):
        outcome = project.train(status=2)
        assert "export: outputs/bundle/model.onnx: the content differs" in outcome["message"]
        assert not outcome["version"]
    remedy = f"rm -f {path} && dvc repro -sf export"
    assert outcome["message"].endswith(remedy)
    project.run("sh", "-c", remedy)
    assert project.train()["version"] == "digits:1"


def test_differs_compares_code_with_a_commit(project):
    commit = project.run("git", "rev-parse", "HEAD").stdout.strip()
    paths = ["tasks/train.py", "tasks/training"]
    (project.root / "README.md").write_text("of no matter")
    (project.root / "tasks/evaluate.py").write_text("of another stage")
    assert not differs(project.root, commit, paths)
    new = project.root / "tasks/training/new.py"
    new.write_text("")
    assert differs(project.root, commit, paths)
    project.commit()
    assert differs(project.root, commit, paths)
    assert not differs(project.root, "HEAD", paths)


def test_place_pretrained_replaces_changed_weights(tmp_path):
    candidate = make_candidate(tmp_path / "bundle")
    weights = tmp_path / "bundle/weights.safetensors"
    weights.write_text("the weights")
    candidate.files[weights.name] = weights
    workspace = Workspace(tmp_path / "project")
    with open_registry(tmp_path) as registry:
        registry.register("digits", candidate, actor="ada")
        place_pretrained(registry, "digits:1", workspace, tmp_path)
        start = read_start(workspace, tmp_path)
        assert start == Start(
            {"ref": "digits:1", "digest": registry.resolve("digits:1").version.digest}
        )
        placed = workspace.base / weights.name
        for spoil in (lambda: placed.write_text("other weights"), placed.unlink):
            spoil()
            with pytest.raises(
                InputError,
                match=r"weights\.safetensors was changed: it is not the file of digits:1",
            ):
                read_start(workspace, tmp_path)
            place_pretrained(registry, "digits:1", workspace, tmp_path)
            assert placed.read_text() == "the weights"
            assert read_start(workspace, tmp_path) == start
    # A marker of an older release has no hashes: it is accepted, and the next flow copies again.
    document = {"ref": "digits:1", "digest": start.parent["digest"]}
    (workspace.base / "version.json").write_text(json.dumps(document))
    assert read_start(workspace, tmp_path) == start


def test_a_file_of_weights_is_copied_from_the_checkout_and_again_when_it_changed(tmp_path):
    checkout, worktree = tmp_path / "checkout", Workspace(tmp_path / "worktree")
    path, name = checkout / "weights/own.safetensors", "weights/own.safetensors"
    placed = worktree.base / "weights.safetensors"
    with open_registry(tmp_path) as registry:
        with pytest.raises(InputError, match=f"there is no file {path}"):
            place_pretrained(registry, name, worktree, checkout)
        assert not worktree.base.exists()
        # Without a start DVC demands the folder as well, which somebody may have removed.
        place_pretrained(registry, None, worktree, checkout)
        assert list(worktree.base.iterdir()) == []
        path.parent.mkdir(parents=True)
        for value in (1.0, 2.0):
            save_file({"a": np.full(3, value)}, path)
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            assert place_pretrained(registry, name, worktree, checkout) == (
                f"training starts from the 1 tensors of {name} (SHA-256 {sha256})"
            )
            assert placed.read_bytes() == path.read_bytes()
            start = read_start(worktree, checkout)
            assert start == Start(weights={"file": name, "sha256": sha256})
        before = placed.stat().st_mtime_ns
        place_pretrained(registry, name, worktree, checkout)
        assert placed.stat().st_mtime_ns == before  # DVC need not hash it again
        # A file that cannot be read leaves the copy as it was.
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(InputError, match="is not a whole"):
            place_pretrained(registry, name, worktree, checkout)
        with pytest.raises(InputError, match=f"{name} changed during this run, which started from"):
            read_start(worktree, checkout)
        placed.write_bytes(b"")
        with pytest.raises(InputError, match=f"was changed: it is not the file of {name}"):
            read_start(worktree, checkout)
        place_pretrained(registry, None, worktree, checkout)
        assert list(worktree.base.iterdir()) == []
        assert read_start(worktree, checkout) == Start()


@pytest.mark.parametrize(
    "left", ["", '{"ref"', "null", "[]", '{"ref": "digits:1"}', '{"file": "x"}', '{"sha256": 3}']
)
def test_a_damaged_marker_is_named_and_the_next_flow_writes_it_anew(left, tmp_path):
    """A full disk leaves an empty one behind the weights."""
    name, workspace = "own.safetensors", Workspace(tmp_path)
    save_file({"a": np.ones(3)}, tmp_path / name)
    with open_registry(tmp_path) as registry:
        place_pretrained(registry, name, workspace, tmp_path)
        start = read_start(workspace, tmp_path)
        marker = workspace.base / "version.json"
        marker.write_text(left)
        with pytest.raises(InputError, match=r"version\.json is damaged\. Run `modelmint train`"):
            read_start(workspace, tmp_path)
        with pytest.raises(InputError, match=r"version\.json is damaged\. Run `modelmint train`"):
            read_marker(workspace.base, name)
        place_pretrained(registry, name, workspace, tmp_path)
        assert read_start(workspace, tmp_path) == start


def test_weights_that_do_not_fit_on_the_disk_leave_nothing(tmp_path):
    """A limit of the size of files stands for it."""
    save_file({"a": np.ones(3000)}, tmp_path / "own.safetensors")
    workspace, limits = Workspace(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    with open_registry(tmp_path) as registry:
        resource.setrlimit(resource.RLIMIT_FSIZE, (9000, limits[1]))
        try:
            with pytest.raises(InputError, match=r"cannot be copied to .*base \(File too large\)"):
                place_pretrained(registry, "own.safetensors", workspace, tmp_path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(workspace.base.iterdir()) == []


def test_a_file_of_weights_that_the_run_itself_writes_is_refused(tmp_path):
    """A training from its own checkpoint would find that changed in every attempt."""
    shutil.copy(ROOT / "dvc.yaml", tmp_path / "dvc.yaml")
    workspace, other = Workspace(tmp_path), Workspace(tmp_path / "runs/1")
    for folder in (workspace.base, workspace.checkpoint):
        folder.mkdir(parents=True)
        save_file({"a": np.ones(3)}, folder / "weights.safetensors")
    (tmp_path / "link.safetensors").symlink_to("outputs/checkpoint/weights.safetensors")
    names = ("data/base/weights.safetensors", "outputs/checkpoint/weights.safetensors")
    with open_registry(tmp_path) as registry:
        for name in (*names, "outputs/../data/base/weights.safetensors", "link.safetensors"):
            with pytest.raises(InputError, match=r"which a training writes anew\. Copy the file"):
                place_pretrained(registry, name, workspace, tmp_path)
        assert (tmp_path / names[0]).is_file()
        # A run in a worktree has outputs of its own.
        place_pretrained(registry, names[1], other, tmp_path)


def test_the_version_has_the_hash_of_the_weights_that_the_training_read(whole):
    """One training from a file in the checkout; then the file changes."""
    path, name = whole.root / "weights/own.safetensors", "weights/own.safetensors"
    path.parent.mkdir()
    shutil.copy(whole.root / "outputs/checkpoint/weights.safetensors", path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    whole.change_params({"train": {"init_from": name, "init_keys": {"head": "head"}}})
    outcome = whole.train()
    assert outcome["version"] == "digits:1"
    shown = " ".join(whole.modelmint("models", "show", "digits:1").stderr.split())
    assert f"started from {name} sha256:{sha256} " in shown
    assert f"data {name}" not in shown
    for hash_ in (f"sha256:{sha256}", sha256):
        traced = json.loads(whole.modelmint("models", "trace", hash_, "--json").stdout)
        assert [version["version"] for version in traced["versions"]] == [1]
    assert "no problems" in whole.modelmint("models", "verify").stderr
    with Registry(f"sqlite:///{whole.root}/modelmint.db", whole.root / "artifacts") as registry:
        files = registry.open(registry.resolve("digits:1").version)
        document = json.loads(files["lineage.json"].read_bytes())
        assert document["weights"] == {"file": name, "sha256": sha256}
        assert document["parent"] is None
        workspace, code = Workspace(whole.root), Code(None, True)
        params = parameters.load(workspace.params)
        collect = partial(collect_candidate, params, workspace, whole.root, code, None)
        (whole.root / "one").mkdir()
        assert collect(whole.root / "one").candidate.lineage.weights == {name: sha256}
        save_file({"head.bias": np.zeros(10, np.float32)}, path)
        (whole.root / "two").mkdir()
        with pytest.raises(InputError, match=f"{name} changed during this run"):
            collect(whole.root / "two")
        assert not why_stale(whole.root, "train")
        place_pretrained(registry, name, workspace, whole.root)
        assert why_stale(whole.root, "train") == [{"changed deps": {"data/base": "modified"}}]
