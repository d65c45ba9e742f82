"""Arguments: refused with the same error on both databases, or read back as they were given."""

import math
import random
import re
import unicodedata
from dataclasses import replace
from datetime import UTC, datetime
from inspect import signature
from pathlib import Path
from traceback import format_exception

import numpy as np
import pytest
from databases import raw, schema_of, unguarded
from registry_helpers import LINEAGE, Place, make_candidate, numbers, promote, register_versions
from search_helpers import plan_of
from servers import create_database, drop_database
from sqlalchemy import event

from cli import output
from registry import (
    InvalidCandidate,
    InvalidQuery,
    InvalidReference,
    JobInput,
    NoRegistry,
    NotFound,
    Policy,
    Refused,
    Registry,
    RegistryError,
    Unreachable,
    hide_password,
    schema,
)
from registry.databases.database import restore_transaction
from registry.integrity import verify
from registry.queries.search import page_query
from registry.signing import check_signatures, sign
from registry.transfer.backup import backup, restore, verify_backup
from registry.transfer.mlflow_import import import_from_mlflow
from registry.transfer.oci import export_version, import_version
from registry.upkeep import gc, purge, retain
from registry.validation.arguments import BY_NAME
from registry.validation.checks import DEPTH, KEY, TEXT

LONG = "".join(random.Random(0).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=9000))
"""A text that does not compress: longer than PostgreSQL keeps in a row of an index."""


def problems(registry):
    return [(p.ref, p.what) for p in verify(registry).problems]


def refusal(call):
    """Class and message of the error, or the returned value."""
    try:
        return "accepted", call()
    except RegistryError as error:
        return type(error).__name__, str(error)


def expect(cases, error):
    """Each case must be refused with that error; the failing cases are listed."""
    found = {name: refusal(call) for name, call in cases.items()}
    assert {name: said for name, said in found.items() if said[0] != error.__name__} == {}
    return {name: message for name, (_, message) in found.items()}


# Arguments of the methods


def test_each_argument_of_each_public_method_is_checked():
    unchecked = set()
    for name in dir(Registry):
        method = getattr(Registry, name)
        if name.startswith("_") or not callable(method) or len(signature(method).parameters) == 1:
            continue
        assert hasattr(method, "__wrapped__"), f"{name} is not checked"
        for parameter in signature(method).parameters:
            if f"{name}.{parameter}" not in BY_NAME and parameter not in BY_NAME:
                unchecked.add((name, parameter))
    assert unchecked <= {(name, "self") for name in dir(Registry)}


FUNCTIONS = (
    *(verify, gc, purge, retain, backup, verify_backup, restore, export_version, import_version),
    *(import_from_mlflow, sign, check_signatures),
)
OWN_CHECK = {"registry", "progress", "url", "artifacts", "cache"}


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_each_argument_of_functions_on_a_registry_is_checked(function):
    assert hasattr(function, "__wrapped__")
    unchecked = {name for name in signature(function).parameters if name not in BY_NAME}
    assert unchecked <= OWN_CHECK


def test_functions_on_a_registry_refuse_wrong_types(tmp_path):
    place = Place(tmp_path)
    register_versions(place, 1)
    with place.open() as r:
        for call, error in (
            (lambda: verify(r, 5), InvalidReference),
            (lambda: verify(r, since="3"), InvalidQuery),
            (lambda: verify(r, since=-1), InvalidQuery),
            (lambda: gc(r, dry_run="no"), InvalidCandidate),
            (lambda: gc(r, dry_run=True, grace_s="day"), InvalidCandidate),
            (lambda: gc(r, dry_run=True, grace_s=math.nan), InvalidCandidate),
            (lambda: gc(r, dry_run=True, grace_s=-1), InvalidCandidate),
            (lambda: gc(r, dry_run=True, grace_s=10**400), InvalidCandidate),
            (lambda: gc(r, dry_run=True, grace_s=1e300), InvalidCandidate),
            (lambda: purge(r, actor=5, dry_run=True), InvalidCandidate),
            (lambda: retain(r, actor="a", dry_run=1), InvalidCandidate),
            (lambda: retain(r, 5, actor="a", dry_run=True), InvalidReference),
            (lambda: backup(r, 5), InvalidCandidate),
            (lambda: backup(r, ""), InvalidCandidate),
            (lambda: backup(r, tmp_path / "b", replace="yes"), InvalidCandidate),
            (lambda: verify_backup(None), InvalidCandidate),
            (lambda: verify_backup(b"folder"), InvalidCandidate),
            (lambda: restore(5, place.url, tmp_path / "a"), InvalidCandidate),
            (lambda: export_version(r, 5, tmp_path / "x"), InvalidReference),
            (lambda: export_version(r, "digits:1", None), InvalidCandidate),
            (lambda: import_version(r, 5, actor="a"), InvalidCandidate),
            (lambda: import_version(r, tmp_path, actor=5), InvalidCandidate),
            (lambda: sign(r, "digits:1", 5, actor="a"), InvalidCandidate),
            (lambda: sign(r, "digits:1", tmp_path, actor=5), InvalidCandidate),
            (lambda: check_signatures(r, 5), InvalidCandidate),
            (lambda: import_from_mlflow(r, 5, "m", actor="a"), InvalidCandidate),
        ):
            with pytest.raises(error, match=r"is .*Give"):
                call()


