"""Checks one model: its history, and everything that follows from it."""

from collections.abc import Iterator

from sqlalchemy import select

from registry import schema
from registry.errors import RegistryError
from registry.integrity import present
from registry.integrity.files import File
from registry.integrity.helpers import Helpers
from registry.integrity.history import History
from registry.integrity.snapshot import AT_ONCE, Row, Snapshot, row_name
from registry.records import Problem
from registry.values import MALFORMED

_LIGHT = ("id", "version")


class ModelCheck:
    """Checks a model, completely or as far as events after `since` touched it."""

    def __init__(self, snapshot: Snapshot, helpers: Helpers, model: Row, since: int) -> None:
        self._snapshot, self._helpers, self._model = snapshot, helpers, model
        self.name: str = model["name"]
        self.files: set[File] = set()
        """The files to read from the store."""
        self.purged = 0
        events = schema.events
        rows = snapshot.rows(events, events.c.model_id == model["id"])
        self._history = History(self.name, rows, model["last_event"], since)
        self.events = len(self._history.newest)
        here = schema.versions.c.model_id == model["id"]
        light = snapshot.rows(schema.versions, here, columns=_LIGHT)
        self._numbers = {row["id"]: row["version"] for row in light}
        self.touched = self._history.touched() if since else set(self._numbers.values())
        """The numbers of the versions to check."""

    def run(self) -> Iterator[int]:
        """Check, and add problems to the snapshot; yields counts of checked versions."""
        problems, newest = self._snapshot.problems, self._history.newest
        edited = self._helpers.edited_events(self.name, newest)
        self._history.check_chain(edited)
        problems += self._history.problems
        problems += list(
            self._guarded(present.check_model(self._snapshot, self._model, self._history))
        )
        ids = [id_ for id_, number in self._numbers.items() if number in self.touched]
        ids.sort(key=lambda id_: str(self._numbers[id_]).zfill(12))
        for start in range(0, len(ids), AT_ONCE):
            found = self._load(ids[start : start + AT_ONCE])
            self._helpers.check_versions(self.name, found)
            of_versions = present.check_versions(self._snapshot, self.name, found, self._history)
            problems += list(of_versions)
            problems += list(self._guarded(self._list_files(found)))
            yield len(found)
        if self.touched == set(self._numbers.values()):
            jobs = present.check_jobs(self._snapshot, self._model, self._history, self._numbers)
            problems += list(self._guarded(jobs))

    def _guarded(self, problems: Iterator[Problem]) -> Iterator[Problem]:
        try:
            yield from problems
        except (*MALFORMED, RegistryError) as error:
            what = f"it cannot be compared with its history ({error!r})"
            yield Problem(self.name, "", what)

    def _load(self, ids: list[int]) -> list[Row]:
        """All rows of versions."""
        versions, snapshot = schema.versions, self._snapshot
        rows = snapshot.rows(versions, versions.c.id.in_(ids))
        used = {row["params_id"] for row in rows}
        documents = {
            row["id"]: row["document text"]
            for row in snapshot.rows(schema.params, schema.params.c.id.in_(used))
        }
        parents = self._parents({row["parent_id"] for row in rows} - {None})
        parts = {
            "artifacts": schema.version_artifacts,
            "metrics": schema.version_metrics,
            "data": schema.version_data,
            "tags": schema.version_tags,
            "signatures": schema.version_signatures,
            "evaluations": schema.evaluations,
            "approvals": schema.approvals,
            "state": schema.version_state,
        }
        found = {name: snapshot.by_version(table, ids) for name, table in parts.items()}
        history, order = self._history.versions, {id_: place for place, id_ in enumerate(ids)}
        return [
            {
                "row": row,
                "params": documents.get(row["params_id"]),
                "parent": parents.get(row["parent_id"], (None, None))[0],
                "parent uid": parents.get(row["parent_id"], (None, None))[1],
                "record": history[row["version"]].record,
                "evaluated": [seal for seal, _ in history[row["version"]].evaluated],
                **{name: own[row["id"]] for name, own in found.items()},
            }
            for row in sorted(rows, key=lambda row: order[row["id"]])
        ]

    def _parents(self, ids: set[int]) -> dict[int, tuple[str, str]]:
        """References and uids of versions, by id."""
        if not ids:
            return {}
        versions, models = schema.versions.c, schema.models.c
        query = select(versions.id, models.name, versions.version, versions.uid).join_from(
            schema.versions, schema.models, models.id == versions.model_id
        )
        found = self._snapshot.connection.execute(query.where(versions.id.in_(ids)))
        return {id_: (f"{name}:{number}", uid) for id_, name, number, uid in found}

    def _list_files(self, found: list[Row]) -> Iterator[Problem]:
        """Record which files versions need, and compare their rows with the events."""
        blobs = schema.blobs
        needed = {artifact["sha256"] for one in found for artifact in one["artifacts"]}
        rows = self._snapshot.rows(blobs, blobs.c.sha256.in_(sorted(needed, key=str)))
        stored = {row["sha256"]: row for row in rows}
        for one in found:
            archived = [state["status"] for state in one["state"]] == ["archived"]
            for artifact in one["artifacts"]:
                blob = stored.get(artifact["sha256"])
                if blob is not None:  # otherwise it breaks a constraint, which is reported
                    for what in self._file(artifact, blob, archived=archived):
                        yield Problem(
                            f"{self.name}:{one['row']['version']}", artifact["path"], what
                        )

    def _file(self, artifact: Row, blob: Row, *, archived: bool) -> Iterator[str]:
        sha256, size = artifact["sha256"], artifact["size"]
        if blob["size"] != size:
            yield f"{row_name(schema.blobs, blob)}, has size {blob['size']} instead of {size}"
        if blob["purged_at"] is not None and archived:
            self.purged += 1
            return
        if blob["purged_at"] is not None:
            yield f"{row_name(schema.blobs, blob)}, is purged, but the version is not archived"
        if isinstance(sha256, str) and isinstance(size, int):
            self.files.add((sha256, size))
