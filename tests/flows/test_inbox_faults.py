"""What happens to the files of an inbox if they change, or something else fails, during a run."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from forks import python_code
from registry_helpers import LINEAGE, Place

from flows.incremental import NewReport, predict_new
from flows.job import close_dead_jobs, close_finished_jobs, run_job, signature_of
from registry import Candidate
from tasks.bundle.files import IDENTITY
from tasks.errors import SetupError
from tasks.inputs import find
from tasks.predict import How
from tasks.serving.manifest import completed
from tasks.serving.options import Options

BUNDLE = Path(__file__).parents[1] / "data/release_0_1/bundle"  # a linear model, prices of homes
OLD = time.time() - 3600  # long enough ago to be complete
MOVE = {"actor": "ada", "reason": "better", "expect_revision": None}


@pytest.fixture
def registry(tmp_path):
    """A registry with two versions of one model, of which the first is the champion."""
    files = {path.name: path for path in BUNDLE.iterdir()}
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
    place = Place(tmp_path)
    place.make()
    with place.open() as registry:
        for found in (files, files | {"signature.json": second}):
            registry.register("homes", Candidate(files=found, **given), actor="ada")
        registry.promote("homes", 1, **MOVE)
        yield registry


@pytest.fixture
def inbox(tmp_path):
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def write(path, rows=3):
    path.write_text("area,town\n" + "50,Bern\n" * rows)
    os.utime(path, (OLD, OLD))


def run(registry, inbox, *, progress=lambda rows: None, device="cpu", **given) -> NewReport:
    resolved = registry.resolve("homes@champion")
    how = How(device, progress=progress)
    return predict_new(registry, resolved, [inbox], inbox.parent / "out", how=how, **given)


def places(inbox):
    return sorted(p.relative_to(inbox).as_posix() for p in inbox.rglob("*") if p.is_file())


def test_a_file_that_changes_while_it_is_predicted_is_left_for_the_next_run(registry, inbox):
    write(inbox / "a.csv")
    write(inbox / "b.csv", 5)

    def grow(rows):
        if rows == 3:
            with (inbox / "a.csv").open("a") as stream:
                stream.write("90,Ulm\n")

    report = run(registry, inbox, progress=grow, after="move")
    assert (report.waiting, report.failed) == ([str(inbox / "a.csv")], {})
    assert report.own_remarks == [f"left for the next run, still being written: {inbox / 'a.csv'}"]
    assert places(inbox) == ["a.csv", "done/b.csv"]
    assert run(registry, inbox, after="move").waiting == [str(inbox / "a.csv")]  # just written
    os.utime(inbox / "a.csv", (OLD, OLD))
    assert [job.rows for job in run(registry, inbox, after="move").jobs] == [4]
    assert places(inbox) == ["done/a.csv", "done/b.csv"]


def test_a_file_that_disappears_while_it_is_predicted_does_not_stop_the_others(registry, inbox):
    write(inbox / "a.csv")
    write(inbox / "b.csv", 5)
    gone = inbox / "a.csv"
    report = run(registry, inbox, progress=lambda _: gone.unlink(missing_ok=True), after="move")
    assert [job.rows for job in report.jobs] == [5]
    assert (report.waiting, report.failed) == ([], {})
    write(gone)  # it returns
    assert [job.rows for job in run(registry, inbox).jobs] == [3]


def test_files_stay_if_the_output_cannot_be_written(registry, inbox):
    write(inbox / "a.csv")
    (inbox.parent / "out").write_text("mine")
    report = run(registry, inbox, after="move")
    assert "cannot be a folder for predictions" in report.failed[str(inbox / "a.csv")]
    assert places(inbox) == ["a.csv"]


def test_files_stay_if_their_predictions_were_edited(registry, inbox):
    write(inbox / "a.csv")
    output = Path(run(registry, inbox).jobs[0].output)
    part = next(output.glob("*.parquet"))
    part.write_bytes(part.read_bytes() + b"more")
    report = run(registry, inbox, after="move", again=True)
    assert "somebody changed it" in report.failed[str(inbox / "a.csv")]
    assert places(inbox) == ["a.csv"]


def test_an_option_that_the_model_cannot_follow_fails_no_file(registry, inbox):
    write(inbox / "a.csv")
    with pytest.raises(SetupError, match="leave out --probabilities"):
        run(registry, inbox, after="move", options=Options(probabilities=True))
    assert places(inbox) == ["a.csv"]


def test_other_options_are_another_folder(registry, inbox):
    write(inbox / "a.csv")
    for number, options in enumerate((Options(), Options(form="csv"), Options(keep=("town",))), 1):
        report = run(registry, inbox, options=options, again=True)
        assert [job.fresh for job in report.jobs] == [False]
        assert len(list(inbox.parent.glob("out/*/manifest.json"))) == number
    assert [job.fresh for job in run(registry, inbox, again=True).jobs] == [True]


KILLED = """
import os, sys
from pathlib import Path
import flows.job
from flows.incremental import predict_new
from registry import Registry
from tasks.predict import How

