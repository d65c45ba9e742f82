"""`import modelmint`: the registry and its models in a notebook."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from PIL import Image
from projects import made_once
from registry_helpers import LINEAGE, bundle_candidate, make_candidate
from training_helpers import make_prepared, run, tiny
from typer.testing import CliRunner

import modelmint
from cli.main import app
from flows.job import run_job
from modelmint import queries
from modelmint.targets import target
from registry import Event, Policy, Registry
from tasks.config import Evaluate, Export, Optimizer
from tasks.inputs import find
from tasks.serving.options import Options
from tasks.workspace import Workspace

ROOT = Path(__file__).parents[2]
GOOD = {
    "size": [0.1, 1.2, -0.2],
    "colour": ["white", "black", "white"],
    "born": [date(2022, 1, 9), date(2022, 1, 20), date(2022, 1, 10)],
}
ANSWERS = ["cat", "dog", "cat"]


@pytest.fixture
def project(pets, tmp_path, monkeypatch):
    """A copy of the project; the current folder is inside it."""
    root = tmp_path / "project"
    shutil.copytree(pets, root)
    monkeypatch.chdir(root / "notebooks")
    return root


@pytest.fixture
def registry(project):
    with modelmint.registry() as opened:
        yield opened


@pytest.fixture(scope="module")
def model(pets):
    return opened(pets).load("pets")


def opened(root):
    return modelmint.registry(f"sqlite:///{root}/modelmint.db", root / "artifacts")


def frame(**changed):
    return pd.DataFrame(GOOD | changed)


def in_a_process(code, folder, **environment):
    """The output of a new interpreter."""
    variables = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=variables, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# What an import costs, and what is shipped.


def test_import_and_predict_load_neither_torch_nor_prefect(project):
    code = """
import sys, modelmint
heavy = {"torch", "prefect", "pandas", "onnxruntime", "pyarrow", "fastapi", "alembic"}
print(sorted(heavy & sys.modules.keys()))
model = modelmint.registry().load("pets")
model.predict({"size": [0.1], "colour": ["white"], "born": ["2022-01-09"]})
print(sorted({"torch", "prefect", "fastapi"} & sys.modules.keys()))
"""
    assert in_a_process(code, project).split("\n")[:2] == ["[]", "[]"]


def test_missing_pandas_error_names_the_install_command(project):
    code = """
import sys
sys.modules["pandas"] = None
import modelmint
try:
    modelmint.registry().search("pets").to_pandas()
except modelmint.MissingPackage as error:
    print(isinstance(error, ImportError), isinstance(error, modelmint.RegistryError), error)
