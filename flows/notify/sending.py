"""One attempt to send one message: `python -m flows.notify.sending`, a process of its own.

Its parent ends it after a time, whatever it waits for: a mail server that sends one byte a second,
or a name server that never answers, for which Python has no timeout.
"""

import base64
import json
import os
import signal
import smtplib
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from contextlib import suppress
from email.message import EmailMessage
from functools import partial
from http.client import HTTPException
from ipaddress import ip_address
from typing import IO, Any

from flows.notify.message import as_slack, as_text
from tasks.process import die_with_parent

ANSWER_S = 10.0
"""Seconds for each answer of a server."""
COMMAND_S = 15.0
"""Seconds for a command."""


class NotSent(Exception):
    """The message was not accepted; the text says why, without secrets."""


def deliver(settings: dict[str, Any], document: dict[str, Any]) -> str:
    """Send a message (`Message.as_dict`). Returns what the other side answered. Raises NotSent."""
    try:
        if settings["kind"] == "mail":
            return _mail(settings, document)
        if settings["kind"] == "command":
            return _run(settings["words"], document)
        return _post(settings, as_slack(document) if settings["kind"] == "slack" else document)
    except (OSError, HTTPException, ValueError, smtplib.SMTPException) as error:
        raise NotSent(f"{type(error).__name__}: {error}") from error


# Mail


def _mail(settings: dict[str, Any], document: dict[str, Any]) -> str:
    host, port = settings["host"], settings["port"]
    secure = ssl.create_default_context()
    server: smtplib.SMTP
    if settings["tls"]:
        server = smtplib.SMTP_SSL(host, port, timeout=ANSWER_S, context=secure)
    else:
        server = smtplib.SMTP(host, port, timeout=ANSWER_S)
    with server:
        server.ehlo()
        if not settings["tls"] and server.has_extn("starttls"):
            server.starttls(context=secure)
            server.ehlo()
        elif not settings["tls"] and settings["password"] and not _is_here(host):
            raise NotSent(f"{host} offers no TLS, so the password was not sent")
        if settings["user"]:
            server.login(settings["user"], settings["password"])
        try:
            refused = server.send_message(_written(settings, document))
        except smtplib.SMTPRecipientsRefused as error:
            raise NotSent(f"refused: {_answers(error.recipients)}") from error
    if refused:
        # The others have it; sending it again would send it to them twice.
        return f"accepted, but not for all: {_answers(refused)}"
    return f"accepted for {', '.join(settings['to'])}"


def _written(settings: dict[str, Any], document: dict[str, Any]) -> EmailMessage:
    mail = EmailMessage()
    mail["Subject"] = f"[modelmint] {document['title']}"
    mail["From"], mail["To"] = settings["from"], ", ".join(settings["to"])
    mail["Message-ID"] = f"<{document['id']}.{document['event']}@modelmint.invalid>"
    mail["Auto-Submitted"] = "auto-generated"  # no answer of a person who is away
    mail.set_content(as_text(document))
    return mail


def _answers(refused: dict[str, tuple[int, bytes]]) -> str:
    return "; ".join(
        f"{address}: {code} {answer.decode(errors='replace')}"
        for address, (code, answer) in refused.items()
    )


def _is_here(host: str) -> bool:
    """Whether it is this machine, where nobody else can listen."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


# HTTP


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would become a GET without the message, to a host that nobody named."""

    def redirect_request(self, *_arguments: Any) -> None:
        return None


def _post(settings: dict[str, Any], document: dict[str, Any]) -> str:
    headers = {"Content-Type": "application/json", "User-Agent": "modelmint"}
    if settings["user"] or settings["password"]:
        pair = f"{settings['user']}:{settings['password']}".encode()
        headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
    body = json.dumps(document).encode()
    request = urllib.request.Request(settings["url"], body, headers, method="POST")
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=ANSWER_S) as reply:
            return f"answered {reply.status}"
    except urllib.error.HTTPError as error:
        with error:
            said = error.read(300).decode(errors="replace").strip()
        raise NotSent(f"answered {error.code} {error.reason}: {said}".rstrip(": ")) from error


# Command


def _run(words: list[str], document: dict[str, Any]) -> str:
    """Run a command with the message as JSON on its standard input.

    Its output goes to a file: a program that it leaves in the background would keep a pipe open.
    """
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as output:
        given.write(json.dumps(document).encode())
        given.seek(0)
        process = subprocess.Popen(
            words,
            stdin=given,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=partial(die_with_parent, os.getpid(), signal.SIGKILL),
        )
        try:
            status = process.wait(COMMAND_S)
        except subprocess.TimeoutExpired as error:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise NotSent(f"did not end within {COMMAND_S:g} s") from error
        output.seek(0)
        last = output.read(100_000).decode(errors="replace").strip().rpartition("\n")[2][:300]
    if status:
        raise NotSent(f"ended with status {status}: {last}".rstrip(": "))
    return f"ended with status 0: {last}".rstrip(": ")


def main(given: IO[str], answer: IO[str]) -> None:
    """Read settings and message as one JSON document; write whether it was sent, and the detail."""
    asked = json.load(given)
    try:
        sent, detail = True, deliver(asked["settings"], asked["message"])
    except NotSent as error:
        sent, detail = False, str(error)
    json.dump({"sent": sent, "detail": detail}, answer)


if __name__ == "__main__":
    main(sys.stdin, sys.stdout)
