"""Notifications of a real `modelmint serve`, to real servers."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from amounts import EVERYTHING
from receivers import HookServer, MailServer, free_port, running, silent_port

from flows.deploy import deployed_name
from flows.notify.outbox import channel_states
from flows.notify.process import WatcherProcess
from flows.notify.state import project_state
from flows.project import new_project

ROOT = Path(__file__).parents[2]
SECONDS = 300


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return new_project(tmp_path_factory.mktemp("served") / "project", None).root


@contextmanager
def serving(root, environment, *options):
    """A `modelmint serve`; yields the process and the list of its lines."""
    code = "import sys; from cli.main import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "serve", *options],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(process.stderr))
    reader.start()
    try:
        yield process, lines
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 0, lines
        reader.join()
        process.stderr.close()


def until(condition, lines):
    deadline = time.monotonic() + SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, lines
        time.sleep(0.5)
    return found


def failing_run(api, root, lines):
    """Start a run of `hourly` that fails, since there is no model; wait for its end."""
    name = f"inference/{deployed_name('hourly', root)}"
    served = f"Serving .*{name}"
    until(lambda: re.search(served, "".join(lines)), lines)
    deployment = api.read_deployment_by_name(name)
    run = api.create_flow_run_from_deployment(
        deployment.id, parameters={"inputs": ["data/inbox"], "model": "digits@champion"}
    )
    until(lambda: api.read_flow_run(run.id).state.is_final(), lines)
    assert api.read_flow_run(run.id).state_name == "Failed"
    return run


def test_serve_tells_of_a_failed_run_over_each_channel_though_one_hangs(made, api, prefect_server):
    port = free_port()
    with running(HookServer()) as hook, running(MailServer()) as mail, silent_port() as dead:
        environment = {
            "PREFECT_API_URL": prefect_server,
            "MODELMINT_NOTIFY_SMTP": f"smtp://127.0.0.1:{mail.port}",
            "MODELMINT_NOTIFY_TO": "bob@example.org",
            "MODELMINT_NOTIFY_WEBHOOK": f"{hook.url}/T0KEN",
            "MODELMINT_NOTIFY_SLACK": f"http://127.0.0.1:{dead}/T0KEN",
        }
        with serving(made, environment, "--metrics", str(port)) as (process, lines):
            until(lambda: "notifications: mail (smtp" in "".join(lines), lines)
            run = failing_run(api, made, lines)
            # What was sent is noted after it was sent, and a hanging server fails after 25 s.
            until(lambda: is_noted(made), lines)
            states = {s.name: s for s in channel_states(project_state(made))}
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as reply:
                metrics = reply.read().decode()
            others = children(process.pid, "flows.runner")
            watcher = children(process.pid, "flows.notify.watcher")
        (document,) = hook.documents
        assert document["fields"]["flow_run_id"] == str(run.id)
        assert (document["event"], document["subject"]) == ("failed", "hourly")
        assert "hourly" in mail.mails[0]["Subject"]
        assert (states["slack"].waiting, states["mail"].sent) == (1, 1)
        assert 'modelmint_notifications_waiting{channel="slack"} 1.0' in metrics
        # Only the process that sends has the secrets.
        assert [b"MODELMINT_NOTIFY" in variables for variables in watcher] == [True]
        assert [b"MODELMINT_NOTIFY" in variables for variables in others] == [False]
        assert "T0KEN" not in "".join(lines)
        assert "Traceback" not in "".join(lines)
        assert len(mail.mails) == 1
        if EVERYTHING:
            # Again, after a restart: the same cause is not told, and what waited is sent.
            # test_notify_runs.py tests it without a `serve`.
            environment["MODELMINT_NOTIFY_SLACK"] = f"{hook.url}/slack"
            with serving(made, environment) as (_, lines):
                until(lambda: len(hook.documents) > 1, lines)
                failing_run(api, made, lines)
                with_seen = json.loads(project_state(made).read_text())["runs"]["seen"]
                until(lambda: len(seen(made)) > len(with_seen), lines)
            assert len(mail.mails) == 1
            assert [path for _, path, _ in hook.requests] == ["/T0KEN", "/slack"]


def is_noted(root):
    states = {s.name: s for s in channel_states(project_state(root))}
    return states["mail"].sent and states["webhook"].sent and states["slack"].error


def seen(root):
    return json.loads(project_state(root).read_text())["runs"]["seen"]


def children(parent, module):
    """The variables of each child process that runs a module."""
    found = []
    for entry in [entry for entry in Path("/proc").iterdir() if entry.name.isdigit()]:
        try:
            own = f"\nPPid:\t{parent}\n" in (entry / "status").read_text()
            if own and module.encode() in (entry / "cmdline").read_bytes():
                found.append((entry / "environ").read_bytes())
        except OSError:
            continue
    return found


@pytest.mark.parametrize(
    ("environment", "options", "expected"),
    [
        ({"MODELMINT_NOTIFY_SLACK": "T0KEN"}, [], "MODELMINT_NOTIFY_SLACK must have the form"),
        ({}, ["--metrics", "nowhere"], "--metrics nowhere: [HOST:]PORT is expected"),
    ],
)
def test_serve_refuses_a_setting_that_is_wrong(made, environment, options, expected):
    code = "import sys; from cli.main import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "serve", *options],
        cwd=made,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert expected in done.stderr
    assert "T0KEN" not in done.stderr


def test_serve_that_gives_up_tells_so_once_however_often_it_is_started(made, tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    said: list[str] = []
    with running(HookServer()) as hook:
        for reason in ("it ended 6 times", "it ended 7 times", "the disk is full"):
            monkeypatch.setenv("MODELMINT_NOTIFY_WEBHOOK", f"{hook.url}/T0KEN")
            WatcherProcess(made, said.append, None).tell_stopped(reason)
            assert "MODELMINT_NOTIFY_WEBHOOK" not in os.environ
        assert [one["text"] for one in hook.documents] == ["it ended 6 times", "the disk is full"]
        assert {one["event"] for one in hook.documents} == {"stopped"}
        hook.status = 500
        monkeypatch.setenv("MODELMINT_NOTIFY_WEBHOOK", f"{hook.url}/T0KEN")
        WatcherProcess(made, said.append, None).tell_stopped("no route")
    assert said == [
        f"notification not sent: webhook ({hook.url}/...): answered 500 Internal "
        "Server Error: something broke"
    ]
    (state,) = channel_states(project_state(made))
    assert (state.sent, state.waiting) == (2, 1)  # it is sent when `serve` is started again


def test_a_watcher_that_dies_is_started_again_and_never_ends_serve(made, tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.setenv("MODELMINT_NOTIFY_COMMAND", "true")
    said: list[str] = []
    watcher = WatcherProcess(made, said.append, None)
    try:
        watcher.watch("http://127.0.0.1:9/api")
        first = watcher._process
        first.kill()
        first.wait()
        watcher.watch("http://127.0.0.1:9/api")
        watcher.watch("http://127.0.0.1:9/api")
        assert watcher._process is not first
        assert watcher._process.poll() is None
        assert said == ["The process that notifies ended with status -9; restarting it ..."]
    finally:
        watcher.stop()


def test_without_a_channel_nothing_is_started(made):
    watcher = WatcherProcess(made, print, None)
    watcher.watch("http://127.0.0.1:9/api")
    assert watcher._process is None
