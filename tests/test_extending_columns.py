"""docs/extending.md works in a copy of the project, and few modules branch on column types: a new
column type would have to change each of them.
"""

import ast
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from projects import Project

from tasks.architectures import ARCHITECTURES, build
from tasks.bundle.signature import Signature
from tasks.columns import (
    COLUMNS,
    Column,
    NumberColumn,
    SequenceColumn,
    SourceLocation,
    TextColumn,
)
from tasks.config import Prepare
from tasks.dataset import read_split
from tasks.encoding import Encoder
from tasks.errors import InputError
from tasks.files.formats import FORMATS
from tasks.files.suffixes import TABLES
from tasks.prepare import prepare

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/extending.md"
BLOCK = re.compile(r"```py\n# (.*?)\n(.*?)```", re.DOTALL)
PACKAGES = ("cli", "flows", "modelmint", "tasks")
# `tabular` is an old name for data of numbers, booleans, dates and categories.
KINDS = {*COLUMNS, "tabular"}
CLASSES = {
    *(column.__name__ for column in COLUMNS.values()),
    *("NumericColumn", "TabularSource", "TextSource", "ImageSource", "SequenceSource"),
}
# Number of branches of each file outside of tasks/columns, and why no column type can replace them.
ALLOWED = {
    "flows/evaluation.py": (1, "how the parameters of a source name the target"),
    "tasks/added_rows.py": (2, "rows are added to tables, spelled as CSV or Parquet spells them"),
    "tasks/architectures/fronts.py": (1, "the front of tables makes vectors of categories"),
    "tasks/config/describing.py": (1, "a type of JSON schema"),
    "tasks/files/convert.py": (9, "from one Arrow type to another; for targets and keys, too"),
    "tasks/files/delimited.py": (1, "a CSV reader finds types unless text is asked for"),
    "tasks/files/formats.py": (1, "Parquet reads text that repeats as a dictionary"),
    "tasks/files/tables.py": (1, "such a dictionary is left as it is"),
    "tasks/files/json_lines.py": (1, "a JSON reader spells numbers that are to be text"),
    "tasks/files/infer.py": (1, "what text looks like"),
    "tasks/proposal.py": (
        2,
        "sources with `csv.na_values`; how images are trained needs their pixels",
    ),
    "tasks/preparing/targets.py": (5, "the target is not a feature, and belongs to the problem"),
    "tasks/sources/tabular.py": (6, "parameters of tables; text that may be numbers or codes"),
}


def branches(tree):
    """Lines of a module that branch on a column type or a kind of data."""
    for node in ast.walk(tree):
        found = False
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in (
            "isinstance",
            "issubclass",
        ):
            found = bool(CLASSES & names(node.args[1]))
        elif isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            found = any(KINDS & constants(side) or CLASSES & names(side) for side in sides)
        elif isinstance(node, ast.match_case):
            found = bool(KINDS & constants(node.pattern) or CLASSES & names(node.pattern))
        if found:
            yield node.pattern.lineno if isinstance(node, ast.match_case) else node.lineno


def names(node):
    return {getattr(n, "id", getattr(n, "attr", "")) for n in ast.walk(node)}


def constants(node):
    return {
        n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)
    }


def found_in(root):
    counts = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            where = path.relative_to(root).as_posix()
            if lines := sorted(branches(ast.parse(path.read_text(encoding="utf-8")))):
                counts[where] = lines
    return counts


def test_only_the_listed_places_branch_on_a_column_type():
    found = {file: n for file, n in found_in(ROOT).items() if not file.startswith("tasks/columns/")}
    expected = {file: number for file, (number, _) in ALLOWED.items()}
    assert {file: len(lines) for file, lines in found.items()} == expected, found


