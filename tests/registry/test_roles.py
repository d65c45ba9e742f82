"""On PostgreSQL, the server allows each of the three roles its rights and refuses the rest.

Each login is a separate user of a real server; only `dba` is a superuser.
"""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from databases import execute, fetch, raw, raw_engine
from registry_roles import Place, candidate, registry_with_roles
from servers import create_database, drop_database
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError

from registry import JobInput, NoRegistry, Policy, Refused, Registry, schema
from registry.databases.roles import READER, ROLES, WRITER, create_roles
from registry.integrity import verify
from registry.rules.rule import APPEND_ONLY, LASTING
from registry.transfer.backup import backup
from registry.upkeep import gc, retain


@pytest.fixture(scope="module")
def place(postgres, tmp_path_factory) -> Iterator[Place]:
    """digits:1 is champion, 2 and 3 are candidates."""
    with registry_with_roles(postgres, tmp_path_factory.mktemp("registry")) as made:
        yield made


# What each may do


def test_a_reader_reads_everything(place, tmp_path):
    with place.open("rita") as registry:
        version = registry.resolve("digits@champion").version
        assert version.ref == "digits:1"
        assert registry.open(version)["model.onnx"].read_text() == "model 1"
        assert len(registry.search("digits", ["metric.accuracy>0.5"]).versions) >= 3
        assert registry.history("digits", version=1)
        assert registry.trace("digits:1").jobs
        assert registry.trace_data("abc").versions
        assert registry.models()
        assert registry.jobs("digits")
        assert verify(registry).problems == []
        assert backup(registry, tmp_path / "backup").files > 3
        assert gc(registry, dry_run=True) == []


def test_backup_by_a_reader_blocks_no_writer(place):
    rita = place.open("rita")
    with rita, pytest.raises(Refused, match="may not do that"), rita.database.read_locked():
        pass
    with place.open("keeper") as registry, registry.database.read_locked() as c:
        assert c.execute(schema.registry.select()).all()


def test_a_writer_registers_and_records_jobs(place):
    with place.open("walt") as registry:
        made = registry.register("walts", candidate(place, "walt 1"), actor="walt").version
        assert not registry.register("walts", candidate(place, "walt 1"), actor="walt").created
        failed = replace(candidate(place, "walt 2"), evaluation={"passed": False})
        registry.refuse("walts", failed, actor="walt", reason="a gate")
        registry.refuse("walts-too", failed, actor="walt", reason="a gate")
        registry.evaluate("walts", 1, {"passed": True}, actor="walt")
        for value in ("red", "blue", None):
            registry.tag("walts", 1, "colour", value, actor="walt")
        for number in (1, 2):
            job = registry.start_job(
                registry.resolve("walts:1"), input_sha256="1" * 64, output=f"out {number}"
            )
            if number == 1:
                read, ran = [JobInput("2" * 64, "a.csv", 3)], {"provider": "CPU"}
                registry.finish_job(job, rows=3, onnxruntime="1.31", inputs=read, **ran)
                found = registry.predicted_files("walts", "out 1", ["a.csv", "b.csv"])
                assert found == {"a.csv": {"2" * 64}}
            else:
                registry.fail_job(job, "disk full")
        assert registry.open(made)["model.onnx"].read_text() == "walt 1"
        assert verify(registry, "walts").problems == []


def test_a_promoter_approves_promotes_and_rolls_back(place):
    with place.open("walt") as registry:
        for number in (1, 2, 3, 4):
            registry.register("petras", candidate(place, f"petra {number}"), actor="walt")
    by = {"actor": "petra", "reason": "better"}
    with place.open("petra") as registry:
        registry.set_policy("petras", Policy(four_eyes=True, keep_last=1), actor="petra")
        registry.set_policy("to-come", Policy(keep_last=3), actor="petra")
        registry.promote("petras", 2, "challenger", expect_revision=0, **by)
        for number in (1, 2):
            registry.approve("petras", number, **by)
            registry.promote("petras", number, expect_revision=number - 1, **by)
        assert registry.rollback("petras", **by).version == 1
        registry.promote("petras", 2, "canary", expect_revision=None, **by)
        registry.unset("petras", "canary", **by)
        registry.reject("petras", 2, **by)
        registry.archive("petras", 2, **by)
        registry.unarchive("petras", 2, **by)
        assert [
            version.ref for version in retain(registry, "petras", actor="p", dry_run=False)
        ] == ["petras:3"]  # a rollback went back over 2
        assert verify(registry, "petras").problems == []