"""
    said = in_a_process(code, project)
    assert said.startswith("True True ")
    assert "pip install 'modelmint[pandas]'" in said


def test_the_package_and_its_marker_are_in_the_distribution():
    from setuptools import find_packages  # it takes half a second

    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert "modelmint" in find_packages(str(ROOT), **tool["setuptools"]["packages"]["find"])
    for package in ("modelmint", "registry"):
        assert "py.typed" in tool["setuptools"]["package-data"][package]
        assert (ROOT / package / "py.typed").is_file()
    assert "modelmint" in tool["mypy"]["packages"]


# The same answers as a batch job.

TASKS = {
    "image": "multiclass",
    "tabular": "regression",
    "text": "binary",
    "sequence": "multiclass",
    "words": "language_model",
}
GATES = {"regression": {"mae": 1e9}, "language_model": {"perplexity": 1e9}}
ARCHITECTURES = {
    "image": "mlp",
    "tabular": "mlp",
    "text": "gru",
    "sequence": "gru",
    "words": "transformer_lm",
}


@pytest.fixture(scope="session")
def kinds(tmp_path_factory):
    """A registry with a model for each kind of data, and a language model."""
    with made_once(tmp_path_factory, "kinds") as root:
        if not (root / "done").exists():
            make_kinds(root)
            (root / "done").touch()
    return root


def make_kinds(root):
    from tasks.export import export

    root.mkdir()
    with Registry(f"sqlite:///{root}/modelmint.db", root / "artifacts") as made:
        for name, task in TASKS.items():
            workspace = Workspace(root / name)
            make_prepared(workspace.prepared, "text" if name == "words" else name, task)
            params = tiny(ARCHITECTURES[name], epochs=1, optimizer=Optimizer(learning_rate=0.03))
            run(params, workspace.checkpoint.parent, workspace.prepared)
            export(
                Export(),
                Evaluate(gates=GATES.get(task, {"accuracy": 0.0}), single_class="allow"),
                prepared=workspace.prepared,
                checkpoint=workspace.checkpoint,
                bundle=workspace.bundle,
                base=workspace.base,
                repeats=workspace.repeats,
            )
            made.register(name, bundle_candidate(workspace), actor="ada")


def rows_in(path):
    with pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as reader:
        return reader.read_all()


@pytest.mark.parametrize("name", TASKS)
def test_predict_equals_the_batch_job_for_every_kind_of_model(name, kinds, tmp_path):
    path = kinds / name / "data/prepared/train.arrow"
    with opened(kinds) as registry, warnings.catch_warnings():
        warnings.simplefilter("ignore", modelmint.Substituted)
        inner, several = registry._inner, name in ("image", "sequence", "text")
        run_job(
            inner,
            inner.resolve(f"{name}:1"),
            find([path]),
            tmp_path,
            options=Options(probabilities=several),
        )
        wanted = pq.read_table(tmp_path / "predictions")
        model, rows = registry.load(f"{name}:1"), rows_in(path)
        frame = pd.DataFrame({n: list(rows[n].to_pylist()) for n in rows.column_names})
        if name == "image":  # NumPy arrays, as people have them
            pixels = rows["image"].combine_chunks().to_numpy_ndarray()
            frame["image"] = list(pixels)
            columns = {"key": rows["key"], "image": pixels}
        elif name == "sequence":
            frame["steps"] = [np.array(steps) for steps in frame["steps"]]
            columns = {"key": rows["key"], "steps": rows["steps"].to_pylist()}
        else:
            columns = frame.to_dict("list")
        for given in (rows, rows.to_batches()[0], columns, frame.to_dict("records"), path, [path]):
            found = model.predict(given, probabilities=several)
            assert found.schema.equals(wanted.schema), type(given)
            assert found.to_pydict() == wanted.to_pydict(), type(given)
        found = model.predict(frame, probabilities=several)
        pd.testing.assert_frame_equal(found, wanted.to_pandas())


def test_predict_counts_the_same_substitutions_as_the_batch_job(registry, project, tmp_path):
    rows = pa.table(GOOD | {"colour": ["white", "green", "white"], "size": [9.0, 1.2, -0.2]})
    pq.write_table(rows, tmp_path / "in.parquet")
    inner = registry._inner
    job = run_job(inner, inner.resolve("pets"), find([tmp_path / "in.parquet"]), tmp_path / "out")
    with pytest.warns(modelmint.Substituted) as caught:
        found = registry.load("pets").predict(rows.to_pandas())
    assert found.attrs["substituted"] == job.substituted
    assert str(caught[0].message) == f"pets:2: {job.remarks[0]}"
    assert Path(caught[0].filename).name == "test_python_interface.py"
    with pytest.warns(modelmint.Substituted, match="unknown categories"):
        table = registry.load("pets").predict(rows)
    metadata = table.schema.metadata
    assert json.loads(metadata[b"modelmint.substituted"]) == job.substituted
    assert metadata[b"modelmint.digest"].decode() == registry.resolve("pets").version.digest


def test_rare_substitutions_are_counted_without_a_warning(model):
    many = pd.concat([frame()] * 100, ignore_index=True)
    many.loc[7, "colour"] = "green"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = model.predict(many)
    assert found.attrs["substituted"]["colour"]["unknown"] == 1


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (frame(colour=["green", "green", "blue"]), "knows none of the 3 values"),
        (frame(size=[0.1, None, 0.1]), "row 1 of column 'size' is missing"),
        (frame(size=[0.1, float("inf"), 0.1]), "row 1 of column 'size' is infinite"),
        (frame(size=["small", "1", "2"]), "row 0: column 'size' is 'small'; a number is expected"),
        (frame(size=[1, "small", 2]), "row 1: column 'size' is 'small', which has another type"),
        (frame(born=["2022-01-09", "soon", "2022-01-09"]), "row 1: column 'born' is 'soon'"),
        (frame().rename(columns={"size": "sise"}), r"no column 'size' \(did you mean 'sise'\?\)"),
        (
            pd.concat([frame(), frame()[["size"]]], axis=1),
            "two columns have the same name: size, colour, born, size",
        ),
        (pd.DataFrame(), "there are no columns. The model takes size: number"),
        ({}, "there are no columns"),
        ({"size": 0.1, "colour": "white", "born": "2022-01-09"}, "give a list for each column"),
        (GOOD | {"size": [1.0]}, "different numbers of rows: size 1, colour 3, born 3"),
        (17, "a int cannot be predicted"),
        ([1, 2], "a list cannot be predicted"),
        (frame()["size"], "a Series cannot be predicted"),
        (frame()[["size"]].to_numpy(), "a ndarray cannot be predicted"),
        ("gone.csv", "gone.csv"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_invalid_value_error_names_row_and_column(rows, said, model):
    with pytest.raises(modelmint.InputError, match=said):
        model.predict(rows)


PERIODS = pd.period_range("2022-01-09", periods=3, freq="D")


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (dict(enumerate(GOOD["size"])), "dict"),
        (set(GOOD["size"]), "set"),
        ({0.1: 1, 1.2: 2, -0.2: 3}.keys(), "dict_keys"),
        (iter(GOOD["size"]), "list_iterator"),
        (np.array(0.1), "ndarray"),
        (frame(), "DataFrame"),
        (bytearray(3), "bytearray"),
        ("abc", "str"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_predict_refuses_a_column_without_an_order(column, kind, model):
    with pytest.raises(modelmint.InputError, match=rf"'size' is .* \({kind}\); give a list for"):
        model.predict(GOOD | {"size": column})


def test_predict_refuses_a_dict_of_dicts_and_takes_a_dict_of_lists(model):
    rows = frame()
    for orient in ("dict", "index"):
        with pytest.raises(modelmint.InputError, match=r"to_dict\('list'\)"):
            model.predict(rows.to_dict(orient))
    for orient in ("list", "series", "records"):
        assert model.predict(rows.to_dict(orient))["prediction"].to_pylist() == ANSWERS


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (PERIODS, r"period\[D\].*\.dt\.to_timestamp\(\)"),
        (pd.Categorical(PERIODS), r"period\[D\].*\.dt\.to_timestamp\(\)"),
        (pd.interval_range(0, 3), r"interval.*\.astype\(str\)"),
        (pd.cut([0.1, 1.2, -0.2], 3), r"interval.*\.astype\(str\)"),
        (pd.arrays.SparseArray([0.1, 1.2, -0.2]), r"Sparse.*\.sparse\.to_dense\(\)"),
        (pa.array(PERIODS), "extension"),
    ],
    ids=["period", "periods as categories", "interval", "cut", "sparse", "arrow"],
)
@pytest.mark.parametrize("name", ["size", "born"])
def test_predict_refuses_extension_types_with_a_conversion(name, column, said, model):
    changed = GOOD | {name: column}
    forms = [changed] if isinstance(column, pa.Array) else [changed, frame(**{name: column})]
    if isinstance(column, pa.Array):
        forms += [pa.table(changed), pa.record_batch(changed)]
    for rows in forms:
        with pytest.raises(modelmint.InputError, match=rf"column '{name}' has the type .*{said}"):
            model.predict(rows)
    key = frame(key=PERIODS)  # which no model reads
    assert list(model.predict(key)["key"]) == list(PERIODS)


def test_predict_accepts_anything_that_exports_arrow(model):
    class Frame:  # as those of Polars and DuckDB
        def __arrow_c_stream__(self, requested_schema=None):
            return pa.table(GOOD).__arrow_c_stream__(requested_schema)

    assert model.predict(Frame())["prediction"].to_pylist() == ANSWERS


def test_predict_errors_equal_those_of_the_batch_job(registry, tmp_path):
    bad = frame(size=[0.1, None, 0.1])
    bad.to_parquet(tmp_path / "in.parquet")
    inner, path = registry._inner, tmp_path / "in.parquet"
    with pytest.raises(modelmint.InputError) as by_job:
        run_job(inner, inner.resolve("pets"), find([path]), tmp_path / "out")
    with pytest.raises(modelmint.InputError) as here:
        registry.load("pets").predict(bad)
    said = str(by_job.value).replace(str(path), "the DataFrame")
    assert said.startswith(f"{here.value}. 1 of 3 rows cannot be predicted")


@pytest.mark.parametrize(
    "changed",
    [
        {"size": np.array([0.1, 1.2, -0.2], np.float32)},
        {"size": pd.array([0, 1, 0], dtype="Int64")},
        {"size": np.array([0, 1, 0], np.int8)},
        {"size": pd.array([0.1, 1.2, -0.2], dtype="Float64")},
        {"size": ["0.1", "1.2", " -0.2"]},
        {"colour": pd.Categorical(["white", "black", "white"])},
        {"colour": pd.array(["white", "black", "white"], dtype="string")},
        {"colour": pd.array(["white", "black", "white"], dtype=pd.ArrowDtype(pa.large_string()))},
        {"born": pd.to_datetime(GOOD["born"])},
        {"born": pd.to_datetime(GOOD["born"]).tz_localize("UTC")},
        {"born": ["2022-01-09", "2022-01-20T00:00:00Z", "2022-01-10"]},
        {"born": pd.array(GOOD["born"], dtype=pd.ArrowDtype(pa.date32()))},
        {"born": [datetime(2022, 1, 9, tzinfo=UTC)] * 3, "size": [0.1, 1.2, -0.2]},
    ],
    ids=lambda changed: "-".join(f"{n}-{getattr(v, 'dtype', 'list')}" for n, v in changed.items()),
)
def test_predict_accepts_columns_of_any_equivalent_type(changed, model):
    found = model.predict(frame(**changed))
    assert found["prediction"].iloc[0] == "cat"
    if "size" in changed and "born" not in changed:
        assert list(found["prediction"]) == ANSWERS


def test_predict_keeps_index_and_key_and_ignores_other_columns(model):
    rows = frame(key=pd.array([7, None, 9], dtype="Int64"), odd=[{"a": 1}, [2], object()])
    rows.index = ["x", "y", "y"]
    found = model.predict(rows)
    assert list(found.index) == ["x", "y", "y"]
    assert list(found.columns) == ["key", "prediction", "score"]
    pd.testing.assert_series_equal(found["key"], rows["key"])
    assert list(found["prediction"]) == ANSWERS
    by_name = model.predict(frame(key=["a", "b", "c"]).set_index("key"))
    assert list(by_name["key"]) == ["a", "b", "c"]
    assert list(model.predict(frame(), probabilities=True).columns)[3:] == [
        "probability_cat",
        "probability_dog",
    ]


@pytest.mark.parametrize(
    "empty",
    [frame().iloc[:0], pd.DataFrame({n: [] for n in GOOD}), {n: [] for n in GOOD}, []],
    ids=["typed frame", "untyped frame", "dict", "list"],
)
def test_predict_without_rows_returns_the_same_columns(empty, model):
    found = model.predict(empty, probabilities=True)
    filled = model.predict(GOOD, probabilities=True)
    if isinstance(empty, pd.DataFrame):
        assert list(found.columns) == filled.column_names
        assert len(found) == 0
    else:
        assert found.schema.remove_metadata().equals(filled.schema.remove_metadata())
        assert found.num_rows == 0
    with pytest.raises(modelmint.InputError, match="no column 'size'"):
        model.predict(frame().iloc[:0].drop(columns="size"))


@pytest.mark.parametrize("name", TASKS)
def test_predict_without_rows_works_for_every_kind_of_model(name, kinds):
    with opened(kinds) as registry:
        model = registry.load(f"{name}:1")
        columns = {column: [] for column in model.signature.columns}
        assert model.predict(columns).column_names[:2] == ["key", "prediction"]


def test_predict_accepts_images_as_paths_bytes_or_arrays(kinds, tmp_path, monkeypatch):
    with opened(kinds) as registry:
        model = registry.load("image:1")
    rows = rows_in(kinds / "image/data/prepared/test.arrow")
    pixels = rows["image"].combine_chunks().to_numpy_ndarray()[:3]
    wanted = model.predict({"image": pixels})
    contents = []
    for number, image in enumerate(pixels):
        saved = BytesIO()
        Image.fromarray(image[..., 0]).save(saved, "PNG")
        contents.append(saved.getvalue())
        (tmp_path / f"{number}.png").write_bytes(contents[-1])
    monkeypatch.chdir(tmp_path)
    names = [f"{number}.png" for number in range(3)]
    paths = [tmp_path / name for name in names]
    for given in (contents, names, paths, list(pixels), list(pixels[..., 0]), pixels[..., 0]):
        assert model.predict({"image": given})["score"] == wanted["score"]
    assert list(model.predict(pd.DataFrame({"image": paths}))["key"]) == [0, 1, 2]
    assert model.predict(paths)["key"].to_pylist() == names
    with pytest.raises(modelmint.InputError, match="row 1 has no image"):
        model.predict({"image": [pixels[0], None]})
    with pytest.raises(modelmint.InputError, match="the images have different shapes"):
        model.predict({"image": [pixels[0], pixels[0][:4]]})
    with pytest.raises(modelmint.InputError, match=r"gone.png"):
        model.predict({"image": ["gone.png"]})
    with pytest.raises(modelmint.InputError, match="there are no classes"):
        registry.load("tabular:1").predict(GOOD, probabilities=True)


@pytest.mark.parametrize("name", ["text", "tabular"])
def test_predict_is_thread_safe(name, kinds):
    with opened(kinds) as registry, warnings.catch_warnings():
        warnings.simplefilter("ignore", modelmint.Substituted)
        model = registry.load(f"{name}:1")
        rows = rows_in(kinds / name / "data/prepared/train.arrow")
        wanted = model.predict(rows)
        with ThreadPoolExecutor(8) as pool:
            for found in pool.map(lambda _: model.predict(rows), range(40)):
                assert found.equals(wanted)


def test_loaded_model_keeps_its_version_when_the_alias_moves(registry):
    model = registry.load("pets@champion")
    registry.rollback("pets")
    assert (model.version.ref, model.reference) == ("pets:2", "pets@champion")
    assert registry.load("pets").version.ref == "pets:1"


def test_load_refuses_damaged_archived_and_foreign_versions(registry, project, tmp_path):
    with Registry(f"sqlite:///{project}/modelmint.db", project / "artifacts") as inner:
        inner.register("other", make_candidate(tmp_path / "other"), actor="ada")
        bare = make_candidate(tmp_path / "bare", identity=frozenset({"card.md"}))
        bare = replace(bare, files={"card.md": bare.files["card.md"]})
        inner.register("bare", bare, actor="ada")
    with pytest.raises(modelmint.InputError, match="is not a signature"):
        registry.load("other:1")
    with pytest.raises(modelmint.InputError, match=r"bare:1 cannot be loaded: .* model.onnx"):
        registry.load("bare:1")
    registry.archive("pets:1")
    with pytest.raises(modelmint.Refused, match="archived"):
        registry.load("pets:1")
    stored = registry.files("pets:2")["model.onnx"]
    stored.chmod(0o644)
    stored.write_bytes(stored.read_bytes()[:-1] + b"?")
    with pytest.raises(modelmint.Corrupt, match=r"model\.onnx"):
        registry.load("pets:2")


# References and records.


def test_each_method_accepts_every_form_of_reference(registry):
    version = registry.resolve("pets:2").version
    summary = registry.search("pets", limit=1)[0]
    model = registry.load("pets")
    alias = registry.promote("pets:2", "canary")
    given = [
        *("pets", "pets@champion", "pets@canary", "pets:2"),
        *(version, summary, model, alias, registry.resolve("pets"), registry.show("pets")),
        *(registry.models()[0], registry.history("pets:2")[0], registry.trace("pets")),
    ]
    for one in given:
        assert registry.load(one).version.ref == "pets:2"
        assert registry.show(one).version == registry.resolve(one).version
        assert registry.compare("pets:1", one).right.ref == "pets:2"
        registry.note(one, "seen", actor="ada")
        registry.tag(one, "seen", "yes")
        assert [v.model for v in registry.search(one)] == ["pets", "pets"]
        assert len(registry.history(one)) > 0
        assert list(registry.jobs(one)) == []
        assert not registry.verify(one)
    notes = [e for e in registry.history("pets") if e.kind == "noted"]
    assert {(e.version, e.reason, e.actor) for e in notes} == {(2, "seen", "ada")}
    assert len(notes) == len(given)


@pytest.mark.parametrize("given", [5, None, "Pets", "pets:", "pets:x", b"pets", ["pets"], object()])
def test_other_objects_are_an_invalid_reference(given, registry):
    for method in (registry.load, registry.show, registry.history, registry.export):
        with pytest.raises(modelmint.InvalidReference):
            method(given, "x") if method == registry.export else method(given)
    with pytest.raises(modelmint.InvalidReference):
        registry.compare("pets:1", given)


def test_an_event_of_a_model_names_the_model():
    event = Event(
        id=1, model="pets", at=datetime.now(UTC), actor="ada", kind="policy", version=None,
        alias=None, previous=None, reason=None, payload={}, hash="",
    )  # fmt: skip
    assert str(target(event)) == "pets"


def test_event_of_a_model_is_refused_as_a_version(registry):
    registry.set_policy("pets", keep_last=20)
    registry.promote("pets:1", "canary")
    registry.unset("pets@canary")
    of_model, unset = registry.history("pets")[2], registry.history("pets")[0]
    assert (of_model.kind, unset.kind) == ("policy", "unset")
    before = list(registry.history("pets"))
    for event in (of_model, unset):
        for method in (
            *(registry.load, registry.show, registry.approve, registry.reject, registry.archive),
            *(registry.rollback, registry.unset, registry.promote, registry.files),
            *(lambda e: registry.tag(e, "a", "b"), lambda e: registry.note(e, "text")),
        ):
            with pytest.raises(modelmint.InvalidReference, match="does not name a version"):
                method(event)
        assert registry.history(event) == before
    for bare in ("pets", registry.models()[0]):
        with pytest.raises(modelmint.InvalidReference, match="does not name an alias"):
            registry.unset(bare)
    assert registry.history("pets") == before


def test_history_can_be_of_a_model_version_or_alias(registry):
    registry.promote("pets:1", "canary")
    assert {e.alias for e in registry.history("pets@canary")} == {"canary"}
    assert {e.version for e in registry.history("pets:1")} == {1}
    assert len(registry.history("pets")) > len(registry.history("pets:1"))
    assert len(registry.history("pets", limit=2)) == 2


def test_decisions_record_the_user_or_the_given_actor(registry, monkeypatch):
    monkeypatch.setenv("LOGNAME", "grace")
    assert registry.rollback("pets", reason="worse").version == 1
    registry.reject("pets:2", reason="worse", actor="eve")
    registry.approve("pets:2", reason="after all")
    registry.promote(registry.resolve("pets:2"), reason="back")
    registry.archive("pets:1")
    registry.unarchive("pets:1")
    registry.set_policy("pets", four_eyes=True, protected=["production"], actor="eve")
    rules = registry.set_policy("pets", keep_last=1, keep_holders=0)
    assert rules == Policy(
        four_eyes=True, keep_last=1, keep_holders=0, protected=("champion", "production")
    )
    with pytest.raises(modelmint.NotFound, match="Did you mean 'pets'"):
        registry.set_policy("pet", four_eyes=True)
    assert [v.ref for v in registry.retain("pets")] == ["pets:1"]
    found = [(e.kind, e.actor) for e in registry.history("pets")]
    assert ("rolled back", "grace") in found
    assert ("rejected", "eve") in found
    assert found[0] == ("archived", "grace")
    with pytest.raises(modelmint.InvalidReference, match="not an alias"):
        registry.rollback("pets:2")


# Lists and frames.


def test_search_returns_all_pages_without_a_limit(registry, project, tmp_path, monkeypatch):
    monkeypatch.setattr(queries, "_PAGE_SIZE", 2)
    with Registry(f"sqlite:///{project}/modelmint.db", project / "artifacts") as inner:
        for number in range(5):
            tags = {"team": "risk"} if number else {}
            offered = make_candidate(tmp_path / "c", f"m {number}", tags=tags)
            inner.register("many", offered, actor="ada")
    assert [v.version for v in registry.search("many")] == [5, 4, 3, 2, 1]
    some = registry.search("many", limit=3)
    assert [v.version for v in some] == [5, 4, 3]
    assert repr(some).startswith("3 versions; there are more")
    assert len(registry.search("many", limit=5)) == 5
    assert not repr(registry.search("many", limit=5)).count("more")
    assert len(registry.search("many", "tag.team=risk", "metric.accuracy>=0.5")) == 4
    assert len(registry.search("many", ["tag.team=risk", "metric.accuracy>=0.99"])) == 0
    assert {v.model for v in registry.search()} == {"many", "pets"}
    found = registry.search(None, order="metric.accuracy").to_pandas()
    assert found["ref"][0] == "pets:2"
    assert found["metric.macro_f1"].isna().sum() == 5
    assert list(found.loc[found["ref"] == "many:2", "tag.team"]) == ["risk"]
    assert found["created_at"].dt.tz is not None
    assert "metric.macro_f1" not in registry.search("many", "tag.team=none").to_pandas()
    with pytest.raises(modelmint.InvalidQuery):
        registry.search("many", limit=0)


def test_to_pandas_keeps_integers_with_missing_values(registry):
    events = registry.history("pets").to_pandas()
    assert list(events["previous"].dropna()) == [1]
    assert str(events["previous"].dtype) == "Int64"
    models = registry.models().to_pandas()
    assert models[["name", "versions", "alias.champion"]].values.tolist() == [["pets", 2, 2]]
    assert list(registry.verify().to_pandas()) == ["ref", "path", "what"]


def test_listing_is_a_sequence(registry):
    found = registry.search("pets")
    assert len(found) == 2
    assert found[0].ref == "pets:2"
    assert [v.ref for v in found[1:]] == ["pets:1"]
    assert found == registry.search("pets")
    assert found[-1] in found


def test_notebook_and_shell_views_escape_user_text(registry):
    evil = "<script>alert(1)</script>"
    with pytest.raises(modelmint.InvalidCandidate, match=r"U\+001B"):
        registry.note("pets:2", evil + "\x1b[31m")
    registry.tag("pets:2", "odd", evil, actor=evil)
    registry.note("pets:2", evil, actor=evil)
    registry.promote("pets:1", "canary", reason=evil, actor=evil)
    shown = [
        registry,
        registry.models(),
        registry.search("pets"),
        registry.history("pets"),
        registry.show("pets:2"),
        registry.compare("pets:1", "pets:2"),
        registry.load("pets"),
        registry.load("pets").signature,
        registry.verify(),
        registry.jobs(),
    ]
    for each in shown:
        assert "<script>" not in each._repr_html_()
        for text in (repr(each), each._repr_html_()):
            assert "\x1b" not in text
            assert "\u202e" not in text
    assert "&lt;script&gt;" in registry.history("pets")._repr_html_()


# Comparing, on the command line as well.


def test_compare_has_metrics_gates_classes_parameters_and_data(registry, project, tmp_path):
    with Registry(f"sqlite:///{project}/modelmint.db", project / "artifacts") as inner:
        first = make_candidate(
            tmp_path / "a",
            "a",
            evaluation={
                "passed": True,
                "gates": [
                    {"gate": "accuracy", "value": 0.9, "condition": ">= 0.5", "passed": True}
                ],
                "metrics": {"per_class": {"cat": {"f1": 0.5, "support": 3}}},
            },
        )
        second = make_candidate(
            tmp_path / "b",
            "b",
            metrics={"accuracy": 0.9, "loss": 1.5},
            params={"train": {"epochs": 4, "optimizer": {"name": "adam"}}},
            evaluation={
                "passed": True,
                "metrics": {"per_class": {"cat": {"f1": 0.75}, "owl": {"f1": 0.25}}},
            },
            lineage=replace(LINEAGE, dataset="f" * 32 + ".dir", git_commit="a" * 40),
        )
        inner.register("figures", first, actor="ada")
        inner.register("figures", second, actor="ada")
    both = registry.compare("figures:1", "figures:2")
    found = {m.name: (m.left, m.right, m.verdict) for m in both.metrics}
    assert found["accuracy"] == (0.975, 0.9, "worse")
    assert found["loss"] == (None, 1.5, "")
    assert [(g.name, g.left.passed, g.right) for g in both.gates] == [("accuracy", True, None)]
    assert [(c.label, c.name, c.left, c.right, c.difference) for c in both.classes] == [
        ("cat", "f1", 0.5, 0.75, 0.25),
        ("owl", "f1", None, 0.25, None),
    ]
    assert [(p.key, p.left, p.right) for p in both.params] == [("train.epochs", "3", "4")]
    assert [o.key for o in both.origin] == ["dataset", "commit"]
    assert both.same_split
    assert not both.same_bytes
    for part in both.PARTS:
        assert len(both.to_pandas(part)) == len(getattr(both, part))
    assert both.to_pandas("gates")["left_passed"].tolist() == [True]
    assert both.to_pandas()["left"].dtype == np.float64
    with pytest.raises(ValueError, match="Give one of metrics, gates"):
        both.to_pandas("colour")

    command = ["models", "compare", "figures:1", "figures:2"]
    printed = CliRunner().invoke(app, [*command, "--json"])
    assert json.loads(printed.stdout) == json.loads(json.dumps(both.as_dict()))
    said = CliRunner().invoke(app, command)
    assert said.exit_code == 0
    for word in ("worse", "train.epochs", "owl", "passed)", "−0.0750", "commit"):  # noqa: RUF001
        assert word in said.stderr
        assert word in repr(both)
    same = registry.compare("figures:1", "figures:1")
    assert same.same_bytes
    assert "predict the same" in repr(same)


EVALUATED = {
    "passed": False,
    "gates": [{"gate": "accuracy", "value": 0.25, "condition": ">= 0.5", "passed": False}],
    "test_split": {"rows": 1200, "sha256": "9" * 64},
    "metrics": {
        "summary": {"accuracy": 0.25, "macro_f1": 0.125},
        "headline": ["macro_f1", "accuracy"],
        "per_class": {"cat": {"f1": 0.0, "support": 900}, "dog": {"f1": 0.25, "support": 300}},
    },
    "evaluated_on": {"files": [{"path": "may.csv"}, {"path": "june.csv"}]},
}


def test_views_show_one_evaluation_and_name_it(registry):
    before = registry.show("pets:2")
    assert re.search(r"measured on +10 rows of the test split\n", repr(before))
    registry.record_evaluation("pets:2", EVALUATED, actor="grace")
    assert registry.resolve("pets:2").version.metrics == before.version.metrics
    where = "1,200 rows of may.csv, june.csv, by its newest evaluation"
    for said in (repr(registry.show("pets:2")), cli("models", "show", "pets:2")):
        assert re.search(rf"accuracy +0\.2500.*measured on +{where}", said, re.S)
        assert re.search(r"registered with +accuracy 1\.0000", said)
        assert "log_loss" not in said.partition("registered with")[0]
        assert re.search(r"gate accuracy +>= 0.5: refused", said)
    found = json.loads(cli("models", "show", "pets:2", "--json"))["measured"]
    assert (found["metrics"]["macro_f1"], found["where"], found["split"]) == (
        0.125,
        where,
        "9" * 64,
    )

    both = registry.compare("pets:1", "pets:2")
    assert (both.left_on, both.right_on) == ("10 rows of the test split", where)
    assert not both.same_split
    assert {m.name: (m.left, m.right) for m in both.metrics}["accuracy"] == (0.9, 0.25)
    assert {(c.label, c.right) for c in both.classes if c.name == "f1"} == {
        ("cat", 0.0),
        ("dog", 0.25),
    }
    assert [(g.name, g.right.value, g.right.passed) for g in both.gates] == [
        ("accuracy", 0.25, False)
    ]
    for said in (repr(both), cli("models", "compare", "pets:1", "pets:2")):
        assert where in said
        assert "different test splits" in said
    registry.record_evaluation("pets:1", EVALUATED, actor="grace")
    assert registry.compare("pets:1", "pets:2").same_split


def test_history_shows_the_verdict_of_an_evaluation(registry):
    registry.record_evaluation("pets:2", EVALUATED, actor="grace")
    registry.record_evaluation("pets:2", EVALUATED | {"passed": True}, actor="grace")
    assert [e.payload["passed"] for e in registry.history("pets:2", limit=2)] == [True, False]
    for said in (repr(registry.history("pets:2", limit=2)), cli("models", "history", "pets")):
        assert re.search(
            r"evaluated +pets:2 +passed$.*evaluated +pets:2 +failed$", said, re.S | re.M
        )
    assert not registry.verify()


def test_promote_and_rollback_warn_about_a_failed_evaluation(registry):
    registry.record_evaluation("pets:2", EVALUATED)
    registry.rollback("pets")
    said = "pets:2 failed its newest evaluation: accuracy 0.2500 >= 0.5: refused"
    for alias in ("champion", "canary"):
        with pytest.warns(modelmint.FailedEvaluation, match=said) as caught:
            assert registry.promote("pets:2", alias).version == 2
        assert Path(caught[0].filename).name == "test_python_interface.py"
    assert f"warning: {said}" in cli("models", "promote", "pets:2", "--alias", "blue")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        registry.promote("pets:1")
        assert "warning" not in cli("models", "promote", "pets:1", "--alias", "green")
        registry.record_evaluation("pets:2", EVALUATED | {"passed": True})
        registry.promote("pets:2")
    registry.record_evaluation("pets:1", {"passed": False})
    with pytest.warns(modelmint.FailedEvaluation, match=r"pets:1 failed .* See modelmint models"):
        registry.rollback("pets")
    cli("models", "promote", "pets:2")
    assert "warning: pets:1 failed" in cli("models", "rollback", "pets")


def cli(*arguments):
    """The output of a command, as text or JSON."""
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    return re.sub(" +\n", "\n", done.output)


def test_invalid_command_arguments_say_what_to_give(registry, monkeypatch):
    for asked, says in (
        (["policy", "pet", "--four-eyes"], "Did you mean 'pets'"),
        (["trace", "d" * 32], "Give dvc:" + "d" * 32),
        (["trace", "d" * 32 + ".dir"], "Give dvc:" + "d" * 32 + ".dir"),
        (["trace", "dvc:123"], "not a hash as DVC gives it"),
        (["verify", "--since", "0"], "Without --since, everything is checked"),
        (["evaluate", "pets:1", "/nowhere", "--gate", "accuracy>=0.5"], "/nowhere is missing"),
        (["restore", "/nowhere"], "There is no folder /nowhere"),
    ):
        done = CliRunner().invoke(app, ["models", *asked])
        assert isinstance(done.exception, modelmint.RegistryError | modelmint.InputError), asked
        assert says in str(done.exception)
    monkeypatch.setenv("MODELMINT_DATABASE_URL", "")  # is not set: that of the project counts
    monkeypatch.setenv("MODELMINT_ARTIFACTS", "")
    assert "pets" in cli("models", "list")
    assert json.loads(cli("models", "gc", "--dry-run", "--json")) == []


# Opening, and the object itself.


def test_registry_opens_project_environment_or_arguments(project, tmp_path, monkeypatch):
    with modelmint.registry() as registry:
        assert [m.name for m in registry.models()] == ["pets"]
    other = tmp_path / "other"
    other.mkdir()
    with Registry(f"sqlite:///{other}/r.db", other / "files") as inner:
        inner.register("others", make_candidate(tmp_path / "c"), actor="ada")
    with modelmint.registry(f"sqlite:///{other}/r.db", other / "files") as registry:
        assert [m.name for m in registry.models()] == ["others"]
    monkeypatch.setenv("MODELMINT_DATABASE_URL", f"sqlite:///{other}/r.db")
    monkeypatch.setenv("MODELMINT_ARTIFACTS", str(other / "files"))
    with modelmint.registry() as registry:
        assert [m.name for m in registry.models()] == ["others"]
    with modelmint.registry(f"sqlite:///{project}/modelmint.db", project / "artifacts") as found:
        assert len(found.models()) == 1
    monkeypatch.chdir(tmp_path)  # no project
    with modelmint.registry(f"sqlite:///{project}/modelmint.db", project / "artifacts") as found:
        assert found.load("pets").predict(GOOD)["prediction"].to_pylist() == ANSWERS


@pytest.mark.parametrize("form", ["url given", "artifacts given"])
def test_registry_with_arguments_needs_no_settings(form, project, tmp_path, monkeypatch):
    url, files = f"sqlite:///{project}/modelmint.db", str(project / "artifacts")
    monkeypatch.chdir(tmp_path)  # no project
    variable, missing, given = (
        ("MODELMINT_ARTIFACTS", "MODELMINT_ARTIFACTS", {"database_url": url})
        if form == "url given"
        else ("MODELMINT_DATABASE_URL", "MODELMINT_DATABASE_URL", {"artifacts": files})
    )
    with pytest.raises(modelmint.InputError, match=f"{missing} is not set"):
        modelmint.registry(**given)
    monkeypatch.setenv(variable, files if form == "url given" else url)
    with modelmint.registry(**given) as found:
        assert found.load("pets").version.ref == "pets:2"


def test_argument_of_a_wrong_type_is_refused_with_a_remedy(registry, model, tmp_path):
    flags = {
        "dry_run": [registry.gc, registry.retain],
        "purge": [registry.gc],
        "replace": [lambda **given: registry.backup(tmp_path / "b", **given)],
        "probabilities": [lambda **given: model.predict(GOOD, **given)],
    }
    before = list(registry.history("pets"))
    for name, methods in flags.items():
        for method in methods:
            for wrong in ("no", 1, None):
                with pytest.raises(modelmint.InputError, match=f"{name} is .* Give True or False"):
                    method(**{name: wrong})
    for method, said in (
        (lambda: registry.gc(grace_s="1"), "seconds, 0 or more"),
        (lambda: registry.gc(grace_s=-1), "seconds, 0 or more"),
        (lambda: registry.gc(grace_s=float("nan")), "seconds, 0 or more"),
        (lambda: registry.load("pets", device="gpu"), "device is 'gpu'. Give one of auto"),
        (lambda: registry.search("pets", 5), "a condition is 5 .int.. Give text"),
        (lambda: registry.search("pets", ["alias=a", None]), "a condition is None. Give text"),
        (lambda: registry.export("pets:1", 5), "path is 5"),
        (lambda: registry.backup(None), "folder is None"),
        (lambda: registry.import_version(""), "path is ''"),
        (lambda: registry.sign("pets:1", 5), "private_key is 5"),
        (lambda: registry.verify(public_key=5), "public_key is 5"),
        (lambda: registry.evaluate("pets:1", 5, {}), "data is 5"),
        (lambda: registry.evaluate("pets:1", "a.csv", {"acuracy": 1}), "did you mean 'accuracy'"),
        (lambda: modelmint.registry(5), "database_url is 5"),
        (lambda: modelmint.registry("sqlite:////r.db", 5), "artifacts is 5"),
    ):
        with pytest.raises(modelmint.InputError, match=said):
            method()
    for wrong in ("3", 0, -1, 1.5, True):
        for method in (registry.search, registry.history, registry.jobs, registry.trace):
            with pytest.raises(modelmint.InvalidQuery):
                method("pets", limit=wrong)
        with pytest.raises(modelmint.InvalidQuery, match="since is"):
            registry.verify(since=wrong)
    assert list(registry.search("pets", limit=np.int64(1))) == [registry.search("pets")[0]]
    assert list(registry.history("pets")) == before


def test_registry_repr_hides_the_password_and_never_fails(place):
    registry = modelmint.registry(place.url, place.folder / "artifacts")
    assert "0 models" in repr(registry)
    registry.close()
    private = modelmint.Registry(place.open(), "postgresql://ada:secret@host/db", "artifacts")
    assert "secret" not in repr(private) + private._repr_html_()
    private.close()


def test_note_is_an_event_in_a_valid_history(place, tmp_path):
    with modelmint.registry(place.url, place.folder / "artifacts") as registry:
        registry._inner.register("digits", make_candidate(tmp_path / "c"), actor="ada")
        registry.note("digits:1", "sevens look like ones\nsee the plot: 7 ≠ 1", actor="grace")
        event = registry.history("digits:1", limit=1)[0]
        assert (event.kind, event.actor, event.version) == ("noted", "grace", 1)
        assert event.reason == "sevens look like ones\nsee the plot: 7 ≠ 1"
        for bad in ("", "  \n", 5, None, "a\x00b", "\ud800"):
            with pytest.raises(modelmint.InvalidCandidate):
                registry.note("digits:1", bad)
        with pytest.raises(modelmint.NotFound):
            registry.note("digits:2", "nothing there")
        assert len(registry.history("digits")) == 2
        assert not registry.verify()


def test_note_command_adds_an_event(project):
    done = CliRunner().invoke(app, ["models", "note", "pets:1", "small dogs are cats"])
    assert done.exit_code == 0
    with modelmint.registry() as registry:
        assert registry.history("pets", limit=1)[0].reason == "small dogs are cats"


def test_export_import_and_backup_work_in_python(registry, tmp_path):
    made = registry.export("pets:1", str(tmp_path / "pets.tar"))
    assert made.version.ref == "pets:1"
    found = registry.import_version(tmp_path / "pets.tar", name="pets")
    assert not found.created
    assert registry.backup(tmp_path / "backup").rows > 0
    assert list(registry.gc(dry_run=True, grace_s=0)) == []
    assert "2 versions" in repr(registry.verify())