def test_keep_days_is_at_most_a_century(tmp_path):
    with Place(tmp_path).open() as registry:
        registry.set_policy("digits", Policy(keep_days=36_500), actor="ada")
        with pytest.raises(InvalidCandidate, match="36,500"):
            registry.set_policy("digits", Policy(keep_days=36_501), actor="ada")
        register_versions(Place(tmp_path), 2)
        with raw(Place(tmp_path).url) as connection:  # as an older release took it
            connection.exec_driver_sql("UPDATE models SET keep_days = 2000000000")
        assert retain(registry, actor="ada", dry_run=True) == []


def test_invalid_numbers_and_references_are_refused_before_any_write(place):
    register_versions(place, 1)
    with place.open() as r:
        before = len(r.history("digits"))

        def promoted(version, alias="champion", revision=None):
            return lambda: promote(r, version, alias, expect_revision=revision)

        messages = expect(
            {
                "text": promoted("2"),
                "float": promoted(1.0),
                "bool": promoted(True),
                "None": promoted(None),
                "zero": promoted(0),
                "negative": promoted(-1),
                "10**12": promoted(10**12),
                "10**30": promoted(10**30),
                "NumPy's bool": promoted(np.bool_(True)),
                "a text as revision": promoted(1, revision="1"),
                "-1 as revision": promoted(1, revision=-1),
                "bool as revision": promoted(1, revision=False),
                "an alias of bytes": promoted(1, b"champion"),
                "no alias": promoted(1, None),
                "reject": lambda: r.reject("digits", "1", actor="ada", reason="x"),
                "approve": lambda: r.approve("digits", "1", actor="ada", reason="x"),
                "archive": lambda: r.archive(5, 1, actor="ada", reason="x"),
                "tag": lambda: r.tag("digits", 1.5, "k", "v", actor="ada"),
                "evaluate": lambda: r.evaluate("digits", "1", {}, actor="ada"),
                "rollback": lambda: r.rollback("digits", 5, actor="ada", reason="x"),
                "unset": lambda: r.unset("digits", None, actor="ada", reason="x"),
                "resolve": lambda: r.resolve(5),
                "resolve NUL": lambda: r.resolve("digits\0"),
                "history": lambda: r.history("digits", version="1"),
                "a model with NUL": lambda: r.model("a\0"),
                "half a surrogate pair": lambda: r.model("\ud800"),
                "alias": lambda: r.alias("digits", ["champion"]),
                "open": lambda: r.open("digits:1"),
                "start_job": lambda: r.start_job("digits", input_sha256="1" * 64, output="o"),
            },
            InvalidReference,
        )
        assert messages["text"] == "version is '2'. Give a whole number of 1 or more."
        assert "from 1 to 999,999,999" in messages["10**12"]
        assert len(r.history("digits")) == before
        assert r.models()[0].aliases == ()
        assert problems(r) == []