def test_login_with_two_roles_has_the_rights_of_both(place):
    with place.open("flo") as registry:
        version = registry.register("flos", candidate(place, "flo"), actor="flo").version
        registry.promote("flos", version.version, expect_revision=0, actor="flo", reason="first")
        assert registry.resolve("flos").version.status == "approved"


# What each is refused

BY = {"actor": "eve", "reason": "because"}
CHANGES = {
    "register": lambda r, place: r.register("new", candidate(place, "new"), actor="eve"),
    "register known bytes anew": lambda r, place: r.register(
        "new", candidate(place, "model 1"), actor="eve"
    ),
    "refuse": lambda r, place: r.refuse("new", candidate(place, "new"), **BY),
    "evaluate": lambda r, _: r.evaluate("digits", 2, {"passed": True}, actor="eve"),
    "tag": lambda r, _: r.tag("digits", 1, "colour", "blue", actor="eve"),
    "untag": lambda r, _: r.tag("digits", 1, "colour", None, actor="eve"),
    "start a job": lambda r, _: r.start_job(
        r.resolve("digits"), input_sha256="1" * 64, output="out"
    ),
    "approve": lambda r, _: r.approve("digits", 2, **BY),
    "reject": lambda r, _: r.reject("digits", 2, **BY),
    "archive": lambda r, _: r.archive("digits", 2, **BY),
    "make champion": lambda r, _: r.promote("digits", 2, expect_revision=1, **BY),
    "set an alias": lambda r, _: r.promote("digits", 2, "canary", expect_revision=0, **BY),
    "unset": lambda r, _: r.unset("digits", "champion", **BY),
    "set a policy": lambda r, _: r.set_policy("digits", Policy(keep_last=1), actor="eve"),
    "collect": lambda r, _: gc(r, dry_run=False, grace_s=0),
}
WRITING = ("register", "register known bytes anew", "refuse", "evaluate", "tag", "untag")
WRITING += ("start a job",)
PROMOTING = ("approve", "reject", "archive", "make champion", "set an alias", "unset")
PROMOTING += ("set a policy",)


@pytest.mark.parametrize(
    ("login", "change"),
    [
        *(("rita", change) for change in CHANGES),
        *(("walt", change) for change in (*PROMOTING, "collect")),
        *(("petra", change) for change in (*WRITING, "collect") if change != "refuse"),
    ],
)
def test_role_without_the_right_is_refused(login, change, place):
    before = everything(place)
    execute(place.dba, f"INSERT INTO blobs VALUES ('{'a' * 64}', 1, 0, NULL)")
    try:
        said = pytest.raises(Refused, match=r"permission denied.*`modelmint models roles` lists")
        with place.open(login) as registry, said:
            CHANGES[change](registry, place)
    finally:
        execute(place.dba, f"DELETE FROM blobs WHERE sha256 = '{'a' * 64}'")
    assert everything(place) == before


def everything(place: Place) -> dict[str, list]:
    with raw(place.dba) as connection:
        return {
            table: sorted(connection.exec_driver_sql(f"SELECT t::text FROM {table} t").scalars())
            for table in schema.metadata.tables
        }


def column_of(table: str) -> str:
    return schema.metadata.tables[table].columns.keys()[-1]


