"""`modelmint models evaluate`: registered versions on labelled rows of every form."""

import csv
import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import sample_data
from amounts import EVERYTHING, usual
from PIL import Image
from registry_helpers import bundle_candidate, make_candidate
from typer.testing import CliRunner

from cli.main import app
from flows.evaluation import evaluate_version
from flows.gates import gates_from, parse_gate, read_gates
from registry import Corrupt, Refused, Registry
from registry.integrity import verify
from registry.transfer.mlflow_import import _set_alias
from tasks import params
from tasks.architectures import ARCHITECTURES
from tasks.config import Evaluate
from tasks.errors import InputError
from tasks.pipeline import STEPS
from tasks.workspace import Workspace

UNTRAINED = {"single_class": "allow", "baseline": False}  # a few steps teach a text model nothing
CASES = {
    "classes": ("logistic", "tabular", "multiclass", "accuracy"),
    "numbers": ("linear", "tabular", "regression", "r2"),
    "pictures": ("logistic", "image", "binary", "accuracy"),
    "texts": ("rnn", "text", "binary", "accuracy"),
    "language": ("transformer_lm", "text", "language_model", "perplexity"),
    "walks": ("rnn", "sequence", "multiclass", "accuracy"),
}
REACHED = {"accuracy": 0.1, "r2": -50.0, "perplexity": 1e9}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished workspace for a case and its parameters, created on first use."""
    found = {}

    def make(case: str) -> tuple[Workspace, params.Params]:
        if case not in found:
            architecture, kind, task, metric = CASES[case]
            workspace = Workspace(tmp_path_factory.mktemp(case))
            given = params.validate(
                {
                    "prepare": sample_data.make(kind, task, workspace.root),
                    "train": {
                        "architecture": ARCHITECTURES[architecture].debug.model_dump(),
                        "epochs": 3,
                        "device": "cpu",
                    },
                    "evaluate": {"gates": {metric: REACHED[metric]}, **UNTRAINED},
                    "registration": {"name": case},
                },
                "test",
            )
            for step in STEPS.values():
                step.run(given, workspace)
            found[case] = workspace, given
        return found[case]

    return make


@pytest.fixture
def registry(tmp_path):
    with Registry(f"sqlite:///{tmp_path / 'registry.db'}", tmp_path / "artifacts") as opened:
        yield opened


@pytest.fixture
def registered(made, registry):
    """Registers a case: the workspace."""

    def register(case: str) -> Workspace:
        workspace, given = made(case)
        offered = bundle_candidate(workspace)
        resolved = given.model_dump(mode="json")
        registry.register(case, replace(offered, params=resolved), actor="ada")
        return workspace

    return register


PARAMS = """
prepare: {source: {kind: tabular, path: table.csv, target: outcome}, task: classification}
train: {architecture: logistic}
evaluate: {gates: {accuracy: 0.2}}
export: {}
registration: {name: classes}
"""


def evaluated(registry, reference, *data, gates=None, **options):
    metric = CASES.get(reference.partition(":")[0], CASES["classes"])[-1]
    return evaluate_version(
        registry,
        registry.resolve(reference),
        list(data),
        gates or Evaluate(gates={metric: REACHED[metric]}, **UNTRAINED),
        actor="bo",
        device="cpu",
        **options,
    )


@pytest.mark.parametrize("case", [c for c in CASES if c != "walks" or EVERYTHING])
def test_evaluate_on_the_prepared_split_equals_the_training_metrics(case, registered, registry):
    workspace = registered(case)
    before = registry.resolve(f"{case}:1").version
    report = evaluated(registry, f"{case}:1", workspace.prepared / "test.arrow")
    assert report.metrics == pytest.approx(before.evaluation["metrics"]["summary"], abs=1e-6)
    after = registry.resolve(f"{case}:1").version.evaluation
    assert (after["passed"], report.passed, report.recorded) == (True, True, True)
    for key in ("test_split", "metrics"):
        assert after[key].keys() == before.evaluation[key].keys()
    assert after["test_split"] == before.evaluation["test_split"]
    assert after["metrics"]["confusion"] == before.evaluation["metrics"]["confusion"]
    assert after["evaluated_on"]["provider"] == "CPUExecutionProvider"
    newest = registry.history(case)[0]
    assert (newest.kind, newest.actor, newest.version) == ("evaluated", "bo", 1)
    assert verify(registry).problems == []
    registry.approve(case, 1, actor="cy", reason="passed")


RAW = {"classes": "table.csv", "numbers": "table.csv", "texts": "texts.csv"}


FORMS = ("csv", "parquet", "jsonl", "arrow")
# Each form, and each kind of target.
SOME = [("csv", "classes"), ("parquet", "numbers"), ("jsonl", "texts"), ("arrow", "numbers")]


@pytest.mark.parametrize(
    ("form", "case"), usual(SOME, [(form, case) for form in FORMS for case in RAW])
)
def test_evaluate_gives_the_same_metrics_for_every_table_format(
    case, form, registered, registry, tmp_path
):
    workspace = registered(case)
    source = workspace.root / RAW[case]
    expected = evaluated(registry, f"{case}:1", source, record=False)
    assert expected.rows == sample_data.ROWS
    path = written(source, tmp_path / f"rows.{form}")
    found = evaluated(registry, f"{case}:1", path, record=False)
    assert found.metrics == pytest.approx(expected.metrics, abs=1e-6)
    assert len(registry.history(case)) == 1


def written(source: Path, path: Path) -> Path:
    table = pa.csv.read_csv(source)
    if path.suffix == ".csv":  # in another order, and in more than one batch
        pa.csv.write_csv(table.take(pa.array(range(table.num_rows - 1, -1, -1))), path)
    elif path.suffix == ".parquet":
        pq.write_table(table, path)
    elif path.suffix == ".arrow":
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    else:
        lines = [json.dumps(row, default=str) for row in table.to_pylist()]
        path.write_text("\n".join(lines) + "\n")
    return path


def test_evaluate_metrics_match_the_labels_in_the_file(registered, registry, tmp_path):
    workspace = registered("classes")
    rows = list(csv.reader((workspace.root / "table.csv").open()))
    for row in rows[1:]:
        row[-1] = "cat"  # which is wrong of two thirds
    path = tmp_path / "cats.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    report = evaluated(registry, "classes:1", path)
    evaluation = registry.resolve("classes:1").version.evaluation
    confusion = np.array(evaluation["metrics"]["confusion"])
    assert confusion[1:].sum() == 0
    assert report.metrics["accuracy"] == pytest.approx(confusion[0, 0] / 180)
    assert any("no row is of the class dog, owl" in text for text in report.notices)


def test_evaluate_labels_image_folders_arrays_and_text_files(registered, registry, tmp_path):
    workspace = registered("pictures")
    arrays = np.load(workspace.root / "images.npz")
    expected = evaluated(registry, "pictures:1", workspace.root / "images.npz", record=False)
    folder = tmp_path / "pictures"
    for number, (image, label) in enumerate(zip(arrays["images"], arrays["labels"], strict=True)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / str(label) / f"{number}.png")
    found = evaluated(registry, "pictures:1", folder, record=False)
    assert found.metrics == pytest.approx(expected.metrics, abs=1e-6)
    with pytest.raises(InputError, match="the class of an image is the name of its folder"):
        evaluated(registry, "pictures:1", folder / "yes", record=False)
    (folder / "yes").rename(folder / "maybe")
    with pytest.raises(InputError, match=r"'maybe', which is not a class of the model: no, yes"):
        evaluated(registry, "pictures:1", folder, record=False)

    workspace = registered("texts")
    table = pa.csv.read_csv(workspace.root / "texts.csv").to_pydict()
    for label in ("no", "yes"):
        texts = [t for t, of in zip(table["text"], table["mood"], strict=True) if of == label]
        (tmp_path / f"{label}.txt").write_text("\n".join(texts) + "\n")
    expected = evaluated(registry, "texts:1", workspace.root / "texts.csv", record=False)
    found = evaluated(registry, "texts:1", tmp_path / "no.txt", tmp_path / "yes.txt", record=False)
    assert found.metrics == pytest.approx(expected.metrics, abs=1e-6)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("", r"row 7: 'outcome' has no value, but an evaluation needs the target"),
        ("cow", r"row 7: 'outcome' is 'cow', which is not a class of the model: cat, dog, owl"),
    ],
)
def test_evaluate_refuses_a_row_without_a_known_label(value, said, registered, registry, tmp_path):
    workspace = registered("classes")
    rows = list(csv.reader((workspace.root / "table.csv").open()))
    rows[7][-1] = value
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    with pytest.raises(InputError, match=said):
        evaluated(registry, "classes:1", path)
    assert len(registry.history("classes")) == 1


@pytest.mark.parametrize("value", ["", "nan", "inf", "many"])
def test_evaluate_refuses_a_target_that_is_not_a_number(value, registered, registry, tmp_path):
    workspace = registered("numbers")
    rows = list(csv.reader((workspace.root / "table.csv").open()))
    rows[7][-1] = value
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    with pytest.raises(InputError, match=r"row 7: .*'outcome'"):
        evaluated(registry, "numbers:1", path)


def test_evaluate_accepts_another_target_column(registered, registry, tmp_path):
    workspace = registered("classes")
    table = pa.csv.read_csv(workspace.root / "table.csv")
    pa.csv.write_csv(
        table.rename_columns([*table.column_names[:-1], "truth"]), tmp_path / "other.csv"
    )
    with pytest.raises(InputError, match=r"no column 'outcome'.*--target names another"):
        evaluated(registry, "classes:1", tmp_path / "other.csv", record=False)
    report = evaluated(registry, "classes:1", tmp_path / "other.csv", target="truth", record=False)
    assert report.rows == 180
    with pytest.raises(InputError, match="--target height: this column is an input of the model"):
        evaluated(registry, "classes:1", tmp_path / "other.csv", target="height")


def test_failed_evaluation_is_recorded_and_counts(registered, registry):
    workspace = registered("classes")
    registry.promote("classes", 1, expect_revision=0, actor="ada", reason="first")
    split = workspace.prepared / "test.arrow"
    report = evaluated(registry, "classes:1", split, gates=Evaluate(gates={"accuracy": 1.01}))
    assert (report.passed, report.recorded) == (False, True)
    assert any("classes:1 is champion" in text for text in report.notices)
    assert registry.resolve("classes:1").version.evaluation["passed"] is False
    registry.unset("classes", "champion", actor="ada", reason="failed")
    with pytest.raises(Refused, match="failed its newest evaluation"):
        registry.approve("classes", 1, actor="cy", reason="no")


def test_evaluate_without_gates_is_refused(registered, registry):
    workspace = registered("classes")
    split = workspace.prepared / "test.arrow"
    nothing = Evaluate(gates={})
    with pytest.raises(InputError, match="--gate"):
        evaluated(registry, "classes:1", split, gates=nothing)
    with pytest.raises(InputError, match="the gate r2 is not measured for multiclass"):
        evaluated(registry, "classes:1", split, gates=Evaluate(gates={"r2": 0.1}))
    report = evaluate_version(
        registry, registry.resolve("classes:1"), [split], nothing, actor="bo", record=False
    )
    assert (report.passed, report.recorded, report.gates) == (None, False, [])
    assert len(registry.history("classes")) == 1


def test_gate_on_a_metric_that_was_not_measured_fails(registered, registry, tmp_path):
    workspace = registered("texts")
    table = pa.csv.read_csv(workspace.root / "texts.csv")
    ones = table.filter(pa.compute.equal(table["mood"], "yes"))
    pa.csv.write_csv(ones, tmp_path / "ones.csv")
    report = evaluated(
        registry, "texts:1", tmp_path / "ones.csv", gates=Evaluate(gates={"roc_auc": 0.1})
    )
    assert report.passed is False
    assert "not measured on these rows: roc_auc" in report.notices


def test_evaluate_of_an_unsuitable_version_says_why(registered, registry, made, tmp_path):
    workspace = registered("classes")
    split = workspace.prepared / "test.arrow"
    files = {"MLmodel": tmp_path / "MLmodel", "model.pkl": tmp_path / "MLmodel"}
    files["MLmodel"].write_text("flavors: {}")
    offered = make_candidate(tmp_path / "b", files=files, identity=frozenset(files), evaluation={})
    registry.admit("foreign", offered, "imported", actor="ada")
    with pytest.raises(InputError, match=r"foreign:1 has no model.onnx and no signature.json"):
        evaluated(registry, "foreign:1", split)
    own = {path.name: path for path in workspace.bundle.iterdir()}
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a model")
    for number, model in enumerate((broken, made("numbers")[0].bundle / "model.onnx"), start=1):
        offered = replace(bundle_candidate(workspace), files={**own, "model.onnx": model})
        registry.register("mixed", offered, actor="ada")
        with pytest.raises(InputError, match=r"cannot be loaded|do not belong together"):
            evaluated(registry, f"mixed:{number}", split)
    with pytest.raises(InputError, match="no rows"):
        evaluated(registry, "classes:1", empty(workspace, tmp_path))
    version = registry.resolve("classes:1").version
    model = next(a for a in version.artifacts if a.path == "model.onnx")
    stored = Path(registry.files.path_of(model.sha256))
    os.chmod(stored, 0o644)
    stored.write_bytes(stored.read_bytes()[:-1] + b"x")
    with pytest.raises(Corrupt, match="must not be used"):
        evaluated(registry, "classes:1", split)


def test_imported_version_becomes_champion_by_the_suggested_commands(registered, registry):
    workspace = registered("classes")
    files = {path.name: path for path in workspace.bundle.iterdir()}
    offered = bundle_candidate(workspace)
    offered = replace(offered, identity=frozenset(files), signature={}, evaluation={}, metrics={})
    offered = replace(offered, lineage=replace(offered.lineage, test_split="unknown"))
    registry.admit("theirs", offered, "imported", actor="ada")
    told = _set_alias(registry, "champion", "theirs:1", "ada")
    assert "`modelmint models evaluate theirs:1 DATA --gate 'METRIC>=NUMBER'`" in told
    table = workspace.root / "table.csv"
    with pytest.raises(InputError, match=r"the target column is unknown\. Name it with --target"):
        evaluated(registry, "theirs:1", table)
    evaluated(registry, "theirs:1", table, target="outcome")
    registry.promote("theirs", 1, expect_revision=0, actor="bo", reason="evaluated")
    notices = registry.resolve("theirs@champion").version.evaluation["data"]["notices"]
    assert notices[0].startswith("evaluated on 180 rows of")
    assert verify(registry).problems == []


def empty(workspace: Workspace, folder: Path) -> Path:
    path = folder / "empty.csv"
    path.write_text((workspace.root / "table.csv").read_text().partition("\n")[0] + "\n")
    return path


@pytest.mark.parametrize(
    ("text", "gate"),
    [("macro_f1>=0.9", ("macro_f1", 0.9)), (" log_loss <= 3e-1 ", ("log_loss", 0.3))],
)
def test_gates_are_written_as_conditions(text, gate):
    assert parse_gate(text) == gate


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("macro_f1", "is not a gate"),
        ("macro_f1>0.9", "is not a gate"),
        ("macro_f2>=0.9", "did you mean 'macro_f1'"),
        ("macro_f1<=0.9", "higher is better. Give macro_f1>=0.9"),
        ("log_loss>=0.9", "lower is better. Give log_loss<=0.9"),
        ("macro_f1>=nan", "not a finite number"),
        ("macro_f1>=much", "not a finite number"),
        ("Accuracy>=0.9", "no metric 'Accuracy' .did you mean 'accuracy'"),
        ("accuracy>=90", "90 cannot be a bound: accuracy is from 0 to 1"),
        ("weighted_f1>=1.01", "weighted_f1 is from 0 to 1"),
        ("roc_auc>=-0.1", "roc_auc is from 0 to 1"),
        ("r2>=1.5", "r2 is 1 or less"),
        ("calibration_error<=5", "calibration_error is from 0 to 1"),
        ("mae<=-1", "mae is 0 or more"),
        ("perplexity<=0.5", "perplexity is 1 or more"),
    ],
)
def test_invalid_gate_says_what_to_write(text, said):
    with pytest.raises(InputError, match=said):
        parse_gate(text)


@pytest.mark.parametrize(
    ("gates", "said"),
    [
        ({"acuracy": 0.9}, "did you mean 'accuracy'"),
        ({"accuracy": 98}, "accuracy is from 0 to 1"),
        ({"accuracy": "high"}, "'high' is not a finite number"),
        ({"accuracy": True}, "not a finite number"),
        ({3: 0.9}, "there is no metric 3"),
        (["accuracy>=0.9"], "give a bound for each metric"),
        (0.9, "give a bound for each metric"),
    ],
)
def test_python_gates_are_checked_like_command_line_gates(gates, said):
    with pytest.raises(InputError, match=said):
        gates_from(gates)
    assert gates_from({"r2": -2, "mae": 3.5}).gates == {"r2": -2.0, "mae": 3.5}


def test_a_metric_has_one_gate_and_one_that_is_given_counts_before_that_of_the_file():
    with pytest.raises(InputError, match=r"accuracy already has a gate, 0\.8\. Give one"):
        read_gates(["accuracy>=0.8", "macro_f1>=0.1", "accuracy >= 0.9"])
    path = Path(__file__).parents[2] / "params.yaml"
    (name, bound), *others = params.load(path).evaluate.gates.items()
    found, said = read_gates([f"{name}>=0.25", "roc_auc>=0.75"], path)
    assert found.gates == {name: 0.25, "roc_auc": 0.75, **dict(others)}
    assert said == [f"--gate takes precedence: {name} >= 0.25, not {bound:g} as in {path}"]
    assert read_gates([f"{name}>={bound}"], path)[1] == []


def test_evaluate_command_records_the_verdict_and_exits_with_it(
    registered, registry, tmp_path, monkeypatch
):
    workspace = registered("classes")
    registry.promote("classes", 1, expect_revision=0, actor="ada", reason="first")
    monkeypatch.setenv("MODELMINT_DATABASE_URL", f"sqlite:///{tmp_path / 'registry.db'}")
    monkeypatch.setenv("MODELMINT_ARTIFACTS", str(tmp_path / "artifacts"))
    data = [str(workspace.prepared / "test.arrow"), "--device", "cpu"]

    def run(*asked, status=0):
        ran = CliRunner().invoke(app, ["models", *asked])
        assert ran.exit_code == status, ran.output
        return ran

    asked = ("evaluate", "classes:1", *data)
    found = json.loads(run(*asked, "--gate", "accuracy>=0.05", "--json").stdout)
    assert (found["model"], found["passed"], found["recorded"]) == ("classes:1", True, True)
    said = run(*asked, "--gate", "log_loss<=0", status=3).stderr
    assert "REFUSED" in said
    assert "classes:1 is champion" in said
    assert (
        "the gates were log_loss <= 0; those of the evaluation before were accuracy >= 0.05" in said
    )
    assert "nothing was recorded" in run(*asked, "--dry-run").stderr
    assert "--gate" in str(run(*asked, status=1).exception)
    (tmp_path / "params.yaml").write_text(PARAMS)
    of_file = (*asked, "--params", str(tmp_path / "params.yaml"))
    assert "gate accuracy" in unwrapped(run(*of_file, "--gate", "macro_f1>=0.05").stderr)
    said = run(*of_file, "--gate", "accuracy>=0.1").stderr
    assert "--gate takes precedence: accuracy >= 0.1, not 0.2 as in" in said
    said = run("history", "classes").stderr
    verdicts = re.findall(r"evaluated +classes:1 +(\w+)", said)
    assert verdicts == ["passed", "passed", "failed", "passed"]
    shown = unwrapped(run("show", "classes:1").stderr)
    assert re.search(r"gate accuracy +>= 0.1: passed", shown)
    rows = registry.resolve("classes:1").version.evaluation["test_split"]["rows"]
    assert re.search(rf"measured on +{rows} rows of \S*test.arrow, by its newest evaluation", shown)


def unwrapped(said: str) -> str:
    """A table without its line breaks."""
    return " ".join(said.split())
