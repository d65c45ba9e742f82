"""Batch inference jobs: recorded, repeatable, and only with a verified bundle."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from projects import Project

from registry import Registry
from tasks.serving.folder import owned
from tasks.serving.manifest import completed

PART = "predictions/part-00000.parquet"


@pytest.fixture
def test_split(trained: Project) -> str:
    return str(trained.root / "data/prepared/test.arrow")


def predict(project: Project, *arguments: str, status: int = 0) -> dict:
    done = project.modelmint("predict", "digits", *arguments, "--json", status=status)
    return json.loads(done.stdout) if not status else {"error": done.stderr}


def jobs(project: Project) -> list[dict]:
    return json.loads(project.modelmint("models", "jobs", "--json").stdout)


def test_a_job_records_model_input_and_output(trained, test_split, tmp_path):
    report = predict(trained, test_split, "--output", str(tmp_path / "out"))
    manifest = json.loads((tmp_path / "out/manifest.json").read_bytes())
    (job,) = [j for j in jobs(trained) if j["id"] == report["job"]]
    assert (job["state"], job["rows"], job["alias"]) == ("completed", 360, "champion")
    assert job["provider"] == manifest["provider"] == "CPUExecutionProvider"
    assert job["input_sha256"] == manifest["input_sha256"]
    assert job["substituted"] == manifest["substituted"] == {"image": {"rows": 360}}
    assert manifest["drift"]["summary"].items() <= job["drift"].items()
    assert job["drift"]["verdict"] == report["drift"]["verdict"] == "none"
    version = json.loads(trained.modelmint("models", "show", "digits", "--json").stdout)
    assert manifest["provenance"]["digest"] == version["digest"]
    assert manifest["provenance"]["dataset"] == version["lineage"]["dataset"]


def test_predictions_equal_the_evaluated_outputs(trained, test_split, tmp_path):
    predict(trained, test_split, "--output", str(tmp_path / "out"))
    predicted = pq.read_table(tmp_path / "out/predictions")
    with pa.memory_map(test_split) as source:
        truth = pa.ipc.open_file(source).read_all()
    assert predicted["key"].equals(truth["key"])
    right = np.array(predicted["prediction"]) == np.array(truth["target"].cast(pa.string()))
    version = json.loads(trained.modelmint("models", "show", "digits", "--json").stdout)
    assert right.mean() == pytest.approx(version["metrics"]["accuracy"])


def test_predict_names_the_other_files_of_its_output_and_leaves_them(trained, test_split, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/plan.md").write_text("mine")
    (tmp_path / "out/.hidden").touch()
    command = ("predict", "digits", test_split, "--output", str(tmp_path / "out"))
    said = trained.modelmint(*command).stderr
    assert "out is not empty: plan.md stays as it is" in said
    assert "360 rows predicted" in said
    assert (tmp_path / "out/plan.md").read_text() == "mine"
    assert "is not empty" not in trained.modelmint(*command).stderr


def test_predict_does_not_repeat_a_completed_job(trained, test_split, tmp_path):
    first = predict(trained, test_split, "--output", str(tmp_path / "out"))
    second = predict(trained, test_split, "--output", str(tmp_path / "out"))
    assert (first["fresh"], second["fresh"]) == (False, True)
    assert first["job"] == second["job"]


def test_predict_refuses_a_folder_with_other_predictions(trained, test_split, tmp_path):
    predict(trained, test_split, "--output", str(tmp_path / "out"))
    before = (tmp_path / "out" / PART).read_bytes()
    other = str(trained.root / "data/prepared/validation.arrow")
    error = predict(trained, other, "--output", str(tmp_path / "out"), status=2)["error"]
    assert "holds the predictions of digits:1" in error
    assert (tmp_path / "out" / PART).read_bytes() == before


def test_a_wrong_column_type_leaves_no_file_and_a_failed_job(trained, tmp_path):
    wrong = pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((4, 9, 9, 1), np.uint8))
    pq.write_table(pa.table({"image": wrong}), tmp_path / "wrong.parquet")
    error = predict(
        trained, str(tmp_path / "wrong.parquet"), "--output", str(tmp_path / "out"), status=2
    )["error"]
    assert "uint8[9, 9, 1]" in error
    assert "image: uint8[8, 8, 1]" in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()
    assert jobs(trained)[0]["state"] == "failed"


def test_predict_refuses_an_output_that_is_a_file(trained, test_split, tmp_path):
    (tmp_path / "out").write_text("mine")
    error = predict(trained, test_split, "--output", str(tmp_path / "out"), status=2)["error"]
    assert "Name another one" in error
    assert (tmp_path / "out").read_text() == "mine"


def test_a_job_waits_for_another_one_in_its_folder_and_finds_it_complete(
    trained, test_split, tmp_path
):
    out = tmp_path / "out"
    command = ["modelmint", "predict", "digits", test_split, "--output", str(out), "--json"]
    with owned(out, lambda: pytest.fail("nobody else writes there")):
        second = trained.start(*command, forked=True)
        said = next(line for line in second.stdout if "another job" in line)
        first = predict(trained, test_split, "--output", str(tmp_path / "other"))
        shutil.copytree(tmp_path / "other", out, dirs_exist_ok=True)
        assert second.poll() is None
    printed = second.stdout.read()
    assert second.wait(60) == 0
    assert f"another job writes to {out}; waiting for it" in said
    report = json.loads(printed[printed.index("{") :])
    assert (report["fresh"], report["job"]) == (True, first["job"])


def test_two_jobs_that_begin_at_once_write_one_output(trained, test_split, tmp_path):
    command = ["modelmint", "predict", "digits", test_split, "--output", str(tmp_path / "out")]
    both = [trained.start(*command, "--json", forked=True) for _ in range(2)]
    printed = [job.communicate()[0] for job in both]
    assert [job.returncode for job in both] == [0, 0]
    reports = [json.loads(text[text.index("{") :]) for text in printed]
    assert sorted(report["fresh"] for report in reports) == [False, True]
    assert len({report["job"] for report in reports}) == 1
    assert completed(tmp_path / "out").rows == 360


@pytest.mark.parametrize("name", ["model.onnx", "signature.json", "card.md"])
def test_predict_refuses_a_bundle_with_a_changed_byte(trained, test_split, tmp_path, name):
    place = tmp_path / "artifacts"
    shutil.copytree(trained.root / "artifacts", place)
    version = json.loads(trained.modelmint("models", "show", "digits", "--json").stdout)
    sha256 = next(a["sha256"] for a in version["artifacts"] if a["path"] == name)
    path = place / "sha256" / sha256[:2] / sha256
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    damaged = Project(trained.root, {**trained.environment, "MODELMINT_ARTIFACTS": str(place)})
    error = predict(damaged, test_split, "--output", str(tmp_path / "out"), status=1)["error"]
    assert name in error
    assert "was changed" in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()
    assert name in damaged.modelmint("models", "verify", status=1).stderr


def test_predict_completes_a_killed_job_and_keeps_its_finished_shards(trained, tmp_path):
    rows = 600_000
    images = np.random.default_rng(0).integers(0, 17, (rows, 8, 8, 1), np.uint8)
    column = pa.FixedShapeTensorArray.from_numpy_ndarray(images)
    pq.write_table(pa.table({"image": column}), tmp_path / "many.parquet", row_group_size=100_000)
    command = ["modelmint", "predict", "digits", str(tmp_path / "many.parquet")]
    command += ["--output", str(tmp_path / "out")]
    unfinished = tmp_path / "out/.unfinished"
    for pattern in ("*/predictions/.part-*", "*/shards/*.json"):  # within a shard, and after one
        run = trained.start(*command)
        deadline = time.monotonic() + 60
        before = set(unfinished.glob(pattern))
        while set(unfinished.glob(pattern)) == before and time.monotonic() < deadline:
            time.sleep(0.005)
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        run.stdout.close()
        assert not (tmp_path / "out/manifest.json").exists()
        assert not (tmp_path / "out/predictions").exists()
    kept = {
        part: (unfinished / place).stat().st_mtime_ns
        for record in unfinished.glob("*/shards/*.json")
        for part in (json.loads(record.read_bytes())["files"][0]["path"],)
        for place in (record.parent.parent / part,)
    }
    assert 1 <= len(kept) < 3
    report = json.loads(trained.run(*command, "--workers", "1", "--json").stdout)
    assert report["rows"] == rows
    manifest = json.loads((tmp_path / "out/manifest.json").read_bytes())
    assert [shard["rows"] for shard in manifest["shards"]] == [200_000] * 3
    assert {part: (tmp_path / "out" / part).stat().st_mtime_ns for part in kept} == kept
    table = pq.read_table(tmp_path / "out/predictions")
    assert np.array_equal(table["key"].to_numpy(), np.arange(rows))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "drift.json",
        "manifest.json",
        "predictions",
    ]
    assert len(list((tmp_path / "out/predictions").iterdir())) == 3
    of_this = [j["state"] for j in jobs(trained) if j["output"] == str(tmp_path / "out")]
    assert of_this == ["completed", "lost", "lost"]


def test_predict_closes_a_job_killed_after_it_wrote_its_manifest(trained, test_split, tmp_path):
    # A kill from outside cannot reliably hit the moment between the files and the row, so the
    # process ends itself there.
    code = (
        "import os, flows.job\n"
        "from cli.main import app\n"
        "flows.job._finish = lambda *_: os._exit(9)\n"
        "app()"
    )
    out = str(tmp_path / "out")
    arguments = ["predict", "digits", test_split, "--output", out]
    trained.python(code, *arguments, status=9)
    assert jobs(trained)[0]["state"] == "running"
    report = predict(trained, test_split, "--output", out)
    assert report["fresh"]
    newest = jobs(trained)[0]
    assert (newest["id"], newest["state"]) == (report["job"], "completed")
    assert (newest["drift"]["verdict"], newest["drift"]["rows"]) == ("none", 360)


def test_close_dead_jobs_ends_the_jobs_of_crashed_flow_runs(trained, test_split, tmp_path):
    from flows.job import close_dead_jobs, run_job
    from tasks.inputs import find

    with Registry(
        f"sqlite:///{trained.root}/modelmint.db", f"{trained.root}/artifacts"
    ) as registry:
        resolved = registry.resolve("digits")

        def begun(number: str | None, output: str):
            return registry.start_job(
                resolved, input_sha256="0" * 64, output=output, flow_run_id=number
            )

        done = run_job(registry, resolved, find([Path(test_split)]), tmp_path / "whole")
        whole = begun("ended", str(tmp_path / "whole"))
        manifest = tmp_path / "whole/manifest.json"
        manifest.write_text(manifest.read_text().replace(done.job, whole.id))
        part, alive, hand = (begun(n, str(tmp_path / str(n))) for n in ("ended", "alive", None))
        close_dead_jobs(registry, "digits", lambda n: "Crashed" if n == "ended" else None)
        found = {job.id: job for job in registry.jobs("digits")}
    assert found[part.id].state == "failed"
    assert found[part.id].error == "its flow run ended as Crashed"
    assert (found[whole.id].state, found[whole.id].rows) == ("completed", 360)
    assert {found[job.id].state for job in (alive, hand)} == {"running"}
