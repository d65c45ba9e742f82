"""The error that a step raises for a mistake in the user's input."""


class InputError(ValueError):
    """The user's input was wrong.

    The message says what was given, what is allowed and what to do next. A command prints it
    without a traceback and exits with status 2.
    """