def test_invalid_texts_are_refused_before_any_write(place):
    register_versions(place, 1)
    with place.open() as r:
        resolved = r.resolve("digits:1")

        def tag(key="k", value="v", actor="ada"):
            return lambda: r.tag("digits", 1, key, value, actor=actor)

        def job(**changes):
            given = {"input_sha256": "1" * 64, "output": "out", **changes}
            return lambda: r.start_job(resolved, **given)

        expect(
            {
                "a number as actor": tag(actor=5),
                "no actor": tag(actor=None),
                "a blank actor": tag(actor=" "),
                "an actor that moves the cursor": tag(actor="a\x1b[2J"),
                "an actor of two lines": tag(actor="ada\nbob"),
                "an actor that turns the line": tag(actor="a\u202eb"),
                "a long actor": tag(actor="a" * 201),
                "a number as key": tag(key=5),
                "a blank key": tag(key=""),
                "a long key": tag(key="k" * (KEY + 1)),
                "a key with C1": tag(key="k\x9b"),
                "a number as value": tag(value=5),
                "NUL": tag(value="\0"),
                "half a surrogate pair": tag(value="\udfff"),
                "a long value": tag(value="v" * (TEXT + 1)),
                "no reason": lambda: promote(r, 1, reason=None),
                "a blank reason": lambda: promote(r, 1, reason=" "),
                "a policy of text": lambda: r.set_policy(
                    "digits", Policy(keep_last="3"), actor="a"
                ),
                "a policy of bool": lambda: r.set_policy(
                    "digits", Policy(keep_days=True), actor="a"
                ),
                "10**12 versions": lambda: r.set_policy(
                    "digits", Policy(keep_last=10**12), actor="a"
                ),
                "four eyes of text": lambda: r.set_policy(
                    "digits", Policy(four_eyes="no"), actor="a"
                ),
                "a dict as policy": lambda: r.set_policy("digits", {"four_eyes": True}, actor="a"),
                "a list as evaluation": lambda: r.evaluate("digits", 1, [], actor="ada"),
                "NaN in an evaluation": lambda: r.evaluate(
                    "digits", 1, {"a": math.nan}, actor="ada"
                ),
                "a short hash": job(input_sha256="1" * 63),
                "upper-case hash": job(input_sha256="A" * 64),
                "no hash": job(input_sha256=None),
                "a blank output": job(output=""),
                "a path as output": job(output=Path("out")),
                "a number as flow run": job(flow_run_id=5),
            },
            InvalidCandidate,
        )
        assert r.jobs() == []
        assert [e.kind for e in r.history("digits")] == ["registered"]
        running = r.start_job(resolved, input_sha256="1" * 64, output="out")

        def finish(**changes):
            given = {"rows": 1, "provider": "CPU", "onnxruntime": "1", **changes}
            return lambda: r.finish_job(running, **given)

        expect(
            {
                "-1 rows": finish(rows=-1),
                "text": finish(rows="1"),
                "2**63 rows": finish(rows=2**63),
                "NaN": finish(rows=math.nan),
                "a list": finish(substituted=[1]),
                "drift as text": finish(drift="drifted"),
                "-1 quarantined": finish(quarantined=-1),
                "True quarantined": finish(quarantined=True),
                "a path as inputs": finish(inputs="a.csv"),
                "a tuple as input": finish(inputs=[("a.csv", "2" * 64, 1)]),
                "a short hash of an input": finish(inputs=[JobInput("2", "a.csv", 1)]),
                "a blank path of an input": finish(inputs=[JobInput("2" * 64, "", 1)]),
                "half a row of an input": finish(inputs=[JobInput("2" * 64, "a", 0.5)]),
                "one row too many": finish(inputs=[JobInput("2" * 64, "a", 2)]),
                "one row too few": finish(inputs=[JobInput("2" * 64, "a", 1)], quarantined=1),
                "no provider": finish(provider=None),
                "error": lambda: r.fail_job(running, ValueError("x")),
            },
            InvalidCandidate,
        )
        assert r.jobs() == [running]
        # Whatever the error of a job says, that it failed can be recorded.
        assert r.fail_job(running, "\0 \x1b[2J\ud800\nend").error == "\\x00 \\x1b[2J\\ud800\nend"
        assert problems(r) == []


def test_invalid_query_arguments_are_refused_on_every_database(place):
    register_versions(place, 1)
    with place.open() as r:
        methods = {"search": r.search, "history": r.history, "jobs": r.jobs}
        wrong = (-1, 0, True, "3", 1.5, 10**30)
        cases = {
            f"{name} {limit!r}": lambda ask=ask, limit=limit: ask("digits", limit=limit)
            for name, ask in methods.items()
            for limit in wrong
        }
        cases |= {
            "before text": lambda: r.history("digits", before="x"),
            "before bool": lambda: r.history("digits", before=True),
            "after": lambda: r.search("digits", after=5),
            "order": lambda: r.search("digits", order=None),
            "a text as conditions": lambda: r.search("digits", "tag.a=b"),
            "a number as condition": lambda: r.search("digits", [5]),
            "when": lambda: r.alias_at("digits", "champion", "2026-01-01"),
            "data": lambda: r.trace_data(5),
            "a number as path": lambda: r.predicted_files("digits", "/out", [5]),
            "a text as paths": lambda: r.predicted_files("digits", "/out", "a.csv"),
            "NUL": lambda: r.trace_data("a\0"),
        }
        expect(cases, InvalidQuery)
        assert numbers(r.search("digits", limit=np.int64(1))) == [1]
        assert len(r.history("digits", limit=2**31 - 1)) == 1


