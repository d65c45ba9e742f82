"""The part of a registry that takes bundles in, in an order that survives being killed:

1. copy and hash the files to where nobody looks for them;
2. announce them, in a transaction: from now on `gc` leaves them alone;
3. put them in their places;
4. in one transaction, check that all are there still, and add every row.

So a row implies its files, readers see all of a version or nothing of it, and what a killed
registration leaves behind is found by `gc`. On a retry, files that lie there are not sent again.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection

from registry import candidates, schema
from registry.artifacts import Staged
from registry.errors import Conflict, Corrupt, InvalidCandidate
from registry.opened import Opened
from registry.queries import blobs, events, models, states, versions
from registry.records import Artifact, Candidate, Event, Json, Registration, Version
from registry.references import check_name


class Registering(Opened):
    """`register`, `refuse`, and `admit` for imports."""

    def register(
        self, name: str, candidate: Candidate, *, actor: str, request_id: str | None = None
    ) -> Registration:
        """Store a candidate's files and make it the next version of a model, new or not.

        The same identity bytes from the same dataset are the version they were before: it is
        returned, and files of it that had been lost or damaged are restored. So is what
        `request_id` registered, however often and by however many processes it is asked for.

        Raises:
            InvalidReference: the name is not allowed.
            InvalidCandidate: the candidate is incomplete, cannot be stored, or was not passed.
            NotFound: the version that it started from is not here.
            Conflict: the request registered other bytes before, or a collection removed files
                meanwhile; register again.
        """
        if not states.has_passed(candidate.evaluation):
            raise InvalidCandidate(
                f"The evaluation of this candidate for {name!r} does not say that it passed. Only "
                "a bundle that passed its gates and its parity check can become a version."
            )
        return self.admit(name, candidate, "registered", actor=actor, request_id=request_id)

    def admit(
        self,
        name: str,
        candidate: Candidate,
        kind: str,
        *,
        actor: str,
        request_id: str | None = None,
        trainer: str | None = None,
        uid: str | None = None,
        payload: Json | None = None,
    ) -> Registration:
        """`register` without its demand for an evaluation: what imports use, too.

        Without one a version stays a candidate, which no champion can be. `trainer` made it, where
        that was not the actor: a policy of other eyes asks for others than those.
        """
        check_name(name)
        candidates.check(candidate)
        with self._staged(candidate.files) as staged:
            artifacts = tuple(
                Artifact(path, s.sha256, s.size, identity=path in candidate.identity)
                for path, s in staged.items()
            )
            identity = candidates.digest(artifacts)
            if known := self._lease(name, identity, candidate, request_id, staged):
                self._restore(known, staged)
                return Registration(known, created=False)
            self._publish(staged)
            with self.database.write() as c:
                self._hold(c, artifacts)
                model = models.ensure(c, name)
                number = self._find(c, name, identity, candidate, request_id)
                if number is not None:  # another process was faster
                    return Registration(versions.load(c, name, number), created=False)
                id_, version = versions.add(
                    c,
                    model,
                    candidate,
                    artifacts,
                    identity,
                    created_by=trainer or actor,
                    request_id=request_id,
                    uid=uid,
                )
                states.add(c, id_, model.id, version.version)
                if candidate.evaluation:
                    states.evaluate(c, id_, candidate.evaluation, actor)
                seals = {"record": candidates.seal(version)}
                if candidate.evaluation:
                    seals["evaluation"] = candidates.seal_json(candidate.evaluation)
                known_as = {**(payload or {}), **seals}
                events.add(c, model, kind, actor, version=version.version, payload=known_as)
                return Registration(version, created=True)

    def refuse(self, name: str, candidate: Candidate, *, actor: str, reason: str) -> Event:
        """Record that a candidate was turned away, with its digest and the evidence.

        Raises:
            InvalidReference: the name is not allowed.
            InvalidCandidate: the candidate is incomplete or cannot be stored.
        """
        check_name(name)
        candidates.check(candidate)
        evidence = {
            "digest": candidates.digest(candidates.identify(candidate)),
            "dataset": candidate.lineage.dataset,
            "evaluation": candidate.evaluation,
        }
        with self.database.write() as c:
            model = models.ensure(c, name)
            event = events.add(c, model, "refused", actor, reason=reason, payload=evidence)
            return events.load(c, schema.events.c.id == event)[0]

    @contextmanager
    def _staged(self, files: Mapping[str, Path]) -> Iterator[dict[str, Staged]]:
        staged: dict[str, Staged] = {}
        try:
            for path, source in sorted(files.items()):
                staged[path] = self.files.stage(source)
            yield staged
        finally:
            for one in staged.values():
                self.files.discard(one)

    def _lease(
        self,
        name: str,
        identity: str,
        candidate: Candidate,
        request_id: str | None,
        staged: Mapping[str, Staged],
    ) -> Version | None:
        """The version that this is already; else the files are announced."""
        # Lost in a power cut, an announcement leaves files without a row; `gc` finds those, too.
        with self.database.write(lasting=False) as c:
            number = self._find(c, name, identity, candidate, request_id)
            if number is None:
                self._announce(c, staged)
                return None
            return versions.load(c, name, number)

    def _announce(self, c: Connection, staged: Mapping[str, Staged]) -> None:
        files = [(s.sha256, s.size) for s in staged.values()]
        blobs.lease(c, files, self.database.dialect.CLOCK)

    def _publish(self, staged: Mapping[str, Staged]) -> None:
        for s in staged.values():
            if not self.files.has(s.sha256, s.size):
                self.files.publish(s)

    def _hold(self, c: Connection, artifacts: tuple[Artifact, ...]) -> None:
        """Keep a collection away from the files until the rows that need them are there."""
        held = blobs.hold(c, [a.sha256 for a in artifacts])
        gone = [a.path for a in artifacts if not self.files.has(a.sha256, a.size)]
        if gone or not held:
            raise Conflict(
                f"{', '.join(gone) or 'Files'} vanished from the artifact store during "
                "registration: `modelmint models gc` ran with too short a grace. Register again."
            )

    def _find(
        self,
        c: Connection,
        name: str,
        identity: str,
        candidate: Candidate,
        request_id: str | None,
    ) -> int | None:
        """The number of the version that this is already."""
        asked = versions.find_request(c, name, request_id) if request_id else None
        if asked is None:
            return versions.find_same(c, name, identity, candidate.lineage.dataset)
        if asked.digest != identity:
            raise Conflict(
                f"Request {request_id!r} registered version {asked.version} with digest "
                f"{asked.digest}, and these bytes make {identity}. Use another request id."
            )
        number: int = asked.version
        return number

    def _restore(self, known: Version, staged: Mapping[str, Staged]) -> None:
        """Put lost or damaged files of a version back, if these are the same bytes."""
        damaged = {}
        for artifact in known.artifacts:
            offered = staged.get(artifact.path)
            if offered and offered.sha256 == artifact.sha256 and self._is_damaged(artifact):
                damaged[artifact.path] = offered
        if damaged:
            with self.database.write() as c:
                self._announce(c, damaged)  # which takes back that they were purged
            for offered in damaged.values():
                self.files.publish(offered)

    def _is_damaged(self, artifact: Artifact) -> bool:
        try:
            self.files.verify(artifact.sha256, artifact.size)
        except Corrupt:
            return True
        return False
