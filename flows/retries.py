"""Settings for Prefect tasks that are retried."""

from typing import Any

from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State

from registry import Conflict, Unreachable


def _may_recover(_task: Any, _run: Any, state: State[Any]) -> bool:
    """Whether a retry can help: a database or file share may come back, a conflict may pass."""
    return isinstance(state.result(raise_on_failure=False), (Conflict, Unreachable))


RETRY: Any = {
    "retries": 3,
    "retry_delay_seconds": [1, 5, 15],
    "retry_condition_fn": _may_recover,
    "cache_policy": NO_CACHE,
    "persist_result": False,
}
"""For tasks that use the registry. Repeating them must be harmless."""