def test_numpy_scalars_are_stored_as_python_numbers(place):
    with place.open() as r:
        candidate = make_candidate(
            place.folder / "b",
            metrics={"accuracy": np.float32(0.5), "count": np.int64(7), "loss": -0.0},
            params={"lr": np.float64(0.1), "n": [np.int32(3)], "on": np.bool_(True)},
            evaluation={"passed": np.bool_(True), "gates": [{"value": np.float16(0.5)}]},
            signature={"name": np.str_("x")},
        )
        made = r.register("digits", candidate, actor="ada").version
        assert made == r.resolve("digits:1").version
        assert made.metrics == {"accuracy": 0.5, "count": 7.0, "loss": 0.0}
        assert {type(value) for value in made.metrics.values()} == {float}
        assert made.params == {"lr": 0.1, "n": [3], "on": True}
        assert promote(r, np.int64(1), expect_revision=np.int32(0)).version == 1
        r.set_policy("digits", Policy(keep_last=np.int64(3)), actor="ada")
        assert r.model("digits").policy == Policy(keep_last=3)
        assert problems(r) == []


def test_actor_is_stored_in_normal_form(place):
    with place.open() as r:
        decomposed = unicodedata.normalize("NFD", "Zoë")
        candidate = make_candidate(place.folder / "b")
        assert r.register("digits", candidate, actor=f" {decomposed} ").version.created_by == "Zoë"
        r.set_policy("digits", Policy(four_eyes=True), actor="ada ")
        assert [e.actor for e in r.history("digits")] == ["ada", "Zoë"]
        with pytest.raises(RegistryError, match="by somebody else"):
            r.approve("digits", 1, actor=f"{decomposed} ", reason="mine")
        assert problems(r) == []


# Candidates


def changed(**changes):
    return replace(LINEAGE, **changes)


def nested(levels):
    document = {}
    for _ in range(levels):
        document = {"a": document}
    return document


CANDIDATES = {
    "a list as params": {"params": [1]},
    "no params": {"params": None},
    "a tuple": {"params": {"a": {"b": (1, 2)}}},
    "a set": {"params": {"a": {1}}},
    "a path": {"params": {"a": Path("x")}},
    "a time": {"evaluation": {"passed": True, "at": datetime(2026, 1, 1, tzinfo=UTC)}},
    "bytes": {"signature": {"a": b"x"}},
    "an array": {"params": {"a": np.zeros(2)}},
    "a number as key": {"params": {"a": {1: 2}}},
    "None as key": {"signature": {None: 2}},
    "2**53": {"params": {"a": 2**53}},
    "-2**53": {"params": {"a": [-(2**53)]}},
    "NaN": {"params": {"a": math.nan}},
    "NaN of NumPy": {"params": {"a": np.float32("nan")}},
    "infinity": {"signature": {"a": [-math.inf]}},
    "NUL": {"params": {"a": "x\0"}},
    "NUL in a key": {"params": {"x\0": 1}},
    "half a surrogate pair": {"evaluation": {"passed": True, "a": "\ud83d"}},
    "half of one in a key": {"params": {"\ud83d": 1}},
    "deep": {"params": nested(DEPTH + 1)},
    "very deep": {"signature": nested(5000)},
    "a long dotted name": {"params": {"a" * 300: {"b" * 300: 1}}},
    "a huge document": {"signature": {"a": "x" * 2**24}},
    "a NaN metric": {"metrics": {"f1": math.nan}},
    "an infinite metric": {"metrics": {"f1": np.float32("inf")}},
    "a bool metric": {"metrics": {"f1": True}},
    "a text metric": {"metrics": {"f1": "0.9"}},
    "a huge metric": {"metrics": {"f1": 10**400}},
    "an inexact metric": {"metrics": {"f1": 2**53 + 1}},
    "a long metric": {"metrics": {"m" * (KEY + 1): 1.0}},
    "a number as metric's name": {"metrics": {1: 1.0}},
    "a list of metrics": {"metrics": [("f1", 1.0)]},
    "a number as tag": {"tags": {"a": 1}},
    "a tag's key of two lines": {"tags": {"a\nb": "1"}},
    "a tag that moves the cursor": {"tags": {"a": "\x1b[2J"}},
    "no lineage": {"lineage": None},
    "a number as commit": {"lineage": changed(git_commit=5)},
    "a text as dirty": {"lineage": changed(git_dirty="no")},
    "no dataset": {"lineage": changed(dataset=None)},
    "a blank dataset": {"lineage": changed(dataset="")},
    "a dataset of two words": {"lineage": changed(dataset="a b")},
    "a long dataset": {"lineage": changed(dataset="d" * 201)},
    "a short test split": {"lineage": changed(test_split="e" * 63)},
    "a test split of another form": {"lineage": changed(test_split="E" * 64)},
    "a number as flow run": {"lineage": changed(flow_run_id=5)},
    "a list of libraries": {"lineage": changed(libraries=["torch"])},
    "a number as library": {"lineage": changed(libraries={"torch": 2})},
    "a number as data": {"lineage": changed(data={"a.csv": 5})},
    "blank data": {"lineage": changed(data={"a.csv": ""})},
    "a list of files": {"files": ["model.onnx"]},
    "a number as file": {"files": {"model.onnx": 5, "signature.json": 5}},
    "a text as identity": {"identity": "model.onnx"},
    "a number in the identity": {"identity": {5}},
}


