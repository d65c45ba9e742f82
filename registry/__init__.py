"""The SQL model registry: versions, aliases, history and jobs; files stored under their content.

    with Registry("sqlite:///registry.db", "artifacts") as registry:
        version = registry.register("digits", candidate, actor="ada").version
        registry.promote("digits", version.version, expect_revision=0, actor="ada", reason="first")
        files = registry.open(registry.resolve("digits@champion").version)

Knows nothing of tasks, torch or Prefect.
"""

from registry.artifacts import digest
from registry.database import hide_password, upgrade
from registry.errors import (
    Conflict,
    Corrupt,
    InvalidCandidate,
    InvalidReference,
    NotFound,
    RegistryError,
    SchemaMismatch,
    Unreachable,
)
from registry.records import (
    CHAMPION,
    Alias,
    Artifact,
    Candidate,
    Event,
    Job,
    Lineage,
    Model,
    Problem,
    Reference,
    Registration,
    Resolved,
    Stray,
    Version,
    check_name,
    parse_reference,
)
from registry.store import Registry

__all__ = [
    "CHAMPION",
    "Alias",
    "Artifact",
    "Candidate",
    "Conflict",
    "Corrupt",
    "Event",
    "InvalidCandidate",
    "InvalidReference",
    "Job",
    "Lineage",
    "Model",
    "NotFound",
    "Problem",
    "Reference",
    "Registration",
    "Registry",
    "RegistryError",
    "Resolved",
    "SchemaMismatch",
    "Stray",
    "Unreachable",
    "Version",
    "check_name",
    "digest",
    "hide_password",
    "parse_reference",
    "upgrade",
]
