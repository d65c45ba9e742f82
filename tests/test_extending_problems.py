"""docs/extending.md works as written, and few other places branch on the learning problem."""

import ast
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from projects import Project

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
STEP = re.compile(r"^(?:(In|New file) `([^`]+)`:)|^```(python|diff)\n(.*?)^```", re.M | re.S)


# Where code outside tasks/problems/ and tasks/columns/ branches on the learning problem, and why.
ALLOWED = {
    "tasks/serving/options.py": (1, "only a model with classes has probabilities"),
    "tasks/architectures/__init__.py": (3, "an architecture says which problems it is for"),
    "tasks/prepare.py": (1, "only classes are counted in each split"),
    "tasks/preparing/fitting.py": (1, "a number that never changes cannot be learnt"),
    "tasks/preparing/profile.py": (1, "classes are counted, numbers have a histogram"),
    "tasks/bundle/signature.py": (1, "`classifies` itself"),
    "tasks/training/objective.py": (1, "only classes can be imbalanced"),
}
NAMES = {"classification", "regression", "language_model", "binary", "multiclass"}
TARGETS = {"ClassTarget", "NumberTarget"}


def names_one(nodes):
    return any(isinstance(node, ast.Constant) and node.value in NAMES for node in nodes)


def branches(node):
    """Whether a node of the syntax tree compares, lists or maps problems by name or class."""
    match node:
        case ast.Compare():
            return names_one(ast.walk(node))
        case ast.Dict():
            return names_one(node.keys)
        case ast.Set() | ast.List() | ast.Tuple():
            return names_one(node.elts)
        case ast.match_case():
            return names_one(ast.walk(node.pattern))
        case ast.Attribute():
            return node.attr == "classifies"
        case ast.Call(func=ast.Name(id="isinstance")):
            kinds = ast.walk(node.args[1])
            return any(isinstance(kind, ast.Name) and kind.id in TARGETS for kind in kinds)
    return False


def test_only_the_listed_places_branch_on_the_learning_problem():
    found = Counter()
    for package in ("cli", "flows", "modelmint", "tasks"):
        for path in (ROOT / package).rglob("*.py"):
            name = path.relative_to(ROOT).as_posix()
            if not name.startswith(("tasks/problems/", "tasks/columns/")):
                tree = ast.parse(path.read_text(encoding="utf-8"))
                found[name] += sum(map(branches, ast.walk(tree)))
    allowed = {name: most for name, (most, _) in ALLOWED.items()}
    more = {name: n for name, n in found.items() if n > allowed.get(name, 0)}
    assert not more, "ask signature.problem instead, or list the place with its reason"


def test_branches_finds_every_form_of_a_branch_on_a_problem():
    code = """
if task == "regression": pass
if kind in ("binary", "multiclass"): pass
table = {"language_model": 1}
if signature.classifies: pass
isinstance(target, ClassTarget)
match task:
    case "regression": pass
"""
    assert sum(map(branches, ast.walk(ast.parse(code)))) == 7  # the tuple in line 3 counts too


def follow(page, root):
    """Write the new files of the page, and add its `+` lines after the lines above them."""
    path = None
    for _, named, form, block in STEP.findall(page):
        if named:
            path = root / named
        elif form == "python":
            path.write_text(block, encoding="utf-8")
        else:
            lines = [(line[:1], line[1:]) for line in block.splitlines()]
            above = "\n".join(text for sign, text in lines if sign == " ")
            added = "\n".join(text for sign, text in lines if sign != " ")
            before = path.read_text(encoding="utf-8")
            assert before.count(f"{above}\n") == 1, above
            path.write_text(before.replace(f"{above}\n", f"{above}\n{added}\n"), encoding="utf-8")


PARAMS = """
prepare: {source: {kind: tabular, path: homes.csv, target: price}, task: median}
train: {architecture: mlp, epochs: 30, device: cpu, optimizer: {learning_rate: 0.02}}
evaluate: {gates: {median_error: 20000, mae: 30000}}
registration: {name: homes}
"""
WHOLE_PATH = """
import json
from pathlib import Path
from tasks import params
from tasks.bundle.signature import Signature
from tasks.inputs import find
from tasks.pipeline import STEPS
from tasks.predict import predict
from tasks.workspace import Workspace

workspace, given = Workspace(Path()), params.load(Path("params.yaml"))
for step in STEPS.values():
    print(step.run(given, workspace))
bundle = {name: workspace.bundle / name for name in ("model.onnx", "signature.json")}
signature = Signature.read(bundle["signature.json"])
files = find([Path("homes.csv")], signature)
made_by = {"model": "homes:1", "digest": "0"}
done = predict(bundle, files, output=Path("out"), provenance=made_by)
print("predicted", done.rows, signature.task)
"""


@pytest.mark.whole
def test_extending_page_adds_a_problem_and_a_metric(tmp_path):
    shutil.copytree(
        ROOT / "tasks", tmp_path / "tasks", ignore=shutil.ignore_patterns("__pycache__")
    )
    follow(PAGE, tmp_path)
    rng = np.random.default_rng(1)
    area = rng.integers(20, 200, 150)
    price = 900 * area + rng.normal(0, 500, 150)
    rows = "\n".join(f"{a},{p:.0f}" for a, p in zip(area, price, strict=True))
    (tmp_path / "homes.csv").write_text(f"area,price\n{rows}\n")
    (tmp_path / "params.yaml").write_text(PARAMS)
    done = Project(tmp_path).python(WHOLE_PATH)
    lines = done.stdout.splitlines()
    assert any(re.match(r"median_error \d+\.\d+ <= 20000: passed", line) for line in lines)
    assert lines[-1] == "predicted 150 median"
