"""Where a server of ours may listen."""

import socket

from flows.server import LOCAL_HOST
from tasks.errors import InputError


def free_address(text: str) -> str:
    """[HOST:]PORT as HOST:PORT. Raises InputError if it is none, or if somebody listens there."""
    host, _, port = text.rpartition(":")
    host = host.strip("[]") or LOCAL_HOST
    if not port.isdecimal() or not 0 < int(port) < 65_536:
        raise InputError(f"--metrics {text}: [HOST:]PORT is expected, as in 9464 or 0.0.0.0:9464")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.create_server((host, int(port)), family=family):
            pass
    except OSError as error:
        raise InputError(
            f"--metrics {text}: cannot listen there: {error.strerror or error}; choose another port"
        ) from error
    return f"{host}:{port}"
