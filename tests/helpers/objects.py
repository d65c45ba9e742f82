"""Input files in a bucket, and commands that predict them with the champion of `pets`."""

import json
import os
import shutil
from pathlib import Path

import commands
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from servers import create_bucket, s3_environment
from stores import s3_client

from flows.copies import Copies
from flows.job import run_job, signature_of
from flows.settings import Places
from tasks.bundle.signature import Signature
from tasks.columns import CategoryColumn, DateColumn, ImageColumn, NumberColumn
from tasks.predict import How


class Inputs:
    """A bucket with objects, and access to it that is independent of ours."""

    def __init__(self, endpoint: str) -> None:
        self._client, self.name = s3_client(endpoint), create_bucket(endpoint)
        self.endpoint, self.url = endpoint, f"s3://{self.name}"

    def put(self, key: str, content: bytes | Path) -> str:
        body = content.read_bytes() if isinstance(content, Path) else content
        self._client.put_object(Bucket=self.name, Key=key, Body=body)
        return f"{self.url}/{key}"

    def remove(self, key: str) -> None:
        self._client.delete_object(Bucket=self.name, Key=key)


@pytest.fixture
def inputs(s3, monkeypatch):
    for name, value in s3_environment(s3).items():
        monkeypatch.setenv(name, value)
    return Inputs(s3)


@pytest.fixture
def pets_project(pets, tmp_path, monkeypatch):
    """A copy of a project with a champion; the current folder."""
    root = tmp_path / "project"
    shutil.copytree(pets, root)
    monkeypatch.chdir(root)
    monkeypatch.setenv("MODELMINT_CACHE", str(tmp_path / "cache"))
    return root


PETS = Signature.of(
    "binary",
    (
        NumberColumn(name="size"),
        CategoryColumn(name="colour", values=("black", "white")),
        DateColumn(name="born"),
    ),
    ("cat", "dog"),
)
IMAGES = Signature.of(
    "binary", (ImageColumn(name="image", dtype="uint8", shape=(8, 8, 1)),), ("cat", "dog")
)


def find(urls, output, signature=PETS, how=None):
    """The input files that URLs name; the copies are removed again."""
    with Copies(urls, output, how or How()) as copies:
        found = copies.find(urls, signature)
        copies.refuse_changed()
        return found


def predict(given, output, **how):
    """A job of the champion of `pets`, as `modelmint predict` runs it, in this process."""
    places, given = Places.of_registry(files=True), [str(one) for one in given]
    with places.open_registry() as registry:
        resolved = registry.resolve("pets")
        with Copies(given, output, How(cache=places.cache)) as copies:
            files = copies.find(given, signature_of(resolved.version))
            copies.job = output
            options = How(check_input=copies.refuse_changed, cache=places.cache, **how)
            return run_job(registry, resolved, files, output, how=options)


def table(path, rows, start=0):
    sizes = [(start + number) % 3 - 0.5 for number in range(rows)]
    columns = {
        "key": pa.array([f"k{start + number}" for number in range(rows)]),
        "size": pa.array(sizes),
        "colour": pa.array(["black" if size > 0 else "white" for size in sizes]),
        "born": pa.array([19_001 + number % 12 for number in range(rows)], pa.date32()),
    }
    pq.write_table(pa.table(columns), path)
    return path


def run(*arguments, status=0, **variables):
    """`modelmint predict pets`, in a process of its own."""
    command = ("predict", "pets", *map(str, arguments), "--json")
    done = commands.run(command, Path.cwd(), {**os.environ, **variables}, 300)
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout) if status == 0 else done.stderr


def predictions(folder):
    return pq.read_table(folder / "predictions").sort_by("key").to_pydict()


def manifest(folder):
    return json.loads((folder / "manifest.json").read_bytes())


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
