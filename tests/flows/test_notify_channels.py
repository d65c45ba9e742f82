"""Settings of notifications, and single messages to real servers and commands."""

import json
import os
import shlex
import socket
import sys
import time

import pytest
from receivers import (
    HookServer,
    MailServer,
    free_port,
    make_certificate,
    running,
    silent_port,
)
from typer.testing import CliRunner

from cli.main import app
from flows.notify import attempt as attempts
from flows.notify.attempt import attempt
from flows.notify.channels import VARIABLES, read_channels, shown_variables, take_variables
from flows.notify.message import LISTED, as_text, message, together
from tasks.errors import InputError

PASSWORD = "s3cret/of@ada"
QUOTED = "s3cret%2Fof%40ada"


def made(title="hourly failed", text="no such file", **fields):
    return message("failed", "hourly", title, text, project="digits", key="1", **fields)


def channel(name="mail", **variables):
    given = {f"MODELMINT_NOTIFY_{key}": value for key, value in variables.items()}
    (found,) = [c for c in read_channels(given).channels if c.name == name]
    return found


def mail(server, user=f"ada:{QUOTED}@", **others):
    return channel(SMTP=f"smtp://{user}127.0.0.1:{server.port}", TO="bob@example.org", **others)


# Settings


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"SMTP": "smtp://host"}, "MODELMINT_NOTIFY_TO is not"),
        ({"TO": "a@b"}, "MODELMINT_NOTIFY_SMTP is not"),
        ({"SMTP": "imap://ada:hidden@host", "TO": "a@b"}, "MODELMINT_NOTIFY_SMTP must have"),
        ({"SMTP": "smtp://ada:hidden@host:many", "TO": "a@b"}, "its port is not a number"),
        ({"SMTP": "smtp://ada:hidden@[half", "TO": "a@b"}, "MODELMINT_NOTIFY_SMTP must have"),
        ({"SMTP": "smtp://host", "TO": "ada"}, "'ada' is not an address"),
        ({"SMTP": "smtp://host", "TO": " , "}, "has no address"),
        ({"WEBHOOK": "file:///etc/hidden"}, "MODELMINT_NOTIFY_WEBHOOK must have"),
        ({"SLACK": "https://host/hid den"}, "MODELMINT_NOTIFY_SLACK must have"),
        ({"COMMAND": "'unclosed"}, "not a command line"),
        ({"COMMAND": "true", "EVENTS": "failed,chrashed"}, "'chrashed'; allowed: failed, crashed"),
    ],
)
def test_a_mistake_in_a_setting_names_the_variable_and_hides_the_value(variables, expected):
    given = {f"MODELMINT_NOTIFY_{key}": value for key, value in variables.items()}
    with pytest.raises(InputError, match=expected) as error:
        read_channels(given)
    assert "hid" not in str(error.value).replace("hidden)", "")


def test_no_variable_is_no_channel_and_an_empty_one_counts_as_not_set():
    assert read_channels({}).channels == ()
    assert read_channels(dict.fromkeys(VARIABLES, " ")).channels == ()


def test_settings_show_no_secret():
    given = {
        "MODELMINT_NOTIFY_SMTP": f"smtps://ada:{QUOTED}@mail.example.org",
        "MODELMINT_NOTIFY_TO": "bob@example.org, Eve <eve@example.org>",
        "MODELMINT_NOTIFY_WEBHOOK": f"https://ada:{QUOTED}@hooks.example.org/T0KEN?key=T0KEN",
        "MODELMINT_NOTIFY_SLACK": "https://hooks.example.org:8443/services/T0KEN",
        "MODELMINT_NOTIFY_COMMAND": "/bin/send-sms --token T0KEN",
    }
    found = read_channels(given)
    shown = repr(found) + str(shown_variables(given))
    for secret in ("T0KEN", PASSWORD, QUOTED):
        assert secret not in shown
    assert [c.target for c in found.channels] == [
        "smtps://mail.example.org:465",
        "https://hooks.example.org/...",
        "https://hooks.example.org:8443/...",
        "/bin/send-sms with 2 arguments",
    ]
    assert found.channels[0].settings["password"] == PASSWORD
    environment = {**given, "PATH": "/bin"}
    assert take_variables(environment) == given
    assert environment == {"PATH": "/bin"}


def test_config_lists_the_variables_without_secrets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODELMINT_DATABASE_URL", f"sqlite:///{tmp_path}/registry.db")
    monkeypatch.setenv("MODELMINT_NOTIFY_SLACK", "https://hooks.example.org/services/T0KEN")
    done = CliRunner().invoke(app, ["config", "--json"])
    assert done.exit_code == 0, done.stderr
    assert "T0KEN" not in done.output
    assert set(VARIABLES) <= json.loads(done.stdout).keys()


# Mail


