"""OSTrack (Ye et al., ECCV 2022), a one-stream transformer tracker."""

from trackers.ostrack.tracker import OSTrack

__all__ = ["OSTrack"]
