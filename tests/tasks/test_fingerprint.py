"""Fingerprints of the stages' code: what they cover, and refusal of changed code."""

import ast
import gc
import importlib.util
import json
import os
import py_compile
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest
from projects import ROOT, Project, make_project

from tasks import fingerprint, snapshot, syntax
from tasks.pipeline import STEPS
from tasks.recorded import locked_stages, misrecorded
from tasks.workspace import Workspace

CODE = '''
"""A module."""
import os  # the system


class Thing:
    """A thing."""

    size: int = 3
    """Its size in bytes."""

    def grow(self, by: float = 1.5) -> float:
        """Grow it."""
        return self.size * (by + 1)
'''


def digest(text: str) -> str:
    return syntax.file_digest(text.encode())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  # the system", ""),
        ("A module.", "Another docstring."),
        ("A thing.", "Other words."),
        ("Its size in bytes.", "The docstring of a field."),
        ('        """Grow it."""\n', ""),
        ("(by + 1)", "(  by\n            + 1  )"),
        ("\n\nclass", "\n# A comment.\nclass"),
    ],
)
def test_comments_docstrings_and_formatting_do_not_change_the_fingerprint(old, new):
    assert old in CODE
    assert digest(CODE.replace(old, new)) == digest(CODE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("size: int = 3", "size: int = 4"),
        ("size: int = 3", "size: int = 3.0"),
        ("size: int = 3", "size: int = '3'"),
        ("by + 1", "by - 1"),
        ("by: float", "by: int"),
        ("class Thing", "class Other"),
        ("import os", "from os import path as os"),
        ("import os", "import os, sys"),
        ("self.size * (by + 1)", "self.size * by + 1"),
        ("return ", ""),
    ],
)
def test_every_change_of_syntax_changes_the_fingerprint(old, new):
    assert old in CODE
    assert digest(CODE.replace(old, new)) != digest(CODE)


def test_the_fingerprint_is_the_same_in_every_release_of_python():
    assert digest(CODE) == "6700409be198e08d"


@pytest.mark.parametrize("stage", STEPS)
def test_files_of_a_stage_are_all_modules_that_its_step_imports(stage):
    """Compares with the import graph of the library grimp."""
    graph = grimp.build_graph("tasks", cache_dir=None)
    modules = {f"tasks.{stage}", "tasks.pipeline", "tasks.params"}
    ahead = set(modules)
    while ahead:
        module = ahead.pop()
        new = graph.find_upstream_modules(module)
        new |= {module.rpartition(".")[0]} - {""}  # importing a module runs its package first
        ahead |= new - modules
        modules |= new
    stems = [ROOT / module.replace(".", "/") for module in modules]
    paths = [p / "__init__.py" if p.is_dir() else p.with_suffix(".py") for p in stems]
    assert set(fingerprint.files_of(stage)) == {p.relative_to(ROOT).as_posix() for p in paths}


def test_imports_are_found_in_every_block():
    blocks = """
if 1: import m.a
elif 2: import m.b
else: import m.c
for x in y: import m.d
else: import m.e
while x: import m.f
else: import m.g
try: import m.h
except A: import m.i
else: import m.j
finally: import m.k
try: import m.l
except* A: import m.m
with x: import m.n
match x:
    case 1: import m.o
def f():
    import m.p
    async def g():
        async with x: import m.q
        async for x in y: import m.r
class C: import m.s
"""
    found = set(syntax.parsed(blocks.encode(), "").imports)
    assert found == {"m", *(f"m.{letter}" for letter in "abcdefghijklmnopqrs")}


def test_code_json_of_the_repository_is_up_to_date():
    """If this fails, run `modelmint code`."""
    assert fingerprint.code_changes(ROOT, STEPS) == []
    assert fingerprint.recorded_code(ROOT) == fingerprint.installed_code(STEPS)


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Project:
    """A project with a small table, after `dvc repro prepare`."""
    made = make_project(tmp_path_factory.mktemp("code") / "project")
    rows = "".join(f"{n % 7},{n % 3},{'ab'[n % 2]}\n" for n in range(60))
    (made.root / "data/raw/table.csv").write_text("x,z,y\n" + rows)
    source = {"kind": "tabular", "path": "data/raw/table.csv", "target": "y"}
    network = {"architecture": "logistic", "epochs": 1}
    made.change_params({"prepare": {"source": source}, "train": network})
    made.run("dvc", "repro", "-q", "prepare")
    return made