NOBODY = [
    *(f"UPDATE {table} SET {column_of(table)} = {column_of(table)}" for table in APPEND_ONLY),
    *(f"DELETE FROM {table}" for table in (*APPEND_ONLY, *LASTING, "blobs")),
    *(f"TRUNCATE {table} CASCADE" for table in schema.metadata.tables),
    *(f"ALTER TABLE {table} DISABLE TRIGGER ALL" for table in ("events", "versions", "aliases")),
    "ALTER TABLE events DISABLE TRIGGER events_refuses_update",
    "ALTER TABLE events OWNER TO CURRENT_USER",
    "ALTER TABLE aliases DROP CONSTRAINT ck_aliases_champion",
    "DROP TRIGGER events_refuses_update ON events",
    "DROP TABLE events CASCADE",
    "DROP FUNCTION rule_events_refuses_update CASCADE",
    "CREATE OR REPLACE FUNCTION rule_events_refuses_update() RETURNS trigger LANGUAGE plpgsql "
    "AS $$ BEGIN RETURN NEW; END $$",
    "CREATE TRIGGER mine BEFORE INSERT ON events FOR EACH ROW "
    "EXECUTE FUNCTION rule_events_refuses_update()",
    "CREATE TABLE mine (id int)",
    "CREATE RULE mine AS ON INSERT TO events DO INSTEAD NOTHING",
    "SELECT setval('events_id_seq', 1)",
    "SET session_replication_role = replica",
    "UPDATE models SET name = 'mine'",
    "UPDATE models SET created_at = 0",
    "UPDATE blobs SET size = 0",
    "UPDATE registry_alembic_version SET version_num = '9999'",
    "INSERT INTO events (id, model_id, at, actor, kind, payload, prev_hash, hash) "
    f"VALUES (999999, 1, 0, 'eve', 'promoted', '{{}}', 'x', '{'f' * 64}')",
    f"GRANT {WRITER} TO nora",
]
NEW_ALIAS = "INSERT INTO aliases VALUES (1, 'mine', 2, 'candidate', 1)"
APPROVE = "UPDATE version_state SET status = 'rejected' WHERE version_id = 2"
NEW_APPROVAL = (
    "INSERT INTO approvals (version_id, evaluation_id, passed, approver, reason, at) "
    "VALUES (2, 2, true, 'eve', 'because', 0)"
)
NOT_A_WRITER = [
    NEW_ALIAS,
    APPROVE,
    NEW_APPROVAL,
    "UPDATE aliases SET version = 2",
    "DELETE FROM aliases",
    "UPDATE models SET four_eyes = false",
    "INSERT INTO models (name, last_version, created_at, four_eyes) VALUES ('x', 0, 0, true)",
    "UPDATE jobs SET version_id = 2",
    "UPDATE jobs SET input_sha256 = 'x'",
]
NOT_A_PROMOTER = [
    "INSERT INTO evaluations (version_id, passed, report, at, actor) "
    "VALUES (2, true, '{}', 0, 'eve')",
    "INSERT INTO version_metrics VALUES (2, 'mine', 1.0)",
    f"INSERT INTO job_inputs (job_id, sha256, path, rows) VALUES ('j', '{'2' * 64}', 'a.csv', 1)",
    "INSERT INTO version_tags VALUES (2, 'mine', 'x')",
    "INSERT INTO version_state VALUES (2, 1, 2, 'approved', 1)",
    "UPDATE version_state SET version = 3",
    "UPDATE jobs SET rows = 7",
    "UPDATE jobs SET quarantined = 7",
    "UPDATE jobs SET drift = '{}'",
    "UPDATE blobs SET purged_at = 1",
]


@pytest.mark.parametrize(
    ("login", "statements"),
    [
        ("rita", [*NOBODY, *NOT_A_WRITER, *NOT_A_PROMOTER]),
        ("walt", [*NOBODY, *NOT_A_WRITER]),
        ("petra", [*NOBODY, *NOT_A_PROMOTER]),
        ("flo", NOBODY),
        ("nora", [*NOBODY, "SELECT * FROM models"]),
    ],
)
def test_database_refuses_a_role_without_the_right(login, statements, place):
    before = everything(place)
    with raw_engine(place.url(login)).connect() as connection:
        for statement in statements:
            with pytest.raises(DBAPIError) as caught, connection.begin():
                connection.exec_driver_sql(statement)
            assert caught.value.orig.sqlstate == "42501", f"{statement}: {caught.value.orig}"
    assert everything(place) == before


def test_triggers_ignore_temporary_tables_of_the_same_name(place):
    with place.open("walt") as registry:
        registry.register("guarded", candidate(place, "guarded"), actor="petra")
    with place.open("petra") as registry:
        registry.set_policy("guarded", Policy(four_eyes=True), actor="cy")
    (model,) = fetch(place.dba, "SELECT id FROM models WHERE name = 'guarded'")[0]
    champion = [
        "INSERT INTO public.approvals (version_id, evaluation_id, passed, approver, reason, at) "
        "SELECT e.version_id, e.id, true, 'petra', 'mine', 0 FROM public.evaluations e "
        f"JOIN public.versions v ON v.id = e.version_id WHERE v.model_id = {model}",
        "UPDATE public.version_state SET status = 'approved', approval_id = "
        f"(SELECT max(id) FROM public.approvals) WHERE model_id = {model}",
        f"INSERT INTO public.aliases VALUES ({model}, 'champion', 1, 'approved', 1)",
    ]
    stand_in = [
        "CREATE TEMPORARY TABLE models (id int, four_eyes boolean)",
        "GRANT SELECT ON pg_temp.models TO PUBLIC",
    ]
    for temporary in ([], stand_in):
        with pytest.raises(DBAPIError, match="approval by somebody other than its trainer"):
            execute(place.url("petra"), *temporary, *champion)


