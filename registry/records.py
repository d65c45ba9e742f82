"""What leaves the registry: frozen records, and the text form of a reference.

No SQL row or session ever leaves the package; these do. Times are timezone-aware UTC.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from registry.errors import InvalidReference

Json = dict[str, Any]
"""A JSON object: string keys; values are JSON too."""

CHAMPION = "champion"
"""The alias of the version that serves by default; a bare model name means it."""

_NAME = r"[a-z0-9][a-z0-9._-]{0,62}"
_REFERENCE = re.compile(rf"({_NAME})(?:@({_NAME})|:([1-9][0-9]{{0,8}}))?")


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file of a version, stored under its content."""

    path: str
    """Logical path in the bundle, with forward slashes: `model.onnx`."""
    sha256: str
    size: int
    """Bytes."""
    identity: bool
    """Whether its bytes can change a prediction and so belong to the version's digest."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """What a version came from."""

    dataset: str
    """The hash that DVC gives to the prepared dataset."""
    test_split: str
    """SHA-256 of the test split that the metrics were computed on."""
    git_commit: str | None
    git_dirty: bool
    flow_run_id: str | None
    libraries: dict[str, str]
    """Versions of the libraries that trained and exported, by name."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is offered for registration."""

    files: Mapping[str, Path]
    """Logical path in the bundle -> the file to copy."""
    identity: frozenset[str]
    """The logical paths whose bytes decide a prediction; these make the digest."""
    signature: Json
    metrics: dict[str, float]
    params: Json
    evaluation: Json
    """Gates, their verdicts, parity: the evidence for the promotion."""
    lineage: Lineage


@dataclass(frozen=True, slots=True)
class Version:
    """A bundle registered under a model's name."""

    model: str
    version: int
    digest: str
    signature: Json
    metrics: dict[str, float]
    params: Json
    evaluation: Json
    lineage: Lineage
    artifacts: tuple[Artifact, ...]
    """Sorted by path."""
    aliases: tuple[str, ...]
    """The aliases that point here, as of when the record was read."""
    created_at: datetime
    created_by: str

    @property
    def ref(self) -> str:
        """The version's name for people and commands: `digits:3`."""
        return f"{self.model}:{self.version}"


@dataclass(frozen=True, slots=True)
class Registration:
    """The outcome of registering a candidate."""

    version: Version
    created: bool
    """False: the same bytes from the same dataset had been registered before."""


@dataclass(frozen=True, slots=True)
class Alias:
    """A movable name for a version."""

    model: str
    name: str
    version: int
    revision: int
    """Counts the moves, from 1; comparing it shows whether somebody moved the alias."""


@dataclass(frozen=True, slots=True)
class Model:
    """A name under which versions are registered."""

    name: str
    last_version: int
    """The number issued last, 0 before the first version."""
    versions: int
    aliases: tuple[Alias, ...]


@dataclass(frozen=True, slots=True)
class Reference:
    """A parsed `NAME[@ALIAS|:VERSION]`: exactly one of alias and version is set."""

    name: str
    alias: str | None
    version: int | None

    def __str__(self) -> str:
        return f"{self.name}@{self.alias}" if self.alias else f"{self.name}:{self.version}"


@dataclass(frozen=True, slots=True)
class Resolved:
    """The version a reference meant at one moment, pinned."""

    version: Version
    reference: str
    """The reference in full: `digits` becomes `digits@champion`."""
    alias: str | None
    revision: int | None
    """Of the alias when it was read; what `promote(expect_revision=...)` wants."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a model's history; never changed once written."""

    id: int
    model: str
    at: datetime
    actor: str
    kind: str
    """registered, refused or promoted."""
    version: int | None
    alias: str | None
    previous: int | None
    """The version that held the alias before."""
    reason: str | None
    payload: Json


@dataclass(frozen=True, slots=True)
class Job:
    """One batch inference with one pinned version."""

    id: str
    model: str
    version: int
    reference: str
    """As it was resolved: `digits@champion`."""
    alias: str | None
    alias_revision: int | None
    state: str
    """running, completed, failed or lost."""
    input_sha256: str
    output: str
    rows: int | None
    provider: str | None
    """The ONNX Runtime execution provider that computed it."""
    onnxruntime: str | None
    flow_run_id: str | None
    error: str | None
    started_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Stray:
    """A file in the artifact store that no version refers to."""

    path: Path
    size: int
    """Bytes."""
    age_s: float
    """Seconds since it was last written."""
    removable: bool
    """False while it is younger than the grace: a registration may be about to need it."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A stored file that can no longer be trusted."""

    ref: str
    path: str
    """Logical path in the bundle; empty when it concerns the version as a whole."""
    what: str


def parse_reference(text: str) -> Reference:
    """Read `NAME`, `NAME@ALIAS` or `NAME:VERSION`; a bare name means the champion.

    Raises:
        InvalidReference: the text has another form; the message suggests the likely one.
    """
    match = _REFERENCE.fullmatch(text)
    if match is None:
        likely = text.strip().lower().replace(" ", "-").replace("_", "-").replace(":v", ":")
        hint = f" Did you mean {likely!r}?" if _REFERENCE.fullmatch(likely) else ""
        raise InvalidReference(
            f"{text!r} is not a model reference.{hint} Give NAME, NAME@ALIAS or NAME:VERSION, as "
            f"in digits, digits@champion or digits:3; names match {_NAME}, versions count from 1."
        )
    name, alias, version = match.groups()
    if version:
        return Reference(name, None, int(version))
    return Reference(name, alias or CHAMPION, None)


def check_name(text: str, what: str = "a model name") -> str:
    """Return the text if it may name a model or an alias.

    Raises:
        InvalidReference: it may not; the message says what is allowed.
    """
    if re.fullmatch(_NAME, text) is None:
        raise InvalidReference(
            f"{text!r} cannot be {what}. Use 1 to 63 lower-case letters, digits, '.', '_' or "
            f"'-', beginning with a letter or digit ({_NAME})."
        )
    return text
