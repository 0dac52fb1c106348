"""The error for wrong input of this package."""


class PruningError(ValueError):
    """Declarations, plans or settings of the pruning that the user can correct.

    The message names the value, the place and a call that works.
    """