def test_login_without_a_role_is_a_readable_error(place):
    with pytest.raises(Refused, match=r"permission denied.*this database role may not do that"):
        place.open("nora")


# Granting


def rights(place: Place) -> list[tuple]:
    return fetch(
        place.dba,
        "SELECT grantee, table_name, column_name, privilege_type "
        "FROM information_schema.column_privileges WHERE starts_with(grantee, 'modelmint_') "
        "UNION SELECT grantee, table_name, '', privilege_type "
        "FROM information_schema.table_privileges WHERE starts_with(grantee, 'modelmint_') "
        "ORDER BY 1, 2, 3, 4",
    )


def test_create_roles_again_revokes_extra_rights(place):
    before = rights(place)
    execute(
        place.url("keeper"),
        f"GRANT UPDATE ON events TO {WRITER}",
        f"GRANT UPDATE (version) ON aliases TO {READER}",
        f"REVOKE SELECT ON versions FROM {READER}",
    )
    assert rights(place) != before
    create_roles(place.url("keeper"))
    assert rights(place) == before


def test_each_role_can_read_every_table_after_an_upgrade(place):
    execute(place.url("keeper"), "CREATE TABLE registry_new (id serial PRIMARY KEY)")
    try:
        with pytest.raises(DBAPIError, match="permission denied"):
            fetch(place.url("rita"), "SELECT * FROM registry_new")
        create_roles(place.url("keeper"))
        tables = {*schema.metadata.tables, "registry_new", schema.VERSION_TABLE}
        reading = {(role, table) for role, table, *_, right in rights(place) if right == "SELECT"}
        assert reading == {(role, table) for role in ROLES for table in tables}
    finally:
        execute(place.url("keeper"), "DROP TABLE registry_new")


def test_roles_can_only_append_events(place):
    given = {(table, right) for _, table, _, right in rights(place)}
    for table in APPEND_ONLY:
        assert {right for name, right in given if name == table} <= {"SELECT", "INSERT"}
    for table in schema.metadata.tables:
        assert not given & {(table, "TRUNCATE"), (table, "TRIGGER"), (table, "REFERENCES")}
        if table not in ("aliases", "version_tags", "protected_aliases"):
            assert (table, "DELETE") not in given


def test_create_roles_refuses_anybody_but_the_owner(place):
    before = rights(place)
    for login in ("walt", "rita"):
        with pytest.raises(Refused, match=f"belong to keeper, and only keeper .* not {login}"):
            create_roles(place.url(login))
        execute(place.url(login), f"GRANT ALL ON events TO {READER}")  # no error, but a warning
    assert rights(place) == before


def test_create_roles_prints_the_sql_for_an_administrator(postgres, tmp_path):
    # The roles belong to the whole server, which other tests of this file fill with grants.
    url = create_database(postgres)
    there = {name for (name,) in fetch(url, "SELECT rolname FROM pg_roles")}
    execute(
        url,
        "CREATE ROLE plain LOGIN",
        f"ALTER DATABASE {make_url(url).database} OWNER TO plain",
        *(f"ALTER ROLE {role} RENAME TO away_{role}" for role in ROLES if role in there),
    )
    owner = make_url(url).set(username="plain").render_as_string()
    try:
        with pytest.raises(NoRegistry, match="modelmint models init"):
            create_roles(owner)
        assert fetch(url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]
        Registry(owner, tmp_path).create()
        with pytest.raises(Refused, match=f"CREATE ROLE {WRITER} NOLOGIN; CREATE") as caught:
            create_roles(owner)
        execute(url, *str(caught.value).partition("again: ")[2].split(";")[:3])
        create_roles(owner)
        granted = "SELECT has_table_privilege('modelmint_reader', 'events', 'SELECT')"
        assert fetch(url, granted) == [(True,)]
    finally:
        drop_database(url)
        execute(
            postgres,
            *(f"DROP ROLE IF EXISTS {role}" for role in (*ROLES, "plain")),
            *(f"ALTER ROLE away_{role} RENAME TO {role}" for role in ROLES if role in there),
        )


def test_create_roles_refuses_sqlite(tmp_path):
    with pytest.raises(Refused, match=r"has no roles.*Use file permissions"):
        create_roles(f"sqlite:///{tmp_path}/registry.db")
    assert list(tmp_path.iterdir()) == []
