"""Addresses of the two web pages, so that each can link to the other.

The page of the registry runs on its own, maybe on another machine, so only the user knows its
address. Without it nothing is linked: a dead link is worse than a name.
"""

import os
from urllib.parse import quote

from flows.server import LOCAL_HOST, LOCAL_PORT, configured_api, local_api, noted_api
from flows.settings import UI_URL


def registry_ui() -> str | None:
    """The address of the registry's page, without a slash at its end; None if it is not known."""
    given = os.environ.get(UI_URL, "").rstrip("/")
    return given if given.startswith(("http://", "https://")) else None


def prefect_ui(api: str | None = None) -> str:
    """The address of the Prefect UI: PREFECT_UI_URL, else that of the server that is in use."""
    api = api or configured_api() or noted_api() or local_api(LOCAL_HOST, LOCAL_PORT)
    return (os.environ.get("PREFECT_UI_URL") or api.removesuffix("/api")).rstrip("/")


def version_link(reference: str) -> str:
    """A version, NAME:NUMBER, in Markdown."""
    name, _, number = reference.partition(":")
    return _link(reference, "models", name, "versions", number)


def job_link(job: str) -> str:
    """A job by its id, in Markdown."""
    address = _address("jobs", job)  # Prefect shows the backticks of a link as they are
    return f"[{job}]({address})" if address else f"`{job}`"


def history_link(model: str) -> str:
    """What happened to a model, in Markdown; empty if there is nothing to link to."""
    return _link("history", "models", model, "history") if registry_ui() else ""


def version_page(reference: str) -> str | None:
    """The address of a version's page, NAME:NUMBER; None if that of the registry is not known."""
    name, _, number = reference.partition(":")
    return _address("models", name, "versions", number)


def _link(text: str, *path: str) -> str:
    address = _address(*path)
    return f"[{text}]({address})" if address else text


def _address(*path: str) -> str | None:
    root = registry_ui()
    return f"{root}/{'/'.join(quote(part, safe='') for part in path)}" if root else None
