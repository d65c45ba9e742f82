"""Which tasks are tried again, and when."""

from typing import Any

from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State

from registry import Conflict, Unreachable


def _worth_it(_task: Any, _run: Any, state: State[Any]) -> bool:
    """A database or a file share may come back; nothing else here gets better by itself."""
    return isinstance(state.result(raise_on_failure=False), (Conflict, Unreachable))


RETRY: Any = {
    "retries": 3,
    "retry_delay_seconds": [1, 5, 15],
    "retry_condition_fn": _worth_it,
    "cache_policy": NO_CACHE,
    "persist_result": False,
}
"""For tasks that talk to the registry; each of them may be repeated without harm."""
