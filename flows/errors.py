"""Errors that commands catch; the modules that raise them take longer to import."""


class ServerDown(RuntimeError):
    """The configured Prefect server does not answer, or none could be started."""
