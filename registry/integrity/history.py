"""Replays the events of a model: checks their chain of hashes, computes the expected state."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from registry import schema
from registry.integrity.snapshot import Row
from registry.queries.events import MOVES
from registry.records import Policy, Problem
from registry.values import MALFORMED, shown

TAKEN_IN = ("registered", "imported")
"""The kinds of event with which a version begins."""


@dataclass(slots=True)
class Expected:
    """The state of one version that follows from the history."""

    registered: bool = False
    record: str | None = None
    """The seal of its row; None for a version of an early release, which had no seals."""
    request: tuple[str | None] | None = None
    """The request that registered it; None if an older release did not record it."""
    parent_uid: str | None = None
    """The uid of the version that an imported version started from."""
    tags: dict[str, Any] = field(default_factory=dict)
    """The latest value of each tag; None if it was removed."""
    all_tags: bool = False
    """Whether tags include those of the registration: older releases did not record them."""
    evaluated: list[tuple[str, Row]] = field(default_factory=list)
    """The seal of each evaluation, and its event."""
    approved: list[tuple[int, Row]] = field(default_factory=list)
    """The number of evaluations at each approval, and its event."""
    signed: dict[str, str] = field(default_factory=dict)
    status: str | None = None
    """None: no event changed it."""


class History:
    """The events of one model, oldest first."""

    def __init__(self, name: str, rows: list[Row], head: object, since: int) -> None:
        self.name, self._rows, self._head, self._since = name, rows, head, since
        self.versions: dict[int, Expected] = defaultdict(Expected)
        self.held: dict[str, int] = {}
        """The version that each alias points to."""
        self.moves: dict[str, list[int | None]] = defaultdict(list)
        """The version that each alias pointed to at each of its revisions."""
        self.policy: dict[str, Any] = {}
        self.problems: list[Problem] = []
        for row in rows:
            try:
                self._replay(row)
            except MALFORMED:
                self.problems.append(self._event(row, f"cannot be read: {shown(row['payload'])}"))

    @property
    def newest(self) -> list[Row]:
        """The events to check; older ones are only replayed."""
        return [row for row in self._rows if row["id"] > self._since]

    def touched(self) -> set[int]:
        """The numbers of the versions that the newest events name."""
        named = {row[which] for row in self.newest for which in ("version", "previous")}
        return {number for number in named if isinstance(number, int)}

    def rules(self) -> dict[str, Any]:
        """The policy that follows from the history."""
        # Rules that an older release did not know were off.
        return asdict(Policy()) | self.policy

    def check_chain(self, edited: set[int]) -> None:
        """Add the problems of the chain; `edited` are events that do not match their hash."""
        before = schema.NO_EVENT
        for row in self._rows:
            if row["id"] > self._since:
                if row["prev_hash"] != before:
                    what = "does not follow the previous event: an event was removed"
                    self.problems.append(self._event(row, what))
                if row["id"] in edited:
                    what = "was edited: its content does not match its hash"
                    self.problems.append(self._event(row, what))
            before = row["hash"]
        if before != self._head:
            what = f"its history does not end with event {self._head}"
            self.problems.append(Problem(self.name, "", what))
        self._confirmed = {
            row["id"]
            for row, after in zip(self._rows, [*self._rows, None][1:], strict=True)
            if row["id"] not in edited
            and row["hash"] == (after["prev_hash"] if after else self._head)
        }

    def is_confirmed(self, row: Row) -> bool:
        """Whether the next event, or the head, confirms that an event is unchanged."""
        return row["id"] in self._confirmed

    def _replay(self, row: Row) -> None:
        kind, payload = row["kind"], row["payload"]
        own = Expected() if row["version"] is None else self.versions[row["version"]]
        if kind in TAKEN_IN:
            own.registered = True
            own.record = payload.get("record")
            if "tags" in payload:
                own.tags, own.all_tags = dict(payload["tags"]), True
            if kind == "imported" and isinstance(named := payload.get("parent"), dict):
                own.parent_uid = named.get("uid")
            if "request" in payload:
                own.request = (payload["request"],)
        if "evaluation" in payload and kind != "refused":
            own.evaluated.append((payload["evaluation"], row))
        if kind in _REPLAYED:
            _REPLAYED[kind](own, row)
        elif kind == "policy":
            self.policy = payload
        elif kind in MOVES:
            self._move(row)

    def _move(self, row: Row) -> None:
        alias = row["alias"]
        self.moves[alias].append(None if row["kind"] == "unset" else row["version"])
        if row["kind"] == "unset":
            self.held.pop(alias, None)
        else:
            self.held[alias] = row["version"]

    def _event(self, row: Row, what: str) -> Problem:
        return Problem(f"{self.name}, event {row['id']} ({row['kind']})", "", what)


def _approve(own: Expected, row: Row) -> None:
    own.approved.append((len(own.evaluated), row))
    own.status = "approved"


def _sign(own: Expected, row: Row) -> None:
    own.signed[row["payload"]["key"]] = row["payload"]["document"]


def _tag(own: Expected, row: Row) -> None:
    own.tags[row["payload"]["key"]] = row["payload"]["value"]


def _set_status(status: str) -> Callable[[Expected, Row], None]:
    def change(own: Expected, _row: Row) -> None:
        own.status = status

    return change


_REPLAYED: dict[str, Callable[[Expected, Row], None]] = {
    "approved": _approve,
    "signed": _sign,
    "tagged": _tag,
    "rejected": _set_status("rejected"),
    "archived": _set_status("archived"),
    "unarchived": _set_status("candidate"),
}
"""The effect of each kind of event on its version."""


def differences(of: str, is_: dict[str, Any], was: dict[str, Any]) -> Iterator[str]:
    """Descriptions of values that differ from those that follow from the history."""
    for key in sorted(is_.keys() | was.keys(), key=str):
        if is_.get(key) != was.get(key):
            now, then = _shown(is_.get(key)), _shown(was.get(key))
            yield f"its {of} {key} is {now}, but by its history {then}"


def _shown(value: object) -> str:
    return "not set" if value is None else shown(value)
