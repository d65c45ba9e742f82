"""Errors and warnings of the Python interface itself."""

from types import ModuleType

from registry import RegistryError


class MissingPackage(RegistryError, ImportError):
    """A package of an extra is not installed; the message says how to install it.

    >>> import modelmint
    >>> try:
    ...     frame = registry.models().to_pandas()
    ... except modelmint.MissingPackage as error:
    ...     print(error)
    """


class Substituted(UserWarning):
    """A model did not know some values and replaced them.

    >>> import modelmint, warnings
    >>> warnings.simplefilter("error", modelmint.Substituted)  # an error, from now on
    """


class FailedEvaluation(UserWarning):
    """An alias was moved to a version whose newest evaluation failed.

    >>> import modelmint, warnings
    >>> warnings.simplefilter("error", modelmint.FailedEvaluation)  # an error, once it was moved
    """


def import_pandas() -> ModuleType:
    """Import pandas, when a DataFrame is needed. Raises MissingPackage."""
    try:
        import pandas
    except ImportError as error:
        raise MissingPackage(
            f"A DataFrame needs pandas, which is not installed ({error}). Run "
            "`pip install 'modelmint[pandas]'`."
        ) from error
    module: ModuleType = pandas
    return module
