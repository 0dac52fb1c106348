"""The error for wrong input, which all packages of the project share."""


class UserError(ValueError):
    """Input that the user can correct: an argument, a configuration, a file.

    The commands print its message as one line, without a traceback. So the message names the value, the place and a
    call that works. Any other error is a fault of the code and keeps its traceback.
    """
