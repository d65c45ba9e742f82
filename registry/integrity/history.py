"""The events of a model, replayed: whether they are one chain, what they vouch for, and what they
lead to.
"""

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
"""The kinds of event that begin a version."""


@dataclass(slots=True)
class Expected:
    """What the history says of one version."""

    registered: bool = False
    record: str | None = None
    """The seal over its row; None of a version of before there were seals."""
    request: tuple[str | None] | None = None
    """The request that registered it; None where that was not recorded yet."""
    parent_uid: str | None = None
    """Of the version that an import started from."""
    tags: dict[str, Any] = field(default_factory=dict)
    """What each tag was set to last, None where it was removed."""
    all_tags: bool = False
    """Whether those that it came with are among them: older releases did not record them."""
    judged: list[tuple[str, Row]] = field(default_factory=list)
    """The seal of each evaluation, and its event."""
    approved: list[tuple[int, Row]] = field(default_factory=list)
    """How many evaluations there were at each approval, and its event."""
    signed: dict[str, str] = field(default_factory=dict)
    status: str | None = None
    """None: no event changed it."""


class History:
    """The events of one model, oldest first."""

    def __init__(self, name: str, rows: list[Row], head: object, since: int) -> None:
        self.name, self._rows, self._head, self._since = name, rows, head, since
        self.versions: dict[int, Expected] = defaultdict(Expected)
        self.held: dict[str, int] = {}
        """Where each alias points."""
        self.moves: dict[str, list[int | None]] = defaultdict(list)
        """Where each alias pointed at each of its revisions."""
        self.policy: dict[str, Any] = {}
        self.problems: list[Problem] = []
        for row in rows:
            try:
                self._replay(row)
            except MALFORMED:
                self.problems.append(self._event(row, f"cannot be read: {shown(row['payload'])}"))

    @property
    def newest(self) -> list[Row]:
        """The events that are to be looked at, not only to be replayed."""
        return [row for row in self._rows if row["id"] > self._since]

    def touched(self) -> set[int]:
        """The numbers of the versions that those events are about."""
        named = {row[which] for row in self.newest for which in ("version", "previous")}
        return {number for number in named if isinstance(number, int)}

    def rules(self) -> dict[str, Any]:
        """The policy that the history leads to."""
        # A rule that an older release did not know was off.
        return asdict(Policy()) | self.policy

    def check_chain(self, edited: set[int]) -> None:
        """Add what is wrong with the chain; `edited` are events whose content is not their hash."""
        before = schema.NO_EVENT
        for row in self._rows:
            if row["id"] > self._since:
                if row["prev_hash"] != before:
                    what = "does not follow the one before it: one was removed"
                    self.problems.append(self._event(row, what))
                if row["id"] in edited:
                    what = "was edited: its content does not make its hash"
                    self.problems.append(self._event(row, what))
            before = row["hash"]
        if before != self._head:
            what = f"its history does not end with event {self._head}"
            self.problems.append(Problem(self.name, "", what))
        self._vouched_for = {
            row["id"]
            for row, after in zip(self._rows, [*self._rows, None][1:], strict=True)
            if row["id"] not in edited
            and row["hash"] == (after["prev_hash"] if after else self._head)
        }

    def vouches(self, row: Row) -> bool:
        """Whether an event is as it was recorded, as far as the one after it says."""
        return row["id"] in self._vouched_for

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
            own.judged.append((payload["evaluation"], row))
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
    own.approved.append((len(own.judged), row))
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
"""What the kinds of event that are about a version do to it."""


def differences(of: str, is_: dict[str, Any], was: dict[str, Any]) -> Iterator[str]:
    """In words, where the present is not what the history leads to."""
    for key in sorted(is_.keys() | was.keys(), key=str):
        if is_.get(key) != was.get(key):
            yield (
                f"its {of} {key} is {_said(is_.get(key))}, but by its history {_said(was.get(key))}"
            )


def _said(value: object) -> str:
    return "not set" if value is None else shown(value)
