"""The registry: one public method, one transaction.

Registering goes files first, row last: the bytes are stored and synced before the transaction,
which looks for them once more before it commits. So a row implies its files, and a crash at any
moment leaves at most files that no row refers to; `gc` removes those.
"""

from pathlib import Path

from registry import candidates, jobs, queries, schema
from registry.artifacts import ArtifactStore, digest
from registry.database import Database
from registry.errors import Conflict, Corrupt, InvalidCandidate
from registry.records import (
    CHAMPION,
    Alias,
    Artifact,
    Candidate,
    Event,
    Job,
    Json,
    Model,
    Problem,
    Registration,
    Resolved,
    Stray,
    Version,
    check_name,
    parse_reference,
)


class Registry:
    """An open registry: a database for the records and a folder for the files.

    An empty or missing SQLite database is set up on the way. Safe to use from threads and from
    many processes; not to be carried across a fork. Every method may raise Unreachable.

    Raises:
        Unreachable: the database cannot be opened, or the artifacts' place is not supported.
        SchemaMismatch: the database needs `modelmint models upgrade`, or a newer modelmint.
    """

    def __init__(self, url: str, artifacts: str | Path) -> None:
        self._files = ArtifactStore(artifacts)
        self._database = Database(url)

    def close(self) -> None:
        """Close the database connections."""
        self._database.close()

    def __enter__(self) -> "Registry":
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    # Writing

    def register(self, name: str, candidate: Candidate, *, actor: str) -> Registration:
        """Store a candidate's files and make it the next version of a model, new or not.

        The same identity bytes from the same dataset are the version they were before: it is
        returned, and files of it that had been lost or damaged are restored.

        Raises:
            InvalidReference: the name is not allowed.
            InvalidCandidate: the candidate is incomplete, cannot be stored, or was not passed.
            Conflict: a collection removed files meanwhile; register again.
        """
        check_name(name)
        candidates.check(candidate)
        if candidate.evaluation.get("passed") is not True:
            raise InvalidCandidate(
                f"The evaluation of this candidate for {name!r} does not say that it passed. Only "
                "a bundle that passed its gates and its parity check can become a version."
            )
        identity = digest(candidates.identify(candidate))
        if known := self._known(name, identity, candidate):
            return Registration(known, created=False)
        artifacts = self._put(candidate)
        identity = digest(artifacts)  # of what is stored, should a file have changed since
        with self._database.write() as c:
            model = queries.ensure_model(c, name)
            number = queries.find_version(c, model, identity, candidate.lineage.dataset)
            created = number is None  # another process may have been faster
            if number is None:
                self._check_files(artifacts)
                number = queries.add_version(c, model, candidate, artifacts, identity, actor)
                queries.add_event(c, model, "registered", actor, version=number)
            return Registration(queries.load_version(c, name, number), created)

    def refuse(self, name: str, candidate: Candidate, *, actor: str, reason: str) -> Event:
        """Record that a candidate was turned away, with its digest and the evidence.

        Raises:
            InvalidReference: the name is not allowed.
            InvalidCandidate: the candidate is incomplete or cannot be stored.
        """
        check_name(name)
        candidates.check(candidate)
        evidence = {
            "digest": digest(candidates.identify(candidate)),
            "dataset": candidate.lineage.dataset,
            "evaluation": candidate.evaluation,
        }
        with self._database.write() as c:
            model = queries.ensure_model(c, name)
            event = queries.add_event(c, model, "refused", actor, reason=reason, payload=evidence)
            return queries.load_events(c, schema.events.c.id == event)[0]

    def promote(
        self,
        name: str,
        version: int,
        alias: str = CHAMPION,
        *,
        expect_revision: int | None,
        actor: str,
        reason: str,
        payload: Json | None = None,
    ) -> Alias:
        """Point an alias to a version, provided that nobody has moved it meanwhile.

        `expect_revision` is the alias's revision that the decision was based on, 0 if it did not
        exist, None to move it regardless. A revision, not a version: an alias that was moved away
        and back has changed. Promoting what holds the alias already changes nothing.

        Raises:
            NotFound: there is no such model or version.
            Conflict: the alias is not at the expected revision.
            InvalidReference: the alias is not an allowed name.
        """
        check_name(alias, "an alias")
        with self._database.write() as c:
            queries.load_version(c, name, version)
            model = queries.model_id(c, name)
            held = queries.find_alias(c, name, alias)
            revision = held.revision if held else 0
            if expect_revision not in (None, revision):
                raise _moved(name, alias, held, expect_revision)
            if held and held.version == version:
                return held
            if not queries.move_alias(c, model, alias, version, revision):
                raise _moved(name, alias, held, expect_revision)
            queries.add_event(
                c,
                model,
                "promoted",
                actor,
                version=version,
                alias=alias,
                previous=held.version if held else None,
                reason=reason,
                payload=payload,
            )
            return Alias(name, alias, version, revision + 1)

    # Reading

    def alias(self, name: str, alias: str = CHAMPION) -> Alias | None:
        """Where an alias points; None while the alias, or even the model, does not exist."""
        with self._database.read() as c:
            return queries.find_alias(c, name, alias)

    def resolve(self, reference: str) -> Resolved:
        """The version that `NAME[@ALIAS|:VERSION]` means now, pinned with the alias's revision.

        Raises:
            InvalidReference: the text has another form.
            NotFound: there is no such model, alias or version.
        """
        parsed = parse_reference(reference)
        with self._database.read() as c:
            if parsed.version is not None:
                version = queries.load_version(c, parsed.name, parsed.version)
                return Resolved(version, str(parsed), None, None)
            held = queries.load_alias(c, parsed.name, parsed.alias or CHAMPION)
            version = queries.load_version(c, held.model, held.version)
            return Resolved(version, str(parsed), held.name, held.revision)

    def models(self) -> list[Model]:
        """All models, by name."""
        with self._database.read() as c:
            return queries.load_models(c)

    def versions(self, name: str) -> list[Version]:
        """The versions of a model, newest first. Raises NotFound."""
        with self._database.read() as c:
            return queries.load_versions(c, schema.versions.c.model_id == queries.model_id(c, name))

    def history(self, name: str) -> list[Event]:
        """What happened to a model, newest first. Raises NotFound."""
        with self._database.read() as c:
            return queries.load_events(c, schema.events.c.model_id == queries.model_id(c, name))

    # Files

    def open(self, version: Version) -> dict[str, Path]:
        """Where the files of a version lie, by logical path, after checking every byte.

        Raises:
            Corrupt: a file is missing or was changed; the message names it.
        """
        problems = self._inspect(version)
        if problems:
            listed = "; ".join(f"{problem.path}: {problem.what}" for problem in problems)
            raise Corrupt(
                f"{version.ref} must not be used. {listed}. Register the same files again to "
                "restore them, or resolve another version."
            )
        return {a.path: self._files.path(a.sha256) for a in version.artifacts}

    def verify(self, name: str | None = None) -> list[Problem]:
        """Check every byte of every version, of one model or of all; an empty list is good news.

        Raises:
            NotFound: there is no such model.
        """
        with self._database.read() as c:
            of = [] if name is None else [schema.versions.c.model_id == queries.model_id(c, name)]
            versions = queries.load_versions(c, *of)
        # Read outside the transaction: hashing may take minutes, and versions never change.
        seen: dict[tuple[str, int], str | None] = {}
        return [problem for version in versions for problem in self._inspect(version, seen)]

    def gc(self, *, dry_run: bool, grace_s: float = 86_400) -> list[Stray]:
        """Remove files that no version refers to and leftovers of interrupted registrations.

        Those younger than `grace_s` seconds stay and are listed as not removable. Returns what was
        found; of that, the removable ones are gone unless `dry_run`.
        """
        with self._database.read() as c:
            strays = self._files.strays(queries.referenced(c), grace_s)
        if dry_run or not any(stray.removable for stray in strays):
            return strays
        # A registration may have adopted one since. Under the write lock none can: it will look
        # for its files after us and find them gone.
        with self._database.write() as c:
            strays = self._files.strays(queries.referenced(c), grace_s)
            for stray in strays:
                if stray.removable:
                    self._files.remove(stray)
        return strays

    # Jobs

    def start_job(
        self, resolved: Resolved, *, input_sha256: str, output: str, flow_run_id: str | None = None
    ) -> Job:
        """Record that a batch inference begins; one still running for that output becomes lost."""
        with self._database.write() as c:
            job = jobs.start(
                c, resolved, input_sha256=input_sha256, output=output, flow_run_id=flow_run_id
            )
            return jobs.load_one(c, job)

    def finish_job(self, job: Job, *, rows: int, provider: str, onnxruntime: str) -> Job:
        """Record that a job has written all its rows.

        Raises:
            Conflict: it is not running any more: a later job took over its output.
        """
        with self._database.write() as c:
            found = {"rows": rows, "provider": provider, "onnxruntime": onnxruntime}
            return jobs.end(c, job.id, "completed", **found)

    def fail_job(self, job: Job, error: str) -> Job:
        """Record why a job ended without its result. Raises Conflict where it is not running."""
        with self._database.write() as c:
            return jobs.end(c, job.id, "failed", error=error)

    def jobs(self, name: str | None = None) -> list[Job]:
        """The jobs, of one model or of all, newest first. Raises NotFound."""
        with self._database.read() as c:
            of = [] if name is None else [schema.models.c.id == queries.model_id(c, name)]
            return jobs.load(c, *of)

    # Steps of the above

    def _known(self, name: str, identity: str, candidate: Candidate) -> Version | None:
        """The version that these bytes are already, its lost or damaged files restored."""
        with self._database.read() as c:
            model = queries.find_model(c, name)
            if model is None:
                return None
            number = queries.find_version(c, model, identity, candidate.lineage.dataset)
            if number is None:
                return None
            known = queries.load_version(c, name, number)
        for artifact in known.artifacts:
            source = candidate.files.get(artifact.path)
            damaged = self._complaint(artifact.sha256, artifact.size)
            if damaged and source and candidates.sha256_of(source) == artifact.sha256:
                self._files.put(source)
        return known

    def _put(self, candidate: Candidate) -> tuple[Artifact, ...]:
        return tuple(
            Artifact(path, *self._files.put(source), identity=path in candidate.identity)
            for path, source in sorted(candidate.files.items())
        )

    def _check_files(self, artifacts: tuple[Artifact, ...]) -> None:
        gone = [a.path for a in artifacts if not self._files.has(a.sha256, a.size)]
        if gone:
            raise Conflict(
                f"{', '.join(gone)} vanished from the artifact store during registration: "
                "`modelmint models gc` ran with too short a grace. Register again."
            )

    def _inspect(
        self, version: Version, seen: dict[tuple[str, int], str | None] | None = None
    ) -> list[Problem]:
        """What is wrong with a version; `seen` spares reading a file that versions share twice."""
        seen = {} if seen is None else seen
        found = []
        if digest(version.artifacts) != version.digest:
            found.append(Problem(version.ref, "", f"its files do not make digest {version.digest}"))
        for artifact in version.artifacts:
            key = artifact.sha256, artifact.size
            if key not in seen:
                seen[key] = self._complaint(*key)
            if (what := seen[key]) is not None:
                found.append(Problem(version.ref, artifact.path, what))
        return found

    def _complaint(self, sha256: str, size: int) -> str | None:
        try:
            self._files.verify(sha256, size)
        except Corrupt as corrupt:
            return str(corrupt)
        return None


def _moved(name: str, alias: str, held: Alias | None, expected: int | None) -> Conflict:
    now = f"at revision {held.revision} (version {held.version})" if held else "not set"
    return Conflict(
        f"{name}@{alias} is {now}, but revision {expected} was expected: somebody moved it "
        f"meanwhile. See `modelmint models history {name}` and decide again."
    )
