"""Once per cause, and what waits to be sent, over restarts."""

import json
import re
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flows.notify import outbox as outboxes
from flows.notify.attempt import Attempt
from flows.notify.channels import VARIABLES, Channel
from flows.notify.conditions import CAUSES, MOST, Conditions, cause_of
from flows.notify.message import EVENTS, Message, message
from flows.notify.outbox import Outbox, channel_states
from flows.notify.state import lock_state, read_state, write_state

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
MAIL = Channel("mail", "smtp://host:587", {"password": "s3cret"}, ("s3cret",))
HOOK = Channel("webhook", "https://host/...", {"url": "https://host/T0KEN"}, ("T0KEN",))


class Other:
    """The other side: keeps what it got, by channel, and answers as it is told."""

    def __init__(self) -> None:
        self.got: dict[str, list[Message]] = {"mail": [], "webhook": []}
        self.attempts: list[tuple[str, str]] = []
        self.down: set[str] = set()
        self.disliked = ""

    def send(self, channel, sent):
        self.attempts.append((channel.name, sent.title))
        if channel.name in self.down or sent.title == self.disliked:
            return Attempt(False, "answered 500")
        self.got[channel.name].append(sent)
        return Attempt(True, "answered 200")

    def titles(self, name):
        return [sent.title for sent in self.got[name]]


def numbered(*numbers, at=None):
    return [
        message("failed", "hourly", f"m{n}", "", project="p", key=str(n), at=at) for n in numbers
    ]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "project.json"


@pytest.fixture
def other():
    return Other()


# Once per cause


def test_the_same_cause_is_told_once_until_it_is_over():
    found = Conditions({})
    hours = [NOW + timedelta(hours=n) for n in range(24)]
    told = [
        found.begin("hourly", [cause_of(f"no file 2026-11-{n}.csv")], at)
        for n, at in enumerate(hours)
    ]
    assert told == [True] + [False] * 23
    over = found.end("hourly")
    assert (over.times, over.since) == (24, NOW)
    assert found.end("hourly") is None
    assert found.begin("hourly", [cause_of("no file 2026-12-01.csv")], NOW) is True


def test_a_new_cause_is_told_and_one_that_comes_back_is_not():
    found = Conditions({})
    causes = ["disk full", "no route", "disk full", "no route", "a third"]
    assert [found.begin("hourly", [c], NOW) for c in causes] == [True, True, False, False, True]
    assert found.begin("weekly", ["disk full"], NOW) is True


def test_a_condition_survives_as_json_and_is_over_only_after_a_quiet_time():
    content = {}
    Conditions(content).begin("drift", ["1 age"], NOW)
    content = json.loads(json.dumps(content))
    found = Conditions(content)
    assert found.begin("drift", ["1 age"], NOW + timedelta(hours=1)) is False
    assert found.end("drift", NOW + timedelta(hours=12), quiet_s=12 * 3600) is None
    assert found.end("drift", NOW + timedelta(hours=13), quiet_s=12 * 3600).times == 2


def test_conditions_and_causes_are_bounded_and_the_oldest_are_forgotten():
    content = {}
    found = Conditions(content)
    for number in range(MOST + 10):
        found.begin(f"job {number}", ["quarantine"], NOW)
    assert len(content) == MOST
    assert found.begin("job 5", ["quarantine"], NOW) is True
    assert found.begin(f"job {MOST}", ["quarantine"], NOW) is False
    for number in range(CAUSES + 10):
        found.begin("one", [f"cause {number}"], NOW)
    assert len(content["one"]["causes"]) == CAUSES


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("3 rows of 1,000", "12 rows of 900", True),
        (
            "run 3f2a9c1e-1234-4bcd-8ef0-123456789abc",
            "run 00ff9c1e-1234-4bcd-8ef0-aaaaaaaaaaaa",
            True,
        ),
        ("at 2026-11-30T03:00:01.5", "at 2026-12-07T03:00:09", True),
        ("column age is missing", "column town is missing", False),
        ("no such file: a.csv", "no such file: b.csv", False),
    ],
)
def test_numbers_times_and_ids_do_not_make_another_cause(one, other, same):
    assert (cause_of(one) == cause_of(other)) is same