def test_unstorable_candidate_is_refused_on_every_database(place):
    with place.open() as r:
        base = make_candidate(place.folder / "b")

        def register(changes):
            return lambda: r.register("digits", replace(base, **changes), actor="ada")

        messages = expect(
            {name: register(changes) for name, changes in CANDIDATES.items()}, InvalidCandidate
        )
        assert "params.a.b: it is (1, 2) (tuple)" in messages["a tuple"]
        assert "its key 1 (int) is not text" in messages["a number as key"]
        parents = ("digits", "digits:0", "digits:01", "digits@champion", ":1", 5)
        expect(
            {str(p): register({"lineage": changed(parent=p)}) for p in parents}, InvalidReference
        )
        for wrong in (None, {}, "model.onnx"):
            with pytest.raises(InvalidCandidate, match=r"Give a registry\.Candidate"):
                r.register("digits", wrong, actor="ada")
        with pytest.raises(InvalidCandidate, match="request_id is empty"):
            r.register("digits", base, actor="ada", request_id=" ")
        assert r.models() == []
    assert not [path for path in (place.folder / "artifacts").rglob("*") if path.is_file()]


def test_refuse_stores_non_finite_metrics_as_text(place):
    with place.open() as r:
        candidate = make_candidate(
            place.folder / "b",
            metrics={"loss": math.nan, "worst": np.float32("inf"), "accuracy": 0.1},
            evaluation={"passed": False, "metrics": {"loss": -math.inf}},
        )
        made = r.refuse("digits", candidate, actor="ada", reason="training diverged")
        assert made == r.history("digits")[0]
        assert made.payload["metrics"] == {"loss": "NaN", "worst": "Infinity", "accuracy": 0.1}
        assert made.payload["evaluation"] == {"passed": False, "metrics": {"loss": "-Infinity"}}
        assert problems(r) == []


# Long values


def test_long_value_is_stored_and_found_on_every_database(place):
    other = LONG[:-1] + "!"
    columns = [f"column {number} {LONG[number : number + 20]}" for number in range(400)]
    with place.open() as r:
        for number, value in enumerate((LONG, other), 1):
            candidate = make_candidate(
                place.folder / "b",
                f"model {number}",
                params={"prepare": {"ignore": columns, "text": value, "short": "x" * 100}},
                tags={"note": value},
            )
            r.register("digits", candidate, actor="ada")
        r.tag("digits", 2, "later", LONG, actor="ada")
        assert numbers(r.search("digits", [f"param.prepare.text={LONG}"])) == [1]
        assert numbers(r.search("digits", [f"param.prepare.text={other}"])) == [2]
        assert numbers(r.search("digits", [f"param.prepare.text={LONG[:100]}"])) == []
        assert numbers(r.search("digits", [f"tag.note={LONG}"])) == [1]
        assert numbers(r.search("digits", [f"tag.note={other}"])) == [2]
        assert numbers(r.search("digits", [f"tag.later={LONG}", f"tag.note={other}"])) == [2]
        # As long as what the index holds, and one more or less.
        for length, found in ((99, []), (100, [2, 1]), (101, [])):
            assert numbers(r.search("digits", ["param.prepare.short=" + "x" * length])) == found
        assert r.resolve("digits:1").version.params["prepare"]["ignore"] == columns
        assert problems(r) == []


