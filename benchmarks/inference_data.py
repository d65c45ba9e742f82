"""What `inference.py` measures with: a small model for each case, and inputs of any length.

Training and prediction rows are drawn from the same distributions, from fixed seeds. Nothing here
is timed.
"""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from registry import Candidate, Lineage, Registry
from tasks.bundle.files import IDENTITY, Bundle
from tasks.config import Params
from tasks.pipeline import STEPS
from tasks.workspace import Workspace

TRAINING_ROWS = 4000
ROW_GROUP, SMALL_ROW_GROUP = 131_072, 16_384
"""Rows of a Parquet row group. DuckDB writes 122,880 and Polars 262,144. The smaller one is 13 MB
of images; a tenth of the rows still has more than one, or its memory could not be compared."""

COLUMNS = 30
DISTINCT = (3, 5, 8, 12, 20, 40, 80, 200)
"""How many values each category has."""
PIXELS = 28
WORDS, MARKED = 3000, 40
"""Distinct words, and how many of them each class uses more than the other."""

Draw = Callable[[np.random.Generator, int], tuple[dict[str, pa.Array], np.ndarray]]
"""Features by name and the class (N,) str of so many rows."""


@dataclass(frozen=True)
class Case:
    """A kind of input, and the model that predicts it."""

    name: str
    rows: int
    """As many as keep the start-up of A and C below a tenth of their run on two cores."""
    draw: Draw
    architecture: Any
    source: dict[str, Any]
    row_group: int = ROW_GROUP

    @property
    def categories(self) -> list[str]:
        """Columns with values that repeat."""
        return [*self.source.get("columns", {})]


def _numbers(chance: np.random.Generator, rows: int, width: int = COLUMNS) -> tuple[Any, Any]:
    """Columns of float32, and what decides the class (N,)."""
    world = np.random.default_rng(11)
    weights, scales = world.normal(size=width), world.uniform(0.1, 50, width)
    values = chance.standard_normal((width, rows), np.float32)
    decides = weights @ values + 0.3 * chance.standard_normal(rows, np.float32)
    columns = {
        f"x{number:02}": pa.array((value * scale).astype(np.float32))
        for number, (value, scale) in enumerate(zip(values, scales, strict=True))
    }
    return columns, decides


def _numbers_alone(chance: np.random.Generator, rows: int) -> tuple[dict[str, pa.Array], Any]:
    columns, decides = _numbers(chance, rows)
    return columns, np.where(decides > 0, "stays", "leaves")


def _mixed(chance: np.random.Generator, rows: int) -> tuple[dict[str, pa.Array], Any]:
    columns, decides = _numbers(chance, rows, COLUMNS - len(DISTINCT))
    world = np.random.default_rng(12)
    for number, distinct in enumerate(DISTINCT):
        effects = world.normal(size=distinct)
        codes = chance.integers(0, distinct, rows, np.int32)
        decides = decides + effects[codes]
        values = pa.array([f"{_word(number)} {_word(code)}" for code in range(distinct)])
        columns[f"c{number}"] = values.take(pa.array(codes))
    return columns, np.where(decides > 0, "stays", "leaves")


def _images(chance: np.random.Generator, rows: int) -> tuple[dict[str, pa.Array], Any]:
    world = np.random.default_rng(13)
    means = world.integers(40, 200, (10, PIXELS, PIXELS), np.uint8)
    codes = chance.integers(0, 10, rows)
    pixels = means[codes] + chance.integers(0, 56, (rows, PIXELS, PIXELS), np.uint8)
    kind = pa.binary(PIXELS * PIXELS)
    array = pa.Array.from_buffers(kind, rows, [None, pa.py_buffer(pixels.tobytes())])
    return {"image": array}, np.array([f"class {number}" for number in range(10)])[codes]


def _texts(chance: np.random.Generator, rows: int) -> tuple[dict[str, pa.Array], Any]:
    """Sentences of 5 to 40 words, 22 on average; short words are frequent, as in a language."""
    words = np.array([_word(number) for number in range(WORDS)])
    codes = chance.integers(0, 2, rows)
    lengths = chance.integers(5, 41, rows)
    drawn = (WORDS * chance.random(lengths.sum()) ** 3).astype(np.int64)
    marked = chance.random(len(drawn)) < 0.1
    class_of = np.repeat(codes, lengths)[marked]
    drawn[marked] = 500 + MARKED * class_of + chance.integers(0, MARKED, marked.sum())
    said = np.split(words[drawn], np.cumsum(lengths)[:-1])
    texts = [" ".join(part).capitalize() + "." for part in said]
    return {"text": pa.array(texts, pa.string())}, np.array(["bad", "good"])[codes]


def _word(number: int) -> str:
    """A made-up word; a lower number has a shorter one."""
    syllables = [f"{c}{v}" for c in "bdfglmnprstvz" for v in "aeiou"]
    found = syllables[number % len(syllables)]
    while number := number // len(syllables):
        found += syllables[(number - 1) % len(syllables)]
    return found


