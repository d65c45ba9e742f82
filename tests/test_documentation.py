"""The code in the documentation runs unchanged and prints the output on the page."""

import ast
import doctest
import inspect
import re
import shutil
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

import modelmint
from modelmint.errors import FailedEvaluation, MissingPackage, Substituted
from modelmint.interface import Registry
from modelmint.listing import Listing
from modelmint.loaded import Model, Signature
from modelmint.views import Comparison, VersionView

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs/images"
PICTURE = re.compile(r"!\[[^\]]+\]\(([^)]+)\)")
BLOCK = re.compile(r"```python\n(.*?)```\n(?:```text\n(.*?)```\n)?", re.DOTALL)
PAGES = [p for p in sorted((ROOT / "docs").glob("*.md")) if BLOCK.search(p.read_text("utf-8"))]
FLAGS = doctest.ELLIPSIS
INHERITED = ("count", "index", "add_note", "with_traceback")  # from sequences and exceptions
WARNED = (MissingPackage, Substituted, FailedEvaluation)
PUBLIC = (*WARNED, Registry, Model, Signature, Listing, Comparison, VersionView)


@pytest.fixture
def project(pets, tmp_path, monkeypatch):
    """A copy of the project; the current folder is inside it."""
    root = tmp_path / "project"
    shutil.copytree(pets, root)
    monkeypatch.chdir(root / "notebooks")
    monkeypatch.setenv("LOGNAME", "ada")
    return root


def run(code, names):
    """The output of a notebook cell: printed lines and the value of its last expression."""
    body, value = ast.parse(code).body, None
    last = body.pop() if isinstance(body[-1], ast.Expr) else None
    printed = StringIO()
    with redirect_stdout(printed):
        exec(compile(ast.Module(body, []), "page", "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), "page", "eval"), names)
        if value is not None:
            print(repr(value))
    return printed.getvalue()


def test_the_documented_python_interface_is_covered_by_tested_code():
    page = ROOT / "docs/python.md"
    assert page in PAGES
    assert len(BLOCK.findall(page.read_text(encoding="utf-8"))) > 10


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_page_prints_the_output_of_the_page(page, project):
    text = page.read_text(encoding="utf-8")
    blocks = BLOCK.findall(text)
    assert len(blocks) == text.count("```python")
    names = {}
    for code, expected in blocks:
        found = run(code, names)
        assert doctest.OutputChecker().check_output(expected, found, FLAGS), (code, found)


def test_pictures_exist_each_is_on_a_page_and_small():
    pages = sorted((ROOT / "docs").glob("*.md"))
    shown = {name for page in pages for name in PICTURE.findall(page.read_text(encoding="utf-8"))}
    files = {path.relative_to(ROOT / "docs").as_posix(): path for path in IMAGES.glob("*")}
    assert files, "make screenshots takes them"
    assert shown == files.keys()
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in files.values())
    assert [name for name, path in files.items() if path.stat().st_size > 150_000] == []


def documented():
    """The public methods and classes, each with its qualified name."""
    yield "registry", modelmint.registry
    for owner in PUBLIC:
        yield owner.__name__, owner
        for name, member in inspect.getmembers(owner):
            own = callable(member) or isinstance(member, property)
            if own and not name.startswith("_") and member.__doc__ and name not in INHERITED:
                yield f"{owner.__name__}.{name}", member


METHODS = dict(documented())


@pytest.mark.parametrize("name", METHODS)
def test_docstring_examples_are_correct(name, project, tmp_path):
    member = METHODS[name]
    text = inspect.getdoc(member.fget if isinstance(member, property) else member)
    examples = doctest.DocTestParser().get_doctest(text, {}, name, None, None)
    assert examples.examples, "it has no example"
    registry = modelmint.registry()
    names = {"registry": registry, "folder": tmp_path}
    names["model"] = registry.load("pets") if owner_needs_model(text) else None
    prepare(name, registry, tmp_path)
    examples.globs.update(names)
    lines = []
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    failed, _ = runner.run(examples, out=lines.append)
    assert not failed, "".join(lines)


def owner_needs_model(text):
    return "model." in text


def prepare(name, registry, folder):
    """Do what the example of a method requires."""
    method = name.rpartition(".")[2]
    if method in ("archive", "reject", "unarchive"):
        registry.rollback("pets")
    if method == "unarchive":
        registry.archive("pets:2")
    if method == "unset":
        registry.promote("pets:1", "canary")
    if method == "import_version":
        registry.export("pets:1", folder / "pets-1.tar")
    if method == "sign":
        key = ec.generate_private_key(ec.SECP256R1())
        form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / "key.pem").write_bytes(key.private_bytes(*form))
