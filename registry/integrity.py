"""Does the registry still hold what was put into it? Files, versions, and every history."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Row

from registry import candidates, schema
from registry.errors import Corrupt
from registry.queries import aliases, blobs, events, models, signatures, states, versions
from registry.queries.events import MOVES
from registry.records import Json, Policy, Problem, Version
from registry.store import Registry

_AT_ONCE = 200  # versions in memory at a time


@dataclass
class Verification:
    """What was looked at, and what is wrong; no problem is good news."""

    problems: list[Problem]
    versions: int = 0
    files: int = 0
    bytes: int = 0
    """Read and hashed."""
    events: int = 0
    purged: int = 0
    """Files that archived versions gave up on purpose."""


def verify(
    registry: Registry,
    name: str | None = None,
    *,
    progress: Callable[[Verification], None] = lambda so_far: None,
) -> Verification:
    """Hash every file of every version again, and check every history, of one model or of all.

    Finds a byte that changed, a version or an evaluation whose row was edited, an event that was
    edited or left out, a history whose end was cut off, and a present that does not follow from
    its history. Not found is a history that was written anew from some event on, its head included:
    compare the head, the hash of the newest event, with one that was noted elsewhere.

    Raises:
        NotFound: there is no such model.
        Unreachable: the database or the store cannot be read.
    """
    found = Verification([])
    seen: dict[tuple[str, int], str | None] = {}
    for model in registry.models() if name is None else [registry.model(name)]:
        chain = _History(registry, model.name)
        found.events += len(chain.rows)
        found.problems += chain.problems()
        for start in range(0, model.last_version, _AT_ONCE):
            for version in chain.versions(start, start + _AT_ONCE):
                found.versions += 1
                found.problems += chain.edited(version)
                found.problems += _files(registry, version, seen, found)
                progress(found)
    return found


def _files(
    registry: Registry,
    version: Version,
    seen: dict[tuple[str, int], str | None],
    found: Verification,
) -> Iterator[Problem]:
    """What is wrong with the files; `seen` spares reading twice what versions share."""
    if candidates.digest(version.artifacts) != version.digest:
        yield Problem(version.ref, "", f"its files do not make digest {version.digest}")
    with registry.database.read() as c:
        purged = blobs.purged(c) if version.status == "archived" else set()
    for artifact in version.artifacts:
        if artifact.sha256 in purged:
            found.purged += 1
            continue
        key = artifact.sha256, artifact.size
        if key not in seen:
            found.files += 1
            found.bytes += artifact.size
            try:
                registry.files.verify(*key)
                seen[key] = None
            except Corrupt as corrupt:
                seen[key] = str(corrupt)
        if what := seen[key]:
            yield Problem(version.ref, artifact.path, what)


class _History:
    """The events of a model, replayed: what they vouch for, and what they lead to."""

    def __init__(self, registry: Registry, name: str) -> None:
        self._registry, self._name = registry, name
        with registry.database.read() as c:  # one state: nobody writes in between
            self._model = models.look(c, name)
            self.rows = events.chain(c, self._model.id)
            self._aliases = aliases.of_model(c, name)
            self._policy = models.load(c, name).policy
            self._evaluations = states.seals(c, self._model.id)
            self._approvers = states.approvers(c, self._model.id)
            self._signatures = signatures.seals(c, self._model.id)
            self._statuses = states.statuses(c, self._model.id)
            self._parents = versions.parents(c, self._model.id)
        self._records: dict[int, str] = {}
        self._rules = _DEFAULTS
        self._approved: dict[int, list[str]] = defaultdict(list)
        self._judged: dict[int, list[str]] = defaultdict(list)
        self._signed: dict[int, dict[str, str]] = defaultdict(dict)
        self._status: dict[int, str] = {}
        self._held: dict[str, int] = {}
        self._imported_from: dict[int, Any] = {}
        for row in self.rows:
            self._replay(row)

    def problems(self) -> Iterator[Problem]:
        """What is wrong with the chain, and with the present that should follow from it."""
        before = schema.NO_EVENT
        for row in self.rows:
            if row.prev_hash != before:
                yield self._event(row, "does not follow the one before it: one was removed")
            if row.hash != events.hash_of(self._name, row._asdict()):
                yield self._event(row, "was edited: its content does not make its hash")
            before = row.hash
        if before != self._model.head:
            what = f"its history does not end with event {self._model.head}"
            yield Problem(self._name, "", what)
        yield from self._present()
        yield from self._numbers()

    def versions(self, after: int, to: int) -> list[Version]:
        """The versions from number `after` + 1 to `to`."""
        number = schema.versions.c.version
        of_it = (schema.models.c.name == self._name, number > after, number <= to)
        with self._registry.database.read() as c:
            return versions.load_recorded(c, *of_it)

    def edited(self, version: Version) -> Iterator[Problem]:
        """Whether a version is not what the history recorded; its present status included."""
        # Versions of before there were seals have none.
        seal = self._records.get(version.version)
        if seal is not None and seal != candidates.seal(version):
            yield Problem(version.ref, "", "its row was edited since it was registered")
        here, noted = self._parents.get(version.version, (None, None))
        if noted != (here or self._imported_from.get(version.version)):
            yield Problem(version.ref, "", "the uid of its parent was edited")
        judged = self._judged[version.version]
        if judged and judged != self._evaluations[version.version][-len(judged) :]:
            yield Problem(version.ref, "", "an evaluation of it was edited, added or removed")
        approved = self._approved[version.version]
        if approved and approved != self._approvers[version.version][-len(approved) :]:
            yield Problem(version.ref, "", "an approval of it was edited, added or removed")
        if self._signed[version.version] != self._signatures[version.version]:
            yield Problem(version.ref, "", "a signature of it was edited, added or removed")
        is_, was = self._statuses[version.version], self._status.get(version.version, "candidate")
        if is_ != was:
            yield Problem(version.ref, "", f"it is {is_}, but by its history {was}")

    def _replay(self, row: Row[Any]) -> None:
        payload = row.payload
        if "record" in payload:
            self._records[row.version] = payload["record"]
        if "evaluation" in payload and row.kind != "refused":
            self._judged[row.version].append(payload["evaluation"])
        if row.kind == "imported" and isinstance(named := payload.get("parent"), dict):
            self._imported_from[row.version] = named.get("uid")
        if row.kind == "policy":
            # Of before aliases could be protected, it names none but the champion.
            self._rules = _DEFAULTS | payload
        if row.kind == "approved":
            self._approved[row.version].append(row.actor)
        if row.kind == "signed":
            self._signed[row.version][payload["key"]] = payload["document"]
        elif row.kind in ("approved", "rejected", "archived"):
            self._status[row.version] = row.kind
        elif row.kind == "unarchived":
            self._status[row.version] = "candidate"
        elif row.kind in MOVES:
            if row.kind == "unset":
                self._held.pop(row.alias, None)
            else:
                self._held[row.alias] = row.version

    def _present(self) -> Iterator[Problem]:
        present = {alias.name: alias.version for alias in self._aliases}
        for alias in sorted(present.keys() | self._held.keys()):
            is_, was = present.get(alias), self._held.get(alias)
            if is_ != was:
                what = f"it is {_named(is_)}, but by its history {_named(was)}"
                yield Problem(f"{self._name}@{alias}", "", what)

        policy = _as_json(self._policy)
        if self._rules != policy:
            what = f"its policy is {policy}, but by its history {self._rules}"
            yield Problem(self._name, "", what)

    def _numbers(self) -> Iterator[Problem]:
        issued = range(1, self._model.last_version + 1)
        for number in sorted(self._statuses.keys() ^ set(issued)):
            what = "it is gone" if number in issued else "its history does not know it"
            yield Problem(f"{self._name}:{number}", "", what)

    def _event(self, row: Row[Any], what: str) -> Problem:
        return Problem(f"{self._name}, event {row.id} ({row.kind})", "", what)


def _as_json(policy: Policy) -> Json:
    return {**asdict(policy), "protected": list(policy.protected)}


_DEFAULTS = _as_json(Policy())


def _named(version: int | None) -> str:
    return "not set" if version is None else f"version {version}"