CASES = {
    case.name: case
    for case in (
        Case(
            "numbers",
            20_000_000,
            _numbers_alone,
            {"name": "mlp", "widths": [64, 32]},
            {"kind": "tabular", "path": "raw.parquet", "target": "target"},
        ),
        Case(
            "mixed",
            15_000_000,
            _mixed,
            {"name": "mlp", "widths": [64, 32], "embedding": 8},
            {
                "kind": "tabular",
                "path": "raw.parquet",
                "target": "target",
                "columns": {f"c{number}": "category" for number in range(len(DISTINCT))},
            },
        ),
        Case(
            "images",
            400_000,
            _images,
            "lenet",
            {"kind": "image", "path": "raw.npz"},
            SMALL_ROW_GROUP,
        ),
        Case(
            "texts",
            200_000,
            _texts,
            {"name": "gru"},
            {"kind": "text", "path": "raw.parquet", "target": "target"},
            SMALL_ROW_GROUP,
        ),
    )
}


def place(folder: Path) -> Path:
    """Where in a work folder everything lies that this version of this file makes."""
    return folder / hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]


def registry_at(root: Path) -> tuple[str, Path]:
    """Database and artifacts of the registry below `root`."""
    return f"sqlite:///{root / 'modelmint.db'}", root / "artifacts"


def make_model(case: Case, root: Path) -> Path:
    """The bundle of a case's model, registered as champion under its name; trained at most once.

    Imports torch: call it in a process of its own. Beside the bundle lies `mlflow`, MLflow's model
    of the same ONNX file. What the steps print is in `training.log`.
    """
    workspace = Workspace(root / case.name)
    done = workspace.root / "made"
    if not done.exists():
        shutil.rmtree(workspace.root, ignore_errors=True)
        workspace.root.mkdir(parents=True)
        with (
            (workspace.root / "training.log").open("w") as log,
            contextlib.redirect_stdout(log),
            contextlib.redirect_stderr(log),
        ):
            write_raw(case, workspace.root)
            for step in ("prepare", "train", "export"):
                STEPS[step].run(parameters(case), workspace)
            _save_for_mlflow(workspace)
            _register(case, workspace, root)
        done.touch()
    return workspace.bundle


def write_raw(case: Case, root: Path, rows: int = TRAINING_ROWS) -> None:
    """Put the raw data of a case where its parameters say."""
    columns, classes = case.draw(np.random.default_rng(1), rows)
    if case.source["kind"] == "image":
        images = np.frombuffer(columns["image"].buffers()[1], np.uint8)
        images = images.reshape(-1, PIXELS, PIXELS)
        np.savez(root / case.source["path"], images=images, labels=classes)
    else:
        table = pa.table({**columns, "target": classes})
        pq.write_table(table, root / case.source["path"])


def parameters(case: Case) -> Params:
    """What trains the model of a case."""
    return Params.model_validate(
        {
            "prepare": {"source": case.source},
            "train": {"architecture": case.architecture, "epochs": 4, "device": "cpu"},
            "evaluate": {"gates": {"accuracy": 0.6}},
            "registration": {"name": case.name},
        }
    )


def _save_for_mlflow(workspace: Workspace) -> None:
    import mlflow.onnx
    import onnx

    mlflow.onnx.save_model(
        onnx.load(Bundle.at(workspace.bundle).model),
        workspace.bundle.with_name("mlflow"),
        pip_requirements=["onnxruntime"],  # or it starts a process to find out
        onnx_execution_providers=["CPUExecutionProvider"],
    )


def _register(case: Case, workspace: Workspace, root: Path) -> None:
    files = {path.name: path for path in workspace.bundle.iterdir()}
    evaluation = json.loads(files["evaluation.json"].read_bytes())
    candidate = Candidate(
        files=files,
        identity=IDENTITY & files.keys(),
        signature=json.loads(files["signature.json"].read_bytes()),
        metrics=evaluation["metrics"]["summary"],
        params={},
        evaluation=evaluation,
        lineage=Lineage(
            dataset="d" * 32 + ".dir",
            test_split=evaluation["test_split"]["sha256"],
            git_commit="c" * 40,
            git_dirty=False,
            flow_run_id=None,
            libraries=evaluation["libraries"],
        ),
    )
    with Registry(*registry_at(root)) as registry:
        version = registry.register(case.name, candidate, actor="benchmark").version.version
        changes: dict[str, Any] = {"actor": "benchmark", "reason": "the only one"}
        registry.promote(case.name, version, expect_revision=None, **changes)


def make_input(case: Case, root: Path, rows: int) -> Path:
    """A Parquet file with `key` and the features of so many rows; written at most once.

    With Snappy, and dictionaries for categories alone: of numbers that all differ, pyarrow would
    write some too, and others do not. A shorter file is the beginning of a longer one, up to whole
    row groups.
    """
    path = root / case.name / f"input-{rows}.parquet"
    if path.exists():
        return path
    part, writer = path.with_suffix(".part"), None
    for number, first in enumerate(range(0, rows, case.row_group)):
        count = min(case.row_group, rows - first)
        columns, _ = case.draw(np.random.default_rng([2, number]), count)
        table = pa.table({"key": pa.array(np.arange(first, first + count)), **columns})
        writer = writer or pq.ParquetWriter(part, table.schema, use_dictionary=case.categories)
        writer.write_table(table, case.row_group)
    assert writer is not None, "an input has at least one row"
    writer.close()
    return part.replace(path)
