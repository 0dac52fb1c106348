"""The errors for wrong input of this package."""


class TrackerError(ValueError):
    """Settings, images, boxes or files of a tracker that the user can correct.

    The message names the value, the place and a call that works.
    """


class CheckpointError(TrackerError):
    """Error of a file that is not a checkpoint or an export, or whose weights do not fit the tracker that is built."""
