"""Search: every condition and order, stable pages, and the use of indexes."""

import itertools
import re
import uuid
from dataclasses import replace

import pytest
from databases import raw
from registry_helpers import LINEAGE, make_candidate, numbers, promote, register_versions
from search_helpers import fill, part, plan_of
from sqlalchemy import event

from registry import InvalidQuery, NotFound, schema
from registry.queries.search import page_query

# Conditions and orders


@pytest.fixture
def found(place):
    """Three versions that differ in every searchable value; 2 is champion."""
    with place.open() as registry:
        for number in (1, 2, 3):
            lineage = replace(
                LINEAGE,
                dataset=f"{number}" * 32 + ".dir",
                git_commit=f"{number}" * 40,
                flow_run_id=f"run-{number}",
                data={"data/raw/a.csv": "a" * 32, "data/raw/b.csv": f"b{number}"},
            )
            candidate = make_candidate(
                place.folder,
                f"model {number}",
                lineage=lineage,
                metrics={"accuracy": (7 + number) / 10, "loss": -float(number)},
                params={"train": {"epochs": number, "optimizer": {"name": "adam"}}},
                tags={"team": "risk" if number > 1 else "fraud"},
            )
            registry.register("digits", candidate, actor=f"user-{number}")
        promote(registry, 2)
        yield registry


CONDITIONS = {
    "metric.accuracy>=0.9": [3, 2],
    "metric.accuracy>0.9": [3],
    "metric.accuracy<0.9": [1],
    "metric.loss<=-2": [3, 2],
    "metric.loss=-2": [2],
    "param.train.epochs=3": [3],
    "param.train.optimizer.name=adam": [3, 2, 1],
    "tag.team=risk": [3, 2],
    "tag.team=": [],
    "alias=champion": [2],
    "alias=canary": [],
    "status=approved": [2],
    "status=candidate": [3, 1],
    "dataset=" + "1" * 32 + ".dir": [1],
    "dataset=" + "1" * 32: [1],
    "dataset=dvc:" + "a" * 32: [3, 2, 1],
    "dataset=b3": [3],
    "commit=" + "2" * 40: [2],
    "run=run-3": [3],
    "by=user-1": [1],
    "created>=2026-01-31": [3, 2, 1],
    "created<2026-01-31T09:00": [],
    " tag.team=risk ": [3, 2],
}


def test_each_search_condition_finds_matching_versions(found):
    for condition, expected in CONDITIONS.items():
        assert numbers(found.search("digits", [condition])) == expected, condition
    digest = found.resolve("digits:3").version.digest
    assert numbers(found.search("digits", [f"digest={digest}"])) == [3]


def test_search_combines_conditions_and_models(found, place):
    assert numbers(found.search("digits", ["tag.team=risk", "metric.loss>-3"])) == [2]
    register_versions(place, 1, "churn")
    page = found.search(where=["status=candidate"])
    assert [summary.ref for summary in page.versions] == ["churn:1", "digits:3", "digits:1"]
    assert numbers(found.search("churn", ["alias=champion"])) == []


def test_search_returns_versions_in_the_requested_order(found):
    assert numbers(found.search("digits", order="metric.accuracy")) == [3, 2, 1]
    assert numbers(found.search("digits", order="metric.loss")) == [1, 2, 3]
    assert numbers(found.search("digits", order="metric.loss:asc")) == [3, 2, 1]
    with pytest.raises(InvalidQuery, match="No version of 'digits' has the metric 'other'"):
        found.search("digits", order="metric.other")


def test_search_result_summarises_a_version(found):
    line = found.search("digits", ["alias=champion"]).versions[0]
    version = found.resolve("digits").version
    for name in ("ref", "digest", "status", "metrics", "tags", "aliases", "created_by"):
        assert getattr(line, name) == getattr(version, name)
    assert (line.dataset, line.created_at) == (version.lineage.dataset, version.created_at)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"where": ["status>approved"]}, "only = is allowed here"),
        ({"where": ["metric.accuracy"]}, "is not a condition. Give any of: metric.NAME"),
        ({"where": [""]}, "is not a condition"),
        ({"where": ["metric.accuracy>high"]}, "compare a metric with a number"),
        ({"where": ["tag.team>a"]}, "only = is allowed here"),
        ({"where": ["param.a>=1"]}, "only = is allowed here"),
        ({"where": ["colour=red"]}, "'colour' cannot be searched"),
        ({"where": ["created>yesterday"]}, "give a date or a time in ISO form"),
        ({"where": ["status<approved"]}, "only = is allowed here"),
        ({"order": "oldest"}, "'oldest' is not an order. Give newest, metric.NAME"),
        ({"order": "metric."}, "is not an order"),
        ({"after": "next"}, "is not the end of a page"),
        ({"after": "0.5:1"}, "is not the end of a page in this order"),
        ({"after": ":1", "order": "metric.loss"}, "is not the end of a page in this order"),
        ({"after": "nan:1", "order": "metric.loss"}, "is not the end of a page"),
        ({"after": ":" + "9" * 30}, "is not the end of a page"),
        ({"limit": 0}, "limit is 0. Give 1 or more: the versions on a page"),
    ],
)
def test_invalid_search_condition_lists_the_valid_ones(place, asked, says):
    register_versions(place, 2)
    with place.open() as registry, pytest.raises(InvalidQuery, match=re.escape(says)):
        registry.search("digits", **asked)


