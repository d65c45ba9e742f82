"""Entries: notes in the history of a model that programs write for programs to read.

An entry is an event of the kind `noted` whose payload has a topic and a document. It needs no table
and no kind of its own, so registries and rights of earlier releases have room for it, and their
code shows it as a note.
"""

from registry.errors import Conflict
from registry.operations.base import RegistryBase
from registry.queries import aliases, events, models
from registry.records import Event, Json
from registry.references import CHAMPION
from registry.validation.arguments import checked


class EntryMixin(RegistryBase):
    """`entries` and `add_entry`."""

    @checked
    def entries(self, name: str, topic: str, *, limit: int | None = None) -> list[Event]:
        """The entries of a model about a topic, newest first. Raises NotFound."""
        with self.database.read() as c:
            return events.load_entries(c, models.load_id(c, name), topic, limit=limit)

    @checked
    def add_entry(
        self,
        name: str,
        topic: str,
        document: Json,
        *,
        expect: int,
        text: str,
        actor: str,
        expect_revision: int | None = None,
        version: int | None = None,
    ) -> Event:
        """Add an entry, provided that nobody has added one about this topic meanwhile.

        `expect` is the id of the newest entry that the decision was based on, 0 if there was none;
        `expect_revision` the revision of the champion, if the decision depends on it. `text` is
        what a person reads in the history, after the topic.

        Raises:
            NotFound: the model does not exist.
            Conflict: there is a newer entry, or the champion was moved.
            InvalidCandidate: the document is not plain JSON, or the text is empty.
        """
        with self.database.write() as c:
            model = models.lock(c, name)
            newest = next(iter(events.load_entries(c, model.id, topic, limit=1)), None)
            if (newest.id if newest else 0) != expect:
                raise Conflict(
                    f"somebody else has added an entry about {topic} of {name} meanwhile"
                )
            held = aliases.find(c, name, CHAMPION)
            if expect_revision not in (None, held.revision if held else 0):
                raise Conflict(f"somebody moved {name}@{CHAMPION} meanwhile")
            payload, reason = {**document, events.TOPIC: topic}, f"{topic}: {text}"
            events.add(c, model, "noted", actor, version=version, reason=reason, payload=payload)
            return events.load_entries(c, model.id, topic, limit=1)[0]
