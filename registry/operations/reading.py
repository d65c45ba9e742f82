"""Queries: models, versions, aliases, history, lineage. Each reads one state of the database."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from registry import schema
from registry.digests import digest
from registry.errors import Corrupt, Refused
from registry.operations.base import RegistryBase
from registry.queries import aliases, blobs, events, lineage, models, overview, search, versions
from registry.records import (
    Alias,
    DataTrace,
    Event,
    Holder,
    Model,
    ModelPage,
    Page,
    Resolved,
    Trace,
    Version,
)
from registry.references import CHAMPION, parse_reference
from registry.validation.arguments import checked


class ReadingMixin(RegistryBase):
    """Models, versions, aliases, history, lineage, and the files of a version."""

    @checked
    def alias(self, name: str, alias: str = CHAMPION) -> Alias | None:
        """Where an alias points; None if the alias or the model does not exist."""
        with self.database.read() as c:
            return aliases.find(c, name, alias)

    @checked
    def alias_at(self, name: str, alias: str, when: datetime) -> int | None:
        """The version that an alias pointed to at a time, from the history. Raises NotFound."""
        with self.database.read() as c:
            return events.holder_at(c, models.load_id(c, name), alias, when)

    @checked
    def resolve(self, reference: str) -> Resolved:
        """The version that `NAME[@ALIAS|:VERSION]` refers to now, with the alias's revision.

        Raises:
            InvalidReference: the text has another form.
            NotFound: the model, alias or version does not exist.
        """
        parsed = parse_reference(reference)
        with self.database.read() as c:
            if parsed.version is not None:
                version = versions.load(c, parsed.name, parsed.version)
                return Resolved(version, str(parsed), None, None)
            alias = parsed.alias or CHAMPION
            held = versions.load_held(c, parsed.name, alias)
            if held is None:
                models.load_id(c, parsed.name)
                raise aliases.unknown(c, parsed.name, alias)
            version, revision = held
            return Resolved(version, str(parsed), alias, revision)

    def models(self) -> list[Model]:
        """All models, by name."""
        with self.database.read() as c:
            return models.load_all(c)

    @checked
    def overview(
        self, contains: str = "", *, limit: int = 50, after: str | None = None
    ) -> ModelPage:
        """Models with champion, challenger and last change, by name, a page at a time.

        With `contains`, only models whose name contains that text. `after` is `ModelPage.after` of
        the previous page.

        Raises:
            InvalidQuery: the limit is less than 1.
        """
        with self.database.read() as c:
            return overview.page(c, contains, limit=limit, after=after)

    @checked
    def holders(self, name: str) -> list[Holder]:
        """The version that each alias of a model points to, and since when. Raises NotFound."""
        with self.database.read() as c:
            return overview.holders(c, [models.load(c, name)])

    @checked
    def model(self, name: str) -> Model:
        """One model with its aliases and its policy. Raises NotFound."""
        with self.database.read() as c:
            return models.load(c, name)

    @checked
    def search(
        self,
        name: str | None = None,
        where: Sequence[str] = (),
        *,
        order: str = "newest",
        limit: int = 50,
        after: str | None = None,
    ) -> Page:
        """Versions of a model, or of all, that meet every condition, a page at a time.

        Conditions and orders are texts; `registry.SEARCH_HELP` lists them. `after` is `Page.after`
        of the previous page; versions that are registered meanwhile do not shift the pages.

        Raises:
            NotFound: the model does not exist.
            InvalidQuery: a condition, the order or `after` cannot be parsed, or names a metric or a
                parameter that none of these versions has; the message has the close match.
        """
        with self.database.read() as c:
            return search.page(c, name, where, order=order, limit=limit, after=after)

    @checked
    def history(
        self,
        name: str,
        *,
        alias: str | None = None,
        version: int | None = None,
        limit: int | None = None,
        before: int | None = None,
    ) -> list[Event]:
        """The events of a model, newest first; with `before`, those older than that event.

        Raises:
            NotFound: the model does not exist.
        """
        with self.database.read() as c:
            e = schema.events.c
            given = {e.alias: alias, e.version: version}
            where = [column == value for column, value in given.items() if value is not None]
            if before is not None:
                where.append(e.id < before)
            return events.load(c, e.model_id == models.load_id(c, name), *where, limit=limit)

    @checked
    def news(self, after: int | None = None, *, limit: int = 1000) -> list[Event]:
        """The events of all models after that one, oldest first; without `after`, the newest one.

        On PostgreSQL an event may become visible after one with a greater id.
        """
        with self.database.read() as c:
            if after is None:
                return events.load(c, limit=1)
            return events.load_after(c, after, limit)

    @checked
    def trace(
        self,
        reference: str,
        *,
        limit: int = 50,
        after: str | None = None,
        before: str | None = None,
    ) -> Trace:
        """The origin of a version, and the versions and jobs that used it, a page at a time.

        A page has up to `limit` children and up to `limit` jobs. `after` and `before` are those of
        the previous page: its last child and its last job.

        Raises:
            InvalidReference: the text has another form.
            NotFound: the model, alias, version, child `after` or job `before` does not exist.
            InvalidQuery: `after` is not a version, or the limit is less than 1.
        """
        version = self.resolve(reference).version
        with self.database.read() as c:
            return lineage.trace(c, version, limit=limit, after=after, before=before)

    @checked
    def trace_data(
        self, md5: str, *, limit: int = 50, after: str | None = None, before: str | None = None
    ) -> DataTrace:
        """The versions and jobs that used a dataset or a raw file, by its DVC hash, or a file of
        weights, by its SHA-256.

        A page has up to `limit` versions and up to `limit` jobs. `after` and `before` are those of
        the previous page: its last version and its last job.

        Raises:
            InvalidQuery: `md5` is not a hash, `after` is not a version, or the limit is below 1.
            NotFound: there is no job `before`.
        """
        with self.database.read() as c:
            return lineage.trace_data(c, md5, limit=limit, after=after, before=before)

    @checked
    def open(self, version: Version) -> dict[str, Path]:
        """The local paths of a version's files, by logical path, after checking every byte.

        Raises:
            Corrupt: a file is missing or was changed; the message names it.
            Refused: its files were purged.
        """
        paths, complaints = {}, []
        if digest(version.artifacts) != version.digest:
            complaints.append(f"its files do not match its digest {version.digest}")
        for artifact in version.artifacts:
            try:
                paths[artifact.path] = self.files.fetch(artifact.sha256, artifact.size)
            except Corrupt as corrupt:
                complaints.append(f"{artifact.path}: {corrupt}")
        if complaints:
            with self.database.read() as c:
                purged = blobs.purged_of(c, version.model, version.version)
            if purged:
                raise Refused(
                    f"{version.ref} was archived, and its files were removed by `modelmint models "
                    "gc --purge`. Register the same files again to restore them, or use another "
                    "version."
                )
            raise Corrupt(
                f"{version.ref} must not be used. {'; '.join(complaints)}. Register the same files "
                "again to restore them, or resolve another version."
            )
        return paths
