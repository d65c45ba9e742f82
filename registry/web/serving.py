"""Serving the web page on a port."""

import asyncio
import socket
from contextlib import suppress
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from registry.registry import Registry
from registry.web.app import make_app
from registry.web.security import LOOPBACK, is_loopback

REQUEST_S = 10.0
"""Seconds within which a request must arrive completely."""
CONNECTIONS = 500
"""Connections at a time; beyond that a request is answered 503, before file descriptors run out."""


class TimeLimitedProtocol(H11Protocol):
    """HTTP with a time limit for receiving a request.

    Uvicorn itself closes only connections that are idle between two requests. A client that sends
    half a header, or half a body, could keep its connection open forever.
    """

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._wait()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._wait()  # half of the next request may have arrived already

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        """Keep the timer running while a request is incomplete; new bytes do not restart it."""
        missing = self.conn.their_state in (h11.IDLE, h11.SEND_BODY)
        if missing and not self._is_idle():
            if self._late is None:
                self._late = self.loop.call_later(REQUEST_S, self._give_up)
        else:
            self._stop_waiting()

    def _is_idle(self) -> bool:
        """Whether the connection is idle after an answer: uvicorn closes it soon."""
        return self.timeout_keep_alive_task is not None

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _give_up(self) -> None:
        self._late = None
        if not self.transport.is_closing():
            if self.conn.their_state is h11.IDLE and self.conn.our_state is h11.IDLE:
                self.transport.write(
                    b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n"
                    b"Content-Length: 0\r\n\r\n"
                )
            self.transport.close()


def serve(
    registry: Registry, host: str, port: int, token: str | None, prefect_ui: str | None
) -> None:
    """Serve the page until Ctrl-C.

    On a loopback address it answers requests for a loopback name only; on another it needs a token.

    Raises:
        ValueError: the address is open to others and there is no token, the token is empty, or
            the address cannot be listened on.
    """
    local = is_loopback(host)
    if not local and not token:
        raise ValueError(
            f"{host} is open to other machines, so the page needs a token. Set one, or serve on "
            "127.0.0.1 and reach it through `ssh -L`."
        )
    app = make_app(registry, prefect_ui=prefect_ui, token=token, hosts=LOOPBACK if local else None)
    # Uvicorn raises Ctrl-C again once all is closed.
    with listen(host, port) as listening, suppress(KeyboardInterrupt):
        server(app).run(sockets=[listening])


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ValueError if the address cannot be used."""
    host = host.strip("[]")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"{host} port {port} cannot be listened on ({error}). Give another port, or end the "
            "process that listens there."
        ) from error
    # Connections inherit it. Without it, each response waits 40 ms for an acknowledgement.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def server(app: object) -> uvicorn.Server:
    """Uvicorn, without access log and without its name in responses."""
    return uvicorn.Server(
        uvicorn.Config(
            app,  # type: ignore[arg-type]
            log_level="warning",
            access_log=False,
            server_header=False,
            ws="none",
            http=TimeLimitedProtocol,
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=3,
        )
    )
