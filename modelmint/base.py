"""The base of the classes that make up the Python interface."""

import registry as registries
from flows.settings import actor as user
from modelmint.targets import version_of
from registry import Resolved


class RegistryBase:
    """An open registry. `actor` of a method is recorded as who did it; default: the user."""

    def __init__(self, inner: registries.Registry) -> None:
        self._inner = inner

    def _resolve(self, given: object) -> Resolved:
        return self._inner.resolve(str(version_of(given)))

    @staticmethod
    def _actor(given: str | None) -> str:
        return user() if given is None else given
