"""Traces, jobs and models are read page by page, completely."""

from dataclasses import replace

import pytest
from databases import raw, unguarded
from registry_helpers import LINEAGE, fill_place, make_candidate, promote, register_versions
from search_helpers import fill, plan_of

from registry import InvalidQuery, InvalidReference, NotFound, RegistryError, schema
from registry.queries import events, jobs
from registry.queries.search import is_built_on, page_query

RAW = "a" * 32


@pytest.fixture
def traced(place):
    """digits:1 with 5 children and 7 jobs, all from one file; nightly has another job."""
    with fill_place(place, make_traced).open() as registry:
        yield registry


def make_traced(place):
    with place.open() as registry:
        for number in range(1, 7):
            lineage = replace(
                LINEAGE,
                dataset=f"{number}" * 32 + ".dir",
                data={"a.csv": RAW, "b.csv": RAW, "c.csv": f"{number % 2}" * 32},
                parent="digits:1" if number > 1 else None,
            )
            candidate = make_candidate(place.folder, f"model {number}", lineage=lineage)
            registry.register("digits", candidate, actor="ada")
        other = replace(LINEAGE, data={"a.csv": "f" * 32})
        registry.register("nightly", make_candidate(place.folder, lineage=other), actor="ada")
        for number, reference in enumerate(["digits:1"] * 7 + ["digits:4", "nightly:1"]):
            registry.start_job(
                registry.resolve(reference), input_sha256="7" * 64, output=f"out/{number}"
            )
        # Some began in the same moment.
        with unguarded(place.url) as c:
            c.exec_driver_sql("UPDATE jobs SET started_at = 5000 WHERE output <= 'out/4'")


def outputs(found):
    return [int(job.output.removeprefix("out/")) for job in found]


def all_pages(ask, parts, cursor, given):
    """The items of all pages, each starting where the previous one ended."""
    found, pages, where = [], 0, None
    while pages == 0 or where is not None:
        page = ask(**{given: where})
        found += getattr(page, parts)
        where, pages = getattr(page, cursor), pages + 1
    return found, pages


def test_a_trace_of_a_version_names_all_children_and_jobs_page_by_page(traced):
    def ask(**given):
        page = traced.trace("digits:1", limit=2, **given)
        assert (page.child_count, page.job_count) == (5, 7)
        assert len(page.children) <= 2
        assert len(page.jobs) <= 2
        return page

    children, pages = all_pages(ask, "children", "after", "after")
    assert (children, pages) == ([f"digits:{number}" for number in range(2, 7)], 3)
    found, pages = all_pages(ask, "jobs", "before", "before")
    assert pages == 4
    assert outputs(found)[:2] == [6, 5]
    assert sorted(outputs(found)) == list(range(7))
    whole = traced.trace("digits:1")
    assert (whole.after, whole.before) == (None, None)
    assert [job.id for job in whole.jobs] == [job.id for job in found]


@pytest.mark.parametrize("few", [0, 1000], ids=["many versions", "few versions"])
def test_a_trace_of_data_names_all_versions_and_jobs_page_by_page(traced, few, monkeypatch):
    monkeypatch.setattr("registry.queries.lineage._FEW", few)

    def ask(**given):
        page = traced.trace_data(RAW, limit=2, **given)
        assert page.version_count == 6
        assert len(page.versions) <= 2
        return page

    versions, pages = all_pages(ask, "versions", "after", "after")
    assert ([v.version for v in versions], pages) == ([6, 5, 4, 3, 2, 1], 3)
    found, pages = all_pages(ask, "jobs", "before", "before")
    assert (sorted(outputs(found)), pages) == (list(range(8)), 4)
    assert outputs(found)[:3] == [7, 6, 5]
    prepared = traced.trace_data("4" * 32)  # as DVC marks a folder, and without the mark
    assert prepared == replace(traced.trace_data("4" * 32 + ".dir"), md5="4" * 32)
    assert ([v.version for v in prepared.versions], outputs(prepared.jobs)) == ([4], [7])
    # A dataset of one version, and a file of another: each once.
    both = traced.trace_data("1" * 32)
    assert ([v.version for v in both.versions], both.version_count) == ([5, 3, 1], 3)
    none = traced.trace_data("0" * 31 + "f")
    assert (none.versions, none.jobs, none.version_count) == ((), (), 0)


def test_jobs_are_paged_even_with_equal_start_times(traced):
    for name, count in ((None, 9), ("digits", 8), ("nightly", 1)):
        whole = traced.jobs(name)
        assert len(whole) == count
        found, before = [], None
        while page := traced.jobs(name, limit=2, before=before):
            found += page
            before = page[-1].id
        assert found == whole
    assert traced.job(whole[0].id) == whole[0]


