"""What uvicorn serves as the Prefect server: Prefect's own application, without its second UI.

PREFECT_SERVER_UI_V2_ENABLED=false only makes the first UI the default one; the second is still
served at /v2, where it fetches its settings from a third party.
"""

from pathlib import Path
from typing import Any


def create() -> Any:
    """The ASGI application."""
    import prefect

    # Prefect serves each of its UIs whose files it finds.
    prefect.__ui_v2_static_path__ = Path(prefect.__ui_v2_static_path__) / "not-served"
    from prefect.server.api.server import create_app

    return create_app()
