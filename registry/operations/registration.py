"""Registration of bundles, in an order that survives being killed at any point:

1. copy the files to a temporary place of the store, and hash them;
2. move them to their final places, where `gc` leaves young files alone. Before that, a note in the
   store names them; for a bucket, where an upload may take long, rows in the database do;
3. in one transaction, lock a row for each file, check that all files are still there, lock the
   model's row, and insert the version.

So a version's row implies its files, and readers see a version completely or not at all. `gc` finds
what a killed registration leaves behind. A file without a version, a note or a row was registered
in a later state of the database, so it is kept. A retry does not send files again that are there.
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
from registry.operations.base import RegistryBase
from registry.queries import blobs, evaluations, events, models, params, versions
from registry.queries.models import Locked
from registry.records import Artifact, Candidate, Event, Json, Registration, Version
from registry.references import check_name
from registry.validation import candidates
from registry.validation.arguments import checked


@dataclass(frozen=True, kw_only=True)
class _Offer:
    """A candidate for a model, with who registers it and how."""

    name: str
    candidate: Candidate
    kind: str
    actor: str
    request_id: str | None = None
    trainer: str | None = None
    uid: str | None = None
    parent_uid: str | None = None
    payload: Json | None = None


@dataclass(frozen=True, kw_only=True)
class _StagedOffer(_Offer):
    """An offer whose files were copied to the store and hashed."""

    documents: Mapping[str, bytes]
    """The candidate's documents in canonical form, by field."""
    staged: Mapping[str, Staged]
    artifacts: tuple[Artifact, ...]
    digest: str

    @cached_property
    def files(self) -> list[tuple[str, int]]:
        return _files(self.staged)