@pytest.fixture
def project(template, tmp_path) -> Project:
    shutil.copytree(template.root, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project")


def append(project: Project, name: str, text: str) -> None:
    with (project.root / name).open("a") as file:
        file.write(text)


def test_a_comment_makes_no_stage_stale(project):
    append(project, "tasks/prepare.py", "\n# A comment.\n")
    before = (project.root / "code.json").read_bytes()
    assert "no stage becomes stale" in project.modelmint("code").stderr
    assert (project.root / "code.json").read_bytes() == before
    done = project.run("dvc", "repro", "prepare")
    assert "Stage 'prepare' didn't change, skipping" in done.stdout


def test_stages_and_flows_refuse_changed_code_until_modelmint_code_runs(project):
    append(project, "tasks/preparing/splitting.py", "\nNEW = 1\n")
    before = locked_stages(project.root)
    refused = (
        "error: code.json does not describe the code that would run (prepare: "
        "tasks/preparing/splitting.py), so nothing was run. Run `modelmint code`"
    )
    # Fresh for DVC, but what a training registers would have another origin than it says.
    assert refused in project.modelmint("train", status=2).stderr
    done = project.run("dvc", "repro", "-f", "prepare", status=None)
    assert done.returncode != 0
    assert refused in done.stderr
    assert locked_stages(project.root) == before
    said = project.modelmint("code", "--check", status=1).stderr.splitlines()
    assert said[0] == "prepare would become stale: tasks/preparing/splitting.py"
    assert json.loads(project.modelmint("code", "--json").stdout) == {
        "prepare": ["tasks/preparing/splitting.py"]
    }
    assert "no stage becomes stale" in project.modelmint("code", "--check").stderr
    status = project.run("dvc", "status", "prepare").stdout
    assert "code.json" in status
    assert "Running stage 'prepare'" in project.run("dvc", "repro", "prepare").stdout
    assert locked_stages(project.root) != before


def test_changed_code_of_one_stage_makes_no_other_stage_stale(project):
    append(project, "tasks/evaluate.py", "\nNEW = 1\n")
    said = project.modelmint("code").stderr.splitlines()
    assert said == [
        "evaluate becomes stale: tasks/evaluate.py",
        "export becomes stale: tasks/evaluate.py",
        "updated code.json; commit it",
    ]
    done = project.run("dvc", "repro", "prepare")
    assert "Stage 'prepare' didn't change, skipping" in done.stdout


@pytest.mark.parametrize("content", [None, "<<<<<<< HEAD\n{}\n"])
def test_modelmint_code_replaces_a_missing_or_conflicting_code_json(content, project):
    path = project.root / "code.json"
    before = path.read_bytes()
    path.unlink() if content is None else path.write_text(content)
    assert "missing or cannot be read" in project.modelmint("train", status=2).stderr
    project.modelmint("code")
    assert path.read_bytes() == before


def test_a_tasks_folder_in_the_project_does_not_shadow_the_installed_code(project, tmp_path):
    installed = tmp_path / "installed"
    installed.mkdir()
    project.environment["PYTHONPATH"] = str(installed)
    for package in ("tasks", "flows", "registry", "cli"):
        (project.root / package).rename(installed / package)
        (project.root / package).mkdir()
        (project.root / package / "__init__.py").write_text("raise SystemExit('not this one')\n")
    assert "no stage becomes stale" in project.modelmint("code").stderr
    done = project.run("dvc", "repro", "-f", "prepare")
    assert "Running stage 'prepare'" in done.stdout


def test_a_stage_runs_again_if_dvc_recorded_other_code(project):
    """As after `dvc commit` with edited code."""
    record = project.root / "outputs/read/prepare.json"
    document = json.loads(record.read_bytes())
    assert document["code"] == fingerprint.of_stage(project.root, "prepare")
    workspace = Workspace(project.root)
    assert misrecorded(workspace, "prepare") == []
    record.unlink()
    record.write_text(json.dumps({**document, "code": "0" * 16}))
    (found,) = misrecorded(workspace, "prepare")
    assert found.startswith("code (0000000000000000 was run, ")


@pytest.mark.parametrize("stage", STEPS)
def test_params_and_config_are_code_of_every_stage(stage):
    assert {"tasks/params.py", "tasks/config/train.py"} <= fingerprint.files_of(stage).keys()


def test_bytecode_that_may_be_older_than_its_source_is_removed(tmp_path):
    source = tmp_path / "module.py"
    source.write_text("FOLDS = 3\n")
    compiled = Path(py_compile.compile(str(source)))
    assert compiled == Path(importlib.util.cache_from_source(str(source)))
    fingerprint._remove_old_bytecode(snapshot.python_stamps(tmp_path))
    assert compiled.exists()
    before = source.stat()
    source.write_text("FOLDS = 7\n")  # of the same size, and then with the same time
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    fingerprint._remove_old_bytecode(snapshot.python_stamps(tmp_path))
    assert not compiled.exists()


@pytest.mark.parametrize("number", [2, 0, -1, True, None, "1", 1.0])
def test_code_json_of_another_format_is_replaced(number, tmp_path):
    fingerprint.record_code(tmp_path, fingerprint.installed_code(STEPS))
    assert not fingerprint.code_changes(tmp_path, STEPS)
    path = tmp_path / fingerprint.FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": number}))
    assert [change.stage for change in fingerprint.code_changes(tmp_path, STEPS)] == list(STEPS)
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty place for results, as of a new process."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(syntax, "_KEPT", tmp_path / "fingerprints.json")
    forget()
    yield tmp_path / "fingerprints.json"
    forget()


def forget() -> None:
    """What a process has parsed ends with it."""
    syntax._kept.cache_clear()
    syntax._new.clear()
    fingerprint._parsed.cache_clear()


def test_another_process_finds_the_same_fingerprints_without_parsing(
    kept: Path, monkeypatch: pytest.MonkeyPatch
):
    first = {stage: fingerprint.files_of(stage) for stage in STEPS}
    forget()
    monkeypatch.setattr(ast, "parse", None)
    assert {stage: fingerprint.files_of(stage) for stage in STEPS} == first


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not JSON",
        "[]",
        '{"by": "another release", "files": {}}',
        '{"files": {}}',
        '{"by": "BY", "files": {"a": "b"}}',
        '{"by": "BY", "files": [1]}',
    ],
)
def test_kept_fingerprints_that_cannot_be_used_are_replaced(kept: Path, text: str):
    kept.write_text(text.replace("BY", syntax._THIS))
    first = fingerprint.files_of("train")
    assert len(json.loads(kept.read_text())["files"]) == len(first)


