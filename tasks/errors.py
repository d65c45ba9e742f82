"""The error that a step raises for a mistake in the user's input."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the command line reads this module before it needs NumPy
    from numpy.typing import NDArray


class InputError(ValueError):
    """The user's input was wrong.

    The message says what was given, what is allowed and what to do next. A command prints it
    without a traceback and exits with status 2.
    """


class InputChanged(InputError):
    """A file was written, replaced or removed while it was read; it is another input now."""


class SetupError(InputError):
    """The output folder, the device or an option was wrong, whatever the input files are."""


class BadRows(InputError):
    """Some rows of a batch cannot be predicted; without them, the others can.

    A batch job puts them into quarantine. Everything else that meets this error stops, as with any
    other `InputError`.
    """

    def __init__(
        self, message: str, bad: "NDArray[Any]", reason: str, column: str | None = None
    ) -> None:
        """`bad` (N,) bool says which rows of the batch; `reason` is one of `tasks.reasons`."""
        super().__init__(message)
        self.bad = bad
        self.reason = reason
        self.column = column


class ProcessLost(Exception):
    """One of the processes of a training has ended. `reason` says which one, and how."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"the training lost a process: {reason}. Give the same command again: it resumes from "
            "the last saved state."
        )
