"""Which files jobs have predicted: by content and by path, of one version, below one folder."""

from contextlib import contextmanager

import pytest
from databases import raw, unguarded
from registry_helpers import register_versions, together
from search_helpers import fill, plan_of

from registry import Conflict, JobInput, NotFound, schema
from registry.integrity import verify
from registry.queries import job_inputs, lineage

RAN = {"provider": "CPU", "onnxruntime": "1.31.0"}


def sha(letter):
    return letter * 64


def begin(registry, output="/out", version=1):
    resolved = registry.resolve(f"digits:{version}")
    return registry.start_job(resolved, input_sha256=sha("0"), output=output)


def predict(registry, contents, output="/out", version=1):
    """A finished job that has read these files, by path, of one row each."""
    inputs = [JobInput(sha(letter), path, 1) for path, letter in contents.items()]
    job = begin(registry, output, version)
    return registry.finish_job(job, rows=len(inputs), inputs=inputs, **RAN)


def found(registry, *paths, output="/out"):
    """By path, the first letters of the contents that were read there."""
    contents = registry.predicted_files("digits", output, paths)
    return {path: "".join(sorted(one[0] for one in read)) for path, read in contents.items()}


@pytest.fixture
def registry(place):
    register_versions(place, 2)
    with place.open() as registry:
        yield registry


def test_files_are_found_that_a_finished_job_of_any_version_has_read(registry):
    predict(registry, {"a.csv": "a", "b.csv": "b"}, "/out/1")
    predict(registry, {"a.csv": "c"}, "/out/2", version=2)
    predict(registry, {"a.csv": "a"}, "/out/3")
    predict(registry, {"a.csv": "d"}, "/elsewhere")
    begin(registry, "/out/running")
    registry.fail_job(begin(registry, "/out/failed"), "no room")
    assert found(registry, "a.csv", "b.csv", "c.csv") == {"a.csv": "ac", "b.csv": "b"}
    assert found(registry) == {}
    assert verify(registry).problems == []


@pytest.mark.parametrize(
    ("output", "asked", "below"),
    [
        ("/out", "/out", True),
        ("/out/2026/a", "/out", True),
        ("/out/2026/a", "/out/", True),
        ("/out/2026/a", "/", True),
        ("/out/", "/out", True),
        ("s3://bucket/out/a", "s3://bucket/out", True),
        ("/größe/100 %/a", "/größe/100 %", True),
        ("/out2", "/out", False),
        ("/out2/a", "/out", False),
        ("/out", "/out/a", False),
        ("/Out/a", "/out", False),
        ("/100 per cent/a", "/100 %", False),
        ("/axb/c", "/a_b", False),
        ("/a/out/b", "/out", False),
    ],
)
def test_a_job_wrote_to_the_folder_or_below_it_and_not_beside_it(registry, output, asked, below):
    predict(registry, {"a.csv": "a"}, output)
    assert found(registry, "a.csv", output=asked) == ({"a.csv": "a"} if below else {})


def test_a_file_of_any_name_is_recorded_and_found_again(registry):
    long = "/in/" + "x" * 5000
    odd = [long, long + "y", "/in/a\nb", "/in/\udcff", "/in/\x1b[2J", "/in/größe %_'\".csv", " "]
    predict(registry, dict(zip(odd, "abcdef1", strict=True)))
    assert found(registry, *odd) == dict(zip(odd, "abcdef1", strict=True))
    assert found(registry, long + "z", "/in/ab") == {}
    with registry.database.read() as c:
        stored = c.execute(schema.job_inputs.select()).all()
    assert {len(row.path) <= 500 and row.path.isprintable() for row in stored} == {True}


def test_the_same_file_read_twice_by_a_job_is_recorded_twice(registry):
    inputs = [JobInput(sha("a"), "a.csv", 2)] * 2
    done = registry.finish_job(begin(registry), rows=3, quarantined=1, inputs=inputs, **RAN)
    assert (done.rows, done.quarantined) == (3, 1)
    assert found(registry, "a.csv") == {"a.csv": "a"}
    assert verify(registry).problems == []


