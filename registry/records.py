"""Frozen records, which the registry returns. SQL rows and sessions never leave the package. Times
are timezone-aware UTC.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from registry.values import SHA256

Json = dict[str, Any]
"""A JSON object: string keys; values are JSON too."""


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
    """The origin of a version."""

    dataset: str
    """The hash that DVC gives to the prepared dataset."""
    test_split: str
    """SHA-256 of the test split that the metrics were computed on."""
    git_commit: str | None
    git_dirty: bool
    flow_run_id: str | None
    libraries: dict[str, str]
    """Versions of the libraries that trained and exported, by name."""
    parent: str | None = None
    """The version whose weights the training started from: `digits:3`."""
    data: dict[str, str] = field(default_factory=dict)
    """The files that the pipeline read: path -> the hash that DVC gives them. A file of weights
    that the training started from has its SHA-256, as `sha256:HEX`."""

    @property
    def weights(self) -> dict[str, str]:
        """The file of weights that the training started from: path -> SHA-256; empty without."""
        hashes = self.data.items()
        return {path: h.removeprefix(SHA256) for path, h in hashes if h.startswith(SHA256)}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A bundle to register, with its metadata."""

    files: Mapping[str, Path]
    """Logical path in the bundle -> the file to copy."""
    identity: frozenset[str]
    """The logical paths of files whose bytes can change a prediction; the digest covers these."""
    signature: Json
    metrics: dict[str, float]
    params: Json
    evaluation: Json
    """Gates, their verdicts, parity: the evidence for the promotion."""
    lineage: Lineage
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Version:
    """A bundle registered under a model's name. Only status, tags and aliases change."""

    model: str
    version: int
    uid: str
    """Stays the same when the version is exported into another registry."""
    digest: str
    status: str
    """candidate, approved, rejected or archived."""
    signature: Json
    metrics: dict[str, float]
    params: Json
    evaluation: Json
    """The newest one; empty for an import that was never evaluated here."""
    lineage: Lineage
    artifacts: tuple[Artifact, ...]
    """Sorted by path."""
    tags: dict[str, str]
    aliases: tuple[str, ...]
    """The aliases that pointed here when the record was read."""
    created_at: datetime
    created_by: str

    @property
    def ref(self) -> str:
        """The version's name for people and commands: `digits:3`."""
        return f"{self.model}:{self.version}"


@dataclass(frozen=True, slots=True)
class Summary:
    """A line of a list of versions: what a version is, without its documents and files."""

    model: str
    version: int
    digest: str
    dataset: str
    status: str
    metrics: dict[str, float]
    tags: dict[str, str]
    aliases: tuple[str, ...]
    created_at: datetime
    created_by: str
    metric: str | None = None
    """The metric to compare versions by, if its parameters name one (`registration.metric`)."""

    @property
    def ref(self) -> str:
        """The version's name for people and commands: `digits:3`."""
        return f"{self.model}:{self.version}"


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the versions that a search found; `after` is where the next page begins."""

    versions: tuple[Summary, ...]
    after: str | None
    """`after` for the next page of `search`; None: this is the last page."""


@dataclass(frozen=True, slots=True)
class Registration:
    """The outcome of registering a candidate."""

    version: Version
    created: bool
    """False: the same bytes from the same dataset had been registered before."""
    ignored: tuple[str, ...] = ()
    """Values of the candidate that differ from those of the existing version and were ignored:
    `params.train.epochs: 3 is kept, 5 was offered`. Empty for a new version."""
    evaluated: bool = False
    """Whether the evaluation was added to a version that had been registered before."""


@dataclass(frozen=True, slots=True)
class Alias:
    """A movable name for a version."""

    model: str
    name: str
    version: int
    revision: int
    """The number of moves, from 1; comparing it shows whether somebody moved the alias."""


@dataclass(frozen=True, slots=True)
class Model:
    """A name under which versions are registered."""

    name: str
    last_version: int
    """The number issued last, 0 before the first version: how many versions there are."""
    aliases: tuple[Alias, ...]
    policy: "Policy"


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of one model; by default there are none."""

    four_eyes: bool = False
    """Whether a protected alias needs an approval by somebody who did not register the version."""
    keep_last: int | None = None
    """Retention: keep this many of the newest versions."""
    keep_days: int | None = None
    """Retention: keep versions that are younger than this."""
    protected: tuple[str, ...] = ("champion",)
    """The aliases that only approved versions may hold. The champion always is one of them."""
    keep_holders: int = 2
    """Retention: of each protected alias, keep the versions that the next N rollbacks would reach,
    and the N latest former holders."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """The version that a reference referred to when it was resolved."""

    version: Version
    reference: str
    """The reference in full: `digits` becomes `digits@champion`."""
    alias: str | None
    revision: int | None
    """The alias's revision when it was read, for `promote(expect_revision=...)`."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a model's history; never changed once written."""

    id: int
    model: str
    at: datetime
    actor: str
    kind: str
    """registered, imported, evaluated, refused, approved, rejected, promoted, rolled back, unset,
    tagged, noted, archived, unarchived, purged, signed or policy."""
    version: int | None
    alias: str | None
    previous: int | None
    """The version that held the alias before."""
    reason: str | None
    payload: Json
    """If the event was edited and cannot be read, `malformed` says what is wrong."""
    hash: str
    """SHA-256 over all of the above and the hash of the event before it."""


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
    """Predicted rows; None if the job has not completed."""
    quarantined: int | None
    """Rows that could not be predicted; `rows` does not count them. None if the job has not
    completed, or was recorded by an older release."""
    provider: str | None
    """The ONNX Runtime execution provider that computed it."""
    onnxruntime: str | None
    flow_run_id: str | None
    error: str | None
    started_at: datetime
    finished_at: datetime | None
    substituted: Json | None
    """By column, how many values the model did not know: unknown, filled, outside the training
    range, truncated. None if the job has not completed, or is of an older release."""
    drift: Json | None = None
    """How the rows differ from those of the training and of earlier jobs: `verdict`, `columns` that
    moved most, and what later jobs are compared with. None as for `substituted`."""


@dataclass(frozen=True, slots=True)
class JobTotals:
    """The jobs of a model in one state, counted."""

    model: str
    state: str
    jobs: int
    rows: int
    """Predicted rows."""
    quarantined: int
    seconds: float
    """From start to end, of those that have ended."""


@dataclass(frozen=True, slots=True)
class JobInput:
    """A file that a job has read; each image of a folder is one."""

    sha256: str
    path: str
    """`predicted_files` compares it as text, so always in one form: absolute, or s3://BUCKET/KEY."""
    rows: int
    """Rows read from it, predicted or quarantined."""


