"""What a step raises when the user, not the program, must do something."""


class InputError(ValueError):
    """The user's input was wrong.

    The message says what was given, what was allowed and what to do next. Commands that
    meet it exit with status 2 and print the message without a traceback.
    """
