"""The commands in docs/ run on a small registry; those that cannot run here are parsed."""

import os
import re
import shlex
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import commands
import onnx
import pytest
from pages import (
    PAGES,
    README,
    ROOT,
    blocks_of,
    check_command,
    commands_of,
    in_repository,
    known_options,
    options_of,
)
from projects import SECONDS, Project, expect
from registry_helpers import bundle_candidate
from ruamel.yaml import YAML

from registry import Registry
from tasks import params
from tasks.errors import InputError
from tasks.workspace import Workspace

# Why a command does not run here. Its options are checked all the same.
NOT_RUN = {
    r"modelmint (serve|models ui)": "ends when it is stopped: flows/test_serve, registry/test_web",
    r"modelmint (status|doctor)": "has to report that no server runs: cli/test_status, test_doctor",
    r"modelmint prefect": "needs a server of Prefect: flows/test_serve",
    r"modelmint tune": "trains: flows/test_tuning",
    r"modelmint retrain": "needs a repository of DVC: flows/test_loop, test_examples",
    r"modelmint (run|train)": "trains: test_readme, flows/test_main_job, tasks/test_init_from",
    r"modelmint feedback \S+ \S+": "needs predictions and labels: flows/test_feedback",
    r"modelmint new": "test_readme and cli/test_new_project run it",
    r"modelmint models (sign|verify --public-key)": "needs a key: registry/test_signing",
    r"modelmint models roles": "needs PostgreSQL: registry/test_roles",
    r"modelmint models import-mlflow": "needs a registry of MLflow: registry/test_mlflow",
    r".*(--device cuda|s3://\S*|tcp://\S*)": "needs a GPU, a bucket or a cluster",
}
# What the words of the pages stand for, in the project `world`.
MEANING = {
    "INPUT": "data/prepared/test.arrow",
    "OTHER": "other.arrow",
    "DATA": "data/prepared/test.arrow",
    "DIR": "out",
    "FOLDER": "backup",
    "FILE": "digits-3.tar",
    "EVENT": "1",
    "sha256:HASH": f"sha256:{'0' * 64}",
}
# Commands that a command needs before it, and variables that it needs.
BEFORE = {
    "modelmint models import FILE": "modelmint models export digits:3 FILE",
    "modelmint models verify --backup FOLDER": "modelmint models backup FOLDER",
    "modelmint models restore FOLDER": "modelmint models backup FOLDER",
    "modelmint code --check": "modelmint code",
    "modelmint models unset digits@canary": "modelmint models promote digits:3 --alias canary",
    "modelmint models unarchive digits:3": "modelmint models archive digits:3",
}
VARIABLES = {
    "modelmint models restore FOLDER": {
        "MODELMINT_DATABASE_URL": "sqlite:///restored.db",
        "MODELMINT_ARTIFACTS": "restored",
    },
    "modelmint notify": {"MODELMINT_NOTIFY_COMMAND": "cat"},
    "modelmint notify --test": {"MODELMINT_NOTIFY_COMMAND": "cat"},
    "modelmint models init --lost-store": {"MODELMINT_ARTIFACTS": "empty"},
}
DOCS = [page for page in PAGES if page != README]
COMMANDS = sorted({command for page in DOCS for command in commands_of(page)})


def why_not_run(command: str) -> str | None:
    found = (why for pattern, why in NOT_RUN.items() if re.match(rf"{pattern}(?!\S)", command))
    return next(found, None)


