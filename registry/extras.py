"""Optional packages: the extras of the distribution."""

import importlib
from typing import Any

from registry.errors import RegistryError


def load(module: str, extra: str, purpose: str) -> Any:
    """Import a module that an extra installs; `purpose` begins the error message if it is missing.

    Raises:
        RegistryError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise RegistryError(
            f"{purpose} needs a package that is not installed ({error}). Run "
            f"`pip install 'modelmint[{extra}]'`."
        ) from error