def test_a_job_that_is_lost_records_no_input(registry):
    lost = begin(registry)
    begin(registry)
    with pytest.raises(Conflict, match="a later job took over its output"):
        registry.finish_job(lost, rows=1, inputs=[JobInput(sha("a"), "a.csv", 1)], **RAN)
    with registry.database.read() as c:
        assert c.execute(schema.job_inputs.select()).all() == []


def test_of_several_who_finish_a_job_at_once_one_records_its_inputs(registry):
    job, inputs = begin(registry), [JobInput(sha("a"), f"{n}.csv", 1) for n in range(300)]
    ends = together(
        *[lambda: registry.finish_job(job, rows=300, inputs=inputs, **RAN).state] * 4,
        lambda: registry.fail_job(job, "killed").state,
    )
    assert sorted(ends)[:4] == ["Conflict"] * 4
    with registry.database.read() as c:
        rows = len(c.execute(schema.job_inputs.select()).all())
    assert rows == (300 if registry.job(job.id).state == "completed" else 0)
    assert verify(registry).problems == []


def test_a_model_that_does_not_exist_is_named(registry):
    with pytest.raises(NotFound, match="Did you mean 'digits'"):
        registry.predicted_files("digts", "/out", [])


# How they are found


@contextmanager
def many_jobs(place):
    """30,000 finished jobs of one version, each with a file of its own, under one folder."""
    with unguarded(place.url) as c:
        jobs = [
            {"id": f"{n:036}", "version_id": 1, "reference": "digits:1", "state": "completed",
             "input_sha256": sha("0"), "output": f"/out/{n}", "started_at": n, "finished_at": n,
             "rows": 1, **RAN}
            for n in range(30_000)
        ]  # fmt: skip
        read = [
            {"job_id": job["id"], "sha256": f"{n:064}", "path": f"/in/{n}.csv", "rows": 1}
            for n, job in enumerate(jobs)
        ]
        c.execute(schema.jobs.insert(), jobs)
        c.execute(schema.job_inputs.insert(), read)
        c.exec_driver_sql("ANALYZE")
    with raw(place.url) as c:
        yield c


def explained(c, query, values):
    """How the database would look a list of values up."""
    compiled = query.compile(dialect=c.dialect)
    asked = compiled.construct_params(job_inputs.given(values, c.dialect.name))
    sqlite = c.dialect.name == "sqlite"
    if sqlite:
        asked = tuple(asked[name] for name in compiled.positiontup)
    rows = c.exec_driver_sql(f"EXPLAIN {'QUERY PLAN ' if sqlite else ''}{compiled}", asked)
    return "\n".join(str(row[-1]) for row in rows)


@pytest.mark.whole  # 30,000 jobs
def test_files_are_looked_up_in_an_index_however_many_jobs_there_are(place):
    register_versions(place, 1)
    with many_jobs(place) as c:
        query = job_inputs.predicted_query(1, "/out", c.dialect.name)
        plan = explained(c, query, [f"/in/{n}.csv" for n in range(40)])
        assert "ix_job_inputs_path_sha256_job_id" in plan, plan
        assert not any(scan in plan for scan in ("Seq Scan on job", "SCAN jobs", "SCAN job_inputs"))
    with place.open() as registry:
        paths = [f"/in/{n}.csv" for n in range(29_990, 30_010)]
        read = registry.predicted_files("digits", "/out", paths)
        assert read == {f"/in/{n}.csv": {f"{n:064}"} for n in range(29_990, 30_000)}


def test_the_children_of_a_version_are_read_in_their_order(place):
    """The children are the newest of many: in the order of the ids they come last."""
    register_versions(place, 1)
    fill(place.url, 3000)
    with unguarded(place.url) as c:
        c.exec_driver_sql(f"UPDATE versions SET parent_uid = '{'c' * 32}' WHERE id > 2900")
        c.exec_driver_sql("ANALYZE")
    with raw(place.url) as c:
        plan = plan_of(c, lineage.children_query("c" * 32).limit(51))
    assert "ix_versions_parent_uid_id" in plan, plan
    assert not any(way in plan for way in ("Sort", "TEMP B-TREE", "versions_pkey")), plan
