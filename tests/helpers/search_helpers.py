"""Many versions to search, and the query plans of a database."""

import uuid

from databases import unguarded

from registry import schema


def fill(url, count):
    """Add versions of digits up to `count`; their metrics repeat."""
    with unguarded(url) as connection:
        (model,) = connection.exec_driver_sql("SELECT id FROM models").scalars()
        first = connection.execute(schema.versions.select()).mappings().one()
        rows = [
            {
                **first,
                "id": number,
                "uid": uuid.uuid4().hex,
                "version": number,
                "digest": f"{number:064}",
                "dataset": f"{number % 1500:032}.dir",
                "git_commit": f"{number % 1500:040}",
                "flow_run_id": f"run-{number}",
                "created_at": first["created_at"] + number,
                "created_by": f"user-{number % 1500}",
                "params_id": 2 + number % 1500,
            }
            for number in range(2, count + 1)
        ]

        def insert(table, make):
            connection.execute(table.insert(), [make(row["id"]) for row in rows])

        documents = range(2, 1502)
        connection.execute(
            schema.params.insert(),
            [{"id": n, "sha256": f"{n:064}", "document": {"epochs": n - 2}} for n in documents],
        )
        connection.execute(
            schema.param_values.insert(),
            [{"params_id": n, "key": "epochs", "value": str(n - 2)} for n in documents],
        )
        connection.execute(schema.versions.insert(), rows)
        insert(schema.version_state, lambda n: state(n, model))
        insert(schema.version_metrics, lambda n: part(n, "accuracy", (n % 1000) / 1000))
        insert(schema.version_tags, lambda n: part(n, "team", f"team-{n % 1500}"))
        data = schema.version_data
        insert(data, lambda n: {"version_id": n, "path": "a.csv", "md5": f"{n % 1500:032}"})
        connection.execute(schema.models.update().values(last_version=count))
        connection.exec_driver_sql("ANALYZE")


def state(number, model):
    status = {"status": "candidate", "approval_id": None}
    return {"version_id": number, "model_id": model, "version": number, **status}


def part(number, key, value):
    return {"version_id": number, "key": key, "value": value}


def plan_of(connection, query):
    dialect = connection.dialect
    # With literal values, because planners use them; separators of texts stay parameters.
    compiled = query.compile(dialect=dialect, compile_kwargs={"literal_binds": True})
    sqlite = dialect.name == "sqlite"
    given = tuple(compiled.params.values()) if sqlite else compiled.params
    explained = connection.exec_driver_sql(
        f"EXPLAIN {'QUERY PLAN ' if sqlite else ''}{compiled}", given
    )
    return "\n".join(str(row[-1]) for row in explained)
