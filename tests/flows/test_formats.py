"""Documents of other releases: of 0.1 (tests/data/release_0_1), with more fields, and too new.

The data was written by commit 9e3f80e, before evaluation, profile and report had a format number:
prices of 60 homes, a linear model, and predictions for the four rows of homes.csv.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from registry_helpers import LINEAGE, Place

from flows import approval
from flows.job import run_job
from registry import Candidate
from registry.integrity import verify
from tasks import formats
from tasks.bundle.evaluation import Evaluation, Gate
from tasks.bundle.files import IDENTITY, Bundle
from tasks.config import Evaluate, Export, Linear, Train
from tasks.encoding import Encoder
from tasks.errors import InputError
from tasks.export import export
from tasks.in_memory import Predictor
from tasks.inputs import find
from tasks.predict import How
from tasks.serving.manifest import PredictReport, completed
from tasks.train import train

OLD = Path(__file__).parents[1] / "data/release_0_1"
TOO_NEW = "has format 9; this release of modelmint reads formats up to {}. Upgrade modelmint"


@pytest.fixture
def old(tmp_path):
    """A copy of the files of release 0.1."""
    return Path(shutil.copytree(OLD, tmp_path / "old"))


@dataclass(frozen=True)
class LongerEvaluation(Evaluation):
    """An evaluation of a later release."""

    reviewer: str = "nobody"


@dataclass(frozen=True)
class LongerGate(Gate):
    weight: float = 1.0


def change(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **fields}))


def test_a_bundle_of_release_0_1_gives_the_same_predictions(old):
    bundle = Bundle.at(old / "bundle")
    model = Predictor(bundle.files, "cpu")
    found = model.files(find([old / "homes.csv"], model.signature)).table
    before = pq.read_table(old / "predictions/predictions.parquet")
    assert found["key"].to_pylist() == before["key"].to_pylist() == [1, 2, 3, 4]
    assert found["prediction"].to_pylist() == pytest.approx(before["prediction"].to_pylist())


def test_an_evaluation_of_release_0_1_is_readable(old):
    found = Evaluation.read(Bundle.at(old / "bundle").evaluation)
    assert found.passed
    assert [str(gate) for gate in found.gates] == ["r2 0.9998 >= 0.5: passed"]
    assert found.parity.passed
    assert found.metrics.headline == ["r2", "mae"]
    assert (found.test_split.rows, found.data["rows_in"], found.refusals) == (12, 60, [])
    assert found.as_dict()["format"] == 2  # as this release would write it


def test_record_fills_a_new_field_with_its_default(old):
    document = json.loads(Bundle.at(old / "bundle").evaluation.read_bytes())
    assert LongerEvaluation.of(document).reviewer == "nobody"
    assert formats.record(LongerGate, document["gates"][0]).weight == 1.0
    stored = {"version": "digits:1", "champion": None, "revision": 0, "key": "k", "text": "t"}
    longer = make_dataclass(
        "Longer", [("urgent", bool, False)], bases=(approval.Question,), frozen=True
    )
    assert formats.record(longer, stored).urgent is False


def test_a_report_class_with_a_new_field_reads_an_old_manifest(old):
    document = formats.read(old / "predictions/manifest.json", formats.MANIFEST)
    fields = [("seconds", float, 0.0)]
    longer = make_dataclass("Longer", fields, bases=(PredictReport,), frozen=True)
    report = formats.record(longer, document)
    assert (report.rows, report.seconds, report.format) == (4, 0.0, 2)
    assert completed(old / "predictions").rows == 4


def test_run_job_continues_the_predictions_folder_of_release_0_1(old, tmp_path, monkeypatch):
    """The same bundle has the same digest, so nothing is predicted again."""
    files = {path.name: path for path in (old / "bundle").iterdir()}
    document = json.loads(files["evaluation.json"].read_bytes())
    candidate = Candidate(
        files=files,
        identity=IDENTITY & files.keys(),
        signature=json.loads(files["signature.json"].read_bytes()),
        metrics=document["metrics"]["summary"],
        params={},
        evaluation=document,
        lineage=LINEAGE,
    )
    monkeypatch.chdir(old)  # the manifest has relative paths
    place = Place(tmp_path)
    place.make()
    with place.open() as registry:
        registry.register("homes", candidate, actor="ada")
        resolved = registry.resolve("homes:1")
        signature = Encoder.read(old / "bundle").signature
        inputs = find([Path("homes.csv")], signature)
        done = run_job(registry, resolved, inputs, Path("predictions"), how=How("cpu"))
        assert (done.fresh, done.rows) == (True, 4)
        (old / "predictions/manifest.json").unlink()
        with pytest.raises(InputError, match=r"predictions/predictions\.parquet exists, without"):
            run_job(registry, resolved, inputs, Path("predictions"), how=How("cpu"))
        (old / "predictions/predictions.parquet").unlink()
        again = run_job(registry, resolved, inputs, Path("predictions"), how=How("cpu"))
        assert (again.fresh, again.rows) == (False, 4)
        assert verify(registry).problems == []


def test_an_interrupted_job_goes_on_with_the_version_that_its_alias_meant(old, tmp_path):
    files = {path.name: path for path in (old / "bundle").iterdir()}
    document = json.loads(files["evaluation.json"].read_bytes())
    given = {
        "identity": IDENTITY & files.keys(),
        "signature": json.loads(files["signature.json"].read_bytes()),
        "metrics": document["metrics"]["summary"],
        "params": {},
        "evaluation": document,
        "lineage": LINEAGE,
    }
    second = tmp_path / "signature.json"  # other bytes, the same meaning: another version
    second.write_bytes(files["signature.json"].read_bytes() + b"\n")
    place, output = Place(tmp_path), tmp_path / "out"
    place.make()

    def interrupt(rows):
        raise KeyboardInterrupt

    with place.open() as registry:
        registry.register("homes", Candidate(files=files, **given), actor="ada")
        registry.register(
            "homes", Candidate(files=files | {"signature.json": second}, **given), actor="ada"
        )
        move = {"actor": "ada", "reason": "better", "expect_revision": None}
        registry.promote("homes", 1, **move)
        inputs = find([old / "homes.csv"], Encoder.read(old / "bundle").signature)
        with pytest.raises(KeyboardInterrupt):
            run_job(
                registry,
                registry.resolve("homes@champion"),
                inputs,
                output,
                how=How("cpu", progress=interrupt),
            )
        registry.promote("homes", 2, **move)
        resolved = registry.resolve("homes@champion")
        done = run_job(registry, resolved, inputs, output, how=How("cpu"))
        assert (resolved.version.version, done.model) == (2, "homes:1")
        job = registry.job(done.job)
        assert (job.version, job.alias, job.alias_revision) == (1, None, None)
        assert verify(registry).problems == []


def test_a_prepared_dataset_of_release_0_1_can_be_trained_and_exported(old, tmp_path):
    given = Train(architecture=Linear(name="linear"), epochs=2, device="cpu")
    train(
        given,
        prepared=old / "prepared",
        base=tmp_path / "base",
        checkpoint=tmp_path / "checkpoint",
        history=tmp_path / "history.csv",
        resume=tmp_path / "resume",
    )
    paths = {name: tmp_path / name for name in ("checkpoint", "base", "repeats")}
    paths["prepared"] = old / "prepared"
    export(Export(), Evaluate(gates={"r2": -1e9}), **paths, bundle=tmp_path / "bundle")
    written = Bundle.at(tmp_path / "bundle")
    assert Evaluation.read(written.evaluation).data["rows_in"] == 60
    change(old / "prepared/report.json", format=9)
    with pytest.raises(InputError, match=TOO_NEW.format(1)):
        export(Export(), Evaluate(gates={"r2": -1e9}), **paths, bundle=tmp_path / "other")
    change(old / "prepared/profile.json", format=9)
    with pytest.raises(InputError, match=rf"profile.json {TOO_NEW.format(2)}"):
        train(
            given,
            prepared=old / "prepared",
            base=tmp_path / "base",
            checkpoint=tmp_path / "checkpoint",
            history=tmp_path / "history.csv",
            resume=tmp_path / "resume",
        )


READERS: dict[str, tuple[str, Callable[[Path], Any], int]] = {
    "evaluation": (
        "bundle/evaluation.json",
        lambda old: Evaluation.read(old / "bundle/evaluation.json"),
        formats.EVALUATION,
    ),
    "manifest": (
        "predictions/manifest.json",
        lambda old: completed(old / "predictions"),
        formats.MANIFEST,
    ),
}


@pytest.mark.parametrize(("name", "read", "newest"), READERS.values(), ids=READERS)
def test_readers_ignore_unknown_fields_and_refuse_a_newer_format(name, read, newest, old):
    before = read(old)
    change(old / name, further={"field": [1]}, format=newest)
    assert {**vars(read(old)), "format": None} == {**vars(before), "format": None}
    change(old / name, format=9)
    with pytest.raises(InputError, match=TOO_NEW.format(newest)) as refusal:
        read(old)
    assert str(old / name) in str(refusal.value)
    assert "remove the folder" not in str(refusal.value)
    change(old / name, format="2026")
    with pytest.raises(InputError, match="has format '2026'"):
        read(old)


@pytest.mark.parametrize("number", [0, -1, True, False, None, 1.0, "1"])
def test_accept_refuses_an_invalid_format_number(number):
    with pytest.raises(InputError, match="has format"):
        formats.accept({"format": number}, 1, "evaluation.json")


def test_evaluation_read_refuses_an_empty_parity(old):
    path = old / "bundle/evaluation.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"parity": {}}))
    with pytest.raises(InputError, match="not an evaluation"):
        Evaluation.read(path)
