"""The SQL model registry: versions, aliases, history and jobs; files stored under their content.

    with Registry("sqlite:///registry.db", "artifacts") as registry:
        version = registry.register("digits", candidate, actor="ada").version
        registry.promote("digits", version.version, expect_revision=0, actor="ada", reason="first")
        files = registry.open(registry.resolve("digits@champion").version)

Knows nothing of tasks, torch or Prefect.
"""

from registry.databases.database import hide_password, upgrade
from registry.digests import digest
from registry.errors import (
    Conflict,
    Corrupt,
    InvalidCandidate,
    InvalidQuery,
    InvalidReference,
    NoRegistry,
    NotFound,
    Refused,
    RegistryError,
    SchemaMismatch,
    Unreachable,
)
from registry.queries.search import HELP as SEARCH_HELP
from registry.records import (
    Alias,
    Artifact,
    Candidate,
    DataTrace,
    Event,
    Holder,
    Job,
    JobInput,
    JobTotals,
    Lineage,
    Model,
    ModelLine,
    ModelPage,
    Page,
    Policy,
    Problem,
    Registration,
    Resolved,
    Stray,
    Summary,
    Trace,
    Version,
)
from registry.references import CHALLENGER, CHAMPION, Reference, check_name, parse_reference
from registry.registry import Registry

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "SEARCH_HELP",
    "Alias",
    "Artifact",
    "Candidate",
    "Conflict",
    "Corrupt",
    "DataTrace",
    "Event",
    "Holder",
    "InvalidCandidate",
    "InvalidQuery",
    "InvalidReference",
    "Job",
    "JobInput",
    "JobTotals",
    "Lineage",
    "Model",
    "ModelLine",
    "ModelPage",
    "NoRegistry",
    "NotFound",
    "Page",
    "Policy",
    "Problem",
    "Reference",
    "Refused",
    "Registration",
    "Registry",
    "RegistryError",
    "Resolved",
    "SchemaMismatch",
    "Stray",
    "Summary",
    "Trace",
    "Unreachable",
    "Version",
    "check_name",
    "digest",
    "hide_password",
    "parse_reference",
    "upgrade",
]
