"""Where notifications go: variables MODELMINT_NOTIFY_..., whose secrets are never shown."""

import re
import shlex
import socket
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from email.utils import parseaddr
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from flows.notify.message import EVENTS
from tasks.errors import InputError

PREFIX = "MODELMINT_NOTIFY_"
SMTP, TO, FROM = f"{PREFIX}SMTP", f"{PREFIX}TO", f"{PREFIX}FROM"
WEBHOOK, SLACK, COMMAND = f"{PREFIX}WEBHOOK", f"{PREFIX}SLACK", f"{PREFIX}COMMAND"
ONLY = f"{PREFIX}EVENTS"
VARIABLES = (SMTP, TO, FROM, WEBHOOK, SLACK, COMMAND, ONLY)
CHANNEL_OF = {SMTP: "mail", WEBHOOK: "webhook", SLACK: "slack", COMMAND: "command"}
PORTS = {"smtp": 587, "smtps": 465}


@dataclass(frozen=True)
class Channel:
    """One way to send. Only `name` and `target` may be shown."""

    name: str
    """mail, webhook, slack or command."""
    target: str
    """Where to, without anything secret: of a URL only scheme, host and port."""
    settings: dict[str, Any] = field(repr=False)
    """What `sending` needs."""
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """Texts that an error message must not have."""

    def hide(self, text: str) -> str:
        """`text` without the secrets of this channel."""
        for secret in sorted(self.secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text


@dataclass(frozen=True)
class Channels:
    """All channels that are set, and the events that are told."""

    channels: tuple[Channel, ...] = ()
    events: frozenset[str] = frozenset(EVENTS)


def read_channels(environment: Mapping[str, str]) -> Channels:
    """The channels that variables describe. An empty variable counts as not set.

    Raises:
        InputError: a value has another form; the message names the variable, but not its value.
    """
    given = {name: environment.get(name, "").strip() for name in VARIABLES}
    if given[SMTP] and not given[TO]:
        raise InputError(f"{SMTP} is set, and {TO} is not: give the addresses, with commas between")
    if (given[TO] or given[FROM]) and not given[SMTP]:
        raise InputError(f"{TO} or {FROM} is set, and {SMTP} is not: give smtp://HOST:PORT")
    found = []
    if given[SMTP]:
        found.append(_mail(given[SMTP], given[TO], given[FROM]))
    if given[WEBHOOK]:
        found.append(_http("webhook", WEBHOOK, given[WEBHOOK]))
    if given[SLACK]:
        found.append(_http("slack", SLACK, given[SLACK]))
    if given[COMMAND]:
        found.append(_command(given[COMMAND]))
    return Channels(tuple(found), _events(given[ONLY]))


def take_variables(environment: MutableMapping[str, str]) -> dict[str, str]:
    """Remove the variables and return them: flow runs and their stages must not inherit secrets."""
    return {name: environment.pop(name) for name in VARIABLES if name in environment}


def shown_variables(environment: Mapping[str, str]) -> dict[str, str | None]:
    """Each variable as it may be shown; None if it is not set.

    Raises:
        InputError: as `read_channels`.
    """
    targets = {channel.name: channel.target for channel in read_channels(environment).channels}
    return {
        name: targets.get(CHANNEL_OF.get(name, ""), environment.get(name, "").strip() or None)
        for name in VARIABLES
    }


def _mail(url: str, to: str, sender: str) -> Channel:
    parts = _split(SMTP, url, PORTS, "smtp://USER:PASSWORD@HOST:PORT, or smtps:// for TLS at once")
    addresses = [_address(TO, one) for one in to.split(",") if one.strip()]
    if not addresses:
        raise InputError(f"{TO} has no address; give one or more, with commas between")
    host, port = str(parts.hostname), _port(SMTP, parts) or PORTS[parts.scheme]
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    settings = {
        "kind": "mail",
        "tls": parts.scheme == "smtps",
        "host": host,
        "port": port,
        "user": user,
        "password": password,
        "to": addresses,
        "from": _address(FROM, sender) if sender else f"modelmint@{socket.gethostname()}",
    }
    target = f"{parts.scheme}://{_place(host, port)}"
    return Channel("mail", target, settings, _secrets(parts, password))


def _http(name: str, variable: str, url: str) -> Channel:
    parts = _split(variable, url, ("http", "https"), "https://HOST/PATH")
    port = _port(variable, parts)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    place = _place(str(parts.hostname), port)
    bare = parts._replace(netloc=place, fragment="").geturl()
    settings = {"kind": name, "url": bare, "user": user, "password": password}
    # The path of such a URL is often its only password.
    hidden = [text for text in (parts.path.strip("/"), parts.query) if len(text) > 3]
    shown = f"{parts.scheme}://{place}" + ("/..." if hidden else "")
    return Channel(name, shown, settings, (*_secrets(parts, password), bare, *hidden))


def _command(line: str) -> Channel:
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise InputError(f"{COMMAND} is not a command line: {error}") from error
    if not words:
        raise InputError(f"{COMMAND} has no program")
    target = words[0] + (f" with {len(words) - 1} arguments" if words[1:] else "")
    hidden = tuple(word for word in words[1:] if len(word) > 3)
    return Channel("command", target, {"kind": "command", "words": words}, hidden)


def _events(text: str) -> frozenset[str]:
    wanted = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := sorted(set(wanted) - set(EVENTS)):
        raise InputError(f"{ONLY}: there is no event {unknown[0]!r}; allowed: {', '.join(EVENTS)}")
    return frozenset(wanted or EVENTS)


def _split(variable: str, url: str, schemes: Any, form: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.scheme not in schemes or not host or re.search(r"[\x00-\x20\x7f]", url):
        raise InputError(f"{variable} must have the form {form} (its value is not shown)")
    return parts


def _port(variable: str, parts: SplitResult) -> int | None:
    try:
        return parts.port
    except ValueError:
        raise InputError(f"{variable}: its port is not a number from 0 to 65535") from None


def _place(host: str, port: int | None) -> str:
    host = f"[{host}]" if ":" in host else host
    return host if port is None else f"{host}:{port}"


def _address(variable: str, text: str) -> str:
    name, address = parseaddr(text.strip())
    if not re.fullmatch(r"[^@\s]+@[^@\s]+", address):
        raise InputError(f"{variable}: {text.strip()!r} is not an address as in ada@example.org")
    return f"{name} <{address}>" if name else address


def _secrets(parts: SplitResult, password: str) -> tuple[str, ...]:
    """The password as it was given, and as it is meant."""
    return tuple({text for text in (parts.password, password) if text})