def test_a_mail_has_the_message_and_every_recipient():
    with running(MailServer(password=PASSWORD)) as server:
        to = channel(
            SMTP=f"smtp://ada:{QUOTED}@127.0.0.1:{server.port}",
            TO="bob@example.org, Eve <eve@example.org>",
            FROM="mint@example.org",
        )
        title = "hourly:\nBcc: all@example.org failed\x1b[31m"
        found = attempt(to, made(title, "line one\n.\nline üäö", run="predict", rows=7))
    assert found.sent, found.detail
    assert server.recipients == [["bob@example.org", "eve@example.org"]]
    (got,) = server.mails
    assert got["From"] == "mint@example.org"
    assert got["Bcc"] is None
    assert got["Subject"] == "[modelmint] hourly: Bcc: all@example.org failed [31m"
    assert got["Auto-Submitted"] == "auto-generated"
    body = got.get_content().replace("\r\n", "\n")
    assert "line one\n.\nline üäö" in body
    assert "run: predict\nrows: 7" in body
    assert "failed, project digits on" in body


def test_a_mail_is_encrypted_where_the_server_can_and_its_certificate_is_checked(
    tmp_path, monkeypatch
):
    certificate = make_certificate(tmp_path)
    with running(MailServer(certificate=certificate, password=PASSWORD)) as server:
        unknown = attempt(mail(server), made())
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
        trusted = attempt(mail(server), made())
    assert not unknown.sent
    assert "CERTIFICATE_VERIFY_FAILED" in unknown.detail
    assert trusted.sent, trusted.detail
    assert server.encrypted == [True]


def test_a_password_is_not_sent_unencrypted_to_another_machine():
    name = socket.gethostname()  # an address would be recognized as one of this machine
    try:
        here = socket.gethostbyname(name) == "127.0.0.1"
    except OSError:
        here = False
    if not here:
        pytest.skip("the name of this machine does not lead to 127.0.0.1")
    with running(MailServer(password=PASSWORD)) as server:
        to = channel(SMTP=f"smtp://ada:{QUOTED}@{name}:{server.port}", TO="bob@example.org")
        found = attempt(to, made())
    assert not found.sent
    assert "offers no TLS, so the password was not sent" in found.detail


def test_a_wrong_password_is_named_without_the_password():
    with running(MailServer(password="another")) as server:
        found = attempt(mail(server), made())
    assert not found.sent
    assert "535" in found.detail
    assert "wrong password ***" in found.detail  # the server has repeated it
    assert PASSWORD not in found.detail


def test_refused_recipients_are_named_and_the_others_get_one_mail():
    with running(MailServer(refuse="bob")) as server:
        to = {"SMTP": f"smtp://127.0.0.1:{server.port}"}
        none = attempt(channel(**to, TO="bob@example.org"), made())
        some = attempt(channel(**to, TO="bob@example.org,eve@example.org"), made())
    assert (none.sent, some.sent) == (False, True)
    assert "bob@example.org: 550 no such person" in none.detail
    assert "bob@example.org: 550 no such person" in some.detail
    assert server.recipients == [["eve@example.org"]]


@pytest.mark.parametrize("drip", [b"", b"2"])
def test_a_mail_server_that_hangs_or_trickles_costs_the_limit_and_no_more(drip):
    begun = time.monotonic()
    with silent_port(drip=drip) as port:
        found = attempt(channel(SMTP=f"smtp://127.0.0.1:{port}", TO="a@b"), made(), limit_s=3)
    assert found == attempts.Attempt(False, "no answer within 3 s")
    assert time.monotonic() - begun < 60


def test_an_unreachable_mail_server_is_named_by_its_error():
    found = attempt(channel(SMTP=f"smtp://127.0.0.1:{free_port()}", TO="a@b"), made())
    assert found == attempts.Attempt(
        False, "ConnectionRefusedError: [Errno 111] Connection refused"
    )


# HTTP


def test_a_webhook_gets_the_message_as_json():
    with running(HookServer()) as server:
        host = server.url.removeprefix("http://")
        to = channel("webhook", WEBHOOK=f"http://ada:{QUOTED}@{host}/path?key=T0KEN")
        sent = made(run="predict", rows=7)
        found = attempt(to, sent)
    assert found.detail == "answered 200"
    assert server.documents == [sent.as_dict()]
    assert server.documents[0]["fields"] == {"run": "predict", "rows": 7}
    ((_, path, headers),) = server.requests
    assert path == "/path?key=T0KEN"
    assert headers["Content-Type"] == "application/json"
    assert headers["Authorization"].startswith("Basic ")


def test_slack_gets_a_text_in_which_nothing_of_the_message_is_markup():
    with running(HookServer()) as server:
        to = channel("slack", SLACK=f"{server.url}/services/T0KEN")
        assert attempt(to, made("a <!channel> & b", url="http://127.0.0.1:4200/runs/1")).sent
    (got,) = server.documents
    assert got == {
        "text": "*a &lt;!channel&gt; &amp; b*\nno such file\n<http://127.0.0.1:4200/runs/1|Open>"
    }


@pytest.mark.parametrize("status", [302, 307, 404, 500])
def test_an_answer_that_is_not_success_is_a_failure_and_no_redirect_is_followed(status):
    with running(HookServer(status)) as server:
        found = attempt(channel("webhook", WEBHOOK=f"{server.url}/T0KEN"), made())
    assert not found.sent
    assert f"answered {status}" in found.detail
    assert "something broke" in found.detail
    assert [(verb, path) for verb, path, _ in server.requests] == [("POST", "/T0KEN")]