def test_values_at_the_length_limit_are_stored_on_every_database(place):
    # Four bytes each, and of the kind that does not compress.
    key = "".join(map(chr, random.Random(1).choices(range(0x20000, 0x2A6D0), k=KEY)))
    candidate = make_candidate(
        place.folder / "b",
        params={key: key},
        metrics={key: 0.5},
        tags={key: key * (TEXT // KEY)},
    )
    source = candidate.files["card.md"]
    lineage = changed(data={key: "a" * 200}, flow_run_id=key[:200], dataset=key[:200])
    candidate = replace(candidate, files={**candidate.files, key: source}, lineage=lineage)
    with place.open() as r:
        made = r.register("digits", candidate, actor=key[:200], request_id=key[:200]).version
        assert r.resolve("digits:1").version == made
        for condition in (f"param.{key}={key}", f"tag.{key}={made.tags[key]}", f"metric.{key}>0"):
            assert numbers(r.search("digits", [condition])) == [1]
        assert r.start_job(r.resolve("digits:1"), input_sha256="1" * 64, output=key).output == key
        assert problems(r) == []


def test_long_values_move_from_sqlite_to_postgresql(tmp_path, postgres):
    here = Place(tmp_path)
    candidate = make_candidate(tmp_path / "b", params={"text": LONG}, tags={"note": LONG})
    with here.open() as r:
        r.register("digits", candidate, actor="ada")
        backup(r, tmp_path / "backup")
    there = create_database(postgres)
    assert restore(tmp_path / "backup", there, tmp_path / "other").problems == []
    with Registry(there, tmp_path / "other") as r:
        assert numbers(r.search("digits", [f"param.text={LONG}", f"tag.note={LONG}"])) == [1]
    drop_database(there)


@pytest.mark.parametrize("revision", ["0002", "0003"])
def test_upgrade_drops_the_index_on_whole_values(database_url, revision):
    # As these revisions made it when they were released.
    old = ["ix_param_values_key_value_params_id", "ix_version_tags_key_value_version_id"]
    with restore_transaction(database_url, revision) as c:
        for name in old:
            table, _, of = name.removeprefix("ix_").partition("_key_value_")
            c.exec_driver_sql(f"CREATE INDEX {name} ON {table} (key, value, {of})")
    names = {row[1] for row in schema_of(database_url) if row[0] == "index"}
    assert not names & set(old)
    assert {"ix_param_values_start", "ix_version_tags_start"} <= names


def test_search_for_a_long_value_uses_the_index(place):
    register_versions(place, 1)
    with raw(place.url) as c:
        rows = [{"id": n, "sha256": f"{n:064}", "document": {}} for n in range(2, 1002)]
        c.execute(schema.params.insert(), rows)
        values = [{"params_id": n, "key": "text", "value": f"{n} {LONG}"} for n in range(2, 1002)]
        c.execute(schema.param_values.insert(), values)
        c.exec_driver_sql("ANALYZE")
        for condition in (f"param.text=7 {LONG}", "param.text=7"):
            query = page_query("digits", [condition], "newest", None).limit(51)
            assert "ix_param_values_start" in plan_of(c, query)


# References and names


def test_alias_that_looks_like_a_version_is_refused(place):
    register_versions(place, 2)
    with place.open() as r:
        for alias in ("3", "v1", "v12", "007", "latest", "newest"):
            with pytest.raises(InvalidReference, match="cannot be an alias: it looks like"):
                promote(r, 1, alias=alias)
        assert promote(r, 1, alias="v1-stable").version == 1
        for given, says in {
            "digits@2": "Name a version with a colon: digits:2",
            "digits@v2": "Name a version with a colon: digits:2",
            "digits@latest": "The newest version is digits:2",
            "digits@newest": "The newest version is digits:2",
        }.items():
            with pytest.raises(NotFound, match=says):
                r.resolve(given)
        for given in ("digits:latest", "Digits:newest", "digits@latest "):
            with pytest.raises(InvalidReference, match="modelmint models search digits"):
                r.resolve(given)


def test_older_alias_that_looks_like_a_version_still_resolves(place):
    register_versions(place, 2)
    with place.open() as r:
        promote(r, 1, alias="canary")
    with unguarded(place.url) as c:
        c.execute(schema.aliases.update().values(alias="v2"))
    with place.open() as r:
        assert r.resolve("digits@v2").version.version == 1
        assert r.alias("digits", "v2").version == 1
        r.unset("digits", "v2", actor="ada", reason="misleading")
        assert r.models()[0].aliases == ()


# Search


def test_search_for_an_unknown_key_suggests_a_close_match(place):
    candidate = make_candidate(place.folder / "b", tags={"team": "risk"})
    with place.open() as r:
        r.register("digits", candidate, actor="ada")
        promote(r, 1)
        asked = {
            "tag.team!=x": "!= is not an operator",
            "tag.team==x": "== is not an operator",
            "status!=approved": "!= is not an operator",
            "metric.accuracy!=1": "!= is not an operator",
            "status=aproved": "'aproved' is not a status. Did you mean 'approved'?",
            "status=Approved": "Did you mean 'approved'?",
            "metric.acuracy>0.5": "has the metric 'acuracy'. Did you mean 'accuracy'?",
            "param.train.epohcs=3": "Did you mean 'train.epochs'?",
            "tag.taem=risk": "Did you mean 'team'?",
            "alias=champoin": "Did you mean 'champion'?",
            "metric.accuracy<nan": "a finite number",
            "metric.accuracy>inf": "a finite number",
            "metric.accuracy<1e400": "a finite number",
            "created=2026-01-31": "compare a time with >=, <=, > or <",
            "created>2026-13-01": "in ISO form",
            "created>=-1": "in ISO form",
            "commit=cccccc": "Give all 40",
            "digest=abcdef": "Give all 64",
            "by=": "has no value",
            "tag.team=\0": "U+0000",
            "metric.accuracy>0\ud800": "U+D800",
        }
        for condition, says in asked.items():
            kind, message = refusal(lambda asked=condition: r.search("digits", [asked]))
            assert (kind, says in message) == ("InvalidQuery", True), (condition, message)
        for order in ("metric.acuracy", "metric.acuracy:asc"):
            with pytest.raises(InvalidQuery, match="Did you mean 'accuracy'"):
                r.search("digits", order=order)
        with pytest.raises(InvalidQuery, match="No version has the metric 'acuracy'"):
            r.search(where=["metric.acuracy>0"])
        with pytest.raises(NotFound, match="no model 'digts'"):
            r.search("digts", ["metric.acuracy>0"])


def test_search_for_a_metric_of_another_model_is_refused(place):
    with place.open() as r:
        for name, tags in (("digits", {}), ("churn", {"team": "risk"})):
            own = {"metrics": {name: 1}, "params": {name: {"\x1b[2J": "x"}}, "tags": tags}
            candidate = make_candidate(place.folder / name, name, **own)
            r.register(name, candidate, actor="ada")
        for condition in (
            "tag.team=risk",
            "tag.colour=red",
            "alias=canary",
            "metric.digits>2",
            "alias=champion",
            "by=bob",
        ):
            assert numbers(r.search("digits", [condition])) == [], condition
        for asked in (
            {"where": ["metric.churn>0"]},
            {"where": ["param.churn.\x1b[2J=x"]},
            {"where": ["metric.digits>2", "metric.churn>0"]},
            {"order": "metric.churn"},
        ):
            with pytest.raises(InvalidQuery, match=r"No version of 'digits' has the .*churn") as no:
                r.search("digits", **asked)
            assert "Versions of other models do." in str(no.value)
            assert "There is: digits" in str(no.value)
            assert "\x1b" not in str(no.value)
        assert numbers(r.search(where=["metric.churn>0"])) == [1]
        r.set_policy("empty", Policy(keep_last=1), actor="ada")
        with pytest.raises(InvalidQuery, match=r"has the metric 'churn'.* There is none yet"):
            r.search("empty", ["metric.churn>0"])
        assert r.search("empty", ["tag.team=risk"]).versions == ()


def test_ignored_differences_have_control_characters_escaped(place):
    folder = place.folder / "b"
    with place.open() as r:
        r.register("digits", make_candidate(folder, "m", params={"a\x1b[2J": 1}), actor="ada")
        again = make_candidate(folder, "m", params={"a\x1b[2J": 2, "b\x9b": "\u202e"})
        assert r.register("digits", again, actor="ada").ignored == (
            "params.a\\x1b[2J: 1 is kept, 2 was offered",
            'params.b\\x9b: nothing is kept, "\\u202e" was offered',
        )


def test_invalid_condition_or_hash_suggests_the_intended_one(place):
    register_versions(place, 1)
    with place.open() as r:
        for asked, says in {
            "version>=2": "To see a version by its number",
            "version=2": "To see a version by its number",
            "accuracy>0.9": "Did you mean metric.accuracy>0.9?",
            "epochs=3": "Did you mean param.epochs=3?",
            "dataset=123": "not a hash as DVC gives it: 32 digits",
            "dataset=dvc:xyz": "not a hash as DVC gives it: 32 digits",
        }.items():
            with pytest.raises(InvalidQuery, match=re.escape(says)):
                r.search("digits", [asked])
        for md5 in ("123", "xyz", "D" * 32):
            with pytest.raises(InvalidQuery, match="not a hash as DVC gives it: 32 digits"):
                r.trace_data(md5)
        assert r.trace_data("0" * 32).version_count == 0
        assert r.search("digits", ["dataset=" + "0" * 32]).versions == ()
        odd = replace(LINEAGE, dataset="mlflow-7")  # as an import may have
        r.register("digits", make_candidate(place.folder / "o", "o", lineage=odd), actor="ada")
        assert r.trace_data("mlflow-7").version_count == 1
        assert numbers(r.search("digits", ["dataset=mlflow-7"])) == [2]
        assert numbers(r.search("digits", ["dataset=mlflow-7", "by=bob"])) == []


SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (f"postgres://ada:{SECRET}@host/db", "write postgresql+psycopg://"),
        (f"postgresql://ada:x@{SECRET}@host/db", "in a password write @ as %40"),
        (f"postgresql://ada:x/{SECRET}@y@host/db", "in a password write @ as %40"),
        (f"postgresql://ada:x@y:{SECRET}@host/db", "its port is not a number"),
        (f"postgresql://ada:{SECRET}@host:port/db", "its port is not a number"),
        (f"mysql://ada@host/db?password={SECRET}", "mysql is not supported"),
        ("sqlite://registry.db", "three slashes, then the absolute path"),
        ("registry.db", "is not a database URL that can be opened here"),
    ],
)
def test_database_url_error_never_shows_the_password(url, says):
    with pytest.raises(Unreachable, match=re.escape(says)) as caught:
        Registry(url, None)
    assert SECRET not in str(caught.value)
    assert SECRET not in hide_password(url)
    assert SECRET not in "".join(format_exception(caught.value))