@pytest.fixture(scope="module")
def world(pets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with three versions of `digits`: 2 is the champion, 1 was it before."""
    root = tmp_path_factory.mktemp("world") / "project"
    shutil.copytree(pets, root)
    for name in ("params.yaml", "dvc.yaml", "prefect.yaml"):
        shutil.copy(ROOT / name, root)
    shutil.copy(root / MEANING["INPUT"], root / "other.arrow")
    (root / "data/inbox").mkdir()
    arrived = root / "data/inbox/new.arrow"
    shutil.copy(root / MEANING["INPUT"], arrived)
    os.utime(arrived, (time.time() - 60,) * 2)  # an inbox leaves files of the last seconds
    (root / "empty").mkdir()
    with Registry(f"sqlite:///{root}/modelmint.db", root / "artifacts") as registry:
        for candidate in candidates(root):
            registry.register("digits", candidate, actor="ada")
        for number in (1, 2):
            registry.promote("digits", number, expect_revision=None, actor="ada", reason="better")
    return root


def candidates(root: Path) -> Iterator:
    """The last bundle of `pets` with three digests, from the data that docs/registry.md names."""
    workspace = Workspace(root)
    for number in range(3):
        model = onnx.load(workspace.bundle / "model.onnx")
        onnx.helper.set_model_props(model, {"copy": str(number)})
        onnx.save(model, workspace.bundle / "model.onnx")
        offered = bundle_candidate(workspace)
        data = {"data/raw/digits.csv.gz": "9b335364a7bfd63947c7480a5bd51f2d"}
        yield replace(offered, lineage=replace(offered.lineage, data=data))


def run(command: str, project: Project) -> str:
    """What a command prints; it must exit with 0."""
    words = [MEANING.get(word, word) for word in shlex.split(command)[1:]]
    return expect(commands.run(tuple(words), project.root, project.variables, SECONDS), 0).stderr


@pytest.mark.parametrize("command", [c for c in COMMANDS if not why_not_run(c)])
def test_a_command_in_the_docs_runs(command, world, tmp_path):
    project = Project(tmp_path / "project")
    shutil.copytree(world, project.root)
    project.environment["PYTHONPATH"] = str(ROOT)
    if command in BEFORE:
        run(BEFORE[command], project)
    project.environment |= VARIABLES.get(command, {})
    said = run(command, project)
    if "trace dvc:" in command:
        assert "digits:3" in said


@pytest.mark.whole  # it imports Prefect's own commands
def test_the_commands_of_prefect_in_the_docs_exist_with_their_options():
    found = [c for c in COMMANDS if c.startswith("modelmint prefect ")]
    assert len(found) >= 3
    for command in found:
        check_command(command)
    with pytest.raises(Exception, match='Unknown command "lss"'):
        check_command("modelmint prefect flow-run lss")


@pytest.mark.parametrize("pattern", NOT_RUN)
def test_a_reason_not_to_run_a_command_concerns_a_command_of_the_docs(pattern):
    assert [command for command in COMMANDS if re.match(pattern, command)]


@pytest.mark.parametrize("name", [*BEFORE, *VARIABLES])
def test_a_prepared_command_is_in_the_docs(name):
    assert name in COMMANDS


@pytest.mark.parametrize("page", PAGES, ids=in_repository)
def test_every_option_in_the_text_of_a_page_exists(page):
    # Of pip, uv, Dask, Prefect and torchrun.
    others = {"--require-hashes", "--fork-strategy", "--nthreads", "--work-queue"}
    others |= {"--max-restarts"}
    assert set(options_of(page)) <= known_options() | others


def test_the_parameters_in_docs_are_valid():
    snippets = [(page, text) for page in PAGES for text in blocks_of(page, "yaml")]
    assert snippets
    for page, text in snippets:
        check_parameters(text, page.name)
        if "target:" not in text:
            continue
        with pytest.raises(InputError, match="unknown key; did you mean 'target'"):
            check_parameters(text.replace("target:", "tarket:"), page.name)


def check_parameters(text: str, page: str) -> None:
    """Validate a snippet of params.yaml beside the sections that it leaves out."""
    others = {
        "prepare": {
            "source": {"kind": "tabular", "path": "data/raw/houses.csv", "target": "price"},
            "task": "classification",
        },
        "train": {"architecture": "mlp"},
        "evaluate": {"gates": {}},
        "registration": {"name": "houses"},
    }
    params.validate(others | YAML(typ="safe").load(text), page)
