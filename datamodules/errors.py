"""The error for wrong input of this package."""


class DataError(ValueError):
    """A data set, a result or settings of the data that are missing, incomplete or inconsistent.

    The message names the value, the place and a call that works.
    """