def test_overview_pages_models_with_alias_holders(place):
    for name in ("churn", "digits", "digits-2", "fraud"):
        register_versions(place, 2, name)
    with place.open() as registry:
        promote(registry, 1)
        promote(registry, 2)
        promote(registry, 1, "challenger")
        first = registry.overview(limit=3)
        assert [line.model.name for line in first.lines] == ["churn", "digits", "digits-2"]
        assert [line.model for line in first.lines] == registry.models()[:3]
        rest = registry.overview(limit=3, after=first.after)
        assert ([line.model.name for line in rest.lines], rest.after) == (["fraud"], None)
        held = first.lines[1].holders
        assert {a: (h.version.ref, h.moved.kind) for a, h in held.items()} == {
            "champion": ("digits:2", "promoted"),
            "challenger": ("digits:1", "promoted"),
        }
        assert held["champion"].moved.previous == 1
        assert held["champion"].version == registry.search("digits").versions[0]
        assert first.lines[1].changed == registry.history("digits", limit=1)[0]
        assert first.lines[0].holders == {}
        some = registry.overview("gits-")
        assert [line.model.name for line in some.lines] == ["digits-2"]
        assert registry.overview("%").lines == registry.overview("", after="fraud").lines == ()
        assert [h.alias.name for h in registry.holders("digits")] == ["challenger", "champion"]


@pytest.mark.parametrize(
    ("ask", "error", "says"),
    [
        (lambda r: r.trace("digits:1", limit=0), InvalidQuery, "Give 1 or more"),
        (lambda r: r.trace("digits:1", after="digits"), InvalidQuery, "as in digits:3"),
        (lambda r: r.trace("digits:1", after="x:y:z"), InvalidReference, "x:y:z"),
        (lambda r: r.trace("digits:1", after="digits:99"), NotFound, "no version 99"),
        (lambda r: r.trace("digits:1", before="x"), NotFound, "no job 'x'"),
        (lambda r: r.trace_data(RAW, limit=-1), InvalidQuery, "Give 1 or more"),
        (lambda r: r.trace_data(""), InvalidQuery, "'' is not a hash"),
        (lambda r: r.trace_data("a\nb"), InvalidQuery, "is not a hash. Give the whole hash"),
        (lambda r: r.trace_data(RAW, after="x"), InvalidQuery, "not the end of a page"),
        (lambda r: r.trace_data(RAW, before="x"), NotFound, "no job 'x'"),
        (lambda r: r.jobs(before="x"), NotFound, "no job 'x'"),
        (lambda r: r.job("x"), NotFound, "no job 'x'"),
        (lambda r: r.overview(limit=0), InvalidQuery, "Give 1 or more"),
        (lambda r: r.holders("digts"), NotFound, "Did you mean 'digits'"),
    ],
)
def test_invalid_page_argument_is_refused_with_a_remedy(traced, ask, error, says):
    with pytest.raises(RegistryError, match=says) as refused:
        ask(traced)
    assert type(refused.value) is error


@pytest.mark.whole  # every plan of every query
def test_search_finds_the_same_with_every_query_plan(place):
    """The number of rows decides which plan is faster; the results must be equal."""
    register_versions(place, 1)
    fill(place.url, 60)
    wheres = ["metric.accuracy>=0.01", "param.epochs=7", "tag.team=team-7", "status=candidate",
              "dataset=" + f"{7:032}", "by=user-7", "alias=champion"]  # fmt: skip
    orders = {"newest": ":40", "metric.accuracy": "0.05:50", "metric.accuracy:asc": "0.05:50"}
    with place.open() as registry, registry.database.read() as c:
        for where in ([], *([one] for one in wheres), wheres[:1] + wheres[3:4]):
            for order, cursor in orders.items():
                for after in (None, cursor):
                    for name in (None, "digits"):
                        usual = page_query(name, where, order, after)
                        expected = [row.number for row in c.execute(usual)]
                        common = [one for one in where if not one.startswith(("by", "alias"))]
                        for few, rare in ((False, False), (True, False), (False, True)):
                            other = page_query(
                                name, where, order, after, few=few, common=common, rare=rare
                            )
                            found = [row.number for row in c.execute(other)]
                            assert found == expected, (where, order, after, name, few)


@pytest.mark.whole
def test_long_lists_are_read_from_an_ordered_index(place):
    register_versions(place, 1)
    fill(place.url, 3000)
    j, e = schema.jobs.c, schema.events.c
    with raw(place.url) as connection:
        made = [
            {"id": f"{n:036}", "version_id": 7 if n % 2 else 8 + n % 40, "reference": "digits:1",
             "state": "completed", "input_sha256": "7" * 64, "output": "out", "started_at": n}
            for n in range(2000)
        ]  # fmt: skip
        connection.execute(schema.jobs.insert(), made)
        connection.exec_driver_sql("ANALYZE")
    queries = {
        "jobs": jobs.query(),
        "jobs of a version": jobs.query(j.version_id == 7),
        "history of a version": events.query(e.model_id == 1, e.version == 7),
        "jobs of data": jobs.query(is_built_on("7" * 32)),
        "by one": page_query("digits", ["by=user-7"], "newest", None),
        "by one, of all": page_query(None, ["by=user-7"], "newest", None),
    }
    with raw(place.url) as connection:
        if connection.dialect.name == "postgresql":  # which would rather sort so few rows
            for way in ("sort", "seqscan", "bitmapscan"):
                connection.exec_driver_sql(f"SET LOCAL enable_{way} = off")
        for name, query in queries.items():
            plan = plan_of(connection, query.limit(51))
            assert not any(w in plan for w in ("TEMP B-TREE", "Sort")), (name, plan)
            assert "INDEX" in plan or "Index" in plan, (name, plan)
        few = page_query("digits", [], "metric.accuracy", None, few=True).limit(51)
        assert "ix_version_metrics" not in plan_of(connection, few)