@pytest.mark.parametrize("edit", ["x = 2", "y = 1", "import tasks.b", "x ="])
def test_a_kept_fingerprint_is_of_this_content_only(kept: Path, edit: str):
    before = syntax.parsed(b"x = 1", "tasks")
    syntax.keep_parsed()
    forget()
    assert syntax.parsed(edit.encode(), "tasks") != before
    assert syntax.parsed(b"x = 1", "tasks") == before


def test_a_kept_fingerprint_is_of_this_package_only(kept: Path):
    one, other = (syntax.parsed(b"from .a import b", name) for name in ("tasks", "tasks.files"))
    assert (one.imports, other.imports) == (
        ["tasks", "tasks.a", "tasks.a.b"],
        ["tasks", "tasks.files", "tasks.files.a", "tasks.files.a.b"],
    )


def test_a_process_that_may_not_write_beside_its_code_keeps_nothing(
    kept: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    fingerprint.files_of("train")
    assert not kept.exists()
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(syntax, "_KEPT", kept / "no folder" / "fingerprints.json")
    forget()
    assert fingerprint.files_of("train")


def test_old_results_are_dropped_when_there_are_too_many(
    kept: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(syntax, "_MOST", 3)
    for number in range(4):
        syntax.parsed(b"x = %d" % number, "tasks")
        syntax.keep_parsed()
    assert len(json.loads(kept.read_text())["files"]) == 1


def test_a_file_is_parsed_although_another_one_is_parsed_meanwhile():
    class Late:
        """Parses while it is collected, which may be in the middle of another parse."""

        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            ast.parse("1")

    content = Path(fingerprint.__file__).read_bytes()
    expected = syntax.file_digest(content)
    before = gc.get_threshold()
    try:
        gc.collect()
        Late()
        gc.set_threshold(300)  # so many new objects later, within the parse
        assert syntax.file_digest(content) == expected
    finally:
        gc.set_threshold(*before)