def test_the_page_on_monitoring_documents_every_event_and_every_variable():
    page = (ROOT / "docs/monitoring.md").read_text(encoding="utf-8")
    section = page[page.index("## Notifications") : page.index("### Once per cause")]
    assert tuple(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == EVENTS
    assert set(re.findall(r"MODELMINT_NOTIFY_[A-Z]+", section)) == set(VARIABLES)


# What waits


def test_messages_are_sent_once_over_each_channel_and_known_after_a_restart(path, other):
    outbox = Outbox(path, [MAIL, HOOK], other.send)
    outbox.add(numbered(1, 2))
    assert outbox.send() == []
    again = Outbox(path, [MAIL, HOOK], other.send)
    again.add(numbered(1, 2, 3))
    again.send()
    assert other.titles("mail") == other.titles("webhook") == ["m1", "m2", "m3"]
    assert [(s.name, s.sent, s.waiting) for s in channel_states(path)] == [
        ("mail", 3, 0),
        ("webhook", 3, 0),
    ]


def test_a_channel_that_is_down_costs_one_attempt_and_holds_up_no_other(path, other):
    other.down = {"mail"}
    outbox = Outbox(path, [MAIL, HOOK], other.send)
    outbox.add(numbered(1, 2, 3))
    assert outbox.send() == ["mail (smtp://host:587): answered 500"]
    assert other.titles("webhook") == ["m1", "m2", "m3"]
    assert [name for name, _ in other.attempts].count("mail") == 1
    outbox.send()  # too early for another attempt
    assert [name for name, _ in other.attempts].count("mail") == 1
    (mail, _) = channel_states(path)
    assert (mail.waiting, mail.error) == (3, "answered 500")
    assert mail.failing_since is not None


def test_what_waits_is_sent_after_a_restart_when_the_channel_is_back(path, other):
    other.down = {"mail"}
    first = Outbox(path, [MAIL], other.send)
    first.add(numbered(1, 2, 3))
    first.send()
    other.down = set()
    Outbox(path, [MAIL], other.send).send()
    assert sorted(other.titles("mail")) == ["m1", "m2", "m3"]
    (mail,) = channel_states(path)
    assert (mail.waiting, mail.error, mail.failing_since) == (0, None, None)


def test_a_message_that_a_server_does_not_like_does_not_block_the_others(path, other, monkeypatch):
    monkeypatch.setattr(outboxes, "PAUSES", (0,))
    other.disliked = "m1"
    outbox = Outbox(path, [MAIL], other.send)
    outbox.add(numbered(1, 2, 3))
    outbox.send()
    outbox.send()
    assert other.titles("mail") == ["m2", "m3"]
    assert channel_states(path)[0].waiting == 1


def test_a_message_is_given_up_after_a_day_and_counted(path, other, monkeypatch):
    monkeypatch.setattr(outboxes, "PAUSES", (0,))
    other.down = {"mail"}
    outbox = Outbox(path, [MAIL], other.send)
    outbox.add(numbered(1, at=datetime.now(UTC) - timedelta(hours=25)))
    outbox.add(numbered(2))
    outbox.send()
    outbox.send()
    (mail,) = channel_states(path)
    assert (mail.dropped, mail.waiting) == (1, 1)


def test_a_thousand_at_once_become_one_message_and_a_long_outage_keeps_the_newest(path, other):
    outbox = Outbox(path, [MAIL], other.send)
    outbox.add(numbered(*range(1000)))
    outbox.send()
    assert other.titles("mail") == ["1000 notifications of p"]
    other.down = {"mail"}
    for number in range(1000, 1000 + outboxes.WAITING + 7):
        outbox.add(numbered(number))
    outbox.send()
    (mail,) = channel_states(path)
    assert (mail.waiting, mail.dropped) == (outboxes.WAITING, 7)


def test_a_kill_between_sending_and_noting_it_sends_twice_and_never_less(path, other):
    outbox = Outbox(path, [MAIL], other.send)
    outbox.add(numbered(1, 2))
    before = path.read_bytes()
    outbox.send()
    path.write_bytes(before)  # as if it had been killed before it could write
    Outbox(path, [MAIL], other.send).send()
    assert sorted(other.titles("mail")) == ["m1", "m1", "m2", "m2"]


def test_the_file_has_no_secret_and_only_its_user_may_read_it(path, other):
    outbox = Outbox(path, [MAIL, HOOK], other.send)
    outbox.add(numbered(1))
    outbox.send()
    text = path.read_text()
    assert "s3cret" not in text
    assert "T0KEN" not in text
    assert path.stat().st_mode & 0o077 == 0


def test_what_waited_for_a_channel_that_is_not_set_any_more_is_named(path, other):
    other.down = {"mail"}
    outbox = Outbox(path, [MAIL, HOOK], other.send)
    outbox.add(numbered(1, 2))
    outbox.send()
    assert Outbox(path, [HOOK], other.send).forgotten == {"mail": 2}
    moved = replace(MAIL, target="smtp://other:25")
    again = Outbox(path, [moved, HOOK], other.send)
    assert again.forgotten == {}
    assert again.content["channels"]["mail"]["target"] == "smtp://other:25"


def test_all_channels_are_served_at_the_same_time(path):
    met = threading.Barrier(2, timeout=20)

    def send(_channel, _message):
        met.wait()  # breaks if one waits for the other
        return Attempt(True, "")

    outbox = Outbox(path, [MAIL, HOOK], send)
    outbox.add(numbered(1))
    assert outbox.send() == []
    assert [state.sent for state in channel_states(path)] == [1, 1]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 99, "channels": {"x": 1}}'])
def test_a_file_that_cannot_be_read_counts_as_none(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    assert read_state(path) == {}
    assert channel_states(path) == []
    write_state(path, {"channels": {}})
    assert read_state(path) == {"channels": {}, "format": 1}


def test_one_process_at_a_time_has_a_file(path):
    first = lock_state(path)
    assert first is not None
    assert lock_state(path) is None
    first.close()
    assert lock_state(path) is not None
