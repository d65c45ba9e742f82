"""`--new` with an inbox in S3: each new object is predicted once, and known ones stay there."""

import json
import shutil
import time

import pyarrow.parquet as pq
import pytest
from objects import IMAGES, manifest, run, table
from PIL import Image
from stores import Faulty

from flows.inbox import ObjectInbox
from flows.incremental import predict_new
from flows.settings import Places
from tasks.predict import How


def predict(inputs, tmp_path, *, settle_s=0.0, **options):
    """A report, as `modelmint predict --new` makes it; objects may be as young as `settle_s`."""
    places = Places.of_registry(files=True)
    with places.open_registry() as registry:
        return predict_new(
            registry,
            registry.resolve("pets"),
            [f"{inputs.url}/in"],
            tmp_path / "out",
            how=How(cache=places.cache),
            settle_s=settle_s,
            **options,
        )


def rows_of(report):
    return [job.rows for job in report.jobs]


@pytest.fixture
def proxy(inputs, monkeypatch):
    """Sees what is downloaded."""
    proxy = Faulty(inputs.endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    return proxy


def test_each_object_is_predicted_once_and_a_known_one_is_not_downloaded(
    inputs, pets_project, proxy, tmp_path
):
    for number, name in enumerate("ab"):
        inputs.put(f"in/{name}.parquet", table(tmp_path / "x.parquet", 5, 10 * number))
    inputs.put("in/done/z.parquet", b"not looked at")
    inputs.put("in/.hidden.parquet", b"not looked at")
    inputs.put("in/c.parquet.part", b"still being written")
    report = predict(inputs, tmp_path)
    assert (rows_of(report), report.failed) == ([5, 5], {})
    assert report.waiting == [f"{inputs.url}/in/c.parquet.part"]
    assert sorted(proxy.downloads) == ["in/a.parquet", "in/b.parquet"]
    folders = [folder for folder in (tmp_path / "out").iterdir() if folder.name != "latest"]
    paths = [manifest(folder)["inputs"][0]["path"] for folder in folders]
    assert sorted(paths) == [f"{inputs.url}/in/{name}.parquet" for name in "ab"]

    proxy.asked.clear()
    inputs.put("in/a.parquet", table(tmp_path / "x.parquet", 7, 40))
    inputs.put("in/c.parquet", table(tmp_path / "x.parquet", 3, 60))
    report = predict(inputs, tmp_path)
    assert rows_of(report) == [7, 3]
    assert report.changed == [f"{inputs.url}/in/a.parquet"]
    assert report.known == 1
    assert sorted(proxy.downloads) == ["in/a.parquet", "in/c.parquet"]

    # Without the cache they are downloaded, and known then.
    proxy.asked.clear()
    shutil.rmtree(pets_project.parent / "cache")
    report = predict(inputs, tmp_path)
    assert (report.jobs, report.known, report.changed) == ([], 3, [])
    assert len(proxy.downloads) == 3
    assert rows_of(predict(inputs, tmp_path, again=True)) == [7, 5, 3]
    assert not (tmp_path / "out/.copies").exists()


def test_a_young_object_is_left_for_the_next_run(inputs, pets_project, tmp_path):
    inputs.put("in/a.parquet", table(tmp_path / "x.parquet", 5))
    report = predict(inputs, tmp_path, settle_s=60)
    assert (report.jobs, report.waiting) == ([], [f"{inputs.url}/in/a.parquet"])
    time.sleep(1.1)  # the server counts whole seconds
    assert rows_of(predict(inputs, tmp_path, settle_s=1)) == [5]


def test_a_broken_object_fails_alone_and_no_copy_is_left(inputs, pets_project, tmp_path):
    inputs.put("in/a.parquet", table(tmp_path / "x.parquet", 5))
    inputs.put("in/b.parquet", b"PAR1 broken")
    inputs.put("in/c.parquet", table(tmp_path / "x.parquet", 3))
    report = predict(inputs, tmp_path)
    assert rows_of(report) == [5, 3]
    (url, why), *_ = report.failed.items()
    assert url == f"{inputs.url}/in/b.parquet"
    assert why.startswith(url)
    assert not (tmp_path / "out/.copies").exists()


def test_objects_cannot_be_moved_and_an_empty_inbox_is_nothing_new(inputs, pets_project, tmp_path):
    url, out = f"{inputs.url}/in/", tmp_path / "out"
    error = run(url, "--new", "--after", "move", "--output", out, status=2)
    assert f"{url}: --after move is for folders of this machine" in error
    assert run(url, "--new", "--output", out)["jobs"] == []
    error = run("s3://nobodys-bucket/in", "--new", "--output", out, status=2)
    assert "there is no bucket 'nobodys-bucket'" in error


def test_new_images_are_one_input_whose_keys_are_their_paths_in_the_inbox(inputs, proxy, tmp_path):
    for number, name in enumerate(["x/1.png", "x/2.png", "3.png"]):
        Image.new("L", (8, 8), 40 * number).save(tmp_path / "image.png")
        inputs.put(f"in/{name}", tmp_path / "image.png")
    how, names = How(cache=tmp_path / "cache"), ["3.png", "x/1.png", "x/2.png"]
    inbox = ObjectInbox(f"{inputs.url}/in", tmp_path / "out", how, "leave")
    assert list(inbox.names()) == names
    with inbox.files(names, IMAGES, lambda contents: set()) as found:
        (file,) = found.files
        assert sorted(file.members) == names
        assert file.name == f"{inputs.url}/in/"
        found.how.check_input()
        assert json.dumps(file.described())
    known = {f"{inputs.url}/in/x/1.png"}
    proxy.asked.clear()
    with inbox.files(names, IMAGES, lambda contents: known & contents.keys()) as found:
        assert sorted(found.files[0].members) == ["3.png", "x/2.png"]
    assert sorted(proxy.downloads) == ["in/3.png", "in/x/2.png"]


def test_the_output_of_a_job_of_an_inbox_holds_the_keys_of_its_object(
    inputs, pets_project, tmp_path
):
    inputs.put("in/a.parquet", table(tmp_path / "x.parquet", 4))
    (job,) = predict(inputs, tmp_path).jobs
    assert sorted(pq.read_table(job.output)["key"].to_pylist()) == ["k0", "k1", "k2", "k3"]
