"""Input files of batch jobs in S3: which objects a URL names; what is recorded was read."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import commands
import pyarrow.parquet as pq
import pytest
from forks import python_code
from objects import IMAGES, PETS, Inputs, find, manifest, names, predict, predictions, run, table
from PIL import Image
from servers import start_s3
from stores import Faulty

from flows.copies import Copies
from registry import Registry, Unreachable
from tasks.errors import InputError
from tasks.predict import How
from tasks.serving.options import BadLimit

ROOT = Path(__file__).parents[2]


def test_files_folders_patterns_and_local_files_make_one_job_that_names_them(
    inputs, pets_project, tmp_path
):
    paths = [table(tmp_path / f"{number}.parquet", 10, 10 * number) for number in range(5)]
    for number, key in enumerate(["one.parquet", "in/a.parquet", "in/b.parquet", "p/x/c.parquet"]):
        inputs.put(key, paths[number])
    inputs.put("in/_SUCCESS", b"")
    inputs.put("in/deeper/no.parquet", b"not read: tables lie in the folder itself")
    inputs.put("p/y/c.csv", b"not matched")
    given = [f"{inputs.url}/one.parquet", f"{inputs.url}/in/", f"{inputs.url}/p/*/*.parquet"]
    run(*given, paths[4], "--output", tmp_path / "out")
    predict(paths, tmp_path / "local")
    assert predictions(tmp_path / "out") == predictions(tmp_path / "local")
    found, local = manifest(tmp_path / "out"), manifest(tmp_path / "local")
    keys = ("one.parquet", "in/a.parquet", "in/b.parquet", "p/x/c.parquet")
    assert [file["path"] for file in found["inputs"]] == [
        *(f"{inputs.url}/{key}" for key in keys),
        str(paths[4]),
    ]
    assert found["input_sha256"] == local["input_sha256"]
    assert names(tmp_path / "out") == names(tmp_path / "local")


def test_rows_in_quarantine_and_the_registry_name_the_object(inputs, pets_project, tmp_path):
    rows = b"key,size,colour,born\na,0.5,black,2022-01-20\nb,wide,black,2022-01-20\n"
    url = inputs.put("in/a.csv", rows)
    job = predict([url], tmp_path / "out", limit=BadLimit.parse("50%"))
    (bad,) = pq.read_table(tmp_path / "out/quarantine").to_pylist()
    assert (bad["file"], bad["row"], bad["key"], bad["reason"]) == (url, 2, "b", "not_a_number")
    with Registry(f"sqlite:///{pets_project}/modelmint.db", pets_project / "artifacts") as registry:
        found = registry.predicted_files("pets", str(tmp_path / "out"), [url])
        assert found == {url: {manifest(tmp_path / "out")["inputs"][0]["sha256"]}}
        assert registry.job(job.job).state == "completed"

    error = run(url, "--output", tmp_path / "strict", status=2)
    assert f"{url}: row 2" in error or f"{url}, row 2" in error
    assert ".copies" not in error
    with Registry(f"sqlite:///{pets_project}/modelmint.db", pets_project / "artifacts") as registry:
        assert ".copies" not in str(registry.jobs("pets")[0].error)


@pytest.mark.parametrize("broken", [b"", b"PAR1 broken", b"PAR1" * 100])
def test_a_message_about_a_broken_object_names_its_url(broken, inputs, tmp_path):
    url = inputs.put("in/a.parquet", broken)
    with pytest.raises(InputError) as caught:
        find([f"{inputs.url}/in"], tmp_path / "out")
    assert url in str(caught.value)
    assert ".copies" not in str(caught.value)
    assert not (tmp_path / "out").exists()


MISTAKES = {
    "s3:/x/a.csv": "s3:/x/a.csv is not the URL of an input in S3; write s3://BUCKET/KEY",
    "s3://": "s3:// is not the URL of an input in S3",
    "s3:///a.csv": "is not the URL of an input in S3",
    "S3://bucket/a.csv": "S3://bucket/a.csv is not the URL of an input in S3; write s3://",
    "gs://bucket/a.csv": "inputs are paths of this machine, or s3://BUCKET/KEY",
    "https://host/a.csv": "inputs are paths of this machine, or s3://BUCKET/KEY",
    "s3://BUCKET/none.csv": "s3://BUCKET/none.csv is missing: there is no object",
    "s3://BUCKET/none/": "s3://BUCKET/none/ is missing: there is no object",
    "s3://BUCKET/none-*.csv": "s3://BUCKET/none-*.csv matches no object",
    "s3://BUCKET/in/a.pdf": "s3://BUCKET/in/a.pdf: a file must end in .csv",
    "s3://BUCKET/pdf/": "s3://BUCKET/pdf holds no file ending in .csv",
    "s3://BUCKET/odd//a.csv": "a part of the name is empty",
    "s3://BUCKET/../a.csv": "a part of the name is empty, '.', '..'",
    "s3://nobodys-bucket/a.csv": "there is no bucket 'nobodys-bucket'",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_url_is_one_readable_message(mistake, inputs, tmp_path):
    for key in ("in/a.pdf", "pdf/a.pdf"):
        inputs.put(key, b"%PDF")
    says = MISTAKES[mistake]
    if "s3://BUCKET/KEY" not in says:
        says = says.replace("BUCKET", inputs.name)
    with pytest.raises(InputError, match=re.escape(says)):
        find([mistake.replace("BUCKET", inputs.name)], tmp_path / "out")
    assert not (tmp_path / "out").exists()


NOBODY = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}
SETTINGS = {
    "no credentials": (
        {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""},
        InputError,
        "needs credentials",
    ),
    "half of them": ({"AWS_SECRET_ACCESS_KEY": ""}, InputError, "missing: AWS_SECRET_ACCESS_KEY"),
    "no server": (NOBODY, Unreachable, r"cannot be used .*AWS_ENDPOINT_URL"),
}


@pytest.mark.parametrize("mistake", SETTINGS)
def test_wrong_settings_are_one_readable_message(mistake, inputs, monkeypatch, tmp_path):
    variables, kind, says = SETTINGS[mistake]
    url = inputs.put("a.parquet", table(tmp_path / "a.parquet", 3))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(kind, match=says) as caught:
        find([url], tmp_path / "out")
    assert "MODELMINT_ARTIFACTS" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_denied_access_is_one_readable_message(inputs, monkeypatch, tmp_path):
    locked = Inputs(start_s3())
    url = locked.put("a.parquet", table(tmp_path / "a.parquet", 3))
    request = urllib.request.Request(
        f"{locked.endpoint}/moto-api/reset-auth", b"0", {"Content-Type": "text/plain"}
    )
    urllib.request.urlopen(request).close()
    monkeypatch.setenv("AWS_ENDPOINT_URL", locked.endpoint)
    with pytest.raises(InputError, match=r"refuses access .* they may list and read objects there"):
        find([url], tmp_path / "out")


def test_a_mistake_has_status_2_and_no_server_status_1(inputs, pets_project, tmp_path):
    error = run(f"{inputs.url}/none.csv", "--output", tmp_path / "out", status=2)
    assert f"{inputs.url}/none.csv is missing" in error
    error = run(f"{inputs.url}/a.csv", "--output", tmp_path / "out", status=1, **NOBODY)
    assert "cannot be used" in error
    assert "Traceback" not in error


def test_a_missing_extra_says_how_to_install_it(inputs, pets_project, tmp_path):
    (tmp_path / "s3fs.py").write_text("raise ImportError('no s3fs here')\n")
    code = "from cli.main import main; main()"
    command = [sys.executable, "-c", code, "predict", "pets", "s3://bucket/a.csv"]
    done = subprocess.run(
        [*command, "--output", str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "pip install 'modelmint[s3]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("change", ["replaced", "removed"])
@pytest.mark.parametrize("form", ["object", "folder"])
def test_an_object_that_changes_before_the_end_fails_the_job(
    form, change, inputs, pets_project, tmp_path
):
    url = inputs.put("in/a.parquet", table(tmp_path / "a.parquet", 30))
    given = [url if form == "object" else f"{inputs.url}/in/"]

    def interfere(rows):
        if change == "removed":
            inputs.remove("in/a.parquet")
        else:
            inputs.put("in/a.parquet", table(tmp_path / "a.parquet", 30, start=5))

    output = tmp_path / "out"
    with pytest.raises(InputError, match=rf"^{url} changed while it was read, so nothing"):
        predict(given, output, progress=interfere)
    assert not output.exists()
    with Registry(f"sqlite:///{pets_project}/modelmint.db", pets_project / "artifacts") as registry:
        assert registry.jobs("pets")[0].state == "failed"
    if change == "replaced":
        assert predict(given, output).rows == 30


def test_what_was_downloaded_before_a_kill_is_not_downloaded_again(
    inputs, pets_project, monkeypatch, tmp_path
):
    for number in range(3):
        inputs.put(f"in/{number}.parquet", table(tmp_path / "a.parquet", 10, 10 * number))
    proxy = Faulty(inputs.endpoint)
    proxy.stall_at = "in/2.parquet"
    code = "from cli.main import main; main()"
    command = [sys.executable, "-c", code, "predict", "pets", f"{inputs.url}/in/"]
    victim = subprocess.Popen(
        [*command, "--output", str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": str(ROOT), "AWS_ENDPOINT_URL": proxy.endpoint},
    )
    assert proxy.stalled.wait(120)
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "out").rglob("*.parquet"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    victim.send_signal(signal.SIGKILL)
    assert victim.wait() == -9

    proxy.asked.clear()
    proxy.stall_at = "\0"
    inputs.put("in/1.parquet", table(tmp_path / "a.parquet", 9))  # changed since
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    assert predict([f"{inputs.url}/in/"], tmp_path / "out").rows == 29
    assert sorted(proxy.downloads) == ["in/1.parquet", "in/2.parquet"]
    assert not (tmp_path / "out/.copies").exists()


def test_a_copy_that_was_changed_on_the_disk_is_downloaded_again(inputs, tmp_path):
    url = inputs.put("a.parquet", table(tmp_path / "a.parquet", 10))
    how = How(cache=tmp_path / "facts")
    copies = Copies([url], tmp_path / "out", how)
    (first,) = copies.find([url], PETS)
    copies.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    first.path.write_bytes(table(tmp_path / "b.parquet", 10, start=1).read_bytes())
    with Copies([url], tmp_path / "out", how) as copies:
        (second,) = copies.find([url], PETS)
        assert second == first
        assert pq.read_table(second.path).equals(pq.read_table(tmp_path / "a.parquet"))
    assert not (tmp_path / "out").exists()


def test_a_server_that_fails_every_tenth_request_is_asked_again(
    inputs, pets_project, monkeypatch, tmp_path
):
    for number in range(30):
        inputs.put(f"in/{number:02}.parquet", table(tmp_path / "a.parquet", 10, 10 * number))
    proxy = Faulty(inputs.endpoint, every=10)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    assert predict([f"{inputs.url}/in"], tmp_path / "out").rows == 300

    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    failures, left = [], set()
    for _ in range(10):
        try:
            done = predict([f"{inputs.url}/in"], tmp_path / "once")
            break
        except Unreachable as error:
            failures.append(str(error))
            left |= {name.split("/")[0] for name in names(tmp_path / "once")}
    assert failures
    assert all(f"s3://{inputs.name}" in text for text in failures)
    assert left <= {".copies", ".unfinished"}
    assert done.rows == 300
    assert predictions(tmp_path / "once") == predictions(tmp_path / "out")
    assert names(tmp_path / "once") == names(tmp_path / "out")


def test_two_commands_at_once_with_one_output_predict_once(inputs, pets_project, tmp_path):
    url = inputs.put("a.parquet", table(tmp_path / "a.parquet", 50))
    code = "from cli.main import main; main()"
    command = python_code(code, "predict", "pets", url, "--json")
    both = [
        subprocess.Popen(
            [*command, "--output", str(tmp_path / "out")],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    reports = [json.loads(process.communicate(timeout=300)[0]) for process in both]
    assert sorted(report["fresh"] for report in reports) == [False, True]
    assert not (tmp_path / "out/.copies").exists()


def images(inputs, folder, *keys):
    for number, key in enumerate(keys):
        Image.new("L", (8, 8), 20 * number + 10).save(folder / "image.png")
        inputs.put(key, folder / "image.png")


def test_images_below_a_prefix_keep_their_paths_in_it_as_keys(inputs, tmp_path):
    images(inputs, tmp_path, "in/cat/1.png", "in/cat/2.PNG", "in/3.jpeg", "other/4.png")
    for given, keys in {
        "in/": ["3.jpeg", "cat/1.png", "cat/2.PNG"],
        "": ["in/3.jpeg", "in/cat/1.png", "in/cat/2.PNG", "other/4.png"],
        "in/c*": ["1.png", "2.PNG"],
    }.items():
        url = f"{inputs.url}/{given}"
        with Copies([url], tmp_path / "out", How()) as copies:
            (file,) = copies.find([url], IMAGES)
            assert sorted(file.members) == keys
            place = {"in/c*": "in/cat/"}.get(given, given)
            assert sorted(file.contents) == [f"{inputs.url}/{place}{key}" for key in keys]
            copies.refuse_changed()
    inputs.put("in/cat/notes.doc", b"x")
    with (
        pytest.raises(InputError, match=rf"{inputs.url}/in/cat/notes.doc is not a PNG or JPEG"),
        Copies([url], tmp_path / "out", How()) as copies,
    ):
        copies.find([f"{inputs.url}/in"], IMAGES)


def test_images_that_a_table_names_are_copied_too_and_nothing_outside_the_bucket(inputs, tmp_path):
    images(inputs, tmp_path, "t/images/1.png", "other/2.png", "t/unnamed.png")
    (tmp_path / "secret.png").write_bytes((tmp_path / "image.png").read_bytes())
    rows = ["images/1.png", "../other/2.png", "none.png", str(tmp_path / "secret.png")]
    rows += ["../../../../../secret.png", "../" * 30 + str(tmp_path / "secret.png")[1:]]
    url = inputs.put("t/rows.csv", "\n".join(["image", *rows, ""]).encode())
    with Copies([url], tmp_path / "out", How()) as copies:
        (file,) = copies.find([url], IMAGES)
        assert sorted(file.members) == ["../other/2.png", "images/1.png"]
        copies.refuse_changed()
        images(inputs, tmp_path, "other/2.png")  # another shade of grey
        with pytest.raises(InputError, match=f"{inputs.url}/other/2.png changed while it was"):
            copies.refuse_changed()
    with pytest.raises(InputError, match=r"3 image files|image files that no table names"):
        find([f"{inputs.url}/t"], tmp_path / "out", IMAGES)


FLOW = """
import json, sys
from flows import launch
launch.prepare_prefect(print)
from flows.inference import inference
url = sys.argv[1]
once = launch.predict("pets", [f"{url}/in/*.parquet"], "out")
again = launch.predict("pets", [f"{url}/in/*.parquet"], "out")
new = inference("pets", [f"{url}/in"], "new", new=True, return_state=True)
gone = inference("pets", [f"{url}/none"], "out", return_state=True)
print(json.dumps([once.rows, once.fresh, again.rows, again.fresh, new.name, gone.message]))
"""


def test_the_inference_flow_reads_objects(inputs, pets_project, prefect_server, tmp_path):
    for number in range(2):
        inputs.put(f"in/{number}.parquet", table(tmp_path / "a.parquet", 10, 10 * number))
    given = {"PYTHONPATH": str(ROOT), "PREFECT_API_URL": prefect_server}
    done = subprocess.run(
        python_code(FLOW, inputs.url),
        env={**os.environ, **given},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    *found, name, message = json.loads(done.stdout.splitlines()[-1])
    assert found == [20, False, 20, True]
    assert name in ("Completed", "Idle")  # the objects may be younger than 10 s
    assert message.startswith(f"{inputs.url}/none is missing")
    assert not list(pets_project.glob("*/.copies"))


def test_other_commands_say_that_they_read_no_urls(pets_project):
    command = ("models", "evaluate", "pets", "s3://bucket/a.csv", "--dry-run")
    done = commands.run(command, Path.cwd(), dict(os.environ), 300)
    assert done.returncode == 2
    assert "is a URL. Only `modelmint predict` and its flow read s3://BUCKET/KEY" in done.stderr