class RegistrationMixin(RegistryBase):
    """`register`, `refuse`, and `admit` for imports."""

    @checked
    def register(
        self, name: str, candidate: Candidate, *, actor: str, request_id: str | None = None
    ) -> Registration:
        """Store a candidate's files and make it the next version of a model, new or not.

        If a version with the same identity bytes from the same dataset exists, it is returned, and
        files of it that were lost or damaged are restored. The same holds for the version that an
        earlier call with this `request_id` registered, also from other processes. A new evaluation
        is added to that version as its newest; other differences are ignored and listed in the
        result.

        The first registration creates the registry in an empty or missing database.

        Raises:
            InvalidReference: the name is not allowed.
            InvalidCandidate: the candidate is incomplete, cannot be stored, or was not passed.
            Refused: the artifact store belongs to another registry.
            NotFound: the version that the training started from is not in this registry.
            Conflict: the request registered other bytes before, or a collection removed files
                meanwhile; register again.
        """
        if not evaluations.has_passed(candidate.evaluation):
            raise InvalidCandidate(
                f"The evaluation of this candidate for {name!r} does not say that it passed. Only "
                "a bundle that passed its gates and its parity check can become a version."
            )
        offer = _Offer(
            name=name, candidate=candidate, kind="registered", actor=actor, request_id=request_id
        )
        return self._register(offer)

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
        """`register` for candidates without a passed evaluation, as imports have them.

        Such a version stays a candidate and cannot be champion. `trainer` is who trained it, if
        that was not `actor`: a four-eyes policy compares the approver with the trainer.
        `parent_uid` names the version that the training started from if that version is not in
        this registry; if it is imported later, it is found as the parent.
        """
        offer = _Offer(
            name=name,
            candidate=candidate,
            kind=kind,
            actor=actor,
            request_id=request_id,
            trainer=trainer,
            uid=uid,
            parent_uid=parent_uid,
            payload=payload,
        )
        return self._register(offer)

    def _register(self, given: _Offer) -> Registration:
        check_name(given.name)
        self.create()
        claimed = ownership.compare(self.database, self.files)
        with self._staged(given.candidate.files) as staged:
            artifacts = tuple(
                Artifact(path, s.sha256, s.size, identity=path in given.candidate.identity)
                for path, s in staged.items()
            )
            offer = _StagedOffer(
                **vars(given),
                documents=candidates.canonical(given.candidate),  # while the disk writes the files
                staged=staged,
                artifacts=artifacts,
                digest=digests.digest(artifacts),
            )
            number = self._find_existing(offer)
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
                    number = self._find_existing(offer)
                    if number is None:  # no other process has registered the same meanwhile
                        raise
            return self._register_again(offer, self._restore(offer, number))

    @checked
    def refuse(self, name: str, candidate: Candidate, *, actor: str, reason: str) -> Event:
        """Record that a candidate was not registered, with its digest, metrics and evaluation.

        Numbers that are not finite (the training diverged) are stored as the texts NaN, Infinity
        and -Infinity. A retry adds nothing: if the same refusal is what happened last to the model,
        apart from notes, its event is returned, whichever flow run it has.

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
            model = models.lock_or_add(c, name)
            e = schema.events.c
            last = events.load(c, e.model_id == model.id, e.kind != "noted", limit=1)
            if last and _repeats(last[0], actor, reason, evidence):
                return last[0]
            payload = {**evidence, **_of_run(candidate)}
            events.add(c, model, "refused", actor, reason=reason, payload=payload)
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

    def _find_existing(self, offer: _StagedOffer) -> int | None:
        """The number of the existing version that a candidate equals. Raises Conflict."""
        dataset = offer.candidate.lineage.dataset
        with self.database.read() as c:
            known = versions.find_existing(c, offer.name, offer.digest, dataset, offer.request_id)
        if known.requested_digest not in (None, offer.digest):
            raise Conflict(
                f"Request {offer.request_id!r} registered version {known.requested} with digest "
                f"{known.requested_digest}, but these bytes have digest {offer.digest}. Use "
                "another request id."
            )
        return known.number

    def _announce(self, offer: _StagedOffer) -> str | None:
        """Record which files will follow, so that `gc` knows them if this process is killed.

        Returns the path of the note, if one was written. A power cut may lose the note: the files
        then look as if another registry needed them.
        """
        if self.files.remote:
            # An upload may take longer than the grace period of a collection.
            with self.database.write() as c:
                blobs.touch(c, offer.files, self.database.dialect.CLOCK, stored=False)
                if versions.any_at_all(c):
                    return None
            # Rows of files without any version would look like an emptied database.
        return self.files.note(sha256 for sha256, _ in offer.files)

    def _drop_notes(self, own: str, offer: _StagedOffer) -> None:
        """Remove the note of this registration, and notes of earlier attempts that were killed."""
        registered = {sha256 for sha256, _ in offer.files}
        with suppress(Unreachable):
            self.files.remove(own)
            for note, digests in self.files.notes():
                if digests and digests <= registered:  # an empty note is being written
                    self.files.remove(note.path)

    def _send(self, offer: _StagedOffer) -> None:
        """Publish the files before the transaction, since other writers wait for that one."""
        # A file that is there already may be damaged, so it is read once.
        staged = offer.staged.values()
        self.files.publish(*(s for s in staged if self._is_damaged(s.sha256, s.size)))

    def _add(self, offer: _StagedOffer) -> Version:
        """Insert all rows of a new version. Raises Refused if the same was registered meanwhile."""
        candidate, parent = offer.candidate, offer.candidate.lineage.parent
        with self.database.write() as c:
            # Registrations of one model wait for each other from `lock_or_add` to the commit, so
            # all that needs no lock on the model comes before it. Everywhere the rows of files are
            # locked before that of a model: with two orders, two transactions could deadlock.
            blobs.keep(c, offer.files, self.database.dialect.CLOCK)
            # A collection may have removed files before these rows kept it out.
            staged = offer.staged.values()
            self.files.publish(*(s for s in staged if not self.files.has(s.sha256, s.size)))
            params_id = params.find_or_add(c, candidate.params)
            parent_ids = versions.load_ids(c, parent) if parent else (None, offer.parent_uid)
            model = models.lock_or_add(c, offer.name)
            id_, version = versions.add(
                c,
                model,
                candidate,
                offer.artifacts,
                offer.digest,
                params_id=params_id,
                parent=parent_ids,
                created_by=offer.trainer or offer.actor,
                request_id=offer.request_id,
                uid=offer.uid,
            )
            self._add_rows(c, model, id_, version, offer)
            return version

    def _add_rows(
        self, c: Connection, model: Locked, id_: int, version: Version, offer: _StagedOffer
    ) -> None:
        """Insert the parts, evaluation and event of a new version."""
        candidate = offer.candidate
        # No seal covers these: tags may change, and a request belongs to this registry only.
        given = offer.payload or {}
        payload = {**given, "tags": candidate.tags, "request": offer.request_id}
        payload |= _of_run(candidate)
        payload["record"] = digests.seal(version, offer.documents)
        with self.database.dialect.pipelined(c):
            versions.add_parts(c, id_, version)
            if candidate.evaluation:
                evaluations.add(c, id_, candidate.evaluation, offer.actor)
                payload["evaluation"] = sha256(offer.documents["evaluation"]).hexdigest()
            events.add(c, model, offer.kind, offer.actor, version=version.version, payload=payload)

    def _restore(self, offer: _StagedOffer, number: int) -> Version:
        """Replace lost or damaged files of a version by the same bytes; returns the version."""
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
        # Read again: a staged file may have been published, and removed again, in between.
        sources = {artifact.path: offer.candidate.files[artifact.path] for artifact in damaged}
        if damaged:
            ownership.claim(self.database, self.files)
            with self._staged(sources) as staged, self.database.write() as c:
                for artifact in damaged:
                    actual = staged[artifact.path].sha256
                    refuse_others(sources[artifact.path], artifact.sha256, actual)
                # They no longer count as purged, and collections wait until this is committed.
                blobs.touch(c, _files(staged), self.database.dialect.CLOCK)
                self.files.publish(*staged.values())
        return known

    def _register_again(self, offer: _StagedOffer, known: Version) -> Registration:
        """Return the existing version; adds the candidate's evaluation to it if it is new."""
        ignored = duplicates.differences(known, offer.candidate, offer.artifacts)
        evaluation = offer.candidate.evaluation
        seal = sha256(offer.documents["evaluation"]).hexdigest()
        if not evaluation or seal == digests.seal_json(known.evaluation):
            return Registration(known, created=False, ignored=ignored)
        with self.database.write() as c:
            model, id_ = models.lock(c, offer.name), versions.load_id(c, known.ref)
            recorded = [digests.seal_json(row.report) for row in evaluations.load(c, id_)]
            # An evaluation that was recorded before is older than those that followed it. An
            # import brings an evaluation of another registry, which is not newer, either.
            added = offer.kind == "registered" and seal not in recorded
            if added:
                events.add(
                    c,
                    model,
                    "evaluated",
                    offer.actor,
                    version=known.version,
                    reason="registered again",
                    payload={
                        "evaluation": seal,
                        "passed": evaluations.has_passed(evaluation),
                        **_of_run(offer.candidate),
                    },
                )
                evaluations.add(c, id_, evaluation, offer.actor)
            elif seal not in recorded:
                ignored += ("evaluation: an import adds none to a version that is here already",)
            elif recorded[-1] != seal and not self._is_retry(c, offer, known):
                ignored += ("evaluation: it was recorded before, and a newer one counts",)
            now = versions.load(c, offer.name, known.version)
        return Registration(now, created=False, ignored=ignored, evaluated=added)

    def _is_retry(self, c: Connection, offer: _StagedOffer, known: Version) -> bool:
        """Whether this request registered the version."""
        if offer.request_id is None:
            return False
        return versions.find_request(c, offer.name, offer.request_id) == known.version

    def _is_damaged(self, sha256: str, size: int) -> bool:
        """Whether a stored file is missing or changed; reads all of it."""
        try:
            self.files.verify(sha256, size)
        except Corrupt:
            return True
        return False


def _repeats(last: Event, actor: str, reason: str, evidence: Json) -> bool:
    """Whether an event is this refusal, by whichever flow run."""
    said = {name: last.payload.get(name) for name in evidence}
    return (last.kind, last.actor, last.reason, said) == ("refused", actor, reason, evidence)


def _of_run(candidate: Candidate) -> dict[str, str]:
    """Which flow run made a candidate, for an event; a refused one has no version that says so."""
    run = candidate.lineage.flow_run_id
    return {} if run is None else {"flow_run_id": run}


def _files(staged: Mapping[str, Staged]) -> list[tuple[str, int]]:
    """SHA-256 and size, as `blobs` takes them."""
    return [(s.sha256, s.size) for s in staged.values()]
