"""A registry in PostgreSQL with its roles and logins, for tests of the roles."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from databases import execute
from registry_helpers import LINEAGE, make_candidate
from servers import create_database, drop_database
from sqlalchemy import make_url

from registry import Candidate, Registry
from registry.databases.roles import PROMOTER, READER, ROLES, WRITER, create_roles

LOGINS = {
    "rita": (READER,),
    "walt": (WRITER,),
    "petra": (PROMOTER,),
    "flo": (WRITER, PROMOTER),
    "nora": (),
}
"""Logins, and the roles that each is a member of."""


class Place:
    """A registry that `keeper` owns, and its URLs for other logins."""

    def __init__(self, dba: str, folder: Path) -> None:
        self.dba, self.folder = dba, folder

    def url(self, login: str) -> str:
        return make_url(self.dba).set(username=login).render_as_string(hide_password=False)

    def open(self, login: str) -> Registry:
        return Registry(self.url(login), self.folder / "artifacts")


@contextmanager
def registry_with_roles(postgres: str, folder: Path) -> Iterator[Place]:
    """A registry with its roles; digits:1 is champion, 2 and 3 are candidates."""
    made = Place(create_database(postgres), folder)
    name = make_url(made.dba).database
    execute(
        made.dba,
        "CREATE ROLE keeper LOGIN CREATEROLE",
        f"ALTER DATABASE {name} OWNER TO keeper",
        *(f"CREATE ROLE {login} LOGIN" for login in LOGINS),
    )
    with made.open("keeper") as registry:
        registry.create()
    create_roles(made.url("keeper"))
    for login, groups in LOGINS.items():
        execute(made.dba, *(f"GRANT {group} TO {login}" for group in groups))
    with made.open("keeper") as registry:
        for number in (1, 2, 3):
            registry.register("digits", candidate(made, f"model {number}"), actor="keeper")
        move = {"actor": "keeper", "reason": "first"}
        registry.promote("digits", 1, expect_revision=0, **move)
        registry.tag("digits", 1, "colour", "red", actor="keeper")
        job = registry.start_job(registry.resolve("digits"), input_sha256="1" * 64, output="o")
        registry.fail_job(job, "killed")
    yield made
    drop_database(made.dba)
    execute(postgres, *(f"DROP ROLE {role}" for role in (*LOGINS, *ROLES, "keeper")))


def candidate(place: Place, model: str) -> Candidate:
    lineage = replace(LINEAGE, data={"data/raw": "abc"})
    return make_candidate(place.folder / "bundle", model, lineage=lineage)
