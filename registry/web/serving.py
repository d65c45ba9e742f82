"""The web page on a port."""

import socket
from contextlib import suppress

import uvicorn

from registry.store import Registry
from registry.web.app import make_app
from registry.web.security import LOOPBACK, is_loopback


def serve(
    registry: Registry, host: str, port: int, token: str | None, prefect_ui: str | None
) -> None:
    """Serve the page until Ctrl-C.

    On a loopback address it answers requests for a loopback name only; on another it needs a token.

    Raises:
        ValueError: there is no token and the address is open to others, the token is empty, or
            the address cannot be listened on.
    """
    local = is_loopback(host)
    if not local and not token:
        raise ValueError(
            f"{host} is open to other machines, so the page needs a token there. Set one, or serve "
            "on 127.0.0.1 and reach it through `ssh -L`."
        )
    app = make_app(registry, prefect_ui=prefect_ui, token=token, hosts=LOOPBACK if local else None)
    # Uvicorn raises Ctrl-C again once all is closed.
    with listen(host, port) as listening, suppress(KeyboardInterrupt):
        server(app).run(sockets=[listening])


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ValueError where the address cannot be had."""
    host = host.strip("[]")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"{host} port {port} cannot be listened on ({error}). Name another port, or end what "
            "listens there."
        ) from error
    # Connections inherit it. Without it, each answer waits 40 ms for an acknowledgement.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def server(app: object) -> uvicorn.Server:
    """Uvicorn, quiet and without its name in the answers."""
    return uvicorn.Server(
        uvicorn.Config(
            app,  # type: ignore[arg-type]
            log_level="warning",
            access_log=False,
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=3,
        )
    )