flows.job._finish = lambda *given: os._exit(9)
with Registry(sys.argv[1], sys.argv[2]) as registry:
    resolved = registry.resolve("homes@champion")
    predict_new(registry, resolved, [Path("inbox")], Path("out"), how=How("cpu"))
"""


def test_the_next_version_does_not_predict_what_a_job_had_that_was_killed_before_its_row(
    registry, inbox
):
    """The paths of the killed command were relative to its folder, which is not ours."""
    write(inbox / "a.csv")
    place = Place(inbox.parent)
    command = python_code(KILLED, place.url, str(place.folder / "artifacts"))
    assert subprocess.run(command, cwd=inbox.parent).returncode == 9
    (job,) = registry.jobs("homes")
    assert job.state == "running"
    registry.promote("homes", 2, **MOVE)
    report = run(registry, inbox)
    assert (report.jobs, report.known) == ([], 1)
    (job,) = registry.jobs("homes")
    assert (job.state, job.rows, job.version) == ("completed", 3, 1)


def test_a_job_that_another_run_closes_by_its_manifest_is_complete(registry, inbox, monkeypatch):
    """Between the manifest and the row, which another run may write at that moment."""
    write(inbox / "a.csv")
    resolved = registry.resolve("homes@champion")
    files = find([inbox / "a.csv"], signature_of(resolved.version))
    finish = registry.finish_job

    def finish_twice(job, **found):
        with Place(inbox.parent).open() as other:
            close_finished_jobs(other, "homes")
        return finish(job, **found)

    monkeypatch.setattr(registry, "finish_job", finish_twice)
    done = run_job(registry, resolved, files, inbox.parent / "out", how=How("cpu"))
    assert registry.job(done.job).state == "completed"


def test_a_job_without_its_manifest_is_not_closed(registry, inbox):
    output = inbox.parent / "out"
    resolved = registry.resolve("homes@champion")
    job = registry.start_job(resolved, input_sha256="0" * 64, output=str(output))
    close_finished_jobs(registry, "homes")
    write(inbox / "a.csv")
    files = find([inbox / "a.csv"], signature_of(resolved.version))
    shutil.rmtree(run_job(registry, resolved, files, inbox.parent / "other").output)
    os.rename(inbox.parent / "other", output)  # of another job, and no longer whole
    close_finished_jobs(registry, "homes")
    assert registry.job(job.id).state == "running"


def test_dead_jobs_are_completed_by_their_manifest_or_fail_with_their_flow_run(registry, inbox):
    write(inbox / "a.csv")
    resolved = registry.resolve("homes@champion")
    files = find([inbox / "a.csv"], signature_of(resolved.version))
    done = run_job(registry, resolved, files, inbox.parent / "out", how=How("cpu"))

    def begun(output, flow_run_id):
        given = {"input_sha256": "0" * 64, "output": str(inbox.parent / output)}
        return registry.start_job(resolved, **given, flow_run_id=flow_run_id)

    ended, alive, by_hand = (begun(str(run), run) for run in ("ended", "alive", None))
    whole = begun("out", "alive")
    manifest = inbox.parent / "out/manifest.json"
    manifest.write_text(manifest.read_text().replace(done.job, whole.id))
    close_dead_jobs(registry, "homes", lambda run: "Crashed" if run == "ended" else None)
    found = {job.id: job for job in registry.jobs("homes")}
    assert (found[ended.id].state, found[ended.id].error) == (
        "failed",
        "its flow run ended as Crashed",
    )
    assert (found[whole.id].state, found[whole.id].rows) == ("completed", 3)
    assert {found[job.id].state for job in (alive, by_hand)} == {"running"}


def test_a_promotion_during_a_run_changes_nothing_in_it(registry, inbox):
    for name in ("a.csv", "b.csv"):
        write(inbox / name)
    promoted = []

    def promote(rows):
        if not promoted:
            promoted.append(registry.promote("homes", 2, **MOVE))

    report = run(registry, inbox, progress=promote)
    assert promoted
    assert registry.resolve("homes@champion").version.version == 2
    assert [job.model for job in report.jobs] == ["homes:1"] * 2
    digests = {completed(Path(job.output).parent).provenance["digest"] for job in report.jobs}
    assert digests == {registry.resolve("homes:1").version.digest}
    assert [(job.state, job.version) for job in registry.jobs("homes")] == [("completed", 1)] * 2
    assert run(registry, inbox).known == 2