def test_relative_database_path_is_made_absolute_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Registry("sqlite:///r.db", None) as r:
        with pytest.raises(NoRegistry, match=f"no registry in sqlite:///{tmp_path}/r.db"):
            r.models()
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        r.create()
        assert r.models() == []
    assert (tmp_path / "r.db").is_file()


def test_open_of_a_purged_version_says_so(place):
    register_versions(place, 2)
    with place.open() as r:
        version = r.resolve("digits:1").version
        r.archive("digits", 1, actor="ada", reason="old")
        purge(r, actor="ada", dry_run=False)
        with pytest.raises(Refused, match=r"digits:1 was archived, and its files were removed by"):
            r.open(version)
        assert r.open(r.resolve("digits:2").version)


def test_successful_search_makes_no_extra_query(place):
    register_versions(place, 1)
    with place.open() as r:
        seen = []
        engine = r.database._engine
        event.listen(engine, "before_cursor_execute", lambda *given: seen.append(given[2]))
        r.search("digits", ["metric.accuracy>0"], order="metric.accuracy")
        # The size of the model, by which an order is looked up; the page; of what is on it the
        # metrics, the tags and the metric to compare by.
        assert len([statement for statement in seen if "SELECT" in statement]) == 2 + 3


# What is printed


def test_printed_values_have_control_characters_and_markup_escaped(capsys):
    evil = "a\x1b[31m\x07\x9b\x7f\u202e\u2066[red]b[/red] \\[link=x] :100: \ud800\r"
    output.say(evil)
    output.error(evil)
    output.table([evil, "b"], [[f"{evil}\nc", "é 日本"]])
    with output.counting(evil) as step:
        step(evil)
    printed = capsys.readouterr().err
    assert not [c for c in printed if c != "\n" and (c < " " or "\x7f" <= c <= "\x9f")]
    assert not {"\u202e", "\u2066"} & set(printed)
    shown = "a\\x1b[31m\\x07\\x9b\\x7f\\u202e\\u2066[red]b[/red] \\[link=x] :100: \\ud800\\r"
    assert printed.splitlines()[:2] == [shown, f"error: {shown}"]
    assert "\\nc" in printed
    assert "é 日本" in printed
    output.print_json({"said": evil})
    assert set(capsys.readouterr().out) <= {"\n", *map(chr, range(32, 127))}
