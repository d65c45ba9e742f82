"""What a notification says, as JSON, as text, and as Slack wants it. docs/monitoring.md has all."""

import hashlib
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

FORMAT = 1
EVENTS = (
    "failed",
    "crashed",
    "quarantine",
    "refused",
    "drifted",
    "promoted",
    "approval",
    "retraining",
    "rollback",
    "recovered",
    "stopped",
)
"""What can be told. `test` and `several` are sent, too, but not chosen."""
URGENT = (
    "approval",
    "rollback",
    "stopped",
    "crashed",
    "failed",
    "quarantine",
    "drifted",
    "refused",
)
MOST = 5
"""Messages that are sent one by one; more at once become a single one."""
LISTED = 50
LONGEST = 4000
"""Characters of a text; a traceback in an error message may be longer than any mail."""


@dataclass(frozen=True)
class Message:
    """One notification. `fields` are those of its event."""

    event: str
    subject: str
    """The deployment or the model that it is about."""
    title: str
    """One line."""
    text: str
    project: str
    """The name of the project's folder."""
    fields: dict[str, Any] = field(default_factory=dict)
    id: str = ""
    """The same for the same occurrence, so that it is sent once and a receiver can compare."""
    at: str = ""
    """When it happened, ISO 8601 in UTC."""
    host: str = field(default_factory=socket.gethostname)
    format: int = FORMAT

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def message(
    event: str,
    subject: str,
    title: str,
    text: str,
    *,
    project: str,
    key: str,
    at: datetime | None = None,
    **fields: Any,
) -> Message:
    """A message; `key` identifies the occurrence, such as the id of a run."""
    number = hashlib.sha256(f"{event}|{subject}|{key}".encode()).hexdigest()[:16]
    when = (at or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="seconds")
    return Message(event, subject, one_line(title), cut(text), project, fields, number, when)


def one_line(text: str, most: int = 200) -> str:
    """Text for the subject of a mail: new lines there would be other headers."""
    plain = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return plain if len(plain) <= most else plain[: most - 3] + "..."


def cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[:LONGEST] + " ..."


def together(found: Sequence[Message]) -> list[Message]:
    """The messages to send: at most MOST, or one that lists them all."""
    if len(found) <= MOST:
        return list(found)
    project = found[0].project
    places = {event: place for place, event in enumerate(URGENT)}
    ordered = sorted(found, key=lambda one: places.get(one.event, len(places)))
    lines = [f"- {one.title}" for one in ordered[:LISTED]]
    if len(found) > LISTED:
        lines.append(f"- and {len(found) - LISTED} more")
    several = message(
        "several",
        project,
        f"{len(found)} notifications of {project}",
        "\n".join(lines),
        project=project,
        key=" ".join(sorted(one.id for one in found)),
        number=len(found),
        messages=[one.as_dict() for one in ordered[:LISTED]],
    )
    return [several]


def as_text(document: dict[str, Any]) -> str:
    """The text of a mail, from `Message.as_dict`."""
    shown = {name: v for name, v in document["fields"].items() if _is_short(v)}
    facts = [f"{name}: {value}" for name, value in shown.items()]
    place = f"project {document['project']} on {document['host']}, {document['at']}"
    parts = [document["text"], "\n".join(facts), f"-- \n{document['event']}, {place}"]
    return "\n\n".join(part for part in parts if part) + "\n"


def as_slack(document: dict[str, Any]) -> dict[str, str]:
    """The JSON that an incoming webhook of Slack takes; Mattermost and Rocket.Chat do, too."""
    title, text = (_escaped(document[name]) for name in ("title", "text"))
    url = document["fields"].get("url")
    link = f"\n<{url}|Open>" if url and "|" not in url and ">" not in url else ""
    return {"text": f"*{title}*\n{text}{link}"}


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _is_short(value: Any) -> bool:
    return isinstance(value, str | int | float) and value != "" and len(str(value)) <= 300
