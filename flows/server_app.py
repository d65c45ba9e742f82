"""The Prefect server's application without its second UI, for uvicorn.

PREFECT_SERVER_UI_V2_ENABLED=false only changes the default UI. The second one would still be served
at /v2, where it fetches its settings from a third party.
"""

from pathlib import Path
from typing import Any

from tasks.process import paused_gc


def create() -> Any:
    """The ASGI application."""
    # Garbage collection takes 1.7 of 4.1 s of CPU of these imports.
    with paused_gc():
        import prefect

        # Prefect serves a UI only if it finds the UI's files.
        prefect.__ui_v2_static_path__ = Path(prefect.__ui_v2_static_path__) / "not-served"
        from prefect.server.api.server import create_app

    return create_app()
