"""Real servers that receive notifications: SMTP and HTTP on the loopback interface."""

import base64
import json
import socket
import socketserver
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

AnyServer = TypeVar("AnyServer", bound=socketserver.BaseServer)


class MailServer(socketserver.ThreadingTCPServer):
    """RFC 5321 as far as a mail needs it; with a certificate STARTTLS, with a password AUTH."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(
        self,
        *,
        certificate: Path | None = None,
        password: str | None = None,
        refuse: str | None = None,
        port: int = 0,
    ) -> None:
        super().__init__(("127.0.0.1", port), _Mail)
        self.mails: list[EmailMessage] = []
        self.recipients: list[list[str]] = []
        self.encrypted: list[bool] = []
        self.password, self.refuse, self.tls = password, refuse, None
        if certificate:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.load_cert_chain(certificate)

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class _Mail(socketserver.StreamRequestHandler):
    server: MailServer

    def handle(self) -> None:
        self.encrypted, self.known, self.to = False, self.server.password is None, list[str]()
        self.answer("220 here")
        while line := self.rfile.readline().decode().strip():
            verb, _, rest = line.partition(" ")
            if not getattr(self, verb.lower(), self.unknown)(rest):
                return

    def answer(self, *lines: str) -> bool:
        self.wfile.write(b"".join(f"{line}\r\n".encode() for line in lines))
        self.wfile.flush()
        return True

    def unknown(self, _rest: str) -> bool:
        return self.answer("502 what?")

    def ehlo(self, _rest: str) -> bool:
        offers = ["here"]
        if self.server.tls and not self.encrypted:
            offers.append("STARTTLS")
        if self.server.password is not None:
            offers.append("AUTH PLAIN")
        return self.answer(*(f"250-{offer}" for offer in offers[:-1]), f"250 {offers[-1]}")

    def starttls(self, _rest: str) -> bool:
        assert self.server.tls
        self.answer("220 go")
        try:
            self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        except (ssl.SSLError, OSError):  # the client does not trust the certificate
            return False
        self.setup()
        return self.begin_encrypted()

    def begin_encrypted(self) -> bool:
        self.encrypted = True
        return True

    def auth(self, rest: str) -> bool:
        user, password = base64.b64decode(rest.partition(" ")[2]).decode().split("\0")[1:]
        self.known = (user, password) == ("ada", self.server.password)
        return self.answer("235 ok" if self.known else f"535 wrong password {password}")

    def mail(self, _rest: str) -> bool:
        return self.answer("250 ok" if self.known else "530 who?")

    def rcpt(self, rest: str) -> bool:
        if self.server.refuse and self.server.refuse in rest:
            return self.answer("550 no such person")
        self.to.append(rest.removeprefix("TO:").strip("<>"))
        return self.answer("250 ok")

    def data(self, _rest: str) -> bool:
        self.answer("354 go")
        lines = []
        while (line := self.rfile.readline()) != b".\r\n":
            lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
        mail = message_from_bytes(b"".join(lines), policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.server.mails.append(mail)
        self.server.recipients.append(self.to)
        self.server.encrypted.append(self.encrypted)
        return self.answer("250 taken")

    def rset(self, _rest: str) -> bool:
        return self.answer("250 ok")

    def quit(self, _rest: str) -> bool:
        self.answer("221 bye")
        return False


class HookServer(ThreadingHTTPServer):
    """Takes JSON by POST, and answers with `status`."""

    daemon_threads = True

    def __init__(self, status: int = 200, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Hook)
        self.status = status
        self.documents: list[Any] = []
        self.requests: list[tuple[str, str, dict[str, str]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Hook(BaseHTTPRequestHandler):
    server: HookServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append(("POST", self.path, dict(self.headers)))
        if self.server.status == 200:
            self.server.documents.append(json.loads(body))
        self.send_response(self.server.status)
        self.send_header("Location", "/elsewhere")
        self.end_headers()
        self.wfile.write(b"ok" if self.server.status == 200 else b"something broke")

    def do_GET(self) -> None:
        self.server.requests.append(("GET", self.path, dict(self.headers)))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def running(server: AnyServer) -> Iterator[AnyServer]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def silent_port(*, drip: bytes = b"") -> Iterator[int]:
    """A port that accepts connections and says nothing, or one byte every 0.2 s for ever."""
    done = threading.Event()
    open_sockets: list[socket.socket] = []

    def accept() -> None:
        while not done.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            open_sockets.append(connection)
            threading.Thread(target=trickle, args=(connection,), daemon=True).start()

    def trickle(connection: socket.socket) -> None:
        while drip and not done.is_set():
            try:
                connection.sendall(drip)
            except OSError:
                return
            time.sleep(0.2)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        done.set()
    for connection in open_sockets:
        connection.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def make_certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 with its key, in one file."""
    path = folder / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", folder / "key.pem", "-out", folder / "cert.pem"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    path.write_bytes((folder / "key.pem").read_bytes() + (folder / "cert.pem").read_bytes())
    return path
