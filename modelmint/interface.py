"""The one object that a notebook works with."""

from typing import Self

import registry as registries
from modelmint import forms, tables
from modelmint.decisions import Decisions
from modelmint.queries import Queries
from modelmint.upkeep import Upkeep
from registry import RegistryError, hide_password


class Registry(Queries, Decisions, Upkeep):
    """An open registry. Made by `modelmint.registry`.

    Safe to use from threads, but not across a fork.

        >>> [model.name for model in registry.models()]
        ['pets']
    """

    def __init__(self, inner: registries.Registry, database_url: str, artifacts: str) -> None:
        super().__init__(inner)
        self._database = hide_password(database_url)
        self._artifacts = artifacts

    def close(self) -> None:
        """Close the database connections.

        >>> registry.close()
        """
        self._inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return tables.as_text(*self._content())

    def _repr_html_(self) -> str:
        return tables.as_html(*self._content())

    def _content(self) -> tuple[str, list[tables.Table]]:
        try:
            models = forms.count(self._inner.models(), "model")
        except RegistryError as error:  # showing the registry must not raise
            models = f"cannot be read: {error}"
        facts = (("database", self._database), ("artifacts", self._artifacts), ("holds", models))
        return "model registry", [tables.Table("", ("", ""), facts)]