def test_search_of_an_unknown_model_suggests_a_close_match(place):
    register_versions(place, 1)
    with place.open() as registry, pytest.raises(NotFound, match="Did you mean 'digits'"):
        registry.search("digts")


# Many versions, written as rows: registering them would take minutes


@pytest.fixture
def many(place):
    """A registry with 3,000 versions of one model."""
    register_versions(place, 1)
    fill(place.url, 3000)
    return place


SELECTIVE = {
    "metric.accuracy>=0.999": 3,
    "tag.team=team-7": 2,
    "param.epochs=7": 2,
    "alias=champion": 1,
    "dataset=" + f"{7:032}": 2,
    "commit=" + f"{7:040}": 2,
    "run=run-7": 1,
    "digest=" + f"{7:064}": 1,
}


WHOLE_TABLE = r"SCAN ((any_)?version|state)|Seq Scan on version"
"""In a plan, by SQLite or PostgreSQL: that every row of `versions` or of a part of it is read."""


# PostgreSQL names what a subquery found $0, and from 17 on (InitPlan 1).col1.
WHOLE_MODEL = (
    r"Index Cond: \(model_id = (\$\d|\(InitPlan \d\)\.col1)\)$"
    r"|SEARCH versions USING.*\(model_id=\?\)"
)
"""That every version of a model is looked at."""


@pytest.mark.whole
def test_selective_search_uses_an_index_without_a_table_scan(many):
    with many.open() as registry:
        promote(registry, 1)
        for condition, count in SELECTIVE.items():
            assert len(registry.search("digits", [condition]).versions) == count, condition
    with raw(many.url) as connection:
        for condition in SELECTIVE:
            plan = plan_of(connection, page_query("digits", [condition], "newest", None).limit(51))
            assert not re.search(f"(?m){WHOLE_TABLE}|{WHOLE_MODEL}", plan), (condition, plan)
            assert re.search(r"INDEX|Index", plan), (condition, plan)


@pytest.mark.whole
def test_search_page_is_read_from_an_ordered_index(many):
    orders = {"newest": ":2000", "metric.accuracy": "0.5:2500", "metric.accuracy:asc": "0.5:2500"}
    with raw(many.url) as connection:
        for order, after in orders.items():
            plan = plan_of(connection, page_query("digits", [], order, after).limit(51))
            assert not re.search(WHOLE_TABLE + "|TEMP B-TREE|Sort", plan), plan
            assert re.search(r"INDEX|Index", plan), plan


@pytest.mark.whole  # 3,000 versions
def test_search_pages_are_stable_while_versions_are_added(many):
    for order in ("newest", "metric.accuracy", "metric.accuracy:asc"):
        seen, after = [], None
        with many.open() as registry:
            last = registry.search("digits", limit=1).versions[0].version
            for turn in itertools.count():
                page = registry.search("digits", order=order, limit=400, after=after)
                seen += numbers(page)
                after = page.after
                if after is None:
                    break
                if turn == 2:  # at the top, in the middle, at the end
                    add(many.url, last + 1, *[0.9999, 0.5, 0.0])
        old = [number for number in seen if number <= last]
        assert sorted(old) == list(range(1, last + 1))  # each of them once


def add(url, number, *accuracies):
    with raw(url) as connection:
        row = connection.execute(schema.versions.select().limit(1)).mappings().one()
        for index, accuracy in enumerate(accuracies):
            own = number + index
            new = {"id": own, "version": own, "uid": uuid.uuid4().hex, "digest": f"{own:064}"}
            connection.execute(schema.versions.insert().values({**row, **new}))
            metric = part(own, "accuracy", accuracy)
            connection.execute(schema.version_metrics.insert().values(metric))


# The cost of a promotion


def statements_of(registry, call):
    """Every statement that a call made, with its parameters."""
    seen = []

    def note(_connection, _cursor, statement, parameters, *_rest):
        seen.append((statement, parameters))

    engine = registry.database._engine
    event.listen(engine, "before_cursor_execute", note)
    call()
    event.remove(engine, "before_cursor_execute", note)
    return seen


@pytest.mark.whole
def test_promote_takes_as_many_queries_with_3000_versions_as_with_one(place):
    register_versions(place, 1)
    with place.open() as registry:
        promote(registry, 1)
        registry.unset("digits", "champion", actor="ada", reason="to begin anew")
        few = statements_of(registry, lambda: promote(registry, 1))
        fill(place.url, 3000)
        registry.unset("digits", "champion", actor="ada", reason="to begin anew")
        many = statements_of(registry, lambda: promote(registry, 1))
    assert [statement for statement, _ in few] == [statement for statement, _ in many]
    with raw(place.url) as connection:
        explain = "EXPLAIN " if connection.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN "
        for statement, parameters in many:
            if re.match("SELECT|UPDATE|DELETE", statement):
                rows = connection.exec_driver_sql(explain + statement, parameters)
                plan = "\n".join(str(row[-1]) for row in rows)
                assert not re.search(WHOLE_TABLE, plan), (statement, plan)