@dataclass(frozen=True, slots=True)
class Holder:
    """The version that an alias points to, and the event that moved it there."""

    alias: Alias
    version: Summary | None
    moved: Event | None


@dataclass(frozen=True, slots=True)
class ModelLine:
    """A line of a list of models."""

    model: Model
    holders: dict[str, Holder]
    """The holders of champion and challenger, by alias."""
    changed: Event | None
    """The newest event."""


@dataclass(frozen=True, slots=True)
class ModelPage:
    """Some of the models, by name; `after` is where the next page begins."""

    lines: tuple[ModelLine, ...]
    after: str | None
    """`after` for the next page of `overview`; None: this is the last page."""


@dataclass(frozen=True, slots=True)
class Trace:
    """The origin of a version (`version.lineage`), and the versions and jobs that used it."""

    version: Version
    children: tuple[str, ...]
    """A page of the versions that started from its weights, as references, oldest first."""
    jobs: tuple[Job, ...]
    """A page of the batch inferences made with it, newest first."""
    child_count: int
    """How many children there are in all."""
    job_count: int
    """How many jobs there are in all."""
    after: str | None
    """`after` for the next page of children; None: this is the last page."""
    before: str | None
    """`before` for the next page of jobs; None: this is the last page."""
    retraining: Event | None
    """Why the training of the loop that made it was started; None if a person or another flow
    started it."""


@dataclass(frozen=True, slots=True)
class DataTrace:
    """The versions and jobs that used a dataset or a raw file."""

    md5: str
    versions: tuple[Summary, ...]
    """A page of them, newest first."""
    jobs: tuple[Job, ...]
    """A page of the batch inferences made with any of them, newest first."""
    version_count: int
    """How many versions there are in all."""
    after: str | None
    """`after` for the next page of versions; None: this is the last page."""
    before: str | None
    """`before` for the next page of jobs; None: this is the last page."""


@dataclass(frozen=True, slots=True)
class Stray:
    """A file in the artifact store that no version refers to."""

    path: str
    size: int
    """Bytes."""
    age_s: float
    """Seconds since it was last written."""
    removable: bool
    """False while it is younger than the grace period: a registration may need it soon."""
    perhaps_foreign: bool = False
    """It was in the store before the store was marked, so another registry may need it; kept."""
    unknown: bool = False
    """It was registered, but not in this database: a later state of the database may need it."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in the registry that can no longer be trusted."""

    ref: str
    """A version, an alias or an event: digits:3, digits@champion, event 7 of digits."""
    path: str
    """Logical path in the bundle; empty if the problem is not about one file."""
    what: str
