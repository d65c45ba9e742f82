"""The warm process: a stage runs in its fork if nothing differs, and otherwise by itself."""

import importlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from amounts import usual
from projects import DEBUG, ROOT, Project, make_project

from flows import warm
from flows.repro import LIBRARIES
from tasks.session import cuda_devices
from tasks.warm import LIGHT, STEPS, TORCH

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a warm process")
LONG = {"epochs": 100_000, "patience": 100_000}
# Prints the exit status of a step that ran in a fork, or None.
ASK = ("-c", "from tasks.warm import in_warm_process; print(in_warm_process(['train']))")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project after the stage `prepare`."""
    project = make_project(tmp_path_factory.mktemp("warm") / "project", DEBUG)
    assert run(project, "prepare").wait(240) == 0
    return project


@pytest.fixture(scope="module")
def warmed(prepared: Project) -> Iterator[Project]:
    """The same, while a warm process runs."""
    with pytest.MonkeyPatch.context() as patch, started(prepared, patch):
        yield prepared


def started(project: Project, patch: pytest.MonkeyPatch):
    for name, value in project.variables.items():
        patch.setenv(name, value)
    patch.delenv("PYTEST_CURRENT_TEST", raising=False)  # it differs in each test
    return warm.warm_process(project.root)


def run(project: Project, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """Start the command of a stage, or other `arguments` of Python, as a flow does."""
    environment = {**project.variables, **warm.stage_environment(), **variables}
    environment.pop("PYTEST_CURRENT_TEST", None)
    return subprocess.Popen(
        [sys.executable, "-P", *(arguments if len(arguments) > 1 else ("-m", "tasks", *arguments))],
        cwd=variables.get("PWD", project.root),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def end(process: subprocess.Popen[str]) -> str:
    """The output of a command that must succeed."""
    printed, _ = process.communicate(timeout=240)
    assert process.returncode == 0, printed
    return printed


def epochs(process: subprocess.Popen[str], seen: str = "epoch ") -> str:
    """Read the output until the training has begun."""
    assert process.stdout is not None
    printed = ""
    for line in process.stdout:
        printed += line
        if seen in line:
            return printed
    raise AssertionError(printed)


def has_torch(number: int) -> bool:
    """Whether a process has loaded torch."""
    return "libtorch" in Path(f"/proc/{number}/maps").read_text()


def children(number: int) -> list[int]:
    """The processes that any thread of a process has started."""
    threads = Path(f"/proc/{number}/task").glob("*/children")
    return [int(child) for thread in threads for child in thread.read_text().split()]


def descendants(number: int) -> dict[int, str]:
    """The processes below one, by number, with their command lines."""
    found = {}
    for child in children(number):
        line = Path(f"/proc/{child}/cmdline").read_text()
        found |= {child: line.replace("\0", " ").strip(), **descendants(child)}
    return found


def step_of(project: Project) -> int:
    """The only process in a fork of the warm process that runs a step."""
    assert warm._warm.process is not None
    with_torch, *_ = children(warm._warm.process.pid)  # behind it guards of DVC
    (step,) = [step for guard in children(with_torch) for step in children(guard)]
    assert Path(f"/proc/{step}/cwd").readlink() == project.root
    return step


def gone(number: int) -> bool:
    """Whether a process ends within 20 s."""
    for _ in range(400):
        if not Path(f"/proc/{number}").exists():
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def training(warmed: Project) -> Iterator[subprocess.Popen[str]]:
    """The command of a long training, of which an epoch is over."""
    before = (warmed.root / "params.yaml").read_bytes()
    warmed.change_params({"train": {**DEBUG["train"], **LONG}})
    process = run(warmed, "train")
    try:
        epochs(process)
        yield process
    finally:
        process.kill()
        process.communicate(timeout=20)
        (warmed.root / "params.yaml").write_bytes(before)


def test_a_forked_step_has_a_session_of_its_own_and_its_command_needs_no_torch(
    warmed: Project, training: subprocess.Popen[str]
):
    step = step_of(warmed)
    assert os.getsid(step) == os.getpgid(step) == step
    assert (has_torch(step), has_torch(training.pid)) == (True, False)


def test_every_step_runs_in_a_fork(warmed: Project):
    for name in STEPS:  # in their order
        asked = end(run(warmed, "-c", ASK[1].replace("train", name)))
        assert asked.splitlines()[-1] == "0", asked


@pytest.mark.gpu
@pytest.mark.skipif(cuda_devices() == 0, reason="the NVIDIA driver finds no device")
def test_a_fork_trains_on_cuda(warmed: Project):
    before = (warmed.root / "params.yaml").read_bytes()
    warmed.change_params({"train": {**DEBUG["train"], "device": "cuda"}})
    asked = end(run(warmed, *ASK))
    (warmed.root / "params.yaml").write_bytes(before)
    assert "device: cuda (requested)" in asked
    assert asked.splitlines()[-1] == "0"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_to_the_command_ends_the_forked_step(
    warmed: Project, training: subprocess.Popen[str], number: signal.Signals
):
    step = step_of(warmed)
    training.send_signal(number)
    assert gone(step)
    assert training.wait(20) in (-number, -signal.SIGTERM)


def test_a_command_ends_by_the_signal_that_killed_its_forked_step(
    warmed: Project, training: subprocess.Popen[str]
):
    os.kill(step_of(warmed), signal.SIGKILL)
    assert training.wait(20) == -signal.SIGKILL


ENDS = [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP]


@pytest.mark.parametrize("number", usual(ENDS[:2], ENDS))
def test_a_signal_to_the_guard_ends_the_command_and_its_step(
    warmed: Project, training: subprocess.Popen[str], number: signal.Signals
):
    step = step_of(warmed)
    os.kill(int(Path(f"/proc/{step}/stat").read_text().split()[3]), number)
    assert training.wait(20) == -number
    assert gone(step)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_to_repro_ends_dvc_and_the_step(warmed: Project, number: signal.Signals):
    before = (warmed.root / "params.yaml").read_bytes()
    warmed.change_params({"train": {**DEBUG["train"], **LONG}})
    end(run(warmed, "-m", "flows.repro", "prepare"))
    command = run(warmed, "-m", "flows.repro", "train")
    try:
        epochs(command)
        assert warm._warm.process is not None
        with_torch, *guards = children(warm._warm.process.pid)
        below = [*guards, *(n for guard in guards for n in descendants(guard))]
        step = step_of(warmed)  # it runs in a fork, too
        command.send_signal(number)
        assert gone(step)
        assert command.wait(20) == -number
        assert len(below) >= 3  # a guard, DVC, the command of the stage
        assert all(gone(n) for n in below)
        assert children(warm._warm.process.pid) == [with_torch]
    finally:
        command.kill()
        command.communicate(timeout=20)
        (warmed.root / "params.yaml").write_bytes(before)


def test_a_signal_to_repro_ends_a_command_that_ignores_sigterm(warmed: Project):
    pipeline = warmed.root / "dvc.yaml"
    before = pipeline.read_text()
    stubborn = (
        "  stubborn:\n    cmd: trap '' TERM; printf 'p%s %s\\n' id $$; sleep 600; sleep 600\n"
    )
    pipeline.write_text(before.replace("stages:\n", f"stages:\n{stubborn}"))
    command = run(warmed, "-m", "flows.repro", "stubborn")
    try:
        number = int(epochs(command, "pid ").split()[-1])
        assert warm._warm.process is not None
        assert number in descendants(warm._warm.process.pid)
        command.terminate()
        assert command.wait(20) == -signal.SIGTERM
        assert gone(number)
    finally:
        command.kill()
        command.communicate(timeout=20)
        pipeline.write_text(before)


def test_repro_ends_with_the_status_of_dvc(warmed: Project):
    command = run(warmed, "-m", "flows.repro", "other")
    printed = command.communicate(timeout=240)[0]
    assert "ERROR: Stage 'other' not found inside 'dvc.yaml' file" in printed
    assert command.returncode == 255


OTHER = [
    {"OMP_NUM_THREADS": "3"},
    {"CUDA_VISIBLE_DEVICES": "7"},
    {"PYTHONHASHSEED": "5"},
    {"PYTHONPATH": "{root}:/elsewhere"},
    {"A_LIBRARY_MAY_READ_THIS": "1"},
    {"MODELMINT_WARM": "/gone:/gone"},
]


@pytest.mark.parametrize("variables", usual(OTHER[3:], OTHER))
def test_a_command_in_another_environment_must_run_the_step_itself(warmed: Project, variables):
    given = {name: value.format(root=warmed.root) for name, value in variables.items()}
    assert end(run(warmed, *ASK, **given)) == "None\n"


@pytest.mark.parametrize(
    "change",
    [
        "import os; os.umask(os.umask(0) ^ 0o007)",
        "from resource import *; limits = getrlimit(RLIMIT_NOFILE)\n"
        "setrlimit(RLIMIT_NOFILE, (limits[0] - 1, limits[1]))",
        "from pathlib import Path; first = Path('/proc/self/oom_score_adj')\n"
        "first.write_text(str(int(first.read_text()) + 1))",
        "import os; os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))",
        "import psutil; psutil.Process().ionice(psutil.IOPRIO_CLASS_IDLE)",
        "import signal; signal.signal(signal.SIGUSR2, signal.SIG_IGN)",
        "import sys; sys.path.append('/elsewhere')",
        "import sys; sys.warnoptions.append('error')",
        "import sys; sys.prefix += '-other'",
    ],
)
def test_a_command_that_was_granted_something_else_must_run_the_step_itself(
    warmed: Project, change: str
):
    assert end(run(warmed, "-c", f"{change}\n{ASK[1]}")) == "None\n"


def test_a_command_in_a_copy_of_the_code_must_run_the_step_itself(warmed: Project, tmp_path: Path):
    shutil.copytree(warmed.root / "tasks", tmp_path / "tasks")
    assert end(run(warmed, *ASK, PYTHONPATH=str(tmp_path))) == "None\n"


def test_a_command_with_too_large_an_environment_must_run_the_step_itself(warmed: Project):
    many = {f"MODELMINT_LONG_{number}": "x" * 100_000 for number in range(4)}
    assert end(run(warmed, *ASK, **many)) == "None\n"


def test_a_command_does_not_wait_for_a_warm_process_that_hangs(warmed: Project):
    assert warm._warm.process is not None
    (with_torch,) = children(warm._warm.process.pid)
    os.kill(with_torch, signal.SIGSTOP)
    try:
        given = f"from tasks import warm; warm.PATIENCE_S = 0.5\n{ASK[1]}"
        assert end(run(warmed, "-c", given)) == "None\n"
    finally:
        os.kill(with_torch, signal.SIGCONT)


def test_a_fork_runs_the_code_that_is_on_the_disk_now(warmed: Project, tmp_path: Path):
    """Without a dvc.yaml nothing is recorded, so the changed code is not refused."""
    shutil.copyfile(warmed.root / "params.yaml", tmp_path / "params.yaml")
    code = warmed.root / "tasks/train.py"
    before = code.read_text()
    code.write_text(before + "\nraise InputError('the edited code')\n")
    asked = run(warmed, *ASK, PWD=str(tmp_path))
    printed = asked.communicate(timeout=240)[0]
    code.write_text(before)
    assert printed == "error: the edited code\n2\n"


def test_a_step_goes_on_if_the_warm_process_is_killed_and_the_next_one_runs_by_itself(
    prepared: Project, monkeypatch: pytest.MonkeyPatch
):
    with started(prepared, monkeypatch):
        assert warm._warm.process is not None
        process = run(prepared, "train")
        epochs(process, "epoch 1/")
        assert not has_torch(process.pid)
        warm._warm.process.kill()
        warm._warm.process.wait()
        end(process)
        end(run(prepared, "evaluate"))


def test_a_warm_process_ends_with_the_process_that_started_it_and_leaves_no_file(
    prepared: Project, tmp_path: Path
):
    script = (
        "import os, signal, time; from pathlib import Path; from flows import warm\n"
        "warm.start_if_stale(Path.cwd()); first = warm._warm.process.pid\n"
        "listed = Path(f'/proc/{first}/task/{first}/children')\n"
        "while not (second := listed.read_text()): time.sleep(0.05)\n"
        "print(first, second, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=prepared.root,
        env={**prepared.variables, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    numbers = process.communicate(timeout=240)[0].split()
    assert len(numbers) == 2
    assert all(gone(int(number)) for number in numbers)
    assert not list(tmp_path.iterdir())


def test_without_room_for_its_sockets_no_warm_process_is_started(
    prepared: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with started(prepared, monkeypatch):
        assert warm._warm.process is None
        assert not list(long.iterdir())
        assert end(run(prepared, *ASK)) == "None\n"


def test_modelmint_train_uses_the_warm_process_and_leaves_nothing_after_ctrl_c(
    prepared: Project, prefect_server: str, tmp_path: Path
):
    """DVC, Prefect and the shell are in between, and could change a variable."""
    project = Project(prepared.root, {"PREFECT_API_URL": prefect_server, "TMPDIR": str(tmp_path)})
    before = (project.root / "params.yaml").read_bytes()
    project.change_params({"train": {**DEBUG["train"], **LONG}})
    process = project.start("modelmint", "train")
    try:
        epochs(process, "epoch 1/")
        below = descendants(process.pid)
        # DVC starts it through a shell; some shells wait for it, others become it.
        commands = [number for number, line in below.items() if line.endswith("-m tasks train")]
        assert commands
        assert not any(has_torch(number) for number in commands)
        # Without a fork it would have become `-m dvc`.
        assert any(line.endswith("-m flows.repro train") for line in below.values())
        assert not any("-m dvc" in line for line in below.values())
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=240)
        (project.root / "params.yaml").write_bytes(before)
    assert all(gone(number) for number in below)
    assert not list(tmp_path.glob("modelmint-*"))


def test_no_warm_process_is_started_if_every_stage_is_fresh(trained: Project):
    warm.start_if_stale(trained.root)
    assert warm._warm.process is None


def test_a_stage_looks_stale_after_a_change_of_parameters_code_data_or_outputs(trained: Project):
    root = trained.root
    assert not warm.looks_stale(root)
    for name in ("params.yaml", "code.json", "dvc.lock"):
        text = (root / name).read_text()
        edited = text.replace("epochs: 3", "epochs: 4").replace('"train": "', '"train": "0')
        (root / name).write_text(edited.replace("  evaluate:", "  other:"))
        assert warm.looks_stale(root), name
        (root / name).write_text(text)
    assert not warm.looks_stale(root)
    later = (root / "dvc.lock").stat().st_mtime + 1
    os.utime(root / "data/raw/digits.csv.gz", (later, later))
    assert warm.looks_stale(root)
    os.utime(root / "dvc.lock", (later, later))
    assert not warm.looks_stale(root)
    (root / "outputs/metrics.json").rename(root / "outputs/gone.json")
    assert warm.looks_stale(root)
    (root / "outputs/gone.json").rename(root / "outputs/metrics.json")


@pytest.mark.parametrize("name", LIGHT + TORCH + LIBRARIES)
def test_the_modules_that_the_warm_process_imports_exist(name):
    importlib.import_module(name)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("dvc.lock", "schema: '2.0'\nstages:\n  train:\n"),
        ("dvc.lock", "schema: '2.0'\nstages: []\n"),
        ("dvc.lock", "schema: '2.0'\nstages:\n  train:\n    cmd: x\n    params: []\n"),
        ("dvc.yaml", "stages:\n  train:\n"),
        ("dvc.yaml", "["),
        ("params.yaml", "- 1\n"),
    ],
)
def test_broken_files_of_dvc_are_no_traceback_of_the_guess(name, content, tmp_path):
    for other in ("dvc.yaml", "dvc.lock", "params.yaml"):
        shutil.copy(ROOT / other, tmp_path / other)
    (tmp_path / name).write_text(content)
    assert warm.looks_stale(tmp_path) in (True, False)