def test_a_webhook_that_hangs_costs_the_limit_and_its_error_hides_the_path():
    with silent_port() as port:
        to = channel("webhook", WEBHOOK=f"http://127.0.0.1:{port}/T0KEN")
        found = attempt(to, made(), limit_s=3)
    assert found == attempts.Attempt(False, "no answer within 3 s")


# Commands


def command(text, *arguments):
    words = [sys.executable, "-c", text, *arguments]
    return channel("command", COMMAND=shlex.join(words))


def test_a_command_gets_the_message_and_none_of_the_secrets(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELMINT_NOTIFY_SMTP", f"smtp://ada:{QUOTED}@127.0.0.1")
    out = tmp_path / "got.json"
    code = (
        "import json, os, sys; json.dump([json.load(sys.stdin), dict(os.environ)], "
        "open(sys.argv[1], 'w')); print('thanks')"
    )
    found = attempt(command(code, str(out)), made())
    assert found == attempts.Attempt(True, "ended with status 0: thanks")
    document, environment = json.loads(out.read_text())
    assert document == made().as_dict() | {"at": document["at"]}
    assert not any(name.startswith("MODELMINT_NOTIFY") for name in environment)


def test_a_command_that_fails_says_its_status_and_its_last_line():
    code = "import sys; print('Traceback'); print('no T0KEN here'); sys.exit(7)"
    found = attempt(command(code, "T0KEN"), made())
    assert found == attempts.Attempt(False, "ended with status 7: no *** here")
    missing = attempt(channel("command", COMMAND="/no/such/program"), made())
    assert not missing.sent
    assert "No such file" in missing.detail


def test_a_command_that_hangs_is_ended_with_its_children(tmp_path):
    marks = [tmp_path / "parent", tmp_path / "child"]
    code = (
        "import os, sys, time; pid = os.fork(); "
        "open(sys.argv[1 if pid else 2], 'w').write(str(os.getpid())); time.sleep(600)"
    )
    found = attempt(command(code, *map(str, marks)), made())
    assert found == attempts.Attempt(False, "did not end within 15 s")
    for mark in marks:
        deadline = time.monotonic() + 10
        while os.path.exists(f"/proc/{mark.read_text()}"):
            assert time.monotonic() < deadline, "it still runs"
            time.sleep(0.1)


def test_a_command_may_leave_a_program_in_the_background(tmp_path):
    code = "import subprocess, sys; subprocess.Popen(['sleep', '60']); print('started')"
    assert attempt(command(code), made()).detail == "ended with status 0: started"


# Messages


def test_up_to_five_messages_are_sent_one_by_one_and_more_as_one_that_lists_them():
    def numbered(count):
        return [
            message("drifted", f"m{n}", f"title {n}", "", project="p", key=str(n))
            for n in range(count)
        ]

    assert together(numbered(5)) == numbered(5)
    urgent = message("approval", "z", "z:2 waits", "", project="p", key="z")
    (several,) = together([*numbered(1000), urgent])
    assert several.event == "several"
    assert several.title == "1001 notifications of p"
    assert several.text.startswith("- z:2 waits\n- title 0\n")
    assert several.text.endswith(f"- and {1001 - LISTED} more")
    assert len(several.fields["messages"]) == LISTED
    assert len(json.dumps(several.as_dict())) < 100_000
    assert "title 0" in as_text(several.as_dict())


# The command


def test_notify_test_sends_one_message_over_each_channel_and_says_what_happened(
    tmp_path, monkeypatch
):
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "params.yaml").write_text("{}\n")
    monkeypatch.chdir(tmp_path)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    none = CliRunner().invoke(app, ["notify", "--test"])
    assert isinstance(none.exception, InputError)
    assert "MODELMINT_NOTIFY_SMTP" in str(none.exception)
    with running(HookServer()) as hook, running(MailServer()) as server:
        monkeypatch.setenv("MODELMINT_NOTIFY_WEBHOOK", f"{hook.url}/T0KEN")
        monkeypatch.setenv("MODELMINT_NOTIFY_SMTP", f"smtp://127.0.0.1:{server.port}")
        monkeypatch.setenv("MODELMINT_NOTIFY_TO", "bob@example.org")
        good = CliRunner().invoke(app, ["notify", "--test", "--json"])
        assert good.exit_code == 0, good.output
        assert [one["sent"] for one in json.loads(good.stdout)] == [True, True]
        assert hook.documents[0]["event"] == "test"
        assert "a test message of" in server.mails[0]["Subject"]
        hook.status = 500
        bad = CliRunner().invoke(app, ["notify", "--test"])
        assert bad.exit_code == 1
        assert "NOT SENT: answered 500" in bad.output
        listed = CliRunner().invoke(app, ["notify", "--json"])
        assert listed.exit_code == 0
        assert [one["channel"] for one in json.loads(listed.stdout)] == ["mail", "webhook"]
        for done in (good, bad, listed):
            assert "T0KEN" not in done.output
