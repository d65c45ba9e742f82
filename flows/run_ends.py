"""How flow runs ended, as the Prefect server knows it."""

from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound


def end_of_run(number: str) -> str | None:
    """How a flow run ended; None while it goes on, and for one of another Prefect server."""
    with get_client(sync_client=True) as client:
        try:
            state = client.read_flow_run(UUID(number)).state
        except (ObjectNotFound, ValueError):
            return None
    return state.name if state and state.is_final() else None
