"""The part of a registry that takes bundles in, in an order that survives being killed:

1. copy and hash the files to where nobody looks for them;
2. put them in their places, where `gc` leaves alone what is young; a note in the store names them
   before, and for a bucket, which a file may take long to reach, rows do;
3. in one transaction, lock a row for each file, check that all are there still, and add the rest.

So a row of a version implies its files, readers see all of a version or nothing of it, and what a
killed registration leaves behind is found by `gc`; a file that no version has, no note and no row,
was registered by somebody, and stays. On a retry, files that lie there are not sent
again.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from sqlalchemy import Connection

from registry import digests, ownership, schema
from registry.artifacts import Staged, refuse_others
from registry.errors import Conflict, Corrupt, InvalidCandidate, Refused, Unreachable
from registry.operations import duplicates
from registry.operations.base import Opened
from registry.queries import blobs, evaluations, events, models, params, states, versions
from registry.records import Artifact, Candidate, Event, Json, Registration, Version
from registry.references import check_name
from registry.validation import candidates
from registry.validation.arguments import checked


@dataclass(frozen=True)
class _Offer:
    """A candidate whose files were hashed, and all that is known of who offers it, and why."""

    name: str
    candidate: Candidate
    documents: Mapping[str, bytes]
    """Its documents in canonical form, by field."""
    staged: Mapping[str, Staged]
    artifacts: tuple[Artifact, ...]
    digest: str
    kind: str
    actor: str
    trainer: str
    request_id: str | None
    uid: str | None
    parent_uid: str | None
    payload: Json

    @cached_property
    def files(self) -> list[tuple[str, int]]:
        return _files(self.staged)


class Registering(Opened):
    """`register`, `refuse`, and `admit` for imports."""

    @checked
    def register(
        self, name: str, candidate: Candidate, *, actor: str, request_id: str | None = None
    ) -> Registration:
        """Store a candidate's files and make it the next version of a model, new or not.

        The same identity bytes from the same dataset are the version they were before: it is
        returned, and files of it that had been lost or damaged are restored. So is what
        `request_id` registered, however often and by however many processes it is asked for. An
        evaluation that was not recorded of it yet is added, and is its newest; whatever else
        differs is ignored, and named in the result.

        The first registration makes the registry, in an empty or missing database.

        Raises:
            InvalidReference: the name is not allowed.
            InvalidCandidate: the candidate is incomplete, cannot be stored, or was not passed.
            Refused: the place of the files is another registry's.
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

    @checked
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
        parent_uid: str | None = None,
        payload: Json | None = None,
    ) -> Registration:
        """`register` without its demand for an evaluation: what imports use, too.

        Without one a version stays a candidate, which no champion can be. `trainer` made it, where
        that was not the actor: a policy of other eyes asks for others than those. `parent_uid` is
        of the version that it started from where the candidate cannot name that one: it is not
        here, and once it comes, it is found as the parent.
        """
        check_name(name)
        self.create()
        claimed = ownership.compare(self.database, self.files)
        with self._staged(candidate.files) as staged:
            artifacts = tuple(
                Artifact(path, s.sha256, s.size, identity=path in candidate.identity)
                for path, s in staged.items()
            )
            offer = _Offer(
                name=name,
                candidate=candidate,
                documents=candidates.canonical(candidate),  # while the disk writes the files
                staged=staged,
                artifacts=artifacts,
                digest=digests.digest(artifacts),
                kind=kind,
                actor=actor,
                trainer=trainer or actor,
                request_id=request_id,
                uid=uid,
                parent_uid=parent_uid,
                payload=payload or {},
            )
            look = not claimed or self._may_be_known(offer)
            number = self._look(offer) if look else None
            if number is None:
                if not claimed:
                    ownership.claim(self.database, self.files)
                note = self._announce(offer)
                self._send(offer)
                try:
                    version = self._add(offer)
                    if note:
                        self._drop_notes(note, offer)
                    return Registration(version, created=True)
                except Refused:
                    number = self._look(offer)
                    if number is None:  # no other process was faster with the same
                        raise
            return self._again(offer, self._restore(offer, number))

    @checked
    def refuse(self, name: str, candidate: Candidate, *, actor: str, reason: str) -> Event:
        """Record that a candidate was turned away, with its digest and the evidence.

        Numbers in it that are not finite, as of a training that diverged, are kept as the texts
        NaN, Infinity and -Infinity.

        Raises:
            InvalidReference: the name is not allowed.
            InvalidCandidate: the candidate is incomplete or cannot be stored.
        """
        check_name(name)
        candidates.canonical(candidate)
        evidence = {
            "digest": digests.digest(digests.identify(candidate)),
            "dataset": candidate.lineage.dataset,
            "evaluation": candidate.evaluation,
            "metrics": candidate.metrics,
        }
        self.create()
        with self.database.write() as c:
            model = models.ensure(c, name)
            events.add(c, model, "refused", actor, reason=reason, payload=evidence)
            return events.load(c, schema.events.c.hash == model.head)[0]

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

    def _may_be_known(self, offer: _Offer) -> bool:
        """False where the identity bytes are not here: then hardly any version has them.

        One that does, whose files were lost or purged, is found when the INSERT is refused.
        """
        return (
            self.files.far  # where a look costs more than the question
            or offer.request_id is not None
            or all(self.files.has(a.sha256, a.size) for a in offer.artifacts if a.identity)
        )

    def _look(self, offer: _Offer) -> int | None:
        """The number of the version that a candidate is already. Raises Conflict."""
        dataset = offer.candidate.lineage.dataset
        with self.database.read(single=True) as c:
            known = versions.look(c, offer.name, offer.digest, dataset, offer.request_id)
        if known.requested_digest not in (None, offer.digest):
            raise Conflict(
                f"Request {offer.request_id!r} registered version {known.requested} with digest "
                f"{known.requested_digest}, and these bytes make {offer.digest}. Use another "
                "request id."
            )
        return known.number

    def _announce(self, offer: _Offer) -> str | None:
        """Say which files are to come, so that `gc` knows them if this is killed: the note's path.

        Lost in a power cut, it leaves files of which nobody knows whose they are.
        """
        if self.files.far:
            # Sending may take longer than a collection waits, and a note longer than a row.
            with self.database.write(lasting=False) as c:
                blobs.lease(c, offer.files, self.database.dialect.CLOCK, stored=False)
                if versions.any_at_all(c):
                    return None
            # Rows alone would look like those of a database that was emptied but for them.
        return self.files.note(sha256 for sha256, _ in offer.files)

    def _drop_notes(self, own: str, offer: _Offer) -> None:
        """Remove the note of what is registered now, and those of attempts that were killed."""
        registered = {sha256 for sha256, _ in offer.files}
        with suppress(Unreachable):
            self.files.remove(own)
            for note, digests in self.files.notes():
                if digests and digests <= registered:  # one without any is being written
                    self.files.remove(note.path)

    def _send(self, offer: _Offer) -> None:
        """Put the files in their places, before any other process has to wait."""
        # A file of that name and size that lies there already may be damaged: it is read, once.
        staged = offer.staged.values()
        self.files.publish(*(s for s in staged if self._is_damaged(s.sha256, s.size)))

    def _add(self, offer: _Offer) -> Version:
        """Insert every row of a new version. Raises Refused if there is one like it by now."""
        candidate, dialect = offer.candidate, self.database.dialect
        parent, params_sha256 = candidate.lineage.parent, params.sha256_of(candidate.params)
        with self.database.write() as c:
            model, (id_, params_id) = models.ensure_with(
                c, offer.name, dialect.NEW_VERSION, params.FOUND, params=params_sha256
            )
            params_id = params_id or params.add(c, candidate.params)
            origin = versions.load_ids(c, parent) if parent else (None, offer.parent_uid)
            with dialect.unanswered(c):
                version = versions.add(
                    c,
                    id_,
                    model,
                    candidate,
                    offer.artifacts,
                    offer.digest,
                    params_id=params_id,
                    parent=origin,
                    created_by=offer.trainer,
                    request_id=offer.request_id,
                    uid=offer.uid,
                )
                seals = {"record": digests.seal(version, offer.documents)}
                blobs.lease(c, offer.files, dialect.CLOCK)
                versions.add_parts(c, id_, version)
                if candidate.evaluation:
                    states.evaluate(c, id_, candidate.evaluation, offer.actor)
                    seals["evaluation"] = sha256(offer.documents["evaluation"]).hexdigest()
                # What no seal covers: tags may change, and a request is only this registry's.
                said = {"tags": candidate.tags, "request": offer.request_id}
                known_as = {**offer.payload, **said, **seals}
                number = version.version
                events.add(c, model, offer.kind, offer.actor, version=number, payload=known_as)
            # What a collection removed before those rows kept it away.
            staged = offer.staged.values()
            self.files.publish(*(s for s in staged if not self.files.has(s.sha256, s.size)))
            return version

    def _restore(self, offer: _Offer, number: int) -> Version:
        """A version, with lost or damaged files put back where these are the same bytes."""
        with self.database.read() as c:
            known = versions.load(c, offer.name, number)
            purged = blobs.purged_of(c, offer.name, number)
        damaged = [
            artifact
            for artifact in known.artifacts
            if artifact.path in offer.staged
            and artifact.sha256 == offer.staged[artifact.path].sha256
            and (artifact.sha256 in purged or self._is_damaged(artifact.sha256, artifact.size))
        ]
        # Read anew: what was staged may be in its place by now, and lost again.
        sources = {artifact.path: offer.candidate.files[artifact.path] for artifact in damaged}
        if damaged:
            ownership.claim(self.database, self.files)
            with self._staged(sources) as staged, self.database.write() as c:
                for artifact in damaged:
                    actual = staged[artifact.path].sha256
                    refuse_others(sources[artifact.path], artifact.sha256, actual)
                # Which takes back that they were purged, and keeps collections away meanwhile.
                blobs.lease(c, _files(staged), self.database.dialect.CLOCK)
                self.files.publish(*staged.values())
        return known

    def _again(self, offer: _Offer, known: Version) -> Registration:
        """The version that a candidate is already, and its evaluation added if it is a new one."""
        ignored = duplicates.differences(known, offer.candidate, offer.artifacts)
        evaluation = offer.candidate.evaluation
        seal = sha256(offer.documents["evaluation"]).hexdigest()
        if not evaluation or seal == digests.seal_json(known.evaluation):
            return Registration(known, created=False, ignored=ignored)
        with self.database.write() as c:
            model, id_ = models.lock(c, offer.name), versions.load_id(c, known.ref)
            recorded = [digests.seal_json(row.report) for row in evaluations.load(c, id_)]
            # What was recorded before is not newer than what was recorded since; an import says
            # what another registry knew.
            added = offer.kind == "registered" and seal not in recorded
            if added:
                events.add(
                    c,
                    model,
                    "evaluated",
                    offer.actor,
                    version=known.version,
                    reason="registered again",
                    payload={"evaluation": seal, "passed": states.has_passed(evaluation)},
                )
                states.evaluate(c, id_, evaluation, offer.actor)
            elif seal not in recorded:
                ignored += ("evaluation: an import adds none to a version that is here already",)
            elif recorded[-1] != seal and not self._is_retry(c, offer, known):
                ignored += ("evaluation: it was recorded before, and a newer one counts",)
            now = versions.load(c, offer.name, known.version)
        return Registration(now, created=False, ignored=ignored, evaluated=added)

    def _is_retry(self, c: Connection, offer: _Offer, known: Version) -> bool:
        """Whether this very request registered the version."""
        if offer.request_id is None:
            return False
        return versions.find_request(c, offer.name, offer.request_id) == known.version

    def _is_damaged(self, sha256: str, size: int) -> bool:
        """Whether a file is not there as it should be; all of it is read."""
        try:
            self.files.verify(sha256, size)
        except Corrupt:
            return True
        return False


def _files(staged: Mapping[str, Staged]) -> list[tuple[str, int]]:
    """SHA-256 and size, as `blobs` takes them."""
    return [(s.sha256, s.size) for s in staged.values()]
