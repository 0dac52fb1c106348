"""The error for wrong input of this package."""


class TrackerError(ValueError):
    """Settings, images, boxes or files of a tracker that the user can correct.

    The message names the value, the place and a call that works.
    """
