"""Errors that the user can correct. The commands print one line for them; all other errors keep their tracebacks."""

from datamodules.errors import DataError
from pruning.errors import PruningError
from trackers.errors import TrackerError


class UserError(ValueError):
    """Arguments or configuration of a command that the user can correct.

    The message names the value, the place and a call that works.
    """


# The other packages do not import this one, so each has an error of its own.
USER_ERRORS = (UserError, DataError, TrackerError, PruningError)