def test_branches_finds_every_form_of_a_branch_on_a_column_type():
    code = """
if isinstance(column, TextColumn | ImageColumn): pass
if type(column) is DateColumn: pass
if signature.kind in ("text", "sequence"): pass
match column:
    case CategoryColumn(): pass
match kind:
    case "image" | "text": pass
found = {"text": 1}[kind]
"""
    assert sorted(branches(ast.parse(code))) == [2, 3, 4, 6, 8]


def test_every_column_type_has_the_same_interface():
    for kind, column in COLUMNS.items():
        assert column.model_fields["kind"].default == kind
        for name in ("fit", "tensors", "encode"):
            owner = next(each for each in column.__mro__ if name in vars(each))
            assert owner is not Column, (kind, name)


def test_every_file_format_has_a_name_for_help_texts():
    assert {suffix.removesuffix(".gz") for suffix in TABLES} == FORMATS.keys()


def test_every_column_type_has_an_input_front():
    taken = {column for entry in ARCHITECTURES.values() for column in entry.fronts}
    assert taken == set(COLUMNS.values())


def test_mixed_column_types_are_encoded_and_only_the_fronts_refuse_them(tmp_path):
    even = np.arange(60) % 2
    words = np.array(["snow and ice", "sun, heat, sweat"])[even]
    table = {"age": np.arange(60), "review": words, "y": np.array(["no", "yes"])[even]}
    pq.write_table(pa.table(table), tmp_path / "table.parquet")
    source = {"kind": "tabular", "path": "table.parquet", "target": "y"}
    source["columns"] = {"review": "text"}
    params = Prepare(source=source, label_noise=True)
    prepare(params, root=tmp_path, prepared=tmp_path / "prepared")
    encoder = Encoder.read(tmp_path / "prepared")
    assert list(map(str, encoder.signature.inputs)) == [
        "numbers: float32[1]",
        "tokens: int64[time]",
        "length: int64[]",
    ]
    split = read_split(tmp_path / "prepared", "train", encoder)
    assert split.inputs["numbers"].shape == (len(split), 1)
    assert len(split.inputs["tokens"]) == len(split.inputs["length"]) == len(split)
    report = json.loads((tmp_path / "prepared/report.json").read_text())
    assert report["label_noise"]["suspects"] == 0
    for entry in ARCHITECTURES.values():
        with pytest.raises(InputError, match="this dataset is tabular and text"):
            build(entry.debug, encoder.signature)


def test_two_sequence_columns_have_separate_tensors():
    columns = (
        SequenceColumn(name="pulse", features=1, max_length=3),
        TextColumn(name="note", vocabulary=9, max_length=4),
        SequenceColumn(name="walk", features=2, max_length=5),
        NumberColumn(name="age"),
    )
    signature = Signature.of("binary", columns, ("no", "yes"))
    assert [tensor.name for tensor in signature.inputs] == [
        *("numbers", "tokens", "length"),
        *("pulse.sequence", "pulse.length", "walk.sequence", "walk.length"),
    ]
    only = Signature.of("binary", (columns[0], columns[2]), ("no", "yes"))
    rows = pa.table({"pulse": [[1.0, 2.0], [3.0]], "walk": [[[1.0, 2.0]], [[3.0, 4.0]] * 4]})
    inputs = Encoder(only).encode(rows, SourceLocation("rows"))
    assert inputs["length"].tolist() == [2, 1]
    assert inputs["walk.length"].tolist() == [1, 4]
    first = only.trim_padding({name: array[:1] for name, array in inputs.items()})
    assert first["sequence"].shape == (1, 2, 1)
    assert first["walk.sequence"].shape == (1, 1, 2)


