"""An inbox: each new file is predicted once, and a broken one does not stop the others."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from projects import Project

OLD = time.time() - 3600  # long enough ago to be complete


@pytest.fixture
def inbox(tmp_path):
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def write(path, rows, seed=0, when=OLD):
    images = np.random.default_rng(seed).integers(0, 17, (rows, 8, 8, 1)).astype(np.uint8)
    column = pa.FixedShapeTensorArray.from_numpy_ndarray(images)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image": column}), path)
    os.utime(path, (when, when))


def predict_new(project: Project, inbox, *options: str, status: int = 0) -> dict:
    command = ("predict", "digits", str(inbox), "--output", str(inbox.parent / "out"), "--new")
    done = project.modelmint(*command, "--json", *options, status=status)
    return json.loads(done.stdout)


def rows_of(report: dict) -> list[int]:
    return [job["rows"] for job in report["jobs"]]


def test_each_new_file_is_predicted_once_and_a_changed_one_again(trained, inbox):
    write(inbox / "a.parquet", 5)
    write(inbox / "b.parquet", 7)
    assert rows_of(predict_new(trained, inbox)) == [5, 7]
    again = predict_new(trained, inbox)
    assert (again["jobs"], again["known"]) == ([], 2)

    write(inbox / "c.parquet", 3)
    write(inbox / "a.parquet", 6, seed=1)
    report = predict_new(trained, inbox)
    assert rows_of(report) == [6, 3]
    assert report["changed"] == [str(inbox / "a.parquet")]
    assert report["known"] == 1

    (inbox / "b.parquet").unlink()
    write(inbox / "a.parquet", 5)  # as it was at first
    assert predict_new(trained, inbox)["jobs"] == []
    write(inbox / "b.parquet", 7)  # it returns
    assert predict_new(trained, inbox)["jobs"] == []
    assert rows_of(predict_new(trained, inbox, "--again")) == [5, 7, 3]


def test_equal_content_under_another_name_is_another_file(trained, inbox):
    write(inbox / "monday.parquet", 4)
    write(inbox / "tuesday.parquet", 4)
    report = predict_new(trained, inbox)
    assert rows_of(report) == [4, 4]
    assert predict_new(trained, inbox)["known"] == 2


def test_a_file_that_may_still_be_written_is_left_for_the_next_run(trained, inbox):
    write(inbox / "young.parquet", 4, when=time.time())
    write(inbox / "download.parquet.part", 4)
    write(inbox / ".hidden.parquet", 4)
    write(inbox / "whole.parquet", 2)
    report = predict_new(trained, inbox)
    assert rows_of(report) == [2]
    waiting = [os.path.basename(path) for path in report["waiting"]]
    assert waiting == ["download.parquet.part", "young.parquet"]
    os.utime(inbox / "young.parquet", (OLD, OLD))
    assert rows_of(predict_new(trained, inbox)) == [4]


def test_a_broken_file_fails_alone_and_files_are_moved_where_they_belong(trained, inbox):
    write(inbox / "a.parquet", 5)
    (inbox / "b.parquet").write_bytes(b"PAR1 broken")
    os.utime(inbox / "b.parquet", (OLD, OLD))
    write(inbox / "c.parquet", 3)
    report = predict_new(trained, inbox, "--after", "move", status=2)
    assert rows_of(report) == [5, 3]
    assert list(report["failed"]) == [str(inbox / "b.parquet")]
    left = sorted(p.relative_to(inbox).as_posix() for p in inbox.rglob("*") if p.is_file())
    assert left == ["done/a.parquet", "done/c.parquet", "failed/b.parquet"]
    write(inbox / "a.parquet", 5, seed=2)
    predict_new(trained, inbox, "--after", "move")
    assert (inbox / "done/a-2.parquet").exists()


def test_a_broken_file_is_reported_once_until_it_changes_or_is_asked_for(trained, inbox):
    broken, out = inbox / "b.parquet", inbox.parent / "out"
    broken.write_bytes(b"PAR1 broken")
    write(inbox / "a.parquet", 5)
    os.utime(broken, (OLD, OLD))
    (why,) = predict_new(trained, inbox, status=2)["failed"].values()
    write(inbox / "c.parquet", 3)
    second = predict_new(trained, inbox)
    assert (rows_of(second), second["failed"]) == ([3], {})
    assert second["failed_before"] == {str(broken): why}
    assert str(broken) in (out / "failed.json").read_text()
    assert list(predict_new(trained, inbox, "--again", status=2)["failed"]) == [str(broken)]
    broken.write_bytes(b"PAR1 broken again")
    os.utime(broken, (OLD, OLD))
    assert list(predict_new(trained, inbox, status=2)["failed"]) == [str(broken)]
    write(broken, 2)  # mended
    mended = predict_new(trained, inbox)
    assert (rows_of(mended), mended["failed_before"]) == ([2], {})
    assert str(broken) not in (out / "failed.json").read_text()


def test_latest_is_the_folder_of_the_job_that_finished_last(trained, inbox):
    out = inbox.parent / "out"
    for number, name in enumerate(["a.parquet", "b.parquet"], 3):
        write(inbox / name, number)
        (job,) = predict_new(trained, inbox)["jobs"]
        folder = Path(job["output"])
        assert (out / "latest").resolve() == folder
        assert os.readlink(out / "latest") == f"{folder.parent.name}/predictions"
        assert pq.read_table(out / "latest").num_rows == number
    assert sum(pq.read_table(part).num_rows for part in out.glob("*/predictions/*")) == 7
    assert predict_new(trained, inbox)["jobs"] == []
    assert (out / "latest").resolve() == folder
    (out / "latest").unlink()
    (out / "latest").mkdir()  # of somebody else
    write(inbox / "c.parquet", 2)
    assert rows_of(predict_new(trained, inbox)) == [2]
    assert list((out / "latest").iterdir()) == []


def test_new_images_are_one_job_and_keep_their_paths_in_the_inbox_as_keys(trained, inbox):
    from PIL import Image

    def draw(name, value):
        path = inbox / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8), value, np.uint8)).save(path)
        os.utime(path, (OLD, OLD))

    draw("x/1.png", 3)
    draw("x/2.png", 9)
    first = predict_new(trained, inbox)
    assert rows_of(first) == [2]
    draw("x/3.png", 3)  # equal pixels, another row
    second = predict_new(trained, inbox)
    assert rows_of(second) == [1]
    assert second["known"] == 2
    keys = pq.read_table(second["jobs"][0]["output"])["key"].to_pylist()
    assert keys == ["x/3.png"]


def test_two_runs_at_once_predict_each_file_once(trained, inbox):
    for number in range(4):
        write(inbox / f"{number}.parquet", 10 + number, seed=number)
    command = ["modelmint", "predict", "digits", str(inbox), "--new"]
    command += ["--output", str(inbox.parent / "out"), "--json"]
    runs = [trained.start(*command, forked=True) for _ in range(2)]
    for run in runs:
        assert run.wait(timeout=300) == 0
        run.stdout.close()
    manifests = list(inbox.parent.glob("out/*/manifest.json"))
    assert sorted(json.loads(m.read_bytes())["rows"] for m in manifests) == [10, 11, 12, 13]
    listed = json.loads(trained.modelmint("models", "jobs", "--json").stdout)
    here = [job for job in listed if job["output"].startswith(str(inbox.parent))]
    assert [job["state"] for job in here] == ["completed"] * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--again",), "--again and --after are for --new"),
        (("--after", "move"), "--again and --after are for --new"),
        (("--new",), "is missing or not a folder; with --new, name the inbox"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(options, message, trained, tmp_path):
    write(tmp_path / "a.parquet", 1)
    command = ("predict", "digits", str(tmp_path / "a.parquet"), "--output", str(tmp_path / "out"))
    assert message in trained.modelmint(*command, *options, status=2).stderr