def follow_the_page(root):
    """Change the code below `root` as the page says."""
    for head, code in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        name, _, where = head.rpartition(" in ")
        path = root / where
        if not name:
            assert not path.exists()
            path.write_text(code, encoding="utf-8")
            continue
        *before, entry = code.rstrip().split("\n\n")
        text = path.read_text(encoding="utf-8")
        imports = [part for part in before if part.startswith(("from ", "import "))]
        classes = [part for part in before if part not in imports]
        if imports:
            text = text.replace("\nfrom tasks", "\n" + "\n".join(imports) + "\nfrom tasks", 1)
        start = re.search(rf"^{name}\b.*? = ", text, re.MULTILINE).start()
        if classes:
            text = text[:start] + "\n\n".join(classes) + "\n\n\n" + text[start:]
            start = re.search(rf"^{name}\b.*? = ", text, re.MULTILINE).start()
        close = r",\n    Field\(" if entry.strip().startswith("|") else r"\n[})]"
        end = re.compile(close).search(text, start).start()
        path.write_text(f"{text[:end]}\n{entry}{text[end:]}", encoding="utf-8")


USE = """
import sqlite3
from pathlib import Path
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
from pyarrow import orc
from tasks import params, sources
from tasks.config import Prepare
from tasks.bundle.signature import Signature
from tasks.in_memory import Predictor
from tasks.inputs import find
from tasks.pipeline import STEPS
from tasks.prepare import prepare
from tasks.workspace import Workspace

root = Path()
given = params.load(root / "params.yaml")
for step in STEPS.values():
    step.run(given, Workspace(root))
bundle = root / "outputs/bundle"
files = {path.name: path for path in bundle.iterdir()}
predictor = Predictor(files, "cpu")
rows = pq.read_table("table.parquet")
got = predictor.table(rows, "rows").table
print("accuracy", np.mean(got["prediction"].to_numpy() == rows["y"].to_numpy().astype(str)))

pets = [(n, "red" if n % 3 else "blue", n % 2) for n in range(60)]
with sqlite3.connect("pets.db") as database:
    database.execute("CREATE TABLE pets (age REAL, colour TEXT, y INTEGER)")
    database.executemany("INSERT INTO pets VALUES (?, ?, ?)", pets)
source = {"kind": "sqlite", "path": "pets.db", "table": "pets", "target": "y"}
prepare(Prepare(source=source), root=root, prepared=root / "pets")
print("sqlite", [str(c) for c in Signature.read(root / "pets/signature.json").columns])

orc.write_table(pa.table({"a": np.arange(60.0), "y": np.arange(60.0) ** 2}), "squares.orc")
source = {"kind": "tabular", "path": "squares.orc", "target": "y"}
prepare(Prepare(source=source, task="regression"), root=root, prepared=root / "squares")
print("orc", find([Path("squares.orc")])[0].rows)
"""


@pytest.mark.whole
def test_extending_page_adds_a_column_type_a_source_and_a_file_format(tmp_path):
    code = tmp_path / "code"
    shutil.copytree(ROOT / "tasks", code / "tasks")
    follow_the_page(code)
    work = tmp_path / "work"
    work.mkdir()
    hours = np.random.default_rng(0).uniform(0, 10, 200)
    table = {
        "spent": pa.array((hours * 3.6e9).astype(np.int64), pa.duration("us")),
        "x": np.arange(200.0),
        "y": (hours > 5).astype(np.int64),
    }
    pq.write_table(pa.table(table), work / "table.parquet")
    (work / "params.yaml").write_text(
        """
prepare: {source: {kind: tabular, path: table.parquet, target: y}}
train: {architecture: {name: wide, units: 8}, epochs: 30, device: cpu}
evaluate: {gates: {accuracy: 0.5}}
registration: {name: spans}
"""
    )
    done = Project(work, {"PYTHONPATH": str(code)}).python(USE)
    signature = json.loads((work / "outputs/bundle/signature.json").read_text())
    assert [c["kind"] for c in signature["columns"]] == ["duration", "number"]
    assert signature["inputs"] == [{"name": "numbers", "dtype": "float32", "shape": [2]}]
    printed = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    assert float(printed["accuracy"]) > 0.9
    assert printed["sqlite"] == "['age: number', 'colour: category']"
    assert printed["orc"] == "60"
